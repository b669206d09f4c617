"""The sizes of bodies are bytes on the wire, request by request."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_trace import set_route
from asgi_trace._types import Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans

from ..support.asgi import (
    OK,
    body,
    drive,
    http_scope,
    responding,
    serve,
    start,
)
from ..support.metrics import (
    REQUEST_SIZE,
    RESPONSE_SIZE,
    Meters,
    labels,
    traced,
)


def test_each_request_keeps_its_own_sizes(meters: Meters, spans: CapturedSpans) -> None:
    """A hundred requests at once, of sizes all different, on one middleware: none has bytes of another."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route(scope["path"])
        size, more_body = 0, True
        while more_body:
            message = await receive()
            size, more_body = size + len(message["body"]), message["more_body"]
            await asyncio.sleep(0)
        await send(start(200))
        for _ in range(size):
            await send(body(b"123", True))
            await asyncio.sleep(0)
        await send(body())

    middleware = traced(app, meters, metrics=(REQUEST_SIZE, RESPONSE_SIZE))

    def upload(size: int) -> list[Message]:
        return [{"type": "http.request", "body": b"x", "more_body": n + 1 < size} for n in range(size)]

    async def run() -> None:
        await asyncio.gather(*(serve(middleware, http_scope(f"/{n}"), upload(n)) for n in range(1, 101)))

    asyncio.run(run())
    sizes = {
        name: {labels(p)["http.route"]: p.sum for p in meters.points(name)} for name in (REQUEST_SIZE, RESPONSE_SIZE)
    }
    assert sizes == {
        REQUEST_SIZE: {f"/{n}": n for n in range(1, 101)},
        RESPONSE_SIZE: {f"/{n}": 3 * n for n in range(1, 101)},
    }


def test_sizes_are_those_on_the_wire(meters: Meters, spans: CapturedSpans) -> None:
    """A body that is compressed further in counts compressed."""

    async def many(request: Any) -> PlainTextResponse:
        return PlainTextResponse("a" * 100_000)

    app = Starlette(routes=[Route("/", many)], middleware=[Middleware(GZipMiddleware)])
    served = drive(traced(app, meters, metrics=RESPONSE_SIZE), http_scope(headers=[(b"accept-encoding", b"gzip")]))
    sent = sum(len(message.get("body", b"")) for message in served.messages)
    assert 0 < sent < 1000
    assert meters.point(RESPONSE_SIZE).sum == sent


def test_a_file_that_the_server_sends_counts(meters: Meters, spans: CapturedSpans, tmp_path: Path) -> None:
    """Bytes that never pass through the application have left all the same."""
    file = tmp_path / "report"
    file.write_bytes(b"0123456789")
    with file.open("rb") as opened:
        opened.seek(4)
        zerocopy = {"type": "http.response.zerocopysend", "file": opened}
        for message in (
            {"type": "http.response.pathsend", "path": str(file)},
            {**zerocopy, "file": opened.fileno(), "offset": 1},
            {**zerocopy, "count": 2, "offset": 3},
            zerocopy,
        ):
            drive(traced(responding(start(200), message), meters, metrics=RESPONSE_SIZE))
    point = meters.point(RESPONSE_SIZE)
    assert (point.count, point.sum) == (4, 10 + 9 + 2 + 6)


def test_an_answer_to_head_has_no_body(meters: Meters, spans: CapturedSpans) -> None:
    """What an application sends in answer to HEAD, the server keeps back."""
    drive(traced(OK, meters, metrics=RESPONSE_SIZE), http_scope(method="HEAD"))
    assert meters.point(RESPONSE_SIZE).sum == 0


def test_a_response_without_a_body_has_size_zero(meters: Meters, spans: CapturedSpans) -> None:
    """An empty response is a measurement of nought, and one request is one measurement."""
    drive(traced(responding(start(204), body()), meters, metrics=(REQUEST_SIZE, RESPONSE_SIZE)))
    for name in (REQUEST_SIZE, RESPONSE_SIZE):
        assert (meters.point(name).count, meters.point(name).sum) == (1, 0)
