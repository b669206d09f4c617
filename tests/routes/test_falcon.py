"""Falcon: URI templates of resources, and the exceptions that it answers itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("falcon")

import falcon
import falcon.asgi
from falcon.util import sync_to_async

from asgi_trace.routes.falcon import TraceRoutes, report_error
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
    expected,
    name_and_route,
    traced,
)


class Item:
    async def on_get(self, req: Any, resp: Any, item: int) -> None:
        resp.text = str(item)

    async def on_websocket(self, req: Any, ws: Any, item: int) -> None:
        await ws.accept()
        await ws.close()


async def sink(req: Any, resp: Any, **_: Any) -> None:
    resp.text = "x"


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Any:
    app = falcon.asgi.App(middleware=[TraceRoutes()])
    app.add_route("/items/{item:int}", Item())
    app.add_route("/shops/{shop}/items/{item}", type("ShopItem", (), {"on_get": on_shop_item})())
    app.add_static_route("/static", str(tmp_path_factory.mktemp("static")))
    app.add_sink(sink, "/sink")
    return app


async def on_shop_item(self: Any, req: Any, resp: Any, shop: str, item: str) -> None:
    resp.text = item


CASES: list[Case] = [
    ("/items/7", "GET", 200, "/items/{item:int}"),
    ("/items/7", "OPTIONS", 200, "/items/{item:int}"),
    ("/items/7", "POST", 405, "/items/{item:int}"),
    ("/items/seven", "GET", 404, None),
    ("/items/7", WS, 101, "/items/{item:int}"),
    ("/shops/items/items/7", "GET", 200, "/shops/{shop}/items/{item}"),
    ("/static/missing", "GET", 404, None),
    ("/sink/what/ever", "GET", 200, None),
    ("/missing", "GET", 404, None),
    ("/missing", WS, 403, None),
]


def test_the_uri_template_is_the_route(app: Any, spans: CapturedSpans) -> None:
    """The route is the resource's URI template, for every method; static files and sinks have none in Falcon."""
    check(traced(app), spans, CASES)


def test_behind_a_root_path(app: Any, spans: CapturedSpans) -> None:
    """Falcon matches the whole path, so the root path is not put in front a second time."""
    nested = falcon.asgi.App(middleware=[TraceRoutes()])
    nested.add_route("/prefix/items/{item:int}", Item())
    assert ask(traced(nested), "/prefix/items/7", root_path="/prefix") == 200
    assert name_and_route(spans) == expected("GET", "/prefix/items/{item:int}")


@pytest.mark.filterwarnings("ignore::litestar.exceptions.base_exceptions.LitestarDeprecationWarning")
@pytest.mark.parametrize("copy_scope", [False, True])
def test_mounted_in_litestar(app: Any, spans: CapturedSpans, copy_scope: bool) -> None:
    """Litestar cuts its mount from the path that Falcon matches, so that stands in front of the template."""
    litestar = pytest.importorskip("litestar")

    async def mount(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "path": scope["path"].rstrip("/")}, receive, send)

    mount.__annotations__.update(scope=litestar.types.Scope, receive=litestar.types.Receive, send=litestar.types.Send)
    handler = litestar.asgi("/mounted", is_mount=True, copy_scope=copy_scope)(mount)
    outer = litestar.Litestar([handler])
    cases: list[Case] = [
        ("/items/7", "GET", 200, "/items/{item:int}"),
        ("/items/7", "POST", 405, "/items/{item:int}"),
        ("/sink/what/ever", "GET", 200, "/{path}"),
        ("/missing", "GET", 404, "/{path}"),
    ]
    check(traced(outer), spans, cases, prefix="/mounted", template="/mounted")
    spans.clear()
    check(traced(outer), spans, cases, prefix="/pre/mounted", template="/pre/mounted", root_path="/pre")
    starlette = pytest.importorskip("starlette.applications")
    routing = pytest.importorskip("starlette.routing")
    above = starlette.Starlette(routes=[routing.Mount("/tenants/{tenant}", app=outer)])
    spans.clear()
    check(traced(above), spans, cases, prefix="/tenants/acme/mounted", template="/tenants/{tenant}/mounted")


@RANDOM_REQUESTS
def test_random_paths_make_no_names(app: Any, spans: CapturedSpans, count: int) -> None:
    """However many paths are asked for, the names are those of routes and methods."""
    check_cardinality(app, spans, count, CASES, most=2)


class Everywhere:
    def __init__(self, places: Places) -> None:
        self.places = places

    async def on_get(self, req: Any, resp: Any) -> None:
        self.places.note("responder")
        await asyncio.to_thread(self.places.note, "thread")
        resp.stream = self.stream()
        resp.schedule(self.in_background)

    async def on_post(self, req: Any, resp: Any) -> None:
        await sync_to_async(self.places.note, "sync_to_async")

    async def on_websocket(self, req: Any, ws: Any) -> None:
        self.places.note("socket")
        await ws.accept()
        await ws.receive_text()
        self.places.note("socket after a message")

    async def stream(self) -> AsyncIterator[bytes]:
        self.places.note("stream")
        yield b"x"

    async def in_background(self) -> None:
        self.places.note("background")


def test_the_span_is_current_everywhere(spans: CapturedSpans) -> None:
    """Responders, threads, streams, background tasks and sockets all run in the request's span."""
    places = Places()

    app = falcon.asgi.App()
    app.add_route("/", Everywhere(places))
    check_places(
        app,
        spans,
        places,
        {
            ("/", "GET"): {"responder", "thread", "stream", "background"},
            ("/", WS): {"socket", "socket after a message"},
        },
    )


def test_the_one_place_without_a_span(spans: CapturedSpans) -> None:
    """Falcon's `sync_to_async` takes no context into its thread: `asyncio.to_thread` is what does."""
    places = Places()
    app = falcon.asgi.App()
    app.add_route("/", Everywhere(places))
    with pytest.raises(AssertionError):
        check_places(app, spans, places, {("/", "POST"): {"sync_to_async"}})
    assert "sync_to_async" in places


class Failing:
    async def on_get(self, req: Any, resp: Any, kind: str) -> None:
        raise await self.exception(kind)

    async def on_websocket(self, req: Any, ws: Any, kind: str) -> None:
        if not kind.startswith("refused-"):
            await ws.accept()
        raise await self.exception(kind.removeprefix("refused-"))

    async def exception(self, kind: str) -> Exception:
        return {
            "fails": ValueError("on purpose"),
            "overloaded": KeyError("later"),
            "handled": LookupError("not here"),
            "conflict": falcon.HTTPConflict(),
            "status": falcon.HTTPStatus(204),
            "unavailable": falcon.HTTPServiceUnavailable(title="Later"),
        }[kind]


def build_failing() -> Any:
    async def not_here(req: Any, resp: Any, exc: Exception, params: Any, ws: Any = None) -> None:
        if resp is None:
            await ws.close(3404)
        else:
            resp.status, resp.text = 404, "not here"

    async def later(req: Any, resp: Any, exc: Exception, params: Any) -> None:
        resp.status, resp.text = 503, "later"

    app = falcon.asgi.App(middleware=[TraceRoutes()])
    app.add_route("/{kind}", Failing())
    app.add_error_handler(LookupError, not_here)
    app.add_error_handler(KeyError, later)
    return app


UNAVAILABLE = "<HTTPServiceUnavailable: 503 Service Unavailable>"
FAILURES: list[Failure] = [
    ("/fails", "GET", 500, "ValueError", "on purpose"),
    ("/overloaded", "GET", 503, "KeyError", "'later'"),
    ("/unavailable", "GET", 503, "falcon.errors.HTTPServiceUnavailable", UNAVAILABLE),
    ("/handled", "GET", 404, None, None),
    ("/conflict", "GET", 409, None, None),
    ("/status", "GET", 204, None, None),
    ("/one/two", "GET", 404, None, None),
    ("/fails", WS, 101, "ValueError", "on purpose"),
    ("/handled", WS, 101, None, None),
    ("/conflict", WS, 101, None, None),
    ("/refused-fails", WS, 403, "ValueError", "on purpose"),
    ("/refused-conflict", WS, 403, None, None),
    ("/one/two", WS, 403, None, None),
]


def test_exceptions_that_falcon_answers(spans: CapturedSpans) -> None:
    """An exception that becomes a 5xx or closes a socket as an error is recorded; one that becomes a 4xx is not."""
    app = build_failing()
    app.set_error_reporter(report_error)
    check_failures(app, spans, FAILURES, plain=build_failing())


def test_without_the_reporter(spans: CapturedSpans) -> None:
    """The middleware alone cannot know the exception: its error type is the status code."""
    check_failures(build_failing(), spans, [("/fails", "GET", 500, "500", None)])
