"""Sanic: routes and blueprints from its signals, and the exceptions that it answers itself."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sanic")

from sanic import Blueprint, Sanic
from sanic.exceptions import Forbidden, ServiceUnavailable
from sanic.response import HTTPResponse, text

from asgi_trace.routes.sanic import trace_routes
from asgi_trace.testing import CapturedSpans

from ..support.frameworks import (
    RANDOM_REQUESTS,
    WS,
    Case,
    Failure,
    Places,
    check,
    check_cardinality,
    check_failures,
    check_places,
    traced,
)

_names = (f"app{number}" for number in itertools.count())


def new_app() -> Any:
    app: Any = Sanic(next(_names), configure_logging=False)
    app.config.TOUCHUP = False  # it rewrites Sanic's own methods, which works for one application in a process
    return app


@pytest.fixture
def app(tmp_path: Path) -> Any:
    (tmp_path / "style.css").write_text("a {}")
    app = new_app()
    shop = Blueprint("shop", url_prefix="/shops/<shop>")

    async def item(request: Any, item: int) -> HTTPResponse:
        return text(str(item))

    async def order(request: Any, shop: str, order: str) -> HTTPResponse:
        return text(order)

    async def room(request: Any, ws: Any, shop: str, room: str) -> None:
        await ws.recv()

    async def refused(request: Any) -> HTTPResponse | None:
        return text("no", status=401) if request.path == "/refused" else None

    app.add_route(item, "/items/<item:int>")
    app.add_route(item, "/refused", name="refused")
    shop.add_route(order, "/orders/<order>")
    shop.add_websocket_route(room, "/rooms/<room>")
    app.blueprint(shop)
    app.static("/static", tmp_path)
    app.register_middleware(refused, "request")
    trace_routes(app)
    return app


CASES: list[Case] = [
    ("/items/7", "GET", 200, "/items/<item:int>"),
    ("/items/seven", "GET", 404, None),
    ("/items/7", "POST", 405, None),
    ("/refused", "GET", 401, "/refused"),
    ("/shops/acme/orders/7", "GET", 200, "/shops/<shop:str>/orders/<order:str>"),
    ("/shops/acme/rooms/7", WS, 101, "/shops/<shop:str>/rooms/<room:str>"),
    ("/static/style.css", "GET", 200, "/static/<__file_uri__:path>"),
    ("/missing", "GET", 404, None),
]


def test_the_path_of_the_route(app: Any, spans: CapturedSpans) -> None:
    """The route is that of the router's match, known also to requests that a middleware answers."""
    check(traced(app), spans, CASES, start=app)


@RANDOM_REQUESTS
def test_random_paths_make_no_names(app: Any, spans: CapturedSpans, count: int) -> None:
    """However many paths are asked for, the names are those of routes and methods."""
    check_cardinality(app, spans, count, CASES, most=5, start=app)


def test_the_span_is_current_everywhere(spans: CapturedSpans) -> None:
    """Middleware, handlers, threads, streams, background tasks and sockets all run in the request's span."""
    places = Places()
    app = new_app()

    async def middleware(request: Any) -> None:
        places.note("middleware")

    async def in_background() -> None:
        places.note("background")

    async def handler(request: Any) -> None:
        places.note("handler")
        await asyncio.to_thread(places.note, "thread")
        app.add_task(in_background())
        response = await request.respond(content_type="text/plain")
        await response.send("x")
        places.note("stream")
        await response.eof()

    def sync_handler(request: Any) -> HTTPResponse:
        places.note("sync handler")
        return text("x")

    async def socket(request: Any, ws: Any) -> None:
        places.note("socket")
        await ws.recv()
        places.note("socket after a message")

    app.register_middleware(middleware, "request")
    app.add_route(handler, "/async")
    app.add_route(sync_handler, "/sync")
    app.add_websocket_route(socket, "/socket")

    check_places(
        app,
        spans,
        places,
        {
            ("/async", "GET"): {"middleware", "handler", "thread", "background", "stream"},
            ("/sync", "GET"): {"middleware", "sync handler"},
            ("/socket", WS): {"middleware", "socket", "socket after a message"},
        },
        start=app,
    )


def build_failing() -> Any:
    app = new_app()

    async def fails(request: Any) -> HTTPResponse:
        raise ValueError("on purpose")

    async def overloaded(request: Any) -> HTTPResponse:
        raise KeyError("later")

    async def handled(request: Any) -> HTTPResponse:
        raise LookupError("not here")

    async def forbidden(request: Any) -> HTTPResponse:
        raise Forbidden("not you")

    async def unavailable(request: Any) -> HTTPResponse:
        raise ServiceUnavailable("later")

    async def breaks_off(request: Any) -> None:
        response = await request.respond(content_type="text/plain")
        await response.send("x")
        raise ValueError("on purpose")

    async def socket(request: Any, ws: Any) -> None:
        raise ValueError("on purpose")

    async def not_here(request: Any, exc: Exception) -> HTTPResponse:
        return text("not here", status=404)

    async def later(request: Any, exc: Exception) -> HTTPResponse:
        return text("later", status=503)

    for handler in (fails, overloaded, handled, forbidden, unavailable, breaks_off):
        app.add_route(handler, f"/{handler.__name__}")
    app.add_websocket_route(socket, "/socket")
    app.error_handler.add(LookupError, not_here)
    app.error_handler.add(KeyError, later)
    return app


FAILURES: list[Failure] = [
    ("/fails", "GET", 500, "ValueError", "on purpose"),
    ("/overloaded", "GET", 503, "KeyError", "'later'"),
    ("/unavailable", "GET", 503, "sanic.exceptions.ServiceUnavailable", "later"),
    ("/breaks_off", "GET", 200, "ValueError", "on purpose"),
    ("/handled", "GET", 404, None, None),
    ("/forbidden", "GET", 403, None, None),
    ("/missing", "GET", 404, None, None),
    ("/socket", WS, 101, "ValueError", "on purpose"),
    ("/missing", WS, 404, None, None),
]


def test_exceptions_that_sanic_answers(spans: CapturedSpans) -> None:
    """An exception that becomes a 5xx, or breaks a stream or socket off, is recorded; one that becomes a 4xx is not."""
    app = build_failing()
    trace_routes(app)
    check_failures(app, spans, FAILURES, plain=build_failing(), start=app)
