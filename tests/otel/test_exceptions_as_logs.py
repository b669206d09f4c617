"""Exceptions as span events, as log records, or as both: OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import _logs
from opentelemetry._logs import SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider, ReadableLogRecord
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.trace import SpanKind, StatusCode

from asgi_trace import TraceMiddleware
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of, body, drive, responding, start, websocket_scope

VARIABLE = "OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN"
MODES = [
    pytest.param(None, 1, 0, id="unset"),
    pytest.param("", 1, 0, id="empty"),
    pytest.param("logs", 0, 1, id="logs"),
    pytest.param("logs/dup", 1, 1, id="logs/dup"),
    pytest.param("http, logs", 0, 1, id="in a list"),
    pytest.param("events", 1, 0, id="unknown"),
]


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryLogRecordExporter]:
    """What the global LoggerProvider exports during the test."""
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(_logs._internal, "_LOGGER_PROVIDER", provider)
    yield exporter
    provider.shutdown()


def described(record: ReadableLogRecord) -> tuple[Any, ...]:
    log = record.log_record
    attributes = dict(log.attributes or {})
    return log.event_name, log.severity_number, attributes["exception.type"], attributes["exception.message"]


@pytest.mark.parametrize(("value", "events", "logs"), MODES)
def test_an_exception_goes_where_the_environment_says(
    spans: CapturedSpans,
    records: InMemoryLogRecordExporter,
    monkeypatch: pytest.MonkeyPatch,
    value: str | None,
    events: int,
    logs: int,
) -> None:
    """Span event, log record, or both; status and error type are on the span in any case."""
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    drive(TraceMiddleware(responding(ValueError("no stock"))))

    span = spans.server
    assert len(span.events) == events
    assert span.status.status_code is StatusCode.ERROR
    assert attributes_of(span)["error.type"] == "ValueError"
    found = records.get_finished_logs()
    assert [described(record) for record in found] == [
        ("http.server.request.exception", SeverityNumber.ERROR, "ValueError", "no stock")
    ] * logs
    for record in found:
        log = record.log_record
        assert (log.trace_id, log.span_id) == (span.context.trace_id, span.context.span_id)
        assert "asgi.py" in str((log.attributes or {})["exception.stacktrace"])
        assert (log.severity_text, log.body) == ("ERROR", "ValueError")


def test_a_failed_background_task_has_an_event_name_of_its_own(
    spans: CapturedSpans, records: InMemoryLogRecordExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record belongs to the background's span, and is no failed request."""
    monkeypatch.setenv(VARIABLE, "logs")
    drive(TraceMiddleware(responding(start(), body(), KeyError("mail"))))

    (child,) = spans.of_kind(SpanKind.INTERNAL)
    (record,) = records.get_finished_logs()
    assert described(record)[:3] == ("asgi_trace.background.exception", SeverityNumber.ERROR, "KeyError")
    assert record.log_record.span_id == child.context.span_id
    assert not child.events


def test_a_socket_that_fails_is_recorded_the_same_way(
    spans: CapturedSpans, records: InMemoryLogRecordExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One record for an exception in an open WebSocket."""
    monkeypatch.setenv(VARIABLE, "logs")
    drive(TraceMiddleware(responding({"type": "websocket.accept"}, ValueError("no room"))), websocket_scope())

    assert [described(record)[2] for record in records.get_finished_logs()] == ["ValueError"]
    assert not spans.server.events


@pytest.mark.parametrize(
    "messages",
    [
        [start(404), body()],
        [start(503), body()],
        [asyncio.CancelledError()],
        [],
        [start(), body(b"x", True)],
    ],
    ids=["404", "503", "cancelled", "never answered", "never finished"],
)
def test_what_is_no_exception_makes_no_record(
    spans: CapturedSpans, records: InMemoryLogRecordExporter, monkeypatch: pytest.MonkeyPatch, messages: list[Any]
) -> None:
    """Handled errors, cancellation and unfinished responses are told by the span alone."""
    monkeypatch.setenv(VARIABLE, "logs/dup")
    drive(TraceMiddleware(responding(*messages)))

    assert records.get_finished_logs() == ()
    assert not spans.server.events


LATE = """
import asyncio

from opentelemetry import _logs, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider

from asgi_trace import TraceMiddleware


async def app(scope, receive, send):
    raise ValueError


def request():
    try:
        asyncio.run(traced({"type": "http", "method": "GET", "path": "/", "headers": []}, None, None))
    except ValueError:
        pass


traced = TraceMiddleware(app)
trace.set_tracer_provider(TracerProvider())
request()
exporter = InMemoryLogRecordExporter()
provider = LoggerProvider()
provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
_logs.set_logger_provider(provider)
request()
print([record.log_record.event_name for record in exporter.get_finished_logs()])
"""


def test_a_logger_provider_that_is_set_later_counts() -> None:
    """The global LoggerProvider is used from the moment it is there; before that a warning says where records go."""
    done = subprocess.run(
        [sys.executable, "-c", LATE],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": ":".join(sys.path), VARIABLE: "logs"},
    )

    assert done.stdout.strip() == "['http.server.request.exception']"
    assert done.stderr.count("no LoggerProvider is set") == 1
