"""Telemetry that fails, at any step: the call goes on as without it."""

from __future__ import annotations

import logging
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, SamplingResult

from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import attributes_of
from ..support.transports import (
    Answer,
    Chunks,
    Peer,
    Watching,
    parent,
    send,
)

httpx = pytest.importorskip("httpx")
from asgi_trace.httpx import TraceTransport  # noqa: E402


class Broken(SpanProcessor):
    """A span processor that fails in one of its methods."""

    def __init__(self, where: str) -> None:
        self.where = where

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        if self.where == "start":
            raise RuntimeError("on_start")

    def on_end(self, span: ReadableSpan) -> None:
        if self.where == "end":
            raise RuntimeError("on_end")


class BrokenSampler(Watching):
    """Fails when it is asked."""

    def should_sample(self, *arguments: Any, **named: Any) -> SamplingResult:
        raise RuntimeError("sampler")


@pytest.mark.parametrize("where", ["start", "end", "sampler"])
def test_an_sdk_that_fails_does_not_disturb_a_call(caplog: pytest.LogCaptureFixture, attached: Any, where: str) -> None:
    """Processors and samplers that raise are reported, once as ERROR; the call goes on and can be repeated."""
    provider = TracerProvider(
        sampler=BrokenSampler(Decision.DROP) if where == "sampler" else ALWAYS_ON, shutdown_on_exit=False
    )
    provider.add_span_processor(Broken(where))
    attached(parent(1))
    answer = Answer(stream=Chunks())
    transport = TraceTransport(answer, tracer_provider=provider)
    request = httpx.Request("GET", "http://svc.test/")
    before = otel_context.get_current()
    with caplog.at_level(logging.ERROR, logger="asgi_trace"):
        for _ in range(2):
            response = transport.handle_request(request)
            assert response.read() == b"a"
    assert [headers["traceparent"].startswith(f"00-{0xA:032x}-") for headers in answer.sent] == [True, True]
    assert "traceparent" not in request.headers
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert otel_context.get_current() == before


class Untraceable(TracerProvider):
    """A provider that fails when it is asked for a tracer."""

    def get_tracer(self, *arguments: Any, **named: Any) -> Any:
        raise RuntimeError("no tracer")


@pytest.mark.parametrize("broken", ["outer", "inner"])
def test_one_of_two_transports_that_fails_leaves_the_send_to_the_outer_one(
    caplog: pytest.LogCaptureFixture, attached: Any, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    """Where the outer of two transports fails the caller's ids are sent, where the inner one fails the outer's are."""
    attached(parent(1))
    answer = Answer()
    with capture_spans() as spans, caplog.at_level(logging.ERROR, logger="asgi_trace"):
        if broken == "outer":
            failing = TracerProvider(sampler=BrokenSampler(Decision.DROP), shutdown_on_exit=False)
            outer = TraceTransport(TraceTransport(answer), tracer_provider=failing)
        else:
            outer = TraceTransport(TraceTransport(answer), tracer_provider=spans.tracer_provider)
            monkeypatch.setattr("asgi_trace._otel.tracers._override", Untraceable(shutdown_on_exit=False))
        request = httpx.Request("GET", "http://svc.test/")
        assert outer.handle_request(request).status_code == 200
        monkeypatch.undo()
    sender = 0xB if broken == "outer" else spans.client.context.span_id
    assert answer.sent[0]["traceparent"] == f"00-{0xA:032x}-{sender:016x}-01"
    assert len(spans) == (0 if broken == "outer" else 1)
    assert "traceparent" not in request.headers
    assert [record.levelname for record in caplog.records] == ["ERROR"]


class Sealed(httpx.Request):  # type: ignore[misc, name-defined]
    """A request whose headers cannot be replaced by others once it is sealed."""

    is_sealed = False

    @property
    def headers(self) -> Any:
        return self.__dict__["headers"]

    @headers.setter
    def headers(self, value: Any) -> None:
        if self.is_sealed:
            raise AttributeError("sealed")
        self.__dict__["headers"] = value


def test_a_request_whose_headers_cannot_be_replaced_is_sent_as_it_is(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """The very object is sent each time, without a span, and that is reported once."""
    seen: list[Any] = []

    def handler(request: Any) -> Any:
        seen.append(request)
        return httpx.Response(200)

    request = Sealed("GET", "http://svc.test/", headers={"x-id": "1"})
    request.is_sealed = True
    before = list(request.headers.raw)
    transport = TraceTransport(httpx.MockTransport(handler))
    with caplog.at_level(logging.ERROR, logger="asgi_trace"):
        for _ in range(2):
            assert transport.handle_request(request).status_code == 200
    assert [sent is request for sent in seen] == [True, True]
    assert request.headers.raw == before
    assert len(spans) == 0
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_response_that_is_none_is_the_clients_affair(spans: CapturedSpans, caplog: pytest.LogCaptureFixture) -> None:
    """A transport that returns no response gets reported, its span ends, and the caller gets what it returned."""
    transport = TraceTransport(httpx.MockTransport(lambda request: None))
    with caplog.at_level(logging.CRITICAL, logger="asgi_trace"), pytest.raises(TypeError):
        transport.handle_request(httpx.Request("GET", "http://svc.test/"))

    class Nothing(httpx.BaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            return None

    assert TraceTransport(Nothing()).handle_request(httpx.Request("GET", "http://svc.test/")) is None
    assert len(spans) == 2


class Interrupting:
    """A response that is looked at when Ctrl-C arrives."""

    @property
    def status_code(self) -> int:
        raise KeyboardInterrupt


def test_an_interrupt_leaves_nothing_open(spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C amid our own work, before the send or after it, reaches the caller; span and context are put away."""

    class Inner(httpx.BaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            return Interrupting()

    def interrupt(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    before = otel_context.get_current()
    with pytest.raises(KeyboardInterrupt):
        send(inner=Inner())
    monkeypatch.setattr("asgi_trace._propagation.propagator.write_traceparent", interrupt)
    with pytest.raises(KeyboardInterrupt):
        send()
    assert otel_context.get_current() == before
    assert [attributes_of(span)["error.type"] for span in spans] == ["KeyboardInterrupt", "KeyboardInterrupt"]


STEPS = [
    "asgi_trace._client.config.ClientDescription.facts",
    "asgi_trace._client.config.ClientDescription.attributes",
    "asgi_trace._client.config.ClientDescription.may_keep",
    "asgi_trace._client.config.HeaderCapture.attributes",
    "asgi_trace._client.config.Propagation.inject",
    "asgi_trace._propagation.propagator.write_traceparent",
    "asgi_trace._client.start._template",
    "asgi_trace._client.start.claim",
    "asgi_trace._client.start._trace",
    "asgi_trace._client.start._start_span",
    "asgi_trace._client.start._observe",
    "asgi_trace._client.start._write_context",
    "asgi_trace._client.start.CallMetrics.__init__",
    "asgi_trace._client.call.CallMetrics.started",
    "asgi_trace._client.call.CallMetrics.sent_all",
    "asgi_trace._client.call.Call.__init__",
    "asgi_trace._client.call.Call.announce",
    "asgi_trace._client.call.Call.count",
    "asgi_trace._client.call.History.__init__",
    "asgi_trace._otel.metrics.Metrics.live",
    "asgi_trace._client.call.client_protocol",
    "asgi_trace._client.call.client_peer",
    "asgi_trace._client.call.Call._watch",
    "asgi_trace._client.call.error_type",
    "asgi_trace._otel.metrics.Metrics.started",
    "asgi_trace._otel.metrics.Metrics.finished",
    "opentelemetry.sdk.trace.Span.set_attributes",
    "opentelemetry.sdk.trace.Span.set_status",
    "opentelemetry.sdk.trace.Span.record_exception",
    "opentelemetry.sdk.trace.Span.end",
    "opentelemetry.sdk.trace.Tracer.start_span",
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("flags", [0, 1])
def test_no_step_of_ours_can_break_a_call(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    attached: Any,
    meter: tuple[MeterProvider, InMemoryMetricReader],
    step: str,
    fails: bool,
    flags: int,
) -> None:
    """Whatever fails inside: the caller gets its response or its error, twice, and the context is as before."""
    provider, _ = meter
    attached(parent(flags))

    def handler(request: Any) -> Any:
        if fails:
            raise httpx.ReadTimeout("late")
        return httpx.Response(404, stream=Chunks(), extensions={"network_stream": Peer(("10.0.0.1", 1))})

    def boom(*arguments: Any, **named: Any) -> Any:
        raise ZeroDivisionError(step)

    with capture_spans() as spans, caplog.at_level(logging.CRITICAL, logger="asgi_trace"):
        transport = TraceTransport(
            httpx.MockTransport(handler),
            meter_provider=provider,
            capture_request_headers="x-id",
            capture_response_headers="x-id",
            tracer_provider=spans.tracer_provider,
        )
        request = httpx.Request("GET", "http://svc.test/", extensions={"url_template": "/x"}, headers={"x-id": "1"})
        before, own = otel_context.get_current(), list(request.headers.raw)
        module, _, name = step.rpartition(".")
        monkeypatch.setattr(_find(module), name, boom)
        for _ in range(2):
            if fails:
                with pytest.raises(httpx.ReadTimeout, match="late"):
                    transport.handle_request(request)
            else:
                response = transport.handle_request(request)
                assert (response.status_code, response.read()) == (404, b"a")
            assert otel_context.get_current() == before
            assert request.headers.raw == own
        monkeypatch.undo()


class Counting(SpanProcessor):
    """Counts the spans that have started and not ended."""

    def __init__(self) -> None:
        self.started = self.ended = 0

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        self.started += 1

    def on_end(self, span: ReadableSpan) -> None:
        self.ended += 1


@pytest.mark.parametrize("step", [step for step in STEPS if not step.endswith("Span.end")])
@pytest.mark.parametrize("fails", [False, True])
def test_the_program_may_end_at_any_step(
    monkeypatch: pytest.MonkeyPatch,
    meter: tuple[MeterProvider, InMemoryMetricReader],
    step: str,
    fails: bool,
) -> None:
    """Ctrl-C inside of any step reaches the caller: no span is left open, headers and context are as before."""
    counting, (measuring, _) = Counting(), meter
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(counting)

    def handler(request: Any) -> Any:
        if fails:
            raise httpx.ReadTimeout("late")
        return httpx.Response(404, stream=Chunks(), extensions={"network_stream": Peer(("10.0.0.1", 1))})

    def interrupt(*arguments: Any, **named: Any) -> Any:
        raise KeyboardInterrupt

    transport = TraceTransport(
        httpx.MockTransport(handler),
        tracer_provider=provider,
        meter_provider=measuring,
        capture_request_headers="x-id",
        capture_response_headers="x-id",
    )
    request = httpx.Request("GET", "http://svc.test/", extensions={"url_template": "/x"}, headers={"x-id": "1"})
    before, own = otel_context.get_current(), list(request.headers.raw)
    module, _, name = step.rpartition(".")
    monkeypatch.setattr(_find(module), name, interrupt)
    with suppress(KeyboardInterrupt, httpx.ReadTimeout):
        transport.handle_request(request).close()
    monkeypatch.undo()
    assert counting.started == counting.ended
    assert otel_context.get_current() == before
    assert request.headers.raw == own


def _find(path: str) -> Any:
    """A module, or a class in it."""
    try:
        return import_module(path)
    except ImportError:
        module, _, name = path.rpartition(".")
        return getattr(import_module(module), name)
