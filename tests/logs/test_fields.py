"""What `TraceContextFilter` writes on a record, and what it leaves as it is."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import logging.config
import logging.handlers
import queue
from typing import Any

import pytest
from opentelemetry.context import Context, attach
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

from asgi_trace import TraceMiddleware
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.logging import TraceContextFilter, trace_context
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.log_capture import (
    NO_SPAN,
    Kept,
    answer,
    get,
    ids_of,
    record,
)


def context_of(flags: int) -> Context:
    span_context = SpanContext(0xABC, 0xDEF, False, TraceFlags(flags))
    return set_span_in_context(NonRecordingSpan(span_context))


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_the_filter_writes_the_ids_of_the_current_span(flags: int) -> None:
    """Ids are lower-case hex of full width, flags two digits, and every name works in a format string."""
    handler = Kept("orders")
    format_ = "%(trace_id)s %(span_id)s %(trace_flags)s %(service_name)s %(service.name)s %(message)s"

    def write() -> str:
        written = record()
        assert handler.filter(written)
        return logging.Formatter(format_).format(written)

    context = contextvars.copy_context()
    context.run(attach, context_of(flags))
    assert context.run(write) == f"{'abc':>0032} {'def':>0016} 0{flags} orders orders paid"


def test_without_a_span_the_fields_are_there() -> None:
    """Outside of a request a format string finds the same names, with values that are no ids."""
    written = record()
    assert TraceContextFilter("orders").filter(written)
    fields = {name: written.__dict__[name] for name in ("trace_id", "span_id", "trace_flags", "service.name")}
    assert fields == NO_SPAN | {"service.name": "orders"}
    assert trace_context() == NO_SPAN


def test_ids_that_a_record_carries_are_kept(spans: CapturedSpans) -> None:
    """A record that is handled in another thread, behind a queue, keeps the ids of the thread that wrote it."""
    records: queue.Queue[logging.LogRecord] = queue.Queue()
    behind = Kept()
    ahead = logging.handlers.QueueHandler(records)
    ahead.addFilter(TraceContextFilter())
    listener = logging.handlers.QueueListener(records, behind)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        ahead.handle(record("within"))
        ahead.handle(record("by hand", trace_id="mine", span_id="too"))
        await answer(send)

    listener.start()
    asyncio.run(get(TraceMiddleware(app)))
    listener.stop()
    assert behind.ids() == {"within": ids_of(spans.server), "by hand": ("mine", "too")}


@pytest.mark.parametrize(
    ("carried", "added"),
    [
        ({"trace_id": "mine"}, {"span_id": "0", "trace_flags": "00"}),
        ({"trace_id": f"{0xABC:032x}"}, {"span_id": f"{0xDEF:016x}", "trace_flags": "01"}),
        ({"span_id": "mine"}, {"trace_id": f"{0xABC:032x}", "trace_flags": "01"}),
        ({"trace_flags": "mine"}, {"trace_id": f"{0xABC:032x}", "span_id": f"{0xDEF:016x}"}),
        ({"service.name": "mine"}, {"service_name": "mine"}),
        ({"service_name": "mine"}, {"service.name": "orders"}),
    ],
)
def test_a_field_that_a_record_carries_is_kept_and_the_others_are_added(
    carried: dict[str, str], added: dict[str, str]
) -> None:
    """Every name is there for a format string; no span's ids stand beside the id of another trace."""
    written = record(**carried)

    def twice() -> None:
        attach(context_of(1))
        TraceContextFilter("orders").filter(written)
        first = dict(written.__dict__)
        TraceContextFilter("again").filter(written)
        assert written.__dict__ == first

    contextvars.copy_context().run(twice)
    assert {name: written.__dict__.get(name) for name in carried | added} == carried | added
    assert NO_SPAN.keys() | {"service.name", "service_name"} <= written.__dict__.keys()


def named(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, **options: Any) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    written = record()
    TraceContextFilter(**options).filter(written)
    assert written.__dict__["service_name"] == written.__dict__["service.name"]
    return str(written.__dict__["service.name"])


def provider(name: str) -> TracerProvider:
    return TracerProvider(resource=Resource({"service.name": name}), shutdown_on_exit=False)


@pytest.mark.parametrize(
    ("environment", "options", "expected"),
    [
        ({"OTEL_SERVICE_NAME": "env"}, {"service_name": "given", "tracer_provider": provider("sdk")}, "given"),
        ({"OTEL_SERVICE_NAME": "env"}, {"tracer_provider": provider("sdk")}, "sdk"),
        ({"OTEL_SERVICE_NAME": "env", "OTEL_RESOURCE_ATTRIBUTES": "service.name=attribute"}, {}, "env"),
        ({"OTEL_SERVICE_NAME": "", "OTEL_RESOURCE_ATTRIBUTES": "a=b, service.name=my%20shop ,c=d"}, {}, "my shop"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "nonsense,=,service.name="}, {}, "unknown_service"),
        ({}, {}, "unknown_service"),
    ],
)
def test_the_service_name_is_the_nearest_one(
    environment: dict[str, str], options: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The argument wins, then the provider's resource, then OTEL_SERVICE_NAME, then OTEL_RESOURCE_ATTRIBUTES."""
    assert named(environment, monkeypatch, **options) == expected


def test_a_provider_that_is_set_later_names_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """The filter is made before the SDK is set up, as logging is, and follows it."""
    handler = Kept()
    handler.handle(record("before"))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "orders")
    with capture_spans():
        monkeypatch.delenv("OTEL_SERVICE_NAME")  # the provider has it now
        handler.handle(record("after"))
    assert [written.__dict__["service.name"] for written in handler.records] == ["unknown_service", "orders"]
