"""BlackSheep: routes of its router and its mounts, and the exceptions that it answers itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("blacksheep")

from blacksheep import Application, Content, Response, Router, WebSocket, text
from blacksheep.contents import StreamedContent
from blacksheep.exceptions import Conflict, HTTPException
from guardpost import AuthorizationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from asgi_trace.routes.blacksheep import trace_routes
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


async def hello(request: Request) -> PlainTextResponse:
    return PlainTextResponse("x")


def build(directory: Path) -> Application:
    app = Application(router=Router())

    @app.router.get("/items/{int:item}")
    async def item(item: int) -> Response:
        return text(str(item))

    @app.router.get("/shops/:shop/orders/{order}")
    async def order(shop: str, order: str) -> Response:
        return text(order)

    @app.router.ws("/rooms/{room}")
    async def room(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        await websocket.close()

    app.serve_files(str(directory), root_path="static")
    return app


@pytest.fixture
def app(tmp_path: Path) -> Application:
    (tmp_path / "style.css").write_text("a {}")
    app = build(tmp_path)
    app.mount("/partners/{partner}", build(tmp_path))
    app.mount("/other", Starlette(routes=[Route("/items/{item}", hello)]))
    trace_routes(app)
    return app


CASES: list[Case] = [
    ("/items/7", "GET", 200, "/items/{int:item}"),
    ("/items/seven", "GET", 404, None),
    ("/items/7", "POST", 404, None),
    ("/shops/acme/orders/7", "GET", 200, "/shops/:shop/orders/{order}"),
    ("/rooms/7", WS, 101, "/rooms/{room}"),
    ("/static/style.css", "GET", 200, "/static/*"),
    ("/missing", "GET", 404, None),
    ("/missing", WS, 403, None),
]


@pytest.mark.parametrize(
    ("prefix", "template", "root_path"),
    [
        ("", "", ""),
        ("/prefix", "/prefix", "/prefix"),
        ("/partners/items", "/partners/{partner}", ""),
    ],
)
def test_the_pattern_is_the_route(
    app: Application, spans: CapturedSpans, prefix: str, template: str, root_path: str
) -> None:
    """The route is the pattern, behind the root path and that of the mount; what nothing matches has none."""
    check(traced(app), spans, CASES, prefix=prefix, template=template, root_path=root_path, start=app)


def test_mounted_in_starlette(app: Application, spans: CapturedSpans) -> None:
    """Below a Starlette mount the mount's template stands in front, and is the route of what nothing matches."""
    outer = Starlette(routes=[Mount("/tenants/{tenant}", app=cast(Any, app))])
    cases: list[Case] = [(path, method, status, route or "/{path}") for path, method, status, route in CASES]
    check(traced(outer), spans, cases, prefix="/tenants/items", template="/tenants/{tenant}", start=app)


def test_another_framework_mounted_in_blacksheep(app: Application, spans: CapturedSpans) -> None:
    """The template is the mounted application's own: BlackSheep leaves no more than the concrete path of its mount."""
    check(traced(app), spans, [("/other/items/7", "GET", 200, "/items/{item}")], start=app)


@RANDOM_REQUESTS
def test_random_paths_make_no_names(app: Application, spans: CapturedSpans, count: int) -> None:
    """However many paths are asked for, the names are those of routes and methods."""
    below: list[Case] = [("/partners/acme" + case[0], *case[1:]) for case in CASES]
    check_cardinality(app, spans, count, [*CASES, *below], most=8, start=app)


def test_the_span_is_current_everywhere(spans: CapturedSpans) -> None:
    """Handlers, threads, streams, tasks and sockets all run in the request's span."""
    places = Places()
    app = Application(router=Router())

    async def stream() -> AsyncIterator[bytes]:
        places.note("stream")
        yield b"x"

    async def note_later() -> None:
        places.note("task")

    @app.router.get("/")
    async def handler() -> Response:
        places.note("handler")
        await asyncio.to_thread(places.note, "thread")
        await asyncio.create_task(note_later())
        content: Content = StreamedContent(b"text/plain", stream)
        return Response(200, content=content)

    @app.router.ws("/socket")
    async def socket(websocket: WebSocket) -> None:
        places.note("socket")
        await websocket.accept()
        await websocket.receive_text()
        places.note("socket after a message")
        await websocket.close()

    check_places(
        app,
        spans,
        places,
        {
            ("/", "GET"): {"handler", "thread", "task", "stream"},
            ("/socket", WS): {"socket", "socket after a message"},
        },
        start=app,
    )


EXCEPTIONS: dict[str, Exception] = {
    "fails": ValueError("on purpose"),
    "overloaded": KeyError("later"),
    "handled": LookupError("not here"),
    "conflict": Conflict("no"),
    "unavailable": HTTPException(503, "later"),
    "denied": AuthorizationError(),
}


def build_failing(*, adapter: bool, mounted: bool = True) -> Application:
    app = Application(router=Router())

    @app.router.get("/{kind}")
    async def fails(kind: str) -> Response:
        raise EXCEPTIONS[kind]

    @app.router.ws("/{kind}")
    async def socket(websocket: WebSocket, kind: str) -> None:
        await websocket.accept()
        raise EXCEPTIONS[kind]

    @app.router.ws("/refused/{kind}")
    async def refused(websocket: WebSocket, kind: str) -> None:
        raise EXCEPTIONS[kind]

    @app.exception_handler(LookupError)
    async def not_here(self: Any, request: Any, exc: LookupError) -> Response:
        return text("not here", 404)

    @app.exception_handler(KeyError)
    async def later(self: Any, request: Any, exc: KeyError) -> Response:
        return text("later", 503)

    if mounted:
        app.mount("/below", build_failing(adapter=False, mounted=False))
    if adapter:
        trace_routes(app)
    return app


FAILURES: list[Failure] = [
    ("/fails", "GET", 500, "ValueError", "on purpose"),
    ("/below/fails", "GET", 500, "ValueError", "on purpose"),
    ("/overloaded", "GET", 503, "KeyError", "'later'"),
    ("/unavailable", "GET", 503, "blacksheep.exceptions.HTTPException", "later"),
    ("/handled", "GET", 404, None, None),
    ("/conflict", "GET", 409, None, None),
    ("/one/two/three", "GET", 404, None, None),
    ("/fails", WS, 101, "ValueError", "on purpose"),
    ("/refused/fails", WS, 403, "ValueError", "on purpose"),
    ("/refused/conflict", WS, 403, None, None),
    ("/refused/denied", WS, 403, None, None),
]


def test_exceptions_that_blacksheep_answers(spans: CapturedSpans) -> None:
    """An exception that becomes a 5xx or closes a socket is recorded; one that becomes a 4xx or a refusal is not."""
    app, plain = build_failing(adapter=True), build_failing(adapter=False)
    check_failures(app, spans, FAILURES, plain=plain, start=app)
