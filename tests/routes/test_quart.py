"""Quart: rules of requests and websockets, and the exceptions that it answers itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("quart")

from quart import Blueprint, Quart, Response, abort, websocket
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_trace.routes.quart import trace_routes
from asgi_trace.testing import CapturedSpans

from ..support.frameworks import (
    RANDOM_REQUESTS,
    WS,
    Case,
    Failure,
    Places,
    ask,
    check,
    check_cardinality,
    check_failures,
    check_places,
    check_under_uvicorn,
    expected,
    name_and_route,
    routes,
    traced,
)


def build(directory: Path) -> Quart:
    app = Quart(__name__, static_folder=str(directory), static_url_path="/static")
    shop = Blueprint("shop", __name__, url_prefix="/shops/<shop>")

    @app.get("/items/<int:item>")
    async def item(item: int) -> str:
        return str(item)

    @shop.get("/orders/<order>")
    def order(shop: str, order: str) -> str:
        return order

    @shop.websocket("/rooms/<room>")
    async def room(shop: str, room: str) -> None:
        await websocket.accept()
        await websocket.close(1000)

    app.register_blueprint(shop)
    return app


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Quart:
    directory = tmp_path_factory.mktemp("static")
    (directory / "style.css").write_text("a {}")
    app = build(directory)
    trace_routes(app)
    return app


CASES: list[Case] = [
    ("/items/7", "GET", 200, "/items/<int:item>"),
    ("/items/7", "OPTIONS", 200, "/items/<int:item>"),
    ("/items/seven", "GET", 404, None),
    ("/items/7", "POST", 405, None),
    ("/shops/acme/orders/7", "GET", 200, "/shops/<shop>/orders/<order>"),
    ("/shops/acme/rooms/7", WS, 101, "/shops/<shop>/rooms/<room>"),
    ("/static/style.css", "GET", 200, "/static/<path:filename>"),
    ("/static/missing", "GET", 404, "/static/<path:filename>"),
    ("/missing", "GET", 404, None),
    ("/missing", WS, 403, None),
]


def test_the_rule_is_the_route(app: Quart, spans: CapturedSpans) -> None:
    """The route is the rule with the prefix of its blueprint; what no rule matches has none."""
    check(traced(app), spans, CASES)


def test_behind_a_root_path_and_mounted(app: Quart, spans: CapturedSpans) -> None:
    """A root path and the template of a mount stand in front of the rule."""
    ask(traced(app), "/prefix/items/7", root_path="/prefix")
    outer = traced(Starlette(routes=[Mount("/tenants/{tenant}", app=cast(Any, app))]))
    ask(outer, "/tenants/items/items/7")
    ask(outer, "/tenants/acme/shops/acme/rooms/7", WS)
    ask(outer, "/tenants/acme/missing")
    assert routes(spans) == [
        "/prefix/items/<int:item>",
        "/tenants/{tenant}/items/<int:item>",
        "/tenants/{tenant}/shops/<shop>/rooms/<room>",
        "/tenants/{tenant}/{path}",
    ]


def test_a_request_that_a_hook_answers(tmp_path: Path, spans: CapturedSpans) -> None:
    """A `before_request` that answers, as authentication does, leaves the route known."""
    app = build(tmp_path)

    @app.before_request
    async def refuse() -> tuple[str, int]:
        return "no", 401

    trace_routes(app)
    assert ask(traced(app), "/items/7") == 401
    assert name_and_route(spans) == expected("GET", "/items/<int:item>")


def test_another_application_is_left_alone(app: Quart, tmp_path: Path, spans: CapturedSpans) -> None:
    """`trace_routes()` is about one application: another one in the process has no route."""
    ask(traced(build(tmp_path)), "/items/7")
    assert name_and_route(spans) == expected("GET", None)


@RANDOM_REQUESTS
def test_random_paths_make_no_names(app: Quart, spans: CapturedSpans, count: int) -> None:
    """However many paths are asked for, the names are those of routes and methods."""
    check_cardinality(app, spans, count, CASES, most=4)


def test_the_span_is_current_everywhere(spans: CapturedSpans) -> None:
    """Endpoints, threads, streams, background tasks and sockets all run in the request's span."""
    places = Places()
    app = Quart(__name__)

    async def in_background() -> None:
        places.note("background")

    async def stream() -> AsyncIterator[bytes]:
        places.note("stream")
        yield b"x"

    @app.before_request
    def before() -> None:
        places.note("before_request")

    @app.get("/async")
    async def asynchronous() -> Response:
        places.note("endpoint")
        app.add_background_task(in_background)
        app.add_background_task(places.note, "sync background")
        return Response(stream())

    @app.get("/sync")
    def synchronous() -> str:
        places.note("sync endpoint")
        return "x"

    @app.websocket("/socket")
    async def socket() -> None:
        places.note("socket")
        await websocket.receive()
        places.note("socket after a message")

    check_places(
        app,
        spans,
        places,
        {
            ("/async", "GET"): {"before_request", "endpoint", "background", "sync background", "stream"},
            ("/sync", "GET"): {"before_request", "sync endpoint"},
            ("/socket", WS): {"socket", "socket after a message"},
        },
    )


def test_under_uvicorn(app: Quart, spans: CapturedSpans) -> None:
    """A real server's scopes have the same routes, over HTTP and WebSocket."""
    check_under_uvicorn(
        app,
        spans,
        [
            ("/items/7", "GET", 200, "/items/<int:item>"),
            ("/missing", "GET", 404, None),
            ("/shops/acme/rooms/7", WS, 101, "/shops/<shop>/rooms/<room>"),
        ],
    )


def build_failing(*, overloaded: bool = False) -> Quart:
    app = Quart(__name__)

    @app.get("/fails")
    async def fails() -> str:
        raise ValueError("on purpose")

    @app.get("/fails/sync")
    def fails_sync() -> str:
        raise ValueError("on purpose")

    @app.get("/aborts/<int:status>")
    async def aborts(status: int) -> str:
        abort(status)

    @app.get("/handled")
    async def handled() -> str:
        raise LookupError("not here")

    @app.websocket("/socket")
    async def socket() -> None:
        await websocket.accept()
        raise ValueError("on purpose")

    @app.websocket("/refused")
    async def refused() -> None:
        raise ValueError("on purpose")

    @app.get("/expected")
    async def is_expected() -> str:
        raise TimeoutError("too slow")

    @app.errorhandler(TimeoutError)
    async def too_slow(exc: TimeoutError) -> tuple[str, int]:
        return "too slow", 503

    @app.errorhandler(LookupError)
    async def not_here(exc: LookupError) -> tuple[str, int]:
        return "not here", 404

    if overloaded:

        @app.errorhandler(500)
        async def answer(exc: Exception) -> tuple[str, int]:
            return "later", 503

    return app


FAILURES: list[Failure] = [
    ("/fails", "GET", 500, "ValueError", "on purpose"),
    ("/fails/sync", "GET", 500, "ValueError", "on purpose"),
    ("/aborts/403", "GET", 403, None, None),
    ("/aborts/502", "GET", 502, "502", None),
    ("/expected", "GET", 503, "503", None),
    ("/handled", "GET", 404, None, None),
    ("/missing", "GET", 404, None, None),
    ("/socket", WS, 101, "ValueError", "on purpose"),
    ("/refused", WS, 403, "ValueError", "on purpose"),
    ("/missing", WS, 403, None, None),
]


def test_exceptions_that_quart_answers(spans: CapturedSpans) -> None:
    """An exception that becomes a 500 or closes a socket is recorded; one that the application handles is not."""
    app = build_failing()
    trace_routes(app)
    check_failures(app, spans, FAILURES, plain=build_failing())


def test_the_handler_of_the_500(spans: CapturedSpans) -> None:
    """An application's own answer for what it did not expect leaves the exception known."""
    app = build_failing(overloaded=True)
    trace_routes(app)
    check_failures(
        app, spans, [("/fails", "GET", 503, "ValueError", "on purpose")], plain=build_failing(overloaded=True)
    )
