"""Litestar: templates from the scope, mounts in both directions, and the exceptions that it answers itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any, cast

import pytest

pytest.importorskip("litestar")

from litestar import Controller, Litestar, Router, WebSocket, asgi, get, put, websocket
from litestar.background_tasks import BackgroundTask, BackgroundTasks
from litestar.di import Provide
from litestar.exceptions import ClientException, NotAuthorizedException, WebSocketException
from litestar.response import Response, Stream
from litestar.static_files import create_static_files_router
from litestar.types import Receive, Scope, Send
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.routing import Router as StarletteRouter

from asgi_trace.routes.litestar import report
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
    starlette_names_its_route,
    traced,
)

# Litestar 2.25 wants parameters declared in a way that its earlier versions do not have.
pytestmark = pytest.mark.filterwarnings("ignore::litestar.exceptions.base_exceptions.LitestarDeprecationWarning")


@get("/items/{item_id:int}")
async def item(item_id: int) -> int:
    return item_id


@put("/items/{item_id:int}")
async def put_item(item_id: int) -> int:
    return item_id


@get("/files/{rest:path}", sync_to_thread=False)
def file(rest: Path) -> str:
    return str(rest)


@websocket("/rooms/{room:str}")
async def room(socket: WebSocket[Any, Any, Any], room: str) -> None:
    await socket.accept()
    await socket.close()


class Orders(Controller):
    path = "/orders/{shop:str}"

    @get("/{order_id:int}")
    async def order(self, shop: str, order_id: int) -> int:
        return order_id


async def hello(request: Any) -> PlainTextResponse:
    return PlainTextResponse("x")


starlette_below = Starlette(
    routes=[Route("/in/{place}/", hello), Mount("/deep/{level}", routes=[Route("/in/{place}/", hello)])]
)


@asgi("/raw", is_mount=True, copy_scope=True)
async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse("x")(scope, receive, send)  # type: ignore[arg-type]


@asgi(["/one", "/two"], is_mount=True, copy_scope=False)
async def mounts_starlette(scope: Scope, receive: Receive, send: Send) -> None:
    await starlette_below(scope, receive, send)  # type: ignore[arg-type]


@asgi("/router", is_mount=True, copy_scope=False)
async def mounts_router(scope: Scope, receive: Receive, send: Send) -> None:
    await StarletteRouter(routes=[Route("/in/{place}/", hello)])(scope, receive, send)  # type: ignore[arg-type]


@asgi("/copied", is_mount=True, copy_scope=True)
async def mounts_a_copy(scope: Scope, receive: Receive, send: Send) -> None:
    await starlette_below(scope, receive, send)  # type: ignore[arg-type]


@asgi("/inner", is_mount=True, copy_scope=True)
async def mounts_litestar(scope: Scope, receive: Receive, send: Send) -> None:
    await Litestar([item])(scope, receive, send)


@get("/")
async def root() -> str:
    return "x"


@asgi("/shared", is_mount=True, copy_scope=False)
async def shares_with_litestar(scope: Scope, receive: Receive, send: Send) -> None:
    await Litestar([root, item, room])(scope, receive, send)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Litestar:
    directory = tmp_path_factory.mktemp("static")
    (directory / "style.css").write_text("a {}")
    mounts = [raw, mounts_starlette, mounts_router, mounts_a_copy, mounts_litestar, shares_with_litestar]
    version = Router("/version/{version:int}", route_handlers=[item, room, Orders])
    static = create_static_files_router("/static", directories=[directory])
    return Litestar(
        [item, put_item, file, room, Orders, version, *mounts, Router("/below", route_handlers=mounts), static]
    )


CASES: list[Case] = [
    ("/items/7", "GET", 200, "/items/{item_id}"),
    ("/items/7", "PUT", 200, "/items/{item_id}"),
    ("/items/7", "OPTIONS", 204, "/items/{item_id}"),
    ("/items/7", "DELETE", 405, None),
    ("/items/seven", "GET", 404, None),
    ("/files/a/b", "GET", 200, "/files/{rest}"),
    ("/rooms/7", WS, 101, "/rooms/{room}"),
    ("/orders/acme/7", "GET", 200, "/orders/{shop}/{order_id}"),
    ("/version/1/orders/orders/7", "GET", 200, "/version/{version}/orders/{shop}/{order_id}"),
    ("/static/style.css", "GET", 200, "/static/{file_path}"),
    ("/static/missing", "GET", 404, "/static/{file_path}"),
    ("/schema/openapi.json", "GET", 200, "/schema/openapi.json"),
    ("/raw/what/ever", "GET", 200, "/raw/{path}"),
    ("/below/raw/what/ever", "GET", 200, "/below/raw/{path}"),
    ("/one/in/7", "GET", 200, "/one/in/{place}/"),
    ("/two/in/7", "GET", 200, "/two/in/{place}/"),
    ("/below/two/in/7", "GET", 200, "/below/two/in/{place}/"),
    ("/two/missing", "GET", 404, None),
    ("/router/in/7", "GET", 200, "/router/in/{place}/"),
    ("/copied/in/7", "GET", 200, "/copied/{path}"),
    ("/copied/missing", "GET", 404, "/copied/{path}"),
    ("/inner/items/7", "GET", 200, "/inner/{path}"),
    ("/shared/items/7", "GET", 200, None),
    ("/shared/items/7", "DELETE", 405, None),
    ("/shared", "GET", 200, None),
    ("/shared/missing", "GET", 404, None),
    ("/below/shared/rooms/7", WS, 101, None),
    ("/items//7/", "GET", 200, "/items/{item_id}"),
    ("/files/a b/\u00e9", "GET", 200, "/files/{rest}"),
    ("/missing", "GET", 404, None),
    ("/missing", WS, 403, None),
]


def test_the_full_template(app: Litestar, spans: CapturedSpans) -> None:
    """Routes, routers, controllers, static files and mounts have their full template, without types."""
    check(traced(app), spans, CASES)


def test_behind_a_root_path(app: Litestar, spans: CapturedSpans) -> None:
    """The server's root path stands in front."""
    check(traced(app), spans, CASES, prefix="/prefix", template="/prefix", root_path="/prefix")


def test_mounted_in_starlette(app: Litestar, spans: CapturedSpans) -> None:
    """Below a Starlette mount the mount's template stands in front, also in front of what Litestar mounts."""
    outer = Starlette(routes=[Mount("/tenants/{tenant}", app=cast(Any, app))])
    cases = CASES
    if not starlette_names_its_route():  # what is below Litestar then writes nothing that tells its route
        cases = [case for case in CASES if "{place}" not in (case[3] or "")]
    check(traced(outer), spans, cases, prefix="/tenants/items", template="/tenants/{tenant}")


def test_mounts_within_a_mounted_starlette(app: Litestar, spans: CapturedSpans) -> None:
    """The mounts of a Starlette application that Litestar has mounted are part of the template."""
    ask(traced(app), "/two/deep/9/in/7")
    assert name_and_route(spans) == expected("GET", "/two/deep/{level}/in/{place}/")


def test_nothing_found_by_a_mounted_router(app: Litestar, spans: CapturedSpans) -> None:
    """A router without an application around it that finds nothing leaves no route."""
    assert ask(traced(app), "/router/missing") == 404
    assert name_and_route(spans) == expected("GET", None)


@RANDOM_REQUESTS
def test_random_paths_make_no_names(app: Litestar, spans: CapturedSpans, count: int) -> None:
    """However many paths are asked for, the names are those of routes and methods."""
    check_cardinality(app, spans, count, CASES, most=len(CASES) + 12)


def test_the_span_is_current_everywhere(spans: CapturedSpans) -> None:
    """Endpoints, dependencies with `yield`, streams, background tasks and sockets all run in the request's span."""
    places = Places()

    async def yielding() -> AsyncGenerator[str, None]:
        places.note("dependency before")
        yield "x"
        places.note("dependency after")

    def sync_yielding() -> Generator[str, None, None]:
        places.note("sync dependency before")
        yield "x"
        places.note("sync dependency after")

    async def in_background() -> None:
        places.note("background")

    async def stream() -> AsyncGenerator[str, None]:
        places.note("stream")
        yield "x"

    @get("/async")
    async def asynchronous(one: str, two: str) -> Stream:
        places.note("endpoint")
        await asyncio.to_thread(places.note, "thread")
        tasks = BackgroundTasks([BackgroundTask(in_background), BackgroundTask(places.note, "sync background")])
        return Stream(stream(), background=tasks)

    @get("/sync", sync_to_thread=True)
    def synchronous(one: str, two: str) -> Response[str]:
        places.note("sync endpoint")
        return Response("x")

    @websocket("/socket")
    async def socket(socket: WebSocket[Any, Any, Any], one: str, two: str) -> None:
        places.note("socket")
        await socket.accept()
        await socket.receive_text()
        places.note("socket after a message")
        await socket.close()

    app = Litestar(
        [asynchronous, synchronous, socket],
        dependencies={"one": Provide(yielding), "two": Provide(sync_yielding)},
    )
    dependencies = {f"{kind}dependency {when}" for kind in ("", "sync ") for when in ("before", "after")}
    check_places(
        app,
        spans,
        places,
        {
            ("/async", "GET"): dependencies | {"endpoint", "thread", "background", "sync background", "stream"},
            ("/sync", "GET"): dependencies | {"sync endpoint"},
            ("/socket", WS): dependencies | {"socket", "socket after a message"},
        },
    )


def test_under_uvicorn(app: Litestar, spans: CapturedSpans) -> None:
    """A real server's scopes have the same routes, over HTTP and WebSocket."""
    check_under_uvicorn(
        app,
        spans,
        [
            ("/version/1/orders/acme/7", "GET", 200, "/version/{version}/orders/{shop}/{order_id}"),
            ("/two/in/7", "GET", 200, "/two/in/{place}/"),
            ("/missing", "GET", 404, None),
            ("/version/1/rooms/7", WS, 101, "/version/{version}/rooms/{room}"),
        ],
    )


EXCEPTIONS: dict[str, Exception] = {
    "fails": ValueError("on purpose"),
    "overloaded": KeyError("later"),
    "handled": LookupError("not here"),
    "conflict": ClientException("no", status_code=409),
    "denied": NotAuthorizedException("not you"),
    "closes": WebSocketException(detail="not you", code=4403),
}


@get("/{kind:str}")
async def fails(kind: str) -> None:
    raise EXCEPTIONS[kind]


@websocket("/socket/{kind:str}")
async def failing_socket(socket: WebSocket[Any, Any, Any], kind: str) -> None:
    await socket.accept()
    raise EXCEPTIONS[kind]


@websocket("/refused/{kind:str}")
async def refused_socket(socket: WebSocket[Any, Any, Any], kind: str) -> None:
    raise EXCEPTIONS[kind]


def build_failing(**options: Any) -> Litestar:
    def not_here(request: Any, exc: Exception) -> Response[str]:
        return Response("not here", status_code=404)

    def later(request: Any, exc: Exception) -> Response[str]:
        return Response("later", status_code=503)

    return Litestar(
        [fails, failing_socket, refused_socket],
        openapi_config=None,
        exception_handlers={LookupError: not_here, KeyError: later},
        **options,
    )


FAILURES: list[Failure] = [
    ("/fails", "GET", 500, "ValueError", "on purpose"),
    ("/overloaded", "GET", 503, "KeyError", "'later'"),
    ("/handled", "GET", 404, None, None),
    ("/conflict", "GET", 409, None, None),
    ("/one/two", "GET", 404, None, None),
    ("/socket/fails", WS, 101, "ValueError", "on purpose"),
    ("/socket/denied", WS, 101, None, None),
    ("/socket/closes", WS, 101, None, None),
    ("/refused/fails", WS, 403, "ValueError", "on purpose"),
    ("/refused/denied", WS, 403, None, None),
    ("/missing/one/two", WS, 403, None, None),
]


def test_exceptions_that_litestar_answers(spans: CapturedSpans) -> None:
    """With `after_exception=[report]` what becomes a 5xx or closes a socket is recorded; what becomes a 4xx is not."""
    check_failures(build_failing(after_exception=[report]), spans, FAILURES, plain=build_failing())
