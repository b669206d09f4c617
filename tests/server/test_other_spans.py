"""Spans that are not the SDK's: those of a provider with the API's methods only, here and further out."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Mapping
from typing import Any

import pytest
from opentelemetry import trace as api
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as ContribMiddleware
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, SamplingResult
from opentelemetry.trace import SpanContext, Status, StatusCode, TraceFlags, set_span_in_context

from asgi_trace import TraceMiddleware, server_span, set_route
from asgi_trace._server import exchange, request
from asgi_trace._server.flush import flush
from asgi_trace._types import Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import OK, REQUEST, drive, http_scope, responding
from ..support.metrics import ACTIVE, Meters
from ..support.transports import Watching


class Bare(api.Span):
    """A span of a library with the API's methods and nothing else: no name, no kind, no attributes to read."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []

    def end(self, end_time: int | None = None) -> None:
        self.calls.append(("end", end_time))

    def get_span_context(self) -> SpanContext:
        return SpanContext(1, 2, False, TraceFlags(1))

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        self.calls.extend(attributes.items())

    def set_attribute(self, key: str, value: Any) -> None:
        self.calls.append((key, value))

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        self.calls.append(("event", name))

    def update_name(self, name: str) -> None:
        self.calls.append(("name", name))

    def is_recording(self) -> bool:
        return True

    def set_status(self, status: Status | StatusCode, description: str | None = None) -> None:
        self.calls.append(("status", status.status_code if isinstance(status, Status) else status))

    def record_exception(
        self, exception: BaseException, attributes: Any = None, timestamp: int | None = None, escaped: bool = False
    ) -> None:
        self.calls.append(("exception", type(exception)))


class Named(Bare):
    """One that says its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class Provider(api.TracerProvider, api.Tracer):
    """Hands out the spans that it was given, in turn."""

    def __init__(self, *spans: Bare) -> None:
        self.spans = list(spans)

    def get_tracer(self, *args: Any, **kwargs: Any) -> api.Tracer:
        return self

    def start_span(self, *args: Any, **kwargs: Any) -> api.Span:
        return self.spans.pop(0)

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError


async def _routed(scope: Scope, receive: Receive, send: Send) -> None:
    set_route("/orders/{id}")
    await OK(scope, receive, send)


@pytest.mark.parametrize(
    ("make", "renamed"), [(Bare, True), (lambda: Named("GET"), True), (lambda: Named("checkout"), False)]
)
def test_a_span_is_renamed_unless_it_says_that_it_was_named(make: Any, renamed: bool) -> None:
    """One that does not tell its name is called by its route; one that a hook has named keeps that name."""
    span = make()
    drive(TraceMiddleware(_routed, tracer_provider=Provider(span)))
    assert [value for key, value in span.calls if key == "name"] == (["GET /orders/{id}"] if renamed else [])
    found = dict(span.calls)
    assert (found["http.route"], found["http.response.status_code"]) == ("/orders/{id}", 200)
    assert [key for key, _ in span.calls][-1] == "end"


@pytest.mark.parametrize("current", [Bare, lambda: Named("x")])
def test_a_current_span_that_says_nothing_of_itself_traces_nothing(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, current: Any
) -> None:
    """A span of another library further out, without a kind, is no request's: ours is made, and nothing is logged."""
    token = attach(set_span_in_context(current()))
    try:
        assert drive(TraceMiddleware(OK)).status == 200
    finally:
        detach(token)
    assert len(spans) == 1
    assert caplog.records == []


class _Callable:
    """A server's `receive` and `send` as objects: they have no `__globals__`."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    async def __call__(self, *message: Message) -> Message:
        self.messages.extend(message)
        return REQUEST


@pytest.mark.anyio
async def test_a_server_may_hand_out_objects_below_a_span(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """Whose functions they are is asked of functions only: the request has its span, and nothing is logged."""
    token = attach(set_span_in_context(Bare()))
    ends = _Callable()
    try:
        await TraceMiddleware(OK)(http_scope(), ends, ends)  # type: ignore[arg-type]
    finally:
        detach(token)
    assert [message["type"] for message in ends.messages] == ["http.response.start", "http.response.body"]
    assert len(spans) == 1
    assert caplog.records == []


def test_a_decision_of_contribs_is_named_and_its_span_found(caplog: pytest.LogCaptureFixture) -> None:
    """Inside of contrib's middleware `server_span()` is contrib's, unsampled too, and the warning says what to do."""
    seen: list[SpanContext] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(server_span().get_span_context())
        seen.append(api.get_current_span().get_span_context())
        await OK(scope, receive, send)

    with capture_spans(ALWAYS_OFF) as spans:
        drive(ContribMiddleware(TraceMiddleware(app), tracer_provider=spans.tracer_provider))
    assert seen[0] == seen[1]
    assert seen[0].is_valid
    (warning,) = [record.getMessage() for record in caplog.records if record.name == "asgi_trace"]
    assert "'opentelemetry.instrumentation.asgi'" in warning
    assert warning.endswith("To let TraceMiddleware trace them, remove it from the application.")


def test_a_clock_that_is_set_back_gives_background_work_no_negative_length(
    spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails after the response ends at its start at the earliest."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await OK(scope, receive, send)
        monkeypatch.setattr(exchange, "time_ns", lambda: 1)
        raise KeyError("mail")

    drive(TraceMiddleware(app))
    child = next(span for span in spans if span.name.endswith("background"))
    assert child.end_time == child.start_time == spans.server.end_time


class _Second(Watching):
    """Drops the first request, and keeps those after it."""

    def should_sample(self, *arguments: Any, **named: Any) -> SamplingResult:
        result = super().should_sample(*arguments, **named)
        self.decision = Decision.RECORD_AND_SAMPLE
        return result


def test_a_clock_that_is_set_back_after_an_unsampled_request_gives_no_negative_length(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The start of a span that was not expected to be recorded is known as well."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for module in (exchange, request):
            monkeypatch.setattr(module, "time_ns", lambda: 2)
        await OK(scope, receive, send)

    with capture_spans(_Second(Decision.DROP)) as spans:
        middleware = TraceMiddleware(app, on_request=lambda span, scope: None)
        for _ in range(2):
            drive(middleware)
            monkeypatch.undo()
    assert spans.server.end_time == spans.server.start_time


@pytest.mark.anyio
async def test_queues_are_flushed_in_a_thread_that_says_what_it_is() -> None:
    """A daemon with a name of ours, on asyncio and trio: it shows in a dump of threads and holds up no exit."""
    seen: list[tuple[str, bool]] = []

    class Provider:
        def force_flush(self, timeout_millis: int) -> bool:
            seen.append((threading.current_thread().name, threading.current_thread().daemon))
            return True

    await flush([Provider()])
    assert seen == [("asgi-trace-flush", True)]


def test_every_point_of_a_request_leads_to_its_span(spans: CapturedSpans) -> None:
    """Exemplars of all instruments are those of the SERVER span, from the first count of an active request on."""
    meters = Meters()
    found: list[set[int]] = []

    def exemplars() -> set[int]:
        return {
            exemplar.span_id
            for metric in meters.collected().values()
            for point in metric.data.data_points
            for exemplar in point.exemplars
        }

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        found.append(exemplars())
        await OK(scope, receive, send)

    drive(TraceMiddleware(app, meter_provider=meters.provider, metrics=ACTIVE))
    assert found == [{spans.server.context.span_id}]


class OutOfStock(Exception):
    """An exception that travels."""


def test_an_exception_that_has_escaped_can_be_copied_and_sent() -> None:
    """What is remembered on it goes with a copy, and with a pickle to another process."""
    exc = OutOfStock("no stock")
    with capture_spans():
        served = drive(TraceMiddleware(responding(exc)))
    assert served.exception is exc
    for like in (copy.copy(exc), pickle.loads(pickle.dumps(exc))):
        assert (type(like), like.args) == (OutOfStock, ("no stock",))
