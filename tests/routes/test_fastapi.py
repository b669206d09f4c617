"""FastAPI: routes of routers, mounts and root paths, read from the scope without an adapter."""

from __future__ import annotations

import asyncio
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest

pytest.importorskip("fastapi")

from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from asgi_trace import TraceMiddleware, set_route
from asgi_trace.testing import CapturedSpans

from ..support.frameworks import (
    RANDOM_REQUESTS,
    WS,
    Case,
    Places,
    ask,
    check,
    check_cardinality,
    check_places,
    check_under_uvicorn,
    described,
    expected,
    name_and_route,
    routes,
    traced,
)


async def plain(request: Request) -> PlainTextResponse:
    return PlainTextResponse("x")


async def added(request: Request) -> PlainTextResponse:
    return PlainTextResponse("x")


def build(directory: Path, **options: Any) -> FastAPI:
    """An application with routes of every kind, an included router two prefixes deep, and mounts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # root_path is deprecated
        app = FastAPI(**options)

    @app.get("/items/{item_id}")
    async def item(item_id: int) -> int:
        return item_id

    @app.get("/files/{rest:path}")
    def file(rest: str) -> str:
        return rest

    @app.websocket("/rooms/{room}")
    async def room(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        await websocket.close()

    orders = APIRouter(prefix="/orders")

    @orders.get("/{order_id}")
    def order(order_id: int) -> int:
        return order_id

    @orders.websocket("/{order_id}/live")
    async def live(websocket: WebSocket, order_id: int) -> None:
        await websocket.accept()
        await websocket.close()

    version = APIRouter()
    version.include_router(orders)
    version.add_route("/plain/{name}", added)
    version.mount("/tools/{tool}", Starlette(routes=[Route("/use/{hand}", plain)]))
    app.include_router(version, prefix="/v{version}")
    app.include_router(orders, prefix="/old")
    app.add_route("/added/{name}", plain)
    app.mount("/shops/{shop}", Starlette(routes=[Route("/shelf/{shelf}", plain)]))
    app.mount("/static", StaticFiles(directory=directory))
    return app


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("static")
    (directory / "style.css").write_text("a {}")
    return directory


@pytest.fixture(scope="module")
def app(directory: Path) -> FastAPI:
    app = build(directory)
    app.mount("/sub/{partner}", build(directory))
    return app


LEAVES: list[Case] = [
    ("/items/7", "GET", 200, "/items/{item_id}"),
    ("/items/seven", "GET", 422, "/items/{item_id}"),
    ("/items/7", "DELETE", 405, "/items/{item_id}"),
    ("/items/7/", "GET", 307, None),
    ("/files/a/b", "GET", 200, "/files/{rest}"),
    ("/rooms/7", WS, 101, "/rooms/{room}"),
    ("/v1/orders/7", "GET", 200, "/v{version}/orders/{order_id}"),
    ("/v1/orders/7", "PUT", 405, "/v{version}/orders/{order_id}"),
    ("/v1/orders/7/live", WS, 101, "/v{version}/orders/{order_id}/live"),
    ("/old/orders/7", "GET", 200, "/old/orders/{order_id}"),
    ("/v1/orders/missing/x", "GET", 404, None),
    ("/added/7", "GET", 200, "/added/{name}"),
    ("/shops/shops/shelf/shelf", "GET", 200, "/shops/{shop}/shelf/{shelf}"),
    ("/shops/shops/missing", "GET", 404, None),
    ("/static/style.css", "GET", 200, "/static/{path}"),
    ("/static/missing", "GET", 404, "/static/{path}"),
    ("/docs", "GET", 200, "/docs"),
    ("/openapi.json", "GET", 200, "/openapi.json"),
    ("/missing", "GET", 404, None),
    ("/missing", WS, 403, None),
]


@pytest.mark.parametrize("root_path", ["", "/prefix"])
@pytest.mark.parametrize(("prefix", "template"), [("", ""), ("/sub/acme", "/sub/{partner}")])
def test_the_full_template(app: FastAPI, spans: CapturedSpans, prefix: str, template: str, root_path: str) -> None:
    """The route has the prefixes of included routers, mounts by their template, and the server's root path."""
    prefix, template = root_path + prefix, root_path + template
    check(traced(app), spans, LEAVES, prefix=prefix, template=template, root_path=root_path)


def test_mounted_in_starlette(directory: Path, spans: CapturedSpans) -> None:
    """A FastAPI application below Starlette mounts has their templates in front of its own."""
    outer = Starlette(routes=[Mount("/a/{x}", routes=[Mount("/b/{y}", app=build(directory))])])
    check(traced(outer), spans, LEAVES, prefix="/a/a/b/b", template="/a/{x}/b/{y}")


def test_the_root_path_of_the_application(directory: Path, spans: CapturedSpans) -> None:
    """`FastAPI(root_path=...)` stands in front, whether the proxy has stripped it or not."""
    app = traced(build(directory, root_path="/shop"))
    check(app, spans, LEAVES, prefix="/shop", template="/shop")
    spans.clear()
    ask(app, "/items/7")
    assert name_and_route(spans) == expected("GET", "/shop/items/{item_id}")


def test_inside_of_the_middleware_stack(directory: Path, spans: CapturedSpans) -> None:
    """Added with `add_middleware`, it reads the same routes."""
    app = build(directory)
    app.add_middleware(TraceMiddleware)
    check(app, spans, LEAVES)


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/v1/plain/7", "/v{version}/plain/{name}"),
        ("/v1/tools/saw/use/left", "/v{version}/tools/{tool}/use/{hand}"),
        ("/v1/tools/saw/missing", None),
        ("/sub/acme/v1/tools/saw/use/left", "/sub/{partner}/v{version}/tools/{tool}/use/{hand}"),
    ],
)
def test_what_an_included_router_mounts(app: FastAPI, spans: CapturedSpans, path: str, route: str | None) -> None:
    """Mounts and plain routes of an included router have its prefix, in the versions that include them at all."""
    status = ask(traced(app), path)
    assert name_and_route(spans) == expected("GET", route if status == 200 else None)


def test_a_frontend(directory: Path, spans: CapturedSpans) -> None:
    """The files of `FastAPI.frontend()`, where there is one, are one route each."""
    app = FastAPI()
    if not hasattr(app, "frontend"):
        ask(traced(app), "/ui/style.css")
        assert name_and_route(spans) == expected("GET", None)
        return
    app.frontend("/ui", directory=directory, fallback=None)
    outer = FastAPI()
    outer.mount("/of/{shop}", app)
    for path in ("/ui/style.css", "/ui/missing.css"):
        ask(traced(app), path)
        ask(traced(outer), "/of/acme" + path)
    assert routes(spans) == ["/ui/{path}", "/of/{shop}/ui/{path}"] * 2


@RANDOM_REQUESTS
@pytest.mark.filterwarnings("ignore:Duplicate Operation ID")
def test_random_paths_make_no_names(app: FastAPI, spans: CapturedSpans, count: int) -> None:
    """However many paths are asked for, the names are those of routes and methods."""
    below: list[Case] = [("/sub/acme" + case[0], *case[1:]) for case in LEAVES]
    check_cardinality(app, spans, count, [*LEAVES, *below], most=2 * 18)


def test_set_route_from_anywhere(spans: CapturedSpans) -> None:
    """`set_route()` in a dependency, thread or mounted application beats the route in the scope; the last counts."""

    async def in_dependency() -> None:
        set_route("/from/dependency")

    def in_thread_pool() -> None:
        set_route("/from/pool")

    app = FastAPI()

    @app.get("/dependency/{x}", dependencies=[Depends(in_dependency)])
    async def dependency(x: str) -> str:
        return x

    @app.get("/pool/{x}", dependencies=[Depends(in_thread_pool)])
    async def pool(x: str) -> str:
        return x

    @app.get("/thread/{x}")
    async def thread(x: str) -> str:
        await asyncio.to_thread(set_route, "/from/thread")
        return x

    @app.get("/twice/{x}")
    async def twice(x: str) -> str:
        set_route("/from/nobody")
        set_route("/from/the/last")
        return x

    @app.websocket("/socket/{x}")
    async def socket(websocket: WebSocket, x: str) -> None:
        await websocket.accept()
        set_route("/from/socket")
        await websocket.close()

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        set_route("/from/mounted")
        await PlainTextResponse("x")(scope, receive, send)

    app.mount("/mounted/{x}", mounted)
    outer = traced(app)
    for path in ("/dependency/7", "/pool/7", "/thread/7", "/twice/7", "/mounted/7/8"):
        ask(outer, path)
    ask(outer, "/socket/7", WS)
    places = ["dependency", "pool", "thread", "the/last", "mounted", "socket"]
    assert [described(span) for span in spans] == [expected("GET", f"/from/{place}") for place in places]


def test_set_route_outside_of_a_request() -> None:
    """Outside of a request `set_route()` does nothing."""
    set_route("/nowhere")
    threading.Thread(target=set_route, args=("/nowhere",)).start()


def test_the_span_is_current_everywhere(spans: CapturedSpans) -> None:
    """Endpoints, dependencies with `yield`, streams, background tasks and sockets all run in the request's span."""
    places = Places()

    async def yielding() -> AsyncIterator[None]:
        places.note("dependency before")
        yield
        places.note("dependency after")

    def sync_yielding() -> Iterator[None]:
        places.note("sync dependency before")
        yield
        places.note("sync dependency after")

    async def in_background(place: str) -> None:
        places.note(place)

    async def stream() -> AsyncIterator[str]:
        places.note("stream")
        yield "x"

    def sync_stream() -> Iterator[str]:
        places.note("sync stream")
        yield "x"

    app = FastAPI(dependencies=[Depends(yielding), Depends(sync_yielding)])

    @app.get("/async")
    async def asynchronous(tasks: BackgroundTasks) -> StreamingResponse:
        places.note("endpoint")
        tasks.add_task(in_background, "background")
        return StreamingResponse(stream())

    @app.get("/sync")
    def synchronous(tasks: BackgroundTasks) -> StreamingResponse:
        assert threading.current_thread() is not threading.main_thread()
        places.note("sync endpoint")
        tasks.add_task(places.note, "sync background")
        return StreamingResponse(sync_stream())

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        places.note("socket")
        await websocket.accept()
        await websocket.receive_text()
        places.note("socket after a message")
        await websocket.close()

    dependencies = {f"{kind}dependency {when}" for kind in ("", "sync ") for when in ("before", "after")}
    check_places(
        app,
        spans,
        places,
        {
            ("/async", "GET"): dependencies | {"endpoint", "background", "stream"},
            ("/sync", "GET"): dependencies | {"sync endpoint", "sync background", "sync stream"},
            ("/socket", WS): dependencies | {"socket", "socket after a message"},
        },
    )


async def in_parameter() -> str:
    set_route("/from/parameter")
    return "x"


def test_under_uvicorn(app: FastAPI, directory: Path, spans: CapturedSpans) -> None:
    """A real server's scopes have the same routes, over HTTP and WebSocket."""
    served = build(directory)

    @served.get("/parameter/{x}")
    async def parameter(x: Annotated[str, Depends(in_parameter)]) -> str:
        return x

    served.mount("/sub/{partner}", app)
    check_under_uvicorn(
        served,
        spans,
        [
            ("/v1/orders/7", "GET", 200, "/v{version}/orders/{order_id}"),
            ("/sub/acme/v1/orders/7", "GET", 200, "/sub/{partner}/v{version}/orders/{order_id}"),
            ("/parameter/7", "GET", 200, "/from/parameter"),
            ("/missing", "GET", 404, None),
            ("/v1/orders/7/live", WS, 101, "/v{version}/orders/{order_id}/live"),
        ],
    )
