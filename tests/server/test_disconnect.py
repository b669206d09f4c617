"""The client left: by evidence of this exchange, and never by the name of an exception's class."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

import pytest
import trio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import StatusCode
from starlette.requests import ClientDisconnect

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans

from ..support.asgi import (
    GONE,
    OK,
    RECEIVE,
    REQUEST,
    Steps,
    body,
    drive,
    http_scope,
    milliseconds,
    start,
)
from ..support.connection import Connection, run
from ..support.endings import (
    CANCELLED_ERROR,
    CANCELLED_MARK,
    ERROR,
    GONE_MARK,
    GROUP,
    UNSET,
    Ending,
    ExceptionGroup,
    breaking,
    ending_of,
    traced,
)

# --- evidence: the OSError of this exchange's own `send` ---


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("wrapped", [None, ClientDisconnect, RuntimeError], ids=["as it is", "framework's", "its own"])
@pytest.mark.parametrize(("kind", "at"), [("http.response.body", 1), ("http.response.body", 2)])
def test_a_send_that_fails_means_that_the_client_has_gone(
    spans: CapturedSpans, kind: str, at: int, wrapped: type[Exception] | None, status: int
) -> None:
    """An OSError out of the server's `send` is a client that has left, in the middle of a body or at its last byte."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            for message in (start(status), body(b"x", True), body(b"y")):
                await send(message)
        except OSError as exc:
            if wrapped is not None:
                raise wrapped("the response is broken") from exc
            raise

    traced(app, on_send=breaking(kind, ConnectionResetError("gone"), at))

    answered: tuple[StatusCode, str | None] = (ERROR, str(status)) if status >= 500 else (UNSET, None)
    if wrapped is RuntimeError:
        assert ending_of(spans.server) == Ending(status, ERROR, "RuntimeError", 1, GONE_MARK)
    else:
        assert ending_of(spans.server) == Ending(status, *answered, mark=GONE_MARK)


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("wrapped", [False, True], ids=["as it is", "as the framework's own"])
def test_a_start_that_cannot_be_sent_has_no_status(spans: CapturedSpans, wrapped: bool, status: int) -> None:
    """A client that has left before the response started has got no status code, whatever the application meant."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(start(status))
        except OSError as exc:
            if wrapped:
                raise ClientDisconnect from exc
            raise

    traced(app, on_send=breaking("http.response.start", ConnectionResetError("gone"), 1))

    assert ending_of(spans.server) == Ending(None, UNSET, mark=GONE_MARK)


def test_a_last_message_that_cannot_be_sent_is_a_client_gone_though_the_application_swallows_it(
    spans: CapturedSpans,
) -> None:
    """An application that returns in peace after its last `send` failed has not left its response unfinished."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        try:
            await send(body(b"x"))
        except OSError:
            return

    traced(app, on_send=breaking("http.response.body", BrokenPipeError(), 1))

    assert ending_of(spans.server) == Ending(200, mark=GONE_MARK)


# --- evidence: a middleware further out has its own `send` ---


Around = Callable[[Send], Send]


def closing_over(send: Send) -> Send:
    """How most middleware wraps `send`."""

    async def wrapped(message: Message) -> None:
        await send(message)

    return wrapped


class Holding:
    """A middleware that holds the next `send` as an attribute, as Starlette's GZip does."""

    def __init__(self, send: Send) -> None:
        self._send = send

    async def send_on(self, message: Message) -> None:
        await self._send(message)


async def _passing(send: Send, message: Message) -> None:
    await send(message)


WRAPPERS: dict[str, Around] = {
    "a closure": closing_over,
    "a method": lambda send: Holding(send).send_on,
    "a partial": lambda send: partial(_passing, send),
    "twice": lambda send: closing_over(Holding(send).send_on),
}


def failing(send: Send) -> Send:
    """A middleware whose own work fails: its audit log is on a full disk."""

    async def audited(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise OSError(28, "No space left on device")
        await send(message)

    return audited


def outside(app: ASGIApp, around: Around) -> ASGIApp:
    """An application behind a middleware that wraps `send`."""

    async def middleware(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, around(send))

    return middleware


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    """One response in two pieces."""
    for message in (start(), body(b"x", True), body(b"y")):
        await send(message)


@pytest.mark.parametrize("around", WRAPPERS.values(), ids=WRAPPERS)
@pytest.mark.parametrize("deaf", [False, True], ids=["receive knows", "receive waits"])
def test_a_look_at_receive_decides_where_a_middleware_wraps_send(
    spans: CapturedSpans, around: Around, deaf: bool
) -> None:
    """What comes out of a middleware's `send` may be its own failure, so `receive` must say that the client left."""
    connection = Connection(REQUEST, REQUEST, gone=True, deaf=deaf)
    exc = run(outside(TraceMiddleware(answers), around), http_scope(), connection)

    assert type(exc) is BrokenPipeError
    if deaf:
        assert ending_of(spans.server) == Ending(500, ERROR, "BrokenPipeError", 1)
    else:
        assert ending_of(spans.server) == Ending(None, mark=GONE_MARK)


@pytest.mark.parametrize("swallows", [False, True])
def test_a_middleware_that_fails_in_its_send_is_an_error(spans: CapturedSpans, swallows: bool) -> None:
    """A full disk is no client that left: its client is there, as `receive` says by waiting."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        try:
            await send(body(b"y"))
        except OSError:
            if not swallows:
                raise

    run(outside(TraceMiddleware(app), failing), http_scope(), Connection(REQUEST))

    expected = (ERROR, "incomplete_response", 0) if swallows else (ERROR, "OSError", 1)
    assert ending_of(spans.server) == Ending(200, *expected)


def test_a_receive_that_fails_or_never_ends_is_no_evidence(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """The look is bounded: an endless body, an exception and a message without a type say nothing."""

    async def endless() -> Message:
        return REQUEST

    async def fails() -> Message:
        raise RuntimeError("receive() was called twice")

    async def odd() -> Message:
        return {}

    for receive in (endless, fails, odd):
        spans.clear()
        asyncio.run(_swallowed(outside(TraceMiddleware(answers), failing)(http_scope(), receive, Connection().send)))
        assert ending_of(spans.server) == Ending(200, ERROR, "OSError", 1)
    assert not caplog.records


async def _swallowed(request: Awaitable[object]) -> None:
    with suppress(OSError):
        await request


# --- evidence: cancelled, and `receive` has the disconnect at hand ---


class Cancelled(NamedTuple):
    """What the server has to say when it cancels a request, and what the span says then."""

    connection: Callable[[], Connection]
    ending: Ending


CANCELLED = {
    "gone": Cancelled(lambda: Connection(gone=True), Ending(None, mark=GONE_MARK)),
    "gone behind a body": Cancelled(lambda: Connection(REQUEST, REQUEST, gone=True), Ending(None, mark=GONE_MARK)),
    "there": Cancelled(Connection, Ending(None, ERROR, CANCELLED_ERROR, 0, CANCELLED_MARK)),
    "there with a body": Cancelled(
        lambda: Connection(REQUEST), Ending(None, ERROR, CANCELLED_ERROR, 0, CANCELLED_MARK)
    ),
}


@pytest.mark.parametrize("started", [False, True], ids=["before the start", "in the body"])
@pytest.mark.parametrize("cancelled", CANCELLED.values(), ids=CANCELLED)
def test_a_cancelled_request_whose_client_left_is_no_error(
    spans: CapturedSpans, cancelled: Cancelled, started: bool
) -> None:
    """A server that cancels a request because its client left has the disconnect at hand, and else it waits."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    connection = cancelled.connection()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if started:
            connection.sent.append(start())  # on the wire before the client left
        await asyncio.sleep(30)

    async def main() -> bool:
        middleware = TraceMiddleware(app, meter_provider=meters)
        task = asyncio.create_task(middleware(http_scope(), connection.receive, connection.send))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    assert ending_of(spans.server) == cancelled.ending
    (point,) = points(reader)
    assert point.get("error.type") == cancelled.ending.error


def points(reader: InMemoryMetricReader) -> list[dict[str, Any]]:
    """The labels of the duration's points."""
    data = reader.get_metrics_data()
    assert data is not None
    found = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    return [dict(point.attributes or {}) for point in found]


def test_a_server_that_cancels_again_is_not_held_up(spans: CapturedSpans) -> None:
    """A second cancellation while `receive` is looked at changes nothing about how the task ends."""
    connection = Connection()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(30)

    async def main() -> bool:
        task = asyncio.create_task(TraceMiddleware(app)(http_scope(), connection.receive, connection.send))
        await asyncio.sleep(0.01)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    assert ending_of(spans.server) == Ending(None, ERROR, CANCELLED_ERROR, 0, CANCELLED_MARK)


def test_on_trio_nothing_is_asked(spans: CapturedSpans) -> None:
    """A step of trio's cannot be taken back, so a cancelled request is cancelled and `receive` is left alone."""
    connection = Connection(gone=True)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(30)

    async def main() -> None:
        with trio.move_on_after(0.01):
            await TraceMiddleware(app)(http_scope(), connection.receive, connection.send)

    trio.run(main)
    assert ending_of(spans.server) == Ending(None, ERROR, "trio.Cancelled", 0, CANCELLED_MARK)
    assert connection.asked == 0


# --- what follows from the evidence ---


class ClientDisconnected(Exception):
    """Of the client of a message broker."""


def test_a_group_with_a_real_error_in_it_is_an_error(spans: CapturedSpans) -> None:
    """A client that left while something else failed does not hide what failed."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        assert await receive() == GONE
        raise ExceptionGroup("both", [ClientDisconnect(), ValueError()])

    traced(app, script=[GONE])

    assert ending_of(spans.server) == Ending(200, ERROR, GROUP, 1, GONE_MARK)


def test_an_oserror_of_the_application_after_the_client_has_left_is_its_own_failure(spans: CapturedSpans) -> None:
    """A database that cannot be reached is an error, also when the client has not waited for it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == GONE
        raise ConnectionRefusedError("database")

    traced(app, script=[GONE])

    assert ending_of(spans.server) == Ending(None, ERROR, "ConnectionRefusedError", 1, GONE_MARK)


@pytest.mark.parametrize("status", [200, 499, 500])
@pytest.mark.parametrize("failure", [None, ClientDisconnect(), ValueError("no stock"), ClientDisconnected()])
def test_an_answer_to_a_client_that_had_left_is_not_counted(
    spans: CapturedSpans, status: int, failure: Exception | None
) -> None:
    """What is answered after the client has left was never sent: no code, and no error but a real one.

    Frameworks answer 500 to their own disconnect exception before they raise it on.
    """

    app = Steps(RECEIVE, RECEIVE, start(status), body(), *([] if failure is None else [failure]))
    traced(app, script=[REQUEST, GONE])

    if failure is None or isinstance(failure, ClientDisconnect):
        assert ending_of(spans.server) == Ending(None, mark=GONE_MARK)
    else:
        error = "ValueError" if isinstance(failure, ValueError) else f"{__name__}.ClientDisconnected"
        assert ending_of(spans.server) == Ending(None, ERROR, error, 1, GONE_MARK)
    assert app.saw_the_end(spans.server, 1)
    assert len(spans) == 1


def test_a_client_that_leaves_during_the_response_is_seen_though_it_was_finished(spans: CapturedSpans) -> None:
    """A client that leaves in the middle is marked also when the application sends the rest into the void."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        assert await receive() == GONE
        await send(body())

    traced(app, script=[GONE])

    assert ending_of(spans.server) == Ending(200, mark=GONE_MARK)


def test_a_disconnect_after_the_complete_response_is_no_news(spans: CapturedSpans) -> None:
    """Servers report a disconnect to whatever listens after the response: every request ends like that."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await OK(scope, receive, send)
        assert await receive() == GONE

    traced(app)

    assert ending_of(spans.server) == Ending(200)


def test_the_span_of_a_client_that_left_ends_when_it_left(spans: CapturedSpans) -> None:
    """What is done for a client after it has left, background tasks included, does not lengthen the span."""

    app = Steps(start(), body(b"x", True), RECEIVE, 10)
    drive(TraceMiddleware(app), script=[0.02, GONE])

    assert ending_of(spans.server) == Ending(200, mark=GONE_MARK)
    assert app.saw_the_end(spans.server, 2)
    assert milliseconds(spans.server) >= 19
