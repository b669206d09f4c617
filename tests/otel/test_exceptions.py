"""What is recorded of an exception: its size, its secrets, and an exception that cannot say what it is."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from opentelemetry import _logs
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from asgi_trace import TraceMiddleware
from asgi_trace._options.redact import Redaction
from asgi_trace._otel.exceptions import ExceptionRecorder
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.httpx import TraceTransport
from asgi_trace.routes import report_exception
from asgi_trace.testing import CapturedSpans

from ..support.asgi import body, drive, responding, start, websocket_scope

Record = Callable[[CapturedSpans, BaseException], ReadableSpan]


def escaped(spans: CapturedSpans, exc: BaseException) -> ReadableSpan:
    drive(TraceMiddleware(responding(exc)))
    return spans.server


def in_a_socket(spans: CapturedSpans, exc: BaseException) -> ReadableSpan:
    drive(TraceMiddleware(responding({"type": "websocket.accept"}, exc)), websocket_scope())
    return spans.server


def in_the_background(spans: CapturedSpans, exc: BaseException) -> ReadableSpan:
    drive(TraceMiddleware(responding(start(), body(), exc)))
    (span,) = spans.of_kind(SpanKind.INTERNAL)
    return span


def reported(spans: CapturedSpans, exc: BaseException) -> ReadableSpan:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            raise exc
        except type(exc):
            report_exception(exc)
        await send(start(500))
        await send(body())

    drive(TraceMiddleware(app))
    return spans.server


def in_a_client(spans: CapturedSpans, exc: BaseException) -> ReadableSpan:
    def fail(request: httpx.Request) -> httpx.Response:
        raise exc

    with httpx.Client(transport=TraceTransport(httpx.MockTransport(fail))) as client, pytest.raises(type(exc)):
        client.get("http://svc.test/")
    return spans.client


ways = pytest.mark.parametrize("record", [escaped, in_a_socket, in_the_background, reported, in_a_client])


def event_of(span: ReadableSpan) -> dict[str, Any]:
    """The attributes of the span's one event, which is an exception's."""
    (event,) = span.events
    assert event.name == "exception"
    return dict(event.attributes or {})


@ways
def test_an_ordinary_exception_is_recorded_as_the_sdk_does(record: Record, spans: CapturedSpans) -> None:
    """Type, message, whole stack trace: what `Span.record_exception()` writes."""
    exc = ValueError("no stock")
    exc.__cause__ = KeyError("shelf")
    span = record(spans, exc)
    attributes = event_of(span)
    assert attributes["exception.type"] == "ValueError"
    assert attributes["exception.message"] == span.status.description == "no stock"
    assert attributes["exception.escaped"] == "False"
    trace = attributes["exception.stacktrace"]
    assert trace.startswith("KeyError: 'shelf'\n\nThe above exception was the direct cause")
    assert trace.endswith("ValueError: no stock\n")
    assert __file__ in trace or "asgi.py" in trace


@ways
def test_an_exception_has_a_size(record: Record, spans: CapturedSpans) -> None:
    """4,096 characters of the message, 1,024 of the description, 32,768 of the stack trace with both of its ends."""
    exc = RuntimeError("begin" + "x" * 5_000_000 + "end")
    span = record(spans, exc)
    attributes = event_of(span)
    assert len(attributes["exception.message"]) == 4096
    assert span.status.description is not None
    assert len(span.status.description) == 1024
    trace = attributes["exception.stacktrace"]
    assert 32_000 < len(trace) <= 32_768
    assert trace.startswith("Traceback (most recent call last):\n")
    assert trace.endswith("xend\n")
    assert "characters are left out here" in trace


SECRETS: list[tuple[str, str]] = [
    ("403 for url 'https://u:hunter2@h.test/o?page=2'", "403 for url 'https://REDACTED:REDACTED@h.test/o?page=2'"),
    (
        "at https://h.test/o?Signature=hunter2&a=1#token=hunter2",
        "at https://h.test/o?Signature=REDACTED&a=1#token=REDACTED",
    ),
    ('bad link "/reset?ToKeN=hunter2"', 'bad link "/reset?ToKeN=REDACTED"'),
    ("cannot reach amqp://guest:hunter2@mq.test//", "cannot reach amqp://REDACTED:REDACTED@mq.test//"),
    (
        "x" * 1000 + " http://h.test/?pwd=hunter2&" + "y" * 5000,
        "x" * 1000 + " http://h.test/?pwd=REDACTED&" + "y" * 5000,
    ),
]


@ways
@pytest.mark.parametrize(("message", "shown"), SECRETS, ids=range(len(SECRETS)))
def test_a_url_in_an_exception_loses_its_secrets(
    record: Record, message: str, shown: str, spans: CapturedSpans
) -> None:
    """In its message, in the description, and in the stack trace with its causes: nothing of a secret is exported."""
    exc = RuntimeError(message)
    exc.__cause__ = ConnectionError(f"because: {message}")
    span = record(spans, exc)
    attributes = event_of(span)
    assert attributes["exception.message"] == shown[:4096]
    assert span.status.description == shown[:1024]
    assert f"RuntimeError: {shown}" in attributes["exception.stacktrace"]
    assert f"ConnectionError: because: {shown}" in attributes["exception.stacktrace"]
    assert "hunter2" not in span.to_json()


class Mute(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class Shapeless(Exception):
    """Neither of its texts can be had."""

    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


class Hostile(Exception):
    """Fails wherever a traceback looks."""

    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__

    @property
    def __notes__(self) -> list[str]:
        raise RuntimeError


class Holder(Exception):
    """Its own text is fine; that of its argument fails."""


@ways
@pytest.mark.parametrize(
    "exc", [Mute("x"), Shapeless("x"), Hostile("x"), Holder(Shapeless("x"))], ids=lambda e: type(e).__name__
)
def test_an_exception_that_cannot_say_what_it_is_has_its_event(
    record: Record, exc: BaseException, spans: CapturedSpans
) -> None:
    """Class, stack trace and ERROR are recorded; only the text is missing."""
    span = record(spans, exc.with_traceback(None))
    attributes = event_of(span)
    name = f"{__name__}.{type(exc).__name__}"
    assert attributes["exception.type"] == name
    assert attributes["exception.message"] == "<exception str() failed>"
    assert name in attributes["exception.stacktrace"]
    assert 'File "' in attributes["exception.stacktrace"]
    assert dict(span.attributes or {})["error.type"] == name
    assert (span.status.is_ok, span.status.description) == (False, None)


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemoryLogRecordExporter]:
    """What the global LoggerProvider exports; exceptions are asked for as logs."""
    exporter = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(_logs._internal, "_LOGGER_PROVIDER", provider)
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "logs")
    yield exporter
    provider.shutdown()


@ways
@pytest.mark.parametrize(
    ("exc", "message"),
    [
        (ValueError("http://a:hunter2@h.test/?sig=hunter2"), "http://REDACTED:REDACTED@h.test/?sig=REDACTED"),
        (ValueError("x" * 50_000), "x" * 4096),
        (Mute(), "<exception str() failed>"),
    ],
    ids=["secret", "long", "mute"],
)
def test_a_log_record_is_no_less_careful(
    record: Record, exc: BaseException, message: str, spans: CapturedSpans, logs: InMemoryLogRecordExporter
) -> None:
    """Size, secrets and texts that fail are the same in the record of an exception."""
    record(spans, exc.with_traceback(None))
    (found,) = logs.get_finished_logs()
    attributes: dict[str, Any] = dict(found.log_record.attributes or {})
    assert attributes["exception.message"] == message
    assert len(attributes["exception.stacktrace"]) <= 32_768
    assert "hunter2" not in attributes["exception.stacktrace"]
    assert attributes["exception.type"].rpartition(".")[2] == type(exc).__name__


@pytest.mark.parametrize(("value", "events", "warnings"), [("logs", 1, 1), ("logs/dup", 1, 0), ("", 1, 0)])
def test_without_a_logger_provider_no_exception_is_lost(
    value: str,
    events: int,
    warnings: int,
    spans: CapturedSpans,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Exceptions as logs that no provider takes are span events, which one warning says."""
    monkeypatch.setattr(_logs._internal, "_LOGGER_PROVIDER", None)
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", value)
    traced = TraceMiddleware(responding(ValueError("x")))
    for _ in range(3):
        spans.clear()
        drive(traced)
        assert len(spans.server.events) == events
    found = [record for record in caplog.records if "no LoggerProvider is set" in record.getMessage()]
    assert [record.levelname for record in found] == ["WARNING"] * warnings


class Foreign(NonRecordingSpan):
    """The span of another vendor, which has a way of its own with exceptions."""

    recorded: tuple[BaseException, Any] | None = None

    def record_exception(self, exception: BaseException, attributes: Any = None, *rest: Any, **more: Any) -> None:
        self.recorded = exception, attributes


def test_the_span_of_another_vendor_records_in_its_own_way() -> None:
    """It gets the exception itself, and what is to stand in the place of its texts."""
    span = Foreign(SpanContext(1, 2, False, TraceFlags(1)))
    exc = ValueError("http://h.test/?token=hunter2")
    ExceptionRecorder(Redaction()).record(span, {}, exc, "name")  # type: ignore[arg-type]
    assert span.recorded is not None
    recorded, attributes = span.recorded
    assert recorded is exc
    assert attributes["exception.message"] == "http://h.test/?token=REDACTED"
    assert attributes["exception.stacktrace"] == "ValueError: http://h.test/?token=REDACTED\n"
    assert "".join(traceback.format_exception(exc)).endswith("hunter2\n")
