"""How a request fails and what its span then says: every failure, crossed with moment and status, as raw ASGI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind, get_current_span
from starlette.requests import ClientDisconnect

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans

from ..support.asgi import (
    GONE,
    OK,
    REQUEST,
    Steps,
    attributes_of,
    body,
    drive,
    http_scope,
    milliseconds,
    responding,
    serve,
    start,
)
from ..support.endings import (
    CANCELLED_ERROR,
    CANCELLED_MARK,
    ERROR,
    GONE_MARK,
    GROUP,
    BaseExceptionGroup,
    Ending,
    ExceptionGroup,
    breaking,
    ending_of,
    never,
    nowhere,
    traced,
)

MOMENTS = {
    "before the start": 0,
    "after the start": 1,
    "in the body": 2,
    "after the last byte": 3,
}


class ClientDisconnected(Exception):
    """Of the client of a message broker."""


OWN_CLASS = f"{__name__}.ClientDisconnected"
FRAMEWORKS_CLASS = "starlette.requests.ClientDisconnect"


class Failure(NamedTuple):
    """Something that goes wrong: does the client leave first, what is raised, and what is recorded."""

    raised: Callable[[], BaseException] | None = None
    error: str | None = None
    leaves: bool = False
    cancelled: bool = False


def disconnects() -> BaseException:
    """A group of nothing but frameworks' disconnects."""
    inner = ExceptionGroup("inner", [ClientDisconnect(), ClientDisconnect()])
    return cast(BaseException, ExceptionGroup("gone", [ClientDisconnect(), inner]))


def broken() -> ValueError:
    return ValueError("no stock")


FAILURES = {
    "error": Failure(broken, "ValueError"),
    "group": Failure(lambda: ExceptionGroup("two", [ValueError("a"), KeyError("b")]), GROUP),
    "cancelled": Failure(asyncio.CancelledError, CANCELLED_ERROR, cancelled=True),
    "returns": Failure(),
    "its own class of that name": Failure(ClientDisconnected, OWN_CLASS),
    "another connection's disconnect": Failure(ClientDisconnect, FRAMEWORKS_CLASS),
    "disconnects of other connections": Failure(disconnects, GROUP),
    "the client leaves": Failure(leaves=True),
    "the framework raises that": Failure(ClientDisconnect, leaves=True),
    "the framework raises that in a group": Failure(disconnects, leaves=True),
    "cancelled when the client has left": Failure(asyncio.CancelledError, leaves=True, cancelled=True),
    "an error when the client has left": Failure(broken, "ValueError", leaves=True),
    "its own class when the client has left": Failure(ClientDisconnected, OWN_CLASS, leaves=True),
}


def broken_off(status: int, failure: Failure, *, started: bool) -> Ending:
    """What the span says of a response that the server has not got in full."""
    sent = status if started else None
    mark = GONE_MARK if failure.leaves else CANCELLED_MARK if failure.cancelled else None
    if failure.error is None and failure.leaves:
        return Ending(sent, ERROR, str(status), 0, mark) if started and status >= 500 else Ending(sent, mark=mark)
    if failure.cancelled:
        return Ending(sent, ERROR, failure.error, mark=mark)
    if failure.raised is None:
        return Ending(sent or 500, ERROR, "incomplete_response")
    return Ending(sent if failure.leaves else sent or 500, ERROR, failure.error, 1, mark)


def complete(status: int, failure: Failure) -> tuple[Ending, Ending | None]:
    """What the span says of a response that the server has in full, and what its background child does.

    That the client leaves then is no news, so every exception is a failure.
    """
    error = failure.error
    if failure.raised is not None and error is None:
        known: dict[object, str] = {ClientDisconnect: FRAMEWORKS_CLASS, asyncio.CancelledError: CANCELLED_ERROR}
        error = known.get(failure.raised, GROUP)
    if status < 500:
        child = Ending(None, ERROR, error, int(not failure.cancelled), CANCELLED_MARK if failure.cancelled else None)
        return Ending(status), None if error is None else child
    if error is None or failure.cancelled:
        return Ending(status, ERROR, str(status)), None
    return Ending(status, ERROR, error, 1), None


@pytest.mark.parametrize("status", [200, 404, 503])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_failures_are_told_apart_at_every_moment(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, failure: Failure, moment: str, status: int
) -> None:
    """Exceptions, cancellation, a client that leaves and a response left unfinished each say what they are, once."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == REQUEST
        for message in (start(status), body(b"x", True), body(b"y"))[: MOMENTS[moment]]:
            await send(message)
        if failure.leaves:
            assert await receive() == GONE
        if failure.raised is not None:
            raise failure.raised()

    traced(app, script=(REQUEST, GONE) if failure.leaves else (REQUEST,))

    if moment == "after the last byte":
        server, background = complete(status, failure)
    else:
        server, background = broken_off(status, failure, started=moment != "before the start"), None
    assert ending_of(spans.server) == server
    assert [ending_of(span) for span in spans.of_kind(SpanKind.INTERNAL)] == ([background] if background else [])
    assert len(spans) == 1 + bool(background)
    assert [record for record in caplog.records if record.name != "asyncio"] == []


class Unreadable:
    def __format__(self, spec: str) -> str:
        raise RuntimeError("no text")


class Opaque(Exception):
    """An exception whose class does not say where it comes from."""

    __module__ = cast(str, Unreadable())


def test_an_exception_that_cannot_be_looked_into_still_ends_the_span(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be looked into is an error of no known type: the span ends, the gauge falls, it is raised on."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    options: dict[str, Any] = {"meter_provider": meters, "metrics": "http.server.active_requests"}
    served = drive(TraceMiddleware(responding(Opaque()), **options))

    assert type(served.exception) is Opaque
    assert ending_of(spans.server)[1:3] == (ERROR, "_OTHER")
    assert [point.value for point in points_of(reader)["http.server.active_requests"]] == [0]
    assert [record.message for record in caplog.records] == ["ending a request failed; the request goes on without it"]
    meters.shutdown()


def test_a_nursery_that_was_cancelled_is_a_cancellation(spans: CapturedSpans) -> None:
    """A group of nothing but cancellations, however nested, is one: no event, named by what is in it."""

    class Cancelled(BaseException):
        """As trio calls it."""

    group = BaseExceptionGroup("nursery", [Cancelled(), BaseExceptionGroup("inner", [Cancelled()])])
    traced(responding(start(), group), looks=1)
    assert ending_of(spans.server) == Ending(200, ERROR, f"{__name__}.{Cancelled.__qualname__}", mark=CANCELLED_MARK)

    spans.clear()
    traced(responding(start(), BaseExceptionGroup("nursery", [Cancelled(), ValueError()])))
    assert ending_of(spans.server) == Ending(200, ERROR, GROUP.replace("Exc", "BaseExc"), 1)


@pytest.mark.parametrize("shown", ["in the message", "in the cause", "in a part"])
def test_an_exception_with_undecodable_text_is_recorded_readably(spans: CapturedSpans, shown: str) -> None:
    """Lone surrogates, as in the name of a file, come out as `?`: an exporter would leave the whole text out."""
    broken = ValueError("file \udcff")
    exc: BaseException = {
        "in the message": broken,
        "in the cause": RuntimeError("é"),
        "in a part": ExceptionGroup("several", [broken]),
    }[shown]
    if shown == "in the cause":
        exc.__cause__ = broken
    traced(responding(exc))

    (event,) = spans.server.events
    recorded = dict(event.attributes or {})
    assert "file ?" in str(recorded["exception.stacktrace"])
    assert recorded["exception.message"] == {"in the message": "file ?", "in the cause": "é"}.get(shown, str(exc))
    for value in recorded.values():
        str(value).encode()


def test_an_oserror_of_the_application_is_its_own_failure(spans: CapturedSpans) -> None:
    """A missing file in the middle of a body is an error: it did not come out of `send`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        Path("/nowhere/at/all").read_bytes()

    traced(app)

    assert ending_of(spans.server) == Ending(200, ERROR, "FileNotFoundError", 1)


def test_a_last_message_that_the_server_refuses_leaves_the_response_unfinished(spans: CapturedSpans) -> None:
    """A server that complains about the last message (the length is wrong) has not completed the response."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        with suppress(RuntimeError):
            await send(body(b"x"))

    traced(app, on_send=breaking("http.response.body", RuntimeError("shorter than Content-Length"), 1))

    assert ending_of(spans.server) == Ending(200, ERROR, "incomplete_response")


def test_a_cancelled_send_of_the_last_message_is_still_a_complete_response(spans: CapturedSpans) -> None:
    """The server that cancels the sender of the last byte has got it: what came before is not undone."""

    async def slow_to_return(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise asyncio.CancelledError

    drive(TraceMiddleware(OK), on_send=slow_to_return)

    assert ending_of(spans.server) == Ending(200)


def test_the_exception_event_is_recorded_once_with_its_stack(spans: CapturedSpans) -> None:
    """An escaping exception is one event with class, message and traceback; its message describes the status."""
    traced(responding(start(), ValueError("no stock")))

    (event,) = spans.server.events
    attributes = dict(event.attributes or {})
    assert event.name == "exception"
    assert attributes["exception.type"] == "ValueError"
    assert attributes["exception.message"] == "no stock"
    assert "asgi.py" in str(attributes["exception.stacktrace"])
    assert spans.server.status.description == "no stock"


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_that_cannot_be_printed_still_ends_the_span(spans: CapturedSpans) -> None:
    """An exception whose `__str__` fails is an error of its class, and reaches the server as it was."""
    served = traced(responding(Unprintable()))

    assert type(served.exception) is Unprintable
    assert spans.server.status.status_code is ERROR
    assert attributes_of(spans.server)["error.type"] == f"{__name__}.Unprintable"


def test_a_500_with_the_exception_behind_it_keeps_the_class(spans: CapturedSpans) -> None:
    """The exception that a framework re-raises after its 500 page is recorded, at the time when the page was sent."""
    app = Steps(start(500), body(b"oops"), 10, ValueError("no stock"))
    traced(app)

    assert ending_of(spans.server) == Ending(500, ERROR, "ValueError", 1)
    assert app.saw_the_end(spans.server, 1)


def test_the_same_exception_object_reaches_the_server(spans: CapturedSpans) -> None:
    """Whatever is raised is raised on, the very object; cancellation too."""
    for exc in (ValueError("a"), asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(3), GeneratorExit()):
        assert drive(TraceMiddleware(responding(exc))).exception is exc
    assert len(spans) == 5


def test_a_cancelled_task_is_recorded_and_cancelled(spans: CapturedSpans) -> None:
    """A task that the server cancels ends as cancelled, and its span says so without inventing a response."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(10)

    async def main() -> bool:
        task = asyncio.ensure_future(TraceMiddleware(app)(http_scope(), never, nowhere))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    assert ending_of(spans.server) == Ending(None, ERROR, CANCELLED_ERROR, 0, CANCELLED_MARK)


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_each_ending_is_measured_once_and_as_its_span(
    spans: CapturedSpans, failure: Failure, moment: str, status: int
) -> None:
    """One point of the histogram with the span's own duration and error type, and no request left on the gauge."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in (start(status), body(b"x", True), body(b"y"))[: MOMENTS[moment]]:
            await send(message)
        if failure.leaves:
            assert await receive() == GONE
        if failure.raised is not None:
            raise failure.raised()

    instruments = ("http.server.request.duration", "http.server.active_requests")
    script = [GONE] if failure.leaves else []
    drive(TraceMiddleware(app, meter_provider=meters, metrics=instruments), script=script)

    points = points_of(reader)
    (duration,), (active,) = points["http.server.request.duration"], points["http.server.active_requests"]
    span = spans.server
    attributes = attributes_of(span)
    assert duration.count == 1
    assert duration.sum == pytest.approx(milliseconds(span) / 1000)
    for key in ("error.type", "http.response.status_code"):
        assert duration.attributes.get(key) == attributes.get(key)
    assert active.value == 0


def points_of(reader: InMemoryMetricReader) -> dict[str, Any]:
    data = reader.get_metrics_data()
    assert data is not None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    return {metric.name: list(metric.data.data_points) for metric in metrics}


def test_each_ending_leaves_the_context_and_the_scope_as_they_were(spans: CapturedSpans) -> None:
    """After a request, however it ended, the server's context holds no span and its scope none of our keys."""
    endings: list[ASGIApp] = [OK, responding(), responding(ValueError()), responding(start(500), body())]

    async def main() -> None:
        for app in endings:
            scope = http_scope()
            keys = set(scope)
            await serve(TraceMiddleware(app), scope)
            assert set(scope) == keys
            assert not get_current_span().get_span_context().is_valid

    asyncio.run(main())
    assert len(spans) == len(endings)


def test_the_same_scope_served_twice_is_two_requests(spans: CapturedSpans) -> None:
    """A scope that a server or a test uses again is traced again."""
    scope = http_scope()
    app = TraceMiddleware(OK)
    for _ in range(2):
        drive(app, scope)

    assert len(spans.of_kind(SpanKind.SERVER)) == 2
