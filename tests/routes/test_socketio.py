"""Socket.IO beside and around an application: its requests have spans, and no route of their own."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

pytest.importorskip("socketio")

import socketio  # type: ignore[import-untyped]
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from asgi_trace import set_route
from asgi_trace.testing import CapturedSpans

from ..support.asgi import http_scope, serve
from ..support.frameworks import (
    RANDOM_REQUESTS,
    Case,
    Places,
    check,
    check_cardinality,
    described,
    expected,
    run,
    traced,
)

places = Places()
POLLING = "/socket.io/"


async def endpoint(request: Request) -> PlainTextResponse:
    return PlainTextResponse("x")


def build(**options: Any) -> Any:
    server = socketio.AsyncServer(async_mode="asgi", cors_allowed_origins=[])

    async def connect(sid: str, environ: dict[str, Any]) -> None:
        places.note("connect handler")
        set_route("/socket.io/")

    async def said(sid: str, data: str) -> None:
        places.note("event handler")

    server.on("connect", connect)
    server.on("said", said)
    wrapped = Starlette(routes=[Route("/items/{item}", endpoint), Mount("/m/{n}", routes=[Route("/{x}", endpoint)])])
    return socketio.ASGIApp(server, wrapped, **options)


CASES: list[Case] = [
    ("/items/7", "GET", 200, "/items/{item}"),
    ("/items/7", "DELETE", 405, "/items/{item}"),
    ("/m/m/7", "GET", 200, "/m/{n}/{x}"),
    ("/missing", "GET", 404, None),
    (POLLING, "GET", 400, None),
]


def test_the_wrapped_application(spans: CapturedSpans) -> None:
    """The application that python-socketio wraps has its routes; python-socketio's own path has none."""
    check(traced(build()), spans, CASES)


def test_mounted_in_starlette(spans: CapturedSpans) -> None:
    """Below a mount, the mount's template is the route, but for what the wrapped application does not know."""
    app = build(socketio_path="/realtime/socket.io")
    cases: list[Case] = [
        (POLLING, "GET", 400, "/{path}"),
        ("/items/7", "GET", 200, "/items/{item}"),
        ("/m/m/7", "GET", 200, "/m/{n}/{x}"),
        ("/missing", "GET", 404, None),
    ]
    outer = traced(Starlette(routes=[Mount("/realtime", app=cast(Any, app))]))
    check(outer, spans, cases, prefix="/realtime", template="/realtime")


def test_the_span_is_current_in_handlers(spans: CapturedSpans) -> None:
    """Handlers run in the span of the request that brought the event, and `set_route()` in one of them names it."""
    app = traced(build())

    async def poll(method: str, query: str, body: bytes = b"") -> str:
        headers = [(b"host", b"shop.test"), (b"content-length", str(len(body)).encode())]
        query_string = f"EIO=4&transport=polling{query}".encode()
        scope = http_scope(POLLING, method, headers=headers, query_string=query_string)
        served = await serve(app, scope, [{"type": "http.request", "body": body, "more_body": False}])
        assert served.status == 200
        return b"".join(message.get("body", b"") for message in served.messages).decode()

    async def talk() -> None:
        session = json.loads((await poll("GET", ""))[1:])["sid"]
        places.clear()
        await poll("POST", f"&sid={session}", b"40")
        await places.wait("connect handler")
        assert places.inside(spans[1]) == {"connect handler"}
        assert described(spans[1]) == expected("POST", POLLING)
        places.clear()
        await poll("POST", f"&sid={session}", b'42["said", "hello"]')
        await places.wait("event handler")  # python-socketio runs it in a task
        assert places.inside(spans[2]) == {"event handler"}

    run(talk())


@RANDOM_REQUESTS
def test_random_paths_make_no_names(spans: CapturedSpans, count: int) -> None:
    """However many paths are asked for, the names are those of routes and methods."""
    check_cardinality(build(), spans, count, CASES, most=3)
