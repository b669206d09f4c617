"""What the log says of a step of ours that fails in a call: which one it was, once as ERROR and then as DEBUG."""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

import httpx
import pytest
from opentelemetry.context import attach, detach
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from asgi_trace._client import call, start
from asgi_trace.httpx import TraceTransport
from asgi_trace.testing import capture_spans

from ..support.asgi import attributes_of
from ..support.transports import Answer, Chunks, Peer, exceptions_of, parent

START, MEASURE = "starting a client span", "measuring a request"
WRITE, RESPONSE = "writing the trace context", "recording a response"
ERROR, END = "recording an error", "ending a span"

STEPS: list[tuple[str, str | None, str | None]] = [
    # the step, and what is said of it in a call that is answered and in one that fails
    ("asgi_trace._client.config.ClientDescription.facts", START, START),
    ("asgi_trace._client.config.ClientDescription.may_keep", START, START),
    ("asgi_trace._client.start._template", START, START),
    ("asgi_trace._client.start._trace", START, START),
    ("asgi_trace._client.start._start_span", START, START),
    ("asgi_trace._client.start._observe", START, START),
    ("asgi_trace._client.start.CallMetrics.__init__", START, START),
    ("asgi_trace._client.call.Call.announce", START, START),
    ("asgi_trace._client.call.Call.count", START, START),
    ("asgi_trace._client.call.History.__init__", START, START),
    ("asgi_trace._otel.metrics.Metrics.live", START, START),
    ("asgi_trace._client.config.Propagation.inject", WRITE, WRITE),
    ("asgi_trace._propagation.propagator.write_traceparent", WRITE, WRITE),
    ("asgi_trace._client.call.CallMetrics.sent_all", MEASURE, MEASURE),
    ("asgi_trace._otel.metrics.Metrics.started", MEASURE, MEASURE),
    ("asgi_trace._client.call.client_protocol", RESPONSE, None),
    ("asgi_trace._client.call.client_peer", RESPONSE, None),
    ("asgi_trace._client.call.Call._watch", RESPONSE, None),
    ("asgi_trace._client.call.error_type", None, ERROR),
    ("opentelemetry.sdk.trace.Span.set_status", RESPONSE, ERROR),
    ("asgi_trace._client.config.ClientDescription.attributes", END, END),
    ("asgi_trace._otel.metrics.Metrics.finished", END, END),
    ("opentelemetry.sdk.trace.Span.end", END, END),
]


def found(path: str) -> Any:
    """A module, or a class in it."""
    try:
        return import_module(path)
    except ImportError:
        module, _, name = path.rpartition(".")
        return getattr(import_module(module), name)


def reported(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, meters: MeterProvider, step: str, fails: bool
) -> list[tuple[str, str]]:
    """Level and text of what is logged in two calls in which the step raises."""

    def handler(request: httpx.Request) -> httpx.Response:
        if fails:
            raise httpx.ReadTimeout("late")
        return httpx.Response(404, stream=Chunks(), extensions={"network_stream": Peer(("10.0.0.1", 1))})

    def broken(*arguments: Any, **named: Any) -> Any:
        raise ZeroDivisionError(step)

    with capture_spans() as spans, caplog.at_level(logging.DEBUG, logger="asgi_trace"):
        transport = TraceTransport(
            httpx.MockTransport(handler), meter_provider=meters, tracer_provider=spans.tracer_provider
        )
        request = httpx.Request("GET", "http://svc.test/", extensions={"url_template": "/x"})
        module, _, name = step.rpartition(".")
        monkeypatch.setattr(found(module), name, broken)
        for _ in range(2):
            try:
                transport.handle_request(request).read()
            except httpx.ReadTimeout:
                assert fails
        monkeypatch.undo()
    # INFO is of an SDK that measures in another way than ours expects.
    records = [record for record in caplog.records if record.levelno != logging.INFO]
    assert all(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in records)
    return [(record.levelname, record.getMessage()) for record in records if record.name == "asgi_trace"]


@pytest.mark.parametrize(("step", "answered", "failed"), STEPS)
def test_the_log_says_which_step_failed(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    meter: tuple[MeterProvider, InMemoryMetricReader],
    step: str,
    answered: str | None,
    failed: str | None,
) -> None:
    """One ERROR with the step's name and its exception, then DEBUG; what follows from it is not said."""
    for fails, name in ((False, answered), (True, failed)):
        caplog.clear()
        text = f"{name} failed; the request goes on without it"
        expected = [] if name is None else [("ERROR", text), ("DEBUG", text)]
        assert reported(monkeypatch, caplog, meter[0], step, fails) == expected


@pytest.mark.parametrize("step", ["_observe", "CallMetrics.__init__", "Call.announce", "Call.count"])
def test_a_span_that_was_started_has_the_exception_of_its_call(
    monkeypatch: pytest.MonkeyPatch, meter: tuple[MeterProvider, InMemoryMetricReader], step: str
) -> None:
    """Where a step between the span's start and the send has failed, why the call failed is recorded all the same."""

    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("late")

    def broken(*arguments: Any, **named: Any) -> Any:
        raise ZeroDivisionError(step)

    monkeypatch.setattr(f"asgi_trace._client.start.{step}".replace("start.Call.", "call.Call."), broken)
    with capture_spans() as spans:
        transport = TraceTransport(
            httpx.MockTransport(handler), meter_provider=meter[0], tracer_provider=spans.tracer_provider
        )
        with pytest.raises(httpx.ReadTimeout):
            transport.handle_request(httpx.Request("GET", "http://svc.test/"))
    assert attributes_of(spans.client)["error.type"] == "httpx.ReadTimeout"
    assert exceptions_of(spans.client) == ["httpx.ReadTimeout"]
    assert spans.client.status.description == "late"


def test_the_callers_context_is_sent_though_the_first_step_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever went wrong before the request was ours: the trace goes on, and the request is as it was."""
    original, waiting = call.claim, [ZeroDivisionError("claim")]

    def broken(*arguments: Any) -> Any:
        if waiting:
            raise waiting.pop()
        return original(*arguments)

    monkeypatch.setattr(start, "claim", broken)
    answer = Answer()
    request = httpx.Request("GET", "http://svc.test/")
    token = attach(parent(1))
    try:
        with capture_spans():
            TraceTransport(answer).handle_request(request)
    finally:
        detach(token)
    assert waiting == []
    assert answer.sent[0]["traceparent"] == f"00-{0xA:032x}-{0xB:016x}-01"
    assert "traceparent" not in request.headers
