"""`report_exception()`: the exception that an application answers itself, on the span of the request that it fails."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any, TypeAlias

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Sampler
from opentelemetry.trace import StatusCode
from starlette.requests import ClientDisconnect

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send
from asgi_trace.routes import report_exception
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import CONNECT, GONE, RECEIVE, REQUEST, attributes_of, body, drive, start, websocket_scope

Outcome: TypeAlias = tuple[object, StatusCode, "str | None", list[tuple[object, object]]]
"""Error type, status, description, and recorded exceptions with their messages."""

ERROR_TYPE = "error.type"
DISCONNECT = "starlette.requests.ClientDisconnect"
LEFT: Message = {"type": "websocket.disconnect", "code": 1001}
ACCEPT: Message = {"type": "websocket.accept"}
OF_THIS_MODULE = f"{__name__}."


class OutOfStock(Exception):
    """What an application raises."""


class Report:
    """An application's step: it raises this, catches it and reports it, in another place if that is given."""

    def __init__(self, exc: BaseException, *, in_thread: bool = False, below_a_span: bool = False) -> None:
        self.exc = exc
        self.in_thread = in_thread
        self.below_a_span = below_a_span

    async def take(self, spans: CapturedSpans | None) -> None:
        if self.below_a_span and spans is not None:
            with spans.tracer_provider.get_tracer("app").start_as_current_span("work"):
                self.raise_and_report()
        elif self.in_thread:
            await asyncio.to_thread(self.raise_and_report)
        else:
            self.raise_and_report()

    def raise_and_report(self) -> None:
        try:
            raise self.exc
        except BaseException as exc:
            report_exception(exc)


def doing(*steps: Message | Report | BaseException | str, spans: CapturedSpans | None = None) -> ASGIApp:
    """An application that receives once, then sends, reports, raises, and receives where a step is RECEIVE."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        for step in steps:
            if isinstance(step, Report):
                await step.take(spans)
            elif isinstance(step, str):
                await receive()
            elif isinstance(step, BaseException):
                raise step
            else:
                await send(dict(step))

    return app


def events(span: ReadableSpan) -> list[tuple[object, object]]:
    recorded = [event.attributes or {} for event in span.events]
    return [(attributes["exception.type"], attributes["exception.message"]) for attributes in recorded]


def outcome(span: ReadableSpan) -> Outcome:
    return (
        attributes_of(span).get(ERROR_TYPE),
        span.status.status_code,
        span.status.description,
        events(span),
    )


def because(name: str, message: str) -> Outcome:
    return name, StatusCode.ERROR, message, [(name, message)]


def by_code(code: str) -> Outcome:
    return code, StatusCode.ERROR, None, []


SILENT: Outcome = (None, StatusCode.UNSET, None, [])
EMPTY = OutOfStock("no more apples")
OUT_OF_STOCK = because(OF_THIS_MODULE + "OutOfStock", "no more apples")
APPLES = Report(EMPTY)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([APPLES, start(500), body(b"x")], OUT_OF_STOCK),
        ([APPLES, start(503), body(b"x")], OUT_OF_STOCK),
        ([start(500), APPLES, body(b"x")], OUT_OF_STOCK),
        ([start(500), body(b"x"), APPLES], OUT_OF_STOCK),
        ([Report(ValueError("first")), APPLES, start(500), body(b"x")], OUT_OF_STOCK),
        ([APPLES, APPLES, start(500), body(b"x")], OUT_OF_STOCK),
        ([APPLES, start(500), body(b"x"), EMPTY], OUT_OF_STOCK),
        ([APPLES, start(500), body(b"x"), ValueError("escapes")], because("ValueError", "escapes")),
        ([APPLES, ValueError("escapes")], because("ValueError", "escapes")),
        ([APPLES, start(500), body(b"x"), ClientDisconnect("gone")], because(DISCONNECT, "gone")),
        ([APPLES, start(500), body(b"x", True), RECEIVE, ClientDisconnect("gone")], OUT_OF_STOCK),
        ([APPLES, start(500), body(b"x"), asyncio.CancelledError()], OUT_OF_STOCK),
        ([APPLES, start(200), body(b"x", more_body=True)], OUT_OF_STOCK),
        ([APPLES], OUT_OF_STOCK),
        ([start(500), body(b"x")], by_code("500")),
        ([Report(ClientDisconnect("gone")), start(500), body(b"x")], because(DISCONNECT, "gone")),
        ([start(500), RECEIVE, Report(ClientDisconnect("gone"))], by_code("500")),
        ([Report(asyncio.CancelledError()), start(500), body(b"x")], by_code("500")),
        ([APPLES, start(200), body(b"x")], SILENT),
        ([APPLES, start(404), body(b"x")], SILENT),
        ([start(404), APPLES, body(b"x")], SILENT),
        ([start(404), body(b"x"), APPLES], SILENT),
    ],
)
def test_a_5xx_is_explained_by_what_was_reported(
    steps: list[Message | Report | BaseException | str], expected: object, spans: CapturedSpans
) -> None:
    """A 5xx has the last reported exception, unless another one escapes; below 500 it was handled and is not named."""
    drive(TraceMiddleware(doing(*steps)), script=[REQUEST, *([GONE] if RECEIVE in steps else [])])
    assert outcome(spans.server) == expected


@pytest.mark.parametrize("place", ["in_thread", "below_a_span"])
def test_from_wherever_the_context_is(place: str, spans: CapturedSpans) -> None:
    """A report made in a thread or below a child span reaches the request's own span, and no other."""
    report = Report(EMPTY, **{place: True})
    drive(TraceMiddleware(doing(report, start(500), body(b"x"), spans=spans)))
    assert outcome(spans.server) == OUT_OF_STOCK
    assert [events(span) for span in spans if span is not spans.server] == [[]] * (place == "below_a_span")


def test_what_the_caller_gets_is_unchanged(spans: CapturedSpans) -> None:
    """A report changes neither the response nor how the application ends."""
    steps: list[Any] = [APPLES, start(500, [(b"x-why", b"empty")]), body(b"x", more_body=True), body(b"y")]
    served = drive(TraceMiddleware(doing(*steps)))
    assert (served.messages, served.exception) == (steps[1:], None)


def test_a_request_does_not_inherit_the_one_before(spans: CapturedSpans) -> None:
    """Each request has its own: the next 5xx without a report has its status code."""
    drive(TraceMiddleware(doing(APPLES, start(500), body(b"x"))))
    drive(TraceMiddleware(doing(start(500), body(b"x"))))
    assert [outcome(span) for span in spans] == [OUT_OF_STOCK, by_code("500")]


def test_a_client_that_left_during_the_error_response(spans: CapturedSpans) -> None:
    """A 5xx that the client did not wait for is explained, too."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        report_exception(EMPTY)
        await send(start(500))
        await receive()

    drive(TraceMiddleware(app), script=[{"type": "http.request", "body": b""}, GONE])
    assert outcome(spans.server) == OUT_OF_STOCK
    assert attributes_of(spans.server)["asgi_trace.client_disconnected"] is True


@pytest.mark.parametrize("sampler", [None, ALWAYS_OFF])
@pytest.mark.parametrize(("status", "expected"), [(500, OF_THIS_MODULE + "OutOfStock"), (404, None)])
def test_the_metrics_have_the_same_error_type(status: int, expected: str | None, sampler: Sampler | None) -> None:
    """The duration is recorded under the exception's class, of unsampled requests, too."""
    reader = InMemoryMetricReader()
    with capture_spans(sampler) as spans:
        app = doing(APPLES, start(status), body(b"x"))
        drive(TraceMiddleware(app, meter_provider=MeterProvider([reader], shutdown_on_exit=False)))
    data: Any = reader.get_metrics_data()
    (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    assert point.attributes.get(ERROR_TYPE) == expected
    assert len(spans) == (sampler is None)


def test_where_nothing_is_recorded() -> None:
    """Outside of a request, and in one that is not sampled or excluded, a report does nothing."""
    report_exception(EMPTY)
    steps: list[Any] = [APPLES, start(500), body(b"x")]
    with capture_spans(ALWAYS_OFF) as spans:
        assert drive(TraceMiddleware(doing(*steps))).messages == steps[1:]
    with capture_spans() as excluded:
        assert drive(TraceMiddleware(doing(*steps), exclude="/")).messages == steps[1:]
    assert len(spans) == len(excluded) == 0


@pytest.mark.parametrize(("status", "early", "expected"), [(500, True, OUT_OF_STOCK), (404, False, SILENT)])
def test_the_exception_is_let_go(status: int, early: bool, expected: Outcome, spans: CapturedSpans) -> None:
    """A request that has ended does not keep what was reported: it is freed without the garbage collector."""
    gone: list[weakref.ref[BaseException]] = []

    def fail() -> None:
        try:
            raise OutOfStock("no more apples")
        except OutOfStock as exc:
            report_exception(exc)
            gone.append(weakref.ref(exc))

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if early:
            fail()
        await send(start(status))
        await send(body(b"x"))
        if not early:
            fail()
            assert gone[0]() is None

    gc.disable()
    try:
        served = drive(TraceMiddleware(app))
        assert gone[0]() is None
    finally:
        gc.enable()
    assert served.exception is None
    assert outcome(spans.server) == expected


def closing(code: int) -> Message:
    return {"type": "websocket.close", "code": code}


def denial(status: int) -> list[Message]:
    return [
        {"type": "websocket.http.response.start", "status": status, "headers": []},
        {"type": "websocket.http.response.body", "body": b"x"},
    ]


SOCKETS: list[tuple[list[Message | Report | BaseException | str], object]] = [
    ([ACCEPT, APPLES, closing(1011)], OUT_OF_STOCK),
    ([ACCEPT, closing(1011), APPLES], OUT_OF_STOCK),
    ([ACCEPT, APPLES, closing(4500)], OUT_OF_STOCK),
    ([ACCEPT, APPLES, closing(3503)], OUT_OF_STOCK),
    ([ACCEPT, APPLES, closing(1000)], OUT_OF_STOCK),
    ([ACCEPT, APPLES], OUT_OF_STOCK),
    ([ACCEPT, APPLES, closing(1011), ClientDisconnect("gone")], because(DISCONNECT, "gone")),
    ([ACCEPT, APPLES, RECEIVE, ClientDisconnect("gone")], OUT_OF_STOCK),
    ([ACCEPT, APPLES, closing(1011), ValueError("escapes")], because("ValueError", "escapes")),
    ([ACCEPT, closing(1011)], by_code("1011")),
    ([ACCEPT, Report(ClientDisconnect("gone")), closing(1000)], because(DISCONNECT, "gone")),
    ([ACCEPT, RECEIVE, Report(ClientDisconnect("gone"))], SILENT),
    ([ACCEPT, APPLES, closing(1008)], SILENT),
    ([ACCEPT, APPLES, closing(4404)], SILENT),
    ([ACCEPT, APPLES, closing(4000)], SILENT),
    ([APPLES], OUT_OF_STOCK),
    ([APPLES, closing(1000)], OUT_OF_STOCK),
    ([APPLES, closing(4500)], OUT_OF_STOCK),
    ([APPLES, closing(3403)], SILENT),
    ([APPLES, *denial(500)], OUT_OF_STOCK),
    ([APPLES, *denial(404)], SILENT),
    ([*denial(503)], by_code("503")),
]


@pytest.mark.parametrize(("steps", "expected"), SOCKETS)
def test_a_socket_that_fails_is_explained(
    steps: list[Message | Report | BaseException | str], expected: object, spans: CapturedSpans
) -> None:
    """A socket has the reported exception unless its answer, a close code or a denial, blames the client."""
    served = drive(TraceMiddleware(doing(*steps)), websocket_scope(), [CONNECT, LEFT])
    assert outcome(spans.server) == expected
    assert served.messages == [step for step in steps if isinstance(step, dict)]


@pytest.mark.parametrize(
    ("code", "is_failure"),
    [
        (1000, True),
        (1001, False),
        (1002, False),
        (1010, False),
        (1011, True),
        (1012, False),
        (2999, False),
        (3000, False),
        (3404, False),
        (3499, False),
        (3500, True),
        (3599, True),
        (3600, False),
        (4000, False),
        (4499, False),
        (4500, True),
        (4503, True),
        (4599, True),
        (4600, False),
        (4999, False),
    ],
)
@pytest.mark.parametrize("accepted", [False, True])
def test_the_close_code_says_whose_fault_it_was(
    spans: CapturedSpans, code: int, is_failure: bool, accepted: bool
) -> None:
    """Codes that Falcon and Litestar make of an HTTP status below 500 blame the client, as 1001 to 1010 do.

    A reported exception is then handled; with any code that blames the application it is recorded.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if accepted:
            await send({"type": "websocket.accept"})
        report_exception(OutOfStock("room"))
        await send({"type": "websocket.close", "code": code})

    drive(TraceMiddleware(app), websocket_scope(), [CONNECT])
    assert (outcome(spans.server) == SILENT) is not is_failure
    assert len(spans.server.events) == is_failure


def test_a_span_of_the_handshake_alone(spans: CapturedSpans) -> None:
    """With `websocket="handshake"` the exception of a refused handshake is known; what comes after it is not ours."""
    sockets: list[list[Message | Report | BaseException | str]] = [
        [APPLES, closing(1000)],
        [ACCEPT, APPLES, closing(1011)],
    ]
    for steps in sockets:
        drive(TraceMiddleware(doing(*steps), websocket="handshake"), websocket_scope(), [CONNECT])
    assert [outcome(span) for span in spans] == [OUT_OF_STOCK, SILENT]
