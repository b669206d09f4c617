"""Starlette: routes of routers, mounts and hosts, read from the scope without an adapter."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")

from starlette.applications import Starlette
from starlette.background import BackgroundTask, BackgroundTasks
from starlette.concurrency import run_in_threadpool
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Host, Mount, Route, Router, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from asgi_trace import TraceMiddleware
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
    expected,
    name_and_route,
    routes,
    starlette_names_its_route,
    traced,
)


async def endpoint(request: Request) -> Response:
    return PlainTextResponse("x")


async def other_endpoint(request: Request) -> Response:
    return PlainTextResponse("x")


async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


class Item(HTTPEndpoint):
    async def get(self, request: Request) -> Response:
        return PlainTextResponse("x")


class Echo(WebSocketEndpoint):
    encoding = "text"

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        await websocket.close()


class Copying:
    """A middleware that hands a copy of the scope on."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(dict(scope), receive, send)


async def opaque(scope: Any, receive: Any, send: Any) -> None:
    """An application that shows no routes."""
    await PlainTextResponse("x")(scope, receive, send)


def leaves() -> list[BaseRoute]:
    return [
        Route("/items/{id:int}", endpoint),
        Route("/class/{id}", Item),
        Route("/get/{id}", other_endpoint, methods=["GET"]),
        Route("/put/{name}", other_endpoint, methods=["PUT"]),
        Route("/files/{rest:path}", endpoint),
        Route("/slash/", endpoint),
        WebSocketRoute("/rooms/{room}", socket),
        WebSocketRoute("/echo/{room}", Echo),
    ]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("static")
    (directory / "style.css").write_text("a {}")
    return directory


@pytest.fixture(scope="module")
def app(directory: Path) -> Starlette:
    sub = Starlette(routes=[*leaves(), Mount("/in/{x}", routes=leaves())])
    return Starlette(
        routes=[
            *leaves(),
            Mount("/api", routes=[*leaves(), Mount("/v{version:int}/deep", routes=leaves())]),
            Mount("/tenants/{tenant}", app=Starlette(routes=leaves())),
            Mount("/users/{user}/of/{org}", routes=[Mount("/in/{place}", app=Starlette(routes=leaves()))]),
            Mount("/zipped/{zip}", app=GZipMiddleware(sub)),
            Mount("/wrapped/{wrap}", app=sub, middleware=[Middleware(GZipMiddleware)]),
            Mount("/copied", app=Copying(Starlette(routes=leaves()))),
            Mount("/opaque/{any}", app=opaque),
            Mount("/static", app=StaticFiles(directory=directory)),
            Host(
                "{customer}.shop.test",
                app=Router([Route("/front/{page}", endpoint), Mount("/c/{campaign}", routes=leaves())]),
            ),
            Mount(
                "/group",
                routes=[Mount("", routes=[Route("/zero/{x}", other_endpoint), Mount("/below/{x}", routes=leaves())])],
            ),
        ]
    )


LEAVES: list[Case] = [
    ("/items/7", "GET", 200, "/items/{id}"),
    ("/items/7", "DELETE", 405, "/items/{id}"),
    ("/class/7", "GET", 200, "/class/{id}"),
    ("/class/7", "POST", 405, "/class/{id}"),
    ("/get/7", "GET", 200, "/get/{id}"),
    ("/put/7", "PUT", 200, "/put/{name}"),
    ("/put/7", "GET", 405, "/put/{name}"),
    ("/files/a/b.txt", "GET", 200, "/files/{rest}"),
    ("/rooms/7", WS, 101, "/rooms/{room}"),
    ("/echo/7", WS, 101, "/echo/{room}"),
]
MOUNTS = {
    "/api": "/api",
    "/api/v2/deep": "/api/v{version}/deep",
    "/tenants/acme": "/tenants/{tenant}",
    "/tenants/tenants": "/tenants/{tenant}",
    "/tenants/items": "/tenants/{tenant}",
    "/users/of/of/of/in/in": "/users/{user}/of/{org}/in/{place}",
    "/zipped/9": "/zipped/{zip}",
    "/zipped/9/in/in": "/zipped/{zip}/in/{x}",
    "/wrapped/9": "/wrapped/{wrap}",
    "/group/below/below": "/group/below/{x}",
}
HIDDEN: list[Case] = [
    ("/static/style.css", "GET", 200, "/static/{path}"),
    ("/static/missing.css", "GET", 404, "/static/{path}"),
    ("/opaque/7/what/ever", "GET", 200, "/opaque/{any}/{path}"),
    ("/copied/items/7", "GET", 200, "/copied/{path}"),
    ("/copied/missing", "GET", 404, "/copied/{path}"),
    ("/group/zero/7", "GET", 200, "/group/zero/{x}"),
]
UNMATCHED: list[Case] = [
    ("/missing", "GET", 404, None),
    ("/items/seven", "GET", 404, None),
    ("/api/missing", "GET", 404, None),
    ("/api/v2/deep/missing", "GET", 404, None),
    ("/tenants/acme/missing", "GET", 404, None),
    ("/wrapped/9/missing", "GET", 404, None),
    ("/zipped/9/missing", "GET", 404, None),
    ("/zipped/9/in/9/missing", "GET", 404, None),
    ("/group/below/9/missing", "GET", 404, None),
    ("/group/missing", "GET", 404, None),
    ("/api/slash", "GET", 307, None),
    ("/tenants/acme/slash", "GET", 307, None),
    ("/missing", WS, 403, None),
    ("/api/missing", WS, 403, None),
]


def test_routes_outside_of_mounts(app: Starlette, spans: CapturedSpans) -> None:
    """A route's template names the span, also for a method that it does not take."""
    check(traced(app), spans, LEAVES)


@pytest.mark.parametrize("root_path", ["", "/prefix"])
@pytest.mark.parametrize("mount", MOUNTS)
def test_routes_inside_of_mounts(app: Starlette, spans: CapturedSpans, mount: str, root_path: str) -> None:
    """The route below a mount is the full template: the mount's parameter, never its value, and the root path."""
    prefix, template = root_path + mount, root_path + MOUNTS[mount]
    check(traced(app), spans, LEAVES, prefix=prefix, template=template, root_path=root_path)


def test_mounted_applications_that_show_no_routes(app: Starlette, spans: CapturedSpans) -> None:
    """Where nothing is known below a mount, the route is the mount's own template."""
    check(traced(app), spans, HIDDEN)


def test_no_route_where_nothing_matched(app: Starlette, spans: CapturedSpans) -> None:
    """An unmatched path and a redirect to the other slash have no route, inside and outside of mounts."""
    check(traced(app), spans, UNMATCHED)


@pytest.mark.parametrize(
    ("path", "status", "route"),
    [
        ("/front/7", 200, "/front/{page}"),
        ("/c/spring/items/7", 200, "/c/{campaign}/items/{id}"),
        ("/c/spring/missing", 404, None),
        ("/items/7", 200, "/items/{id}"),
    ],
)
def test_routes_below_a_host(app: Starlette, spans: CapturedSpans, path: str, status: int, route: str | None) -> None:
    """A `Host` adds nothing to the template, and the mounts below it count for its host only."""
    assert ask(traced(app), path, host="acme.shop.test") == status
    assert name_and_route(spans) == expected("GET", route)
    spans.clear()
    ask(traced(app), path, host="elsewhere.test")
    assert name_and_route(spans) == expected("GET", route if path == "/items/7" else None)


def test_one_function_behind_several_routes(spans: CapturedSpans) -> None:
    """Each of the routes that share an endpoint has its own template."""
    shared = [Route("/a/{x}", endpoint), Route("/b/{x}", endpoint, methods=["PUT"]), Route("/b/{y}", endpoint)]
    app = traced(Starlette(routes=[*shared, Mount("/m/{z}", routes=shared)]))
    for path, method in (("/a/1", "GET"), ("/b/1", "GET"), ("/b/1", "PUT"), ("/m/1/a/1", "GET"), ("/m/1/b/1", "PUT")):
        ask(app, path, method)
    assert routes(spans) == ["/a/{x}", "/b/{y}", "/b/{x}", "/m/{z}/a/{x}", "/m/{z}/b/{x}"]


def test_inside_of_the_middleware_stack(spans: CapturedSpans) -> None:
    """Added with `add_middleware`, it reads the same full template."""
    app = Starlette(routes=[Route("/items/{id}", endpoint), Mount("/m/{n}", routes=leaves())])
    app.add_middleware(TraceMiddleware)
    ask(app, "/prefix/items/7", root_path="/prefix")
    ask(app, "/prefix/m/1/items/7", root_path="/prefix")
    assert routes(spans) == ["/prefix/items/{id}", "/prefix/m/{n}/items/{id}"]


def test_inside_of_a_mounted_application(spans: CapturedSpans) -> None:
    """A middleware of a mounted application knows the mounts above it."""
    inner = Starlette(routes=leaves())
    inner.add_middleware(TraceMiddleware)
    ask(Starlette(routes=[Mount("/tenants/{tenant}", app=inner)]), "/tenants/acme/items/7")
    assert name_and_route(spans) == expected("GET", "/tenants/{tenant}/items/{id}")


def test_a_root_path_that_somebody_writes_on_the_way(spans: CapturedSpans) -> None:
    """A root path that is rewritten for each request, by a tenant's name, never becomes part of the route."""

    class Tenant:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            scope["root_path"] = "/" + scope["path"].split("/")[1]
            await self.app(scope, receive, send)

    app = traced(Tenant(Starlette(routes=[*leaves(), Mount("/api/{v}", routes=leaves())])))
    ask(app, "/acme/items/7")
    ask(app, "/acme/api/1/items/7")
    assert routes(spans) == ["/items/{id}", "/api/{v}/items/{id}"]


def test_routes_added_to_a_running_application(spans: CapturedSpans) -> None:
    """Mounts and routes that come later are found as well."""
    inner = Starlette(routes=[Route("/a/{x}", endpoint)])
    app = Starlette(routes=[Mount("/m/{y}", app=inner)])
    outer = traced(app)
    ask(outer, "/m/1/a/1")
    inner.routes.append(Route("/b/{x}", other_endpoint))
    app.routes.append(Mount("/n/{y}", app=inner))
    for path in ("/m/1/b/1", "/n/1/b/1", "/n/1/a/1"):
        ask(outer, path)
    assert routes(spans) == [
        "/m/{y}/a/{x}",
        "/m/{y}/b/{x}",
        "/n/{y}/b/{x}",
        "/n/{y}/a/{x}",
    ]


def test_mounts_replaced_in_a_running_application(spans: CapturedSpans) -> None:
    """A mount or route that another one takes the place of is forgotten, at every level and in any order."""
    inner = Starlette(routes=[Mount("/a/{b}", routes=[Route("/j/{c}", endpoint)]), Route("/x", endpoint)])
    app = Starlette(routes=[Route("/x", endpoint), Mount("/m/{n}", app=inner), Mount("/z", routes=[])])
    outer = traced(app)
    replaced = []  # kept alive, so that nothing is noticed only because it is gone

    def replace(router: Any, index: int, route: BaseRoute) -> None:
        replaced.append(router.routes[index])
        router.routes[index] = route

    paths = ("/m/1/a/2/j/3", "/m/4/a/5/j/6")
    ask(outer, paths[0])
    replace(inner, 0, Mount("/a/{d}", routes=[Route("/j/{e}", endpoint)]))
    for path in paths:
        ask(outer, path)
    replace(app, 1, Mount("/m/{o}", app=inner))
    for path in paths:
        ask(outer, path)
    replaced.extend(app.routes[1:])
    app.routes[1:] = reversed(app.routes[1:])  # found at another place
    replace(app, 1, Mount("/m/{p}/a/{q}", routes=[Route("/j/{r}", endpoint)]))
    ask(outer, "/m/7/a/8/j/9")
    assert routes(spans) == [
        "/m/{n}/a/{b}/j/{c}",
        *["/m/{n}/a/{d}/j/{e}"] * 2,
        *["/m/{o}/a/{d}/j/{e}"] * 2,
        "/m/{p}/a/{q}/j/{r}",
    ]


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_a_mount_that_is_removed_during_a_request(spans: CapturedSpans, prefix: str) -> None:
    """A request whose mount has gone from its application when it ends has no route, and not another mount's."""
    inner = Starlette()

    async def remove(request: Request) -> Response:
        if len(spans) == 1:
            del inner.routes[1:]
        return PlainTextResponse("x")

    mounts = [Mount("/m/{n}", routes=[Route("/x", endpoint)]), Mount("/z", routes=[Route("/x", remove)])]
    inner.routes.extend(mounts)
    app = traced(Starlette(routes=[Mount(prefix, app=inner)]) if prefix else inner)
    for path in ("/z/x", "/z/x", "/m/1/x"):
        assert ask(app, prefix + path) == 200
    assert routes(spans) == [f"{prefix}/z/x", None, f"{prefix}/m/{{n}}/x"]


def test_a_router_without_an_application(spans: CapturedSpans) -> None:
    """Below a bare `Router`, which writes no application into the scope, routes and opaque mounts are found."""
    app = traced(Router([Route("/items/{id}", endpoint), Mount("/raw/{kind}", opaque)]))
    ask(app, "/items/7")
    ask(app, "/raw/7/what/ever")
    assert routes(spans) == ["/items/{id}", "/raw/{kind}/{path}"]


def test_nothing_found_by_an_application_behind_a_middleware(directory: Path, spans: CapturedSpans) -> None:
    """A mounted application that hides behind a middleware has found nothing: no route; what it mounts has one."""
    files = Mount("/", app=StaticFiles(directory=directory))
    app = Starlette(
        routes=[
            Mount("/a/{b}", app=GZipMiddleware(Starlette(routes=[Route("/x/{y}", endpoint), Mount("/raw", opaque)]))),
            Mount("/files", app=GZipMiddleware(Starlette(routes=[Route("/x", endpoint), files]))),
            Mount("/traced", app=TraceMiddleware(Starlette(routes=[Route("/x", endpoint)]))),
            Mount("/bare", app=GZipMiddleware(opaque)),
            Mount("/sub/{s}", app=Starlette(routes=[Mount("/bare", app=GZipMiddleware(opaque))])),
            Mount("", app=GZipMiddleware(Starlette(routes=[Route("/last/{x}", other_endpoint)]))),
        ]
    )
    cases: list[Case] = [
        ("/a/1/x/2", "GET", 200, "/a/{b}/x/{y}"),
        ("/a/1/missing", "GET", 404, None),
        ("/a/1/raw/what/ever", "GET", 200, "/a/{b}/raw/{path}"),
        ("/files/style.css", "GET", 200, "/files/{path}"),
        ("/traced/missing", "GET", 404, None),
        ("/bare/what/ever", "GET", 200, "/bare/{path}"),
        ("/sub/1/bare/what/ever", "GET", 200, "/sub/{s}/bare/{path}"),
        ("/last/7", "GET", 200, "/last/{x}" if starlette_names_its_route() else None),
        ("/missing", "GET", 404, None),
    ]
    check(traced(app), spans, cases)


@RANDOM_REQUESTS
def test_random_paths_make_no_names(app: Starlette, spans: CapturedSpans, count: int) -> None:
    """However many paths are asked for, the names are those of routes and methods."""
    below: list[Case] = [(mount + c[0], *c[1:]) for mount in (*MOUNTS, "/c/spring") for c in LEAVES]
    most = len({*MOUNTS.values(), "/c/{campaign}", ""}) * len(LEAVES) + len(HIDDEN)
    check_cardinality(app, spans, count, [*LEAVES, *below, *HIDDEN], most=most, host="acme.shop.test")


def test_the_span_is_current_everywhere(spans: CapturedSpans) -> None:
    """Endpoints, thread pools, streams, background tasks and sockets all run in the request's span."""
    places = Places()

    async def stream() -> AsyncIterator[bytes]:
        places.note("async stream")
        yield b"x"

    def threaded_stream() -> Iterator[bytes]:
        places.note("sync stream")
        yield b"x"

    async def asynchronous(request: Request) -> Response:
        places.note("endpoint")
        await run_in_threadpool(places.note, "run_in_threadpool")
        await asyncio.create_task(note_later("task"))
        tasks = BackgroundTasks(
            [BackgroundTask(places.note, "sync background"), BackgroundTask(note_later, "background")]
        )
        return StreamingResponse(stream(), background=tasks)

    async def note_later(place: str) -> None:
        await asyncio.sleep(0)
        places.note(place)

    def synchronous(request: Request) -> Response:
        assert threading.current_thread() is not threading.main_thread()
        places.note("sync endpoint")
        return StreamingResponse(threaded_stream())

    async def over_socket(websocket: WebSocket) -> None:
        places.note("socket")
        await websocket.accept()
        await websocket.receive_text()
        places.note("socket after a message")
        await websocket.close()

    app = Starlette(
        routes=[Route("/async", asynchronous), Route("/sync", synchronous), WebSocketRoute("/socket", over_socket)]
    )
    in_async = {"endpoint", "run_in_threadpool", "task", "sync background", "background", "async stream"}
    check_places(
        app,
        spans,
        places,
        {
            ("/async", "GET"): in_async,
            ("/sync", "GET"): {"sync endpoint", "sync stream"},
            ("/socket", WS): {"socket", "socket after a message"},
        },
    )


def test_under_uvicorn(app: Starlette, spans: CapturedSpans) -> None:
    """A real server's scopes have the same routes, over HTTP and WebSocket."""
    check_under_uvicorn(
        app,
        spans,
        [
            ("/tenants/acme/items/7", "GET", 200, "/tenants/{tenant}/items/{id}"),
            ("/tenants/acme/missing", "GET", 404, None),
            ("/static/style.css", "GET", 200, "/static/{path}"),
            ("/api/rooms/7", WS, 101, "/api/rooms/{room}"),
        ],
    )
