"""WebSockets: one span per connection, or per handshake; its answer, its close, its messages by number."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from enum import IntEnum
from typing import Any

import pytest
from opentelemetry.trace import SpanKind
from starlette.websockets import WebSocketDisconnect

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans

from ..support.asgi import (
    CONNECT,
    PARENT_ID,
    RECEIVE,
    TRACE_ID,
    TRACEPARENT,
    Served,
    Steps,
    attributes_of,
    drive,
    milliseconds,
    websocket_scope,
)
from ..support.endings import ExceptionGroup
from ..support.websockets import (
    CANCELLED_MARK,
    CLOSE_CODE,
    GONE_MARK,
    Outcome,
    code,
    error,
    opened,
    outcome,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:The `websockets` implementation")


ACCEPT: Message = {"type": "websocket.accept"}
TEXT: Message = {"type": "websocket.receive", "text": "hello"}
SEND: Message = {"type": "websocket.send", "text": "world"}
CLOSE: Message = {"type": "websocket.close"}


def left(code: int) -> Message:
    return {"type": "websocket.disconnect", "code": code}


def denial(status: int) -> list[Message]:
    return [
        {"type": "websocket.http.response.start", "status": status, "headers": [(b"x-reason", b"no")]},
        {"type": "websocket.http.response.body", "body": b"go ", "more_body": True},
        {"type": "websocket.http.response.body", "body": b"away"},
    ]


DISCONNECT = "starlette.websockets.WebSocketDisconnect"
CANCELLED = {**error("asyncio.exceptions.CancelledError"), CANCELLED_MARK: True}


def traced(app: ASGIApp, script: Any = (CONNECT,), scope: Scope | None = None, **options: Any) -> Served:
    """Serve it through the middleware, after seeing that neither side can tell that the middleware is there."""
    scope = websocket_scope() if scope is None else scope
    bare = drive(app, dict(scope), list(script))
    served = drive(TraceMiddleware(app, **options), dict(scope), list(script))
    assert (served.messages, served.received) == (bare.messages, bare.received)
    assert type(served.exception) is type(bare.exception)
    return served


# --- how a socket goes ---


def test_a_socket_is_one_span_with_its_handshake_and_messages(spans: CapturedSpans) -> None:
    """A GET below the caller's span: protocol, scheme, status code 101, message counts and the close code."""
    app = Steps(RECEIVE, ACCEPT, RECEIVE, SEND, SEND, RECEIVE, CLOSE)
    scope = websocket_scope(
        "/ws", query_string=b"room=1", headers=[(b"host", b"shop.test"), (b"traceparent", TRACEPARENT)]
    )
    traced(app, [CONNECT, TEXT, TEXT], scope)

    span = spans.server
    attributes = attributes_of(span)
    assert len(spans) == 1
    assert (span.name, span.kind) == ("GET", SpanKind.SERVER)
    assert span.parent is not None
    assert (span.context.trace_id, span.parent.span_id) == (TRACE_ID, PARENT_ID)
    assert attributes["http.request.method"] == "GET"
    assert attributes["network.protocol.name"] == "websocket"
    assert (attributes["url.scheme"], attributes["url.path"], attributes["url.query"]) == ("ws", "/ws", "room=1")
    assert (attributes["server.address"], attributes["server.port"]) == ("shop.test", 80)
    assert outcome(span) == opened(received=2, sent=2, close=1000)


CASES: dict[str, tuple[list[Any], list[Any], Outcome]] = {
    "closed by the application": ([ACCEPT, {**CLOSE, "code": 4001}], [], opened(close=4001)),
    "closed by the client": ([ACCEPT, RECEIVE, RECEIVE], [TEXT, left(1001)], opened(1, close=1001)),
    "closed without a code": ([ACCEPT, RECEIVE], [{"type": "websocket.disconnect"}], opened(close=1005)),
    "connection lost": ([ACCEPT, RECEIVE], [left(1006)], opened(close=1006)),
    "left open": ([ACCEPT, SEND], [], opened(sent=1)),
    "the first close counts": ([ACCEPT, CLOSE, RECEIVE], [left(1006)], opened(close=1000)),
    "the framework's disconnect": ([ACCEPT, RECEIVE, WebSocketDisconnect(1001)], [left(1001)], opened(close=1001)),
    "another socket's disconnect": ([ACCEPT, WebSocketDisconnect(1006)], [], opened() | error(DISCONNECT, 1)),
    "the framework's disconnect in a group": (
        [ACCEPT, RECEIVE, ExceptionGroup("tasks", [WebSocketDisconnect(1001), WebSocketDisconnect(1001)])],
        [left(1001)],
        opened(close=1001),
    ),
    "failed after its own close": ([ACCEPT, CLOSE, ValueError("x")], [], opened(close=1000) | error("ValueError", 1)),
    "read on after its own close": (
        [ACCEPT, CLOSE, RECEIVE, WebSocketDisconnect(1006)],
        [left(1006)],
        opened(close=1000) | error(DISCONNECT, 1),
    ),
    "read on after it had refused": (
        [CLOSE, RECEIVE, WebSocketDisconnect(1006)],
        [left(1006)],
        code(403) | error(DISCONNECT, 1),
    ),
    "refused": ([CLOSE], [], code(403)),
    "refused with a code": ([{**CLOSE, "code": 4003}], [], code(403)),
    "refused by a page": (denial(401), [], code(401)),
    "refused by a plain response": ([{"type": "http.response.start", "status": 404, "headers": []}], [], code(404)),
    "refused by an error page": (denial(503), [], code(503) | error("503")),
    "client gone before the handshake": ([RECEIVE], [left(1006)], {GONE_MARK: True}),
    "failed after the client had gone before the handshake": (
        [RECEIVE, ValueError("x")],
        [left(1006)],
        error("ValueError", 1) | {GONE_MARK: True},
    ),
    "never answered": ([], [], code(500) | error("incomplete_response")),
    "failed before the handshake": ([ValueError("x")], [], code(500) | error("ValueError", 1)),
    "failed when open": ([ACCEPT, SEND, ValueError("x")], [], opened(sent=1) | error("ValueError", 1)),
    "failed after the client had left": (
        [ACCEPT, RECEIVE, ValueError("x")],
        [left(1001)],
        opened(close=1001) | error("ValueError", 1) | {GONE_MARK: True},
    ),
    "closed as an internal error": ([ACCEPT, {**CLOSE, "code": 1011}], [], opened(close=1011) | error("1011")),
    "the client says that it has failed": ([ACCEPT, RECEIVE], [left(1011)], opened(close=1011)),
    "cancelled": ([ACCEPT, asyncio.CancelledError()], [], opened() | CANCELLED),
    "cancelled after the client had left": (
        [ACCEPT, RECEIVE, asyncio.CancelledError()],
        [left(1001)],
        opened(close=1001),
    ),
    "cancelled before the handshake": ([asyncio.CancelledError()], [], CANCELLED),
}


@pytest.mark.parametrize("case", CASES)
def test_every_end_of_a_socket(spans: CapturedSpans, caplog: pytest.LogCaptureFixture, case: str) -> None:
    """101, 403 or the denial's code; a client that closes, in whatever words, is no error; failures are, once."""
    steps, script, expected = CASES[case]
    traced(Steps(*steps), script)

    assert len(spans) == 1
    assert outcome(spans.server) == expected
    assert not caplog.records


def test_a_send_that_fails_means_that_the_client_has_gone(spans: CapturedSpans) -> None:
    """An OSError of the server's `send` is an abnormal closure, not an error of the application."""

    def broken(message: Message) -> None:
        if message["type"] == "websocket.send":
            raise ConnectionResetError

    served = drive(TraceMiddleware(Steps(ACCEPT, SEND)), websocket_scope(), [CONNECT], broken)

    assert type(served.exception) is ConnectionResetError
    assert outcome(spans.server) == opened(sent=1, close=1006)


@pytest.mark.parametrize("websocket", ["connection", "handshake"])
@pytest.mark.parametrize("swallowed", [False, True])
@pytest.mark.parametrize("answer", [ACCEPT, CLOSE, denial(503)[0]], ids=["accept", "close", "denial"])
def test_an_answer_that_cannot_be_sent_is_none(
    spans: CapturedSpans, answer: Message, swallowed: bool, websocket: str
) -> None:
    """A client that has left before its handshake was answered has got no status code, and that is no error."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(dict(answer))
        except ConnectionResetError:
            if not swallowed:
                raise

    def broken(message: Message) -> None:
        raise ConnectionResetError

    drive(TraceMiddleware(app, websocket=websocket), websocket_scope(), [CONNECT], broken)

    assert outcome(spans.server) == {GONE_MARK: True}


class Code(IntEnum):
    """As servers give them."""

    GONE = 1001


@pytest.mark.parametrize(("sent", "recorded"), [(Code.GONE, 1001), ("abc", 1005)])
def test_a_close_code_is_a_plain_number(spans: CapturedSpans, sent: Any, recorded: int) -> None:
    """Servers hand out members of enumerations, and what is no number is no code."""
    traced(Steps(ACCEPT, RECEIVE, RECEIVE), [CONNECT, left(sent)])

    assert outcome(spans.server) == opened(close=recorded)
    assert type(attributes_of(spans.server)[CLOSE_CODE]) is int


def test_the_span_ends_when_the_socket_closes(spans: CapturedSpans) -> None:
    """What the application tidies up after the close does not lengthen the span."""
    app = Steps(ACCEPT, 20, RECEIVE, 10)
    drive(TraceMiddleware(app), websocket_scope(), [left(1001)])

    assert app.saw_the_end(spans.server, 2)
    assert milliseconds(spans.server) >= 19


def test_the_socket_is_the_current_span_all_the_time(spans: CapturedSpans) -> None:
    """What the application traces for a message is a child of the socket's span."""
    tracer = spans.tracer_provider.get_tracer("test")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(ACCEPT)
        with tracer.start_as_current_span("message"):
            await send(SEND)
        await send(CLOSE)

    traced(app)

    assert [span.name for span in spans.children_of(spans.server)] == ["message"]


# --- websocket="handshake" ---


@pytest.mark.parametrize(
    ("steps", "last", "expected"),
    [
        ([ACCEPT, 5, SEND, CLOSE], 0, code(101)),
        ([CLOSE, 5], 0, code(403)),
        ([*denial(401), 5], 2, code(401)),
        ([*denial(500), 5], 2, code(500) | error("500")),
    ],
    ids=["accepted", "refused", "refused by a page", "refused by an error page"],
)
def test_a_handshake_span_ends_with_the_handshake(
    spans: CapturedSpans, steps: list[Any], last: int, expected: Outcome
) -> None:
    """With `websocket="handshake"` the span is as long as the handshake, and says nothing of the messages."""
    app = Steps(*steps)
    traced(app, websocket="handshake")

    assert outcome(spans.server) == expected
    assert app.saw_the_end(spans.server, last)


def test_a_failure_after_the_handshake_is_recorded_on_a_child(spans: CapturedSpans) -> None:
    """The handshake stays clean, and what fails in the open socket is recorded once."""
    traced(Steps(ACCEPT, ValueError("x")), websocket="handshake")

    (child,) = spans.of_kind(SpanKind.INTERNAL)
    assert outcome(spans.server) == code(101)
    assert attributes_of(child)["error.type"] == "ValueError"
    assert (child.name, len(child.events)) == ("GET background", 1)


def test_a_disconnect_after_the_handshake_is_nothing(spans: CapturedSpans) -> None:
    """The client that closes an open socket leaves one clean span behind."""
    traced(Steps(ACCEPT, RECEIVE, WebSocketDisconnect(1001)), [left(1001)], websocket="handshake")

    assert [outcome(span) for span in spans] == [code(101)]


def test_a_send_that_fails_after_the_handshake_is_nothing(spans: CapturedSpans) -> None:
    """Nor does it matter whether the client's leaving is read or met while sending."""

    def broken(message: Message) -> None:
        if message["type"] == "websocket.send":
            raise ConnectionResetError

    drive(TraceMiddleware(Steps(ACCEPT, SEND), websocket="handshake"), websocket_scope(), [CONNECT], broken)

    assert [outcome(span) for span in spans] == [code(101)]


@pytest.mark.parametrize("steps", [[], [CLOSE, RECEIVE]], ids=["another socket's", "after its own close"])
def test_a_disconnect_after_the_handshake_that_is_not_the_clients_is_recorded(
    spans: CapturedSpans, steps: list[Any]
) -> None:
    """Without evidence it is an exception like any other, on the child that is left to record it."""
    traced(Steps(ACCEPT, *steps, WebSocketDisconnect(1001)), [left(1001)], websocket="handshake")

    (child,) = spans.of_kind(SpanKind.INTERNAL)
    assert outcome(spans.server) == code(101)
    assert attributes_of(child)["error.type"] == DISCONNECT


def test_a_close_that_cannot_be_sent_is_the_clients(spans: CapturedSpans) -> None:
    """An application that closes, with an error even, after its client has left has not closed anything."""

    def broken(message: Message) -> None:
        if message["type"] == "websocket.close":
            raise ConnectionResetError

    drive(TraceMiddleware(Steps(ACCEPT, {**CLOSE, "code": 1011})), websocket_scope(), [CONNECT], broken)

    assert outcome(spans.server) == opened(close=1006)


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [
        ([TEXT, left(1001)], opened(close=1001)),
        ([left(1012)], opened() | CANCELLED),
        ([TEXT], opened() | CANCELLED),
    ],
    ids=["the client left", "the server stops", "the client is there"],
)
def test_a_cancelled_socket_whose_client_left_is_no_error(
    spans: CapturedSpans, waiting: list[Message], expected: Outcome
) -> None:
    """What `receive` has at hand says why; 1012 is what a server tells its applications when it stops."""
    app = Steps(ACCEPT, asyncio.CancelledError())
    drive(TraceMiddleware(app), websocket_scope(), waiting)

    assert outcome(spans.server) == expected


@pytest.mark.parametrize("steps", [[CLOSE, CLOSE], [ACCEPT, ACCEPT], [ACCEPT, SEND, CLOSE], [*denial(401), CLOSE]])
def test_a_handshake_ends_once(spans: CapturedSpans, caplog: pytest.LogCaptureFixture, steps: list[Message]) -> None:
    """Whatever an application sends after its answer, the span has ended, and the SDK has nothing to complain about."""
    traced(Steps(*steps), websocket="handshake")

    assert len(spans) == 1
    assert not caplog.records


# --- what it costs ---


@pytest.mark.parametrize("websocket", ["connection", "handshake"])
def test_a_hundred_thousand_messages_cost_no_memory_and_hardly_any_time(spans: CapturedSpans, websocket: str) -> None:
    """The span of a busy socket does not grow: two numbers, no events, no list of anything."""
    messages = 100_000
    peak = 0

    async def receive() -> Message:
        return TEXT

    async def send(message: Message) -> None:
        pass

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal peak
        await send(ACCEPT)
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(messages):
            await receive()
            await send(SEND)
        _, peak = tracemalloc.get_traced_memory()
        peak -= before
        await send(CLOSE)

    async def cost(served: ASGIApp) -> float:
        before = time.process_time()
        await served(websocket_scope(), receive, send)
        return time.process_time() - before

    traced = TraceMiddleware(app, websocket=websocket)
    tracemalloc.start()
    asyncio.run(cost(traced))
    tracemalloc.stop()
    assert peak < 500_000  # five bytes a message
    if websocket == "connection":
        assert outcome(spans.server) == opened(messages, messages, 1000)

    seconds = min(asyncio.run(cost(traced)) for _ in range(3)) - asyncio.run(cost(app))
    assert seconds / messages < 20e-6
