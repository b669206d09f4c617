"""WebSockets over real servers: uvicorn with each of its implementations."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from asgi_trace import TraceMiddleware
from asgi_trace.testing import CapturedSpans

from ..support.asgi import (
    TRACE_ID,
    TRACEPARENT,
    attributes_of,
)
from ..support.servers import UvicornServer, eventually, uvicorn_serving
from ..support.versions import installed
from ..support.websockets import (
    CANCELLED_MARK,
    CLOSE_CODE,
    RECEIVED,
    SENT,
    code,
    error,
    opened,
    outcome,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The `websockets` implementation")


class Rooms:
    """Sockets that end in different ways, over Starlette."""

    def __init__(self) -> None:
        self.waiting = threading.Event()
        routes = [
            WebSocketRoute("/echo/{room}", self.echo),
            WebSocketRoute("/refuse", self.refuse),
            WebSocketRoute("/deny", self.deny),
            WebSocketRoute("/fail", self.fail),
            WebSocketRoute("/close", self.close),
            WebSocketRoute("/flood", self.flood),
            WebSocketRoute("/wait", self.wait),
        ]
        self.app = Starlette(routes=routes)

    async def echo(self, socket: WebSocket) -> None:
        await socket.accept()
        while True:
            await socket.send_text(await socket.receive_text())

    async def refuse(self, socket: WebSocket) -> None:
        await socket.close()

    async def deny(self, socket: WebSocket) -> None:
        from starlette.responses import PlainTextResponse

        await socket.send_denial_response(PlainTextResponse("go away", 401))

    async def fail(self, socket: WebSocket) -> None:
        await socket.accept()
        raise ValueError("no room")

    async def close(self, socket: WebSocket) -> None:
        await socket.accept()
        await socket.close(4001)

    async def flood(self, socket: WebSocket) -> None:
        await socket.accept()
        while True:
            await socket.send_bytes(b"x" * 10_000)
            await asyncio.sleep(0)

    async def wait(self, socket: WebSocket) -> None:
        await socket.accept()
        self.waiting.set()
        await asyncio.sleep(30)


IMPLEMENTATIONS = ["websockets", "websockets-sansio", "wsproto"]


@pytest.fixture(scope="module", params=IMPLEMENTATIONS)
def server(request: pytest.FixtureRequest) -> Iterator[UvicornServer]:
    with uvicorn_serving(TraceMiddleware(Rooms().app), ws=request.param) as running:
        yield running


def url(server: UvicornServer, path: str) -> str:
    return f"ws://127.0.0.1:{server.port}{path}"


def only_span(spans: CapturedSpans) -> ReadableSpan:
    eventually(lambda: len(spans), "the socket's span")
    return spans.server


def test_a_conversation_over_the_wire(server: UvicornServer, spans: CapturedSpans) -> None:
    """Route, counts and the client's close code; one span that begins with the caller's `traceparent`."""
    headers = {"traceparent": TRACEPARENT.decode()}
    with connect(url(server, "/echo/blue"), additional_headers=headers) as client:
        for number in range(5):
            client.send(str(number))
            assert client.recv() == str(number)

    span = only_span(spans)
    assert span.name == "GET /echo/{room}"
    assert attributes_of(span)["http.route"] == "/echo/{room}"
    assert span.context.trace_id == TRACE_ID
    assert outcome(span) == opened(5, 5, 1000)


def test_a_refusal_over_the_wire(server: UvicornServer, spans: CapturedSpans) -> None:
    """The status code on the span is the one that the client got: 403."""
    with pytest.raises(InvalidStatus) as raised, connect(url(server, "/refuse")):
        pass

    assert outcome(only_span(spans)) == code(raised.value.response.status_code) == code(403)


@pytest.mark.skipif(installed("uvicorn") < (0, 52, 4), reason="this uvicorn may send two lengths of the page")
def test_a_denial_response_over_the_wire(server: UvicornServer, spans: CapturedSpans) -> None:
    """The status code on the span is the one of the page that the client got."""
    with pytest.raises(InvalidStatus) as raised, connect(url(server, "/deny")):
        pass

    assert outcome(only_span(spans)) == code(raised.value.response.status_code) == code(401)


def test_a_failure_over_the_wire(server: UvicornServer, spans: CapturedSpans) -> None:
    """An exception in an open socket: the client sees it break, the span has the exception."""
    with connect(url(server, "/fail")) as client, pytest.raises(ConnectionClosed):
        client.recv()

    assert outcome(only_span(spans)) == opened() | error("ValueError", 1)


def test_a_close_over_the_wire(server: UvicornServer, spans: CapturedSpans) -> None:
    """The application's own close code reaches client and span."""
    with connect(url(server, "/close")) as client, pytest.raises(ConnectionClosed) as raised:
        client.recv()

    assert raised.value.rcvd is not None
    assert raised.value.rcvd.code == 4001
    assert outcome(only_span(spans)) == opened(close=4001)


@pytest.mark.skipif(installed("uvicorn") < (0, 52, 4), reason="this uvicorn may not notice that a client has left")
def test_a_connection_that_breaks_off(server: UvicornServer, spans: CapturedSpans) -> None:
    """A client that vanishes without a word while it is being sent to is no error of anybody's."""
    client = connect(url(server, "/flood"))
    client.recv()
    client.socket.close()
    client.close_socket()

    span = only_span(spans)
    found = outcome(span)
    assert found.pop(SENT) > 0
    assert found.pop(CLOSE_CODE) in (1005, 1006, 1012)
    assert found == {"http.response.status_code": 101, RECEIVED: 0}


@pytest.mark.parametrize("ws", IMPLEMENTATIONS)
def test_a_server_that_stops_with_a_socket_open(spans: CapturedSpans, ws: str) -> None:
    """A socket whose application is cancelled by the shutdown says that, or that the server has closed it."""
    rooms = Rooms()
    serving = uvicorn_serving(TraceMiddleware(rooms.app), ws=ws, timeout_graceful_shutdown=0)
    with serving as server, connect(url(server, "/wait")):
        eventually(rooms.waiting.is_set, "the socket")
        server.stop()

    found = outcome(spans.server)
    assert found["http.response.status_code"] == 101
    assert found[CANCELLED_MARK] is True
    assert found["error.type"] == "asyncio.exceptions.CancelledError"
