"""What a log record says of the request that it belongs to: which span, its ids as text, the service's name.

Shared by `asgi_trace.logging` and `asgi_trace.structlog`. `_server.failed_request` knows which request a record belongs
to that is written after the middleware has returned, by the server or by a handler outside of the middleware.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping
from types import CodeType
from urllib.parse import unquote

from opentelemetry.context import get_value
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Span, SpanContext, TraceFlags, TracerProvider, get_current_span

from ._otel.tracers import Tracers
from ._server.current import REQUEST_KEY, server_span
from ._server.failed_request import failed_request_of, last_ended, last_failed

NO_ID = "0"
"""`trace_id` and `span_id` where there is no span, as OpenTelemetry's own logging instrumentation writes it."""

_ACCESS = frozenset({"granian.access", "gunicorn.access", "hypercorn.access", "uvicorn.access"})
"""The loggers whose lines say how a request ended. Some servers write them after the application has returned."""

_SERVERS = _ACCESS | {"gunicorn.error", "hypercorn.error", "uvicorn.asgi", "uvicorn.error"}
"""The loggers of ASGI servers, which speak of a whole request and never of a span inside of it."""


def span_context_for(logger_name: str = "", exc: BaseException | None = None) -> SpanContext:
    """The span that a record belongs to: the current one, unless the record is about a request that is over.

    `exc` is the exception that the record carries; without one, the exception that is being handled counts. Within a
    request it says nothing: one exception may reach several (a cached future, a shared task), and escape from each.
    """
    current = get_current_span().get_span_context()
    by_server = logger_name in _SERVERS
    within = _within_request()
    if not within or (by_server and exc is not None):  # a server sees no exception but the one that escaped
        failed = _failed_request(sys.exc_info()[1] if exc is None else exc)
        # In the same trace the current span is nearer to the code that logs; another one is only what was current
        # before the request (servers leak one request's context into the next).
        if failed is not None and failed.trace_id != current.trace_id:
            return failed
    if not by_server:
        return current
    over = None if within else last_ended() if logger_name in _ACCESS else last_failed()
    if over is not None:
        return over
    server = server_span().get_span_context()
    return server if server.is_valid else current


def _failed_request(exc: BaseException | None) -> SpanContext | None:
    return None if exc is None else failed_request_of(exc)


def _within_request() -> bool:
    """Does the current context belong to a request in progress, as far as that can be known?"""
    request = get_value(REQUEST_KEY)
    if isinstance(request, Span):
        # The end of a request that is not recorded leaves no mark on it. Where another one has just failed, this one's
        # context is most likely a leaked one.
        return last_failed() is None
    return request is not None and not request.ended  # type: ignore[attr-defined]


def span_context_now(exc: BaseException | None = None) -> SpanContext:
    """The span that a line belongs to which is being written right now, by any logging library.

    Where a handler of the standard library hands its records on (loguru's intercept handler, a formatter, structlog),
    the line belongs to the record that is being handled. `exc` is the exception that the line carries.
    """
    record = _record_being_handled()
    return span_context_for("", exc) if record is None else span_context_of(record, exc)


def span_context_of(record: logging.LogRecord, exc: BaseException | None = None) -> SpanContext:
    """The span that a record of the standard library belongs to: the one whose ids it carries, else the right one."""
    if exc is None and record.exc_info:
        exc = record.exc_info[1]
    return _carried(record) or span_context_for(record.name, exc)


def _carried(record: logging.LogRecord) -> SpanContext | None:
    """The ids that a `TraceContextFilter` has put on the record, perhaps in another thread, ahead of a queue."""
    fields = record.__dict__
    try:
        trace_id, span_id = int(fields["trace_id"], 16), int(fields["span_id"], 16)
        found = SpanContext(trace_id, span_id, False, TraceFlags(int(fields["trace_flags"], 16)))
    except (KeyError, TypeError, ValueError):  # no filter was there, or the ids are the author's own words
        return None
    return found if found.is_valid else None


OF_EVERY_RECORD = frozenset(logging.makeLogRecord({}).__dict__) | {"asctime", "color_message", "message", "taskName"}
"""What every record has, what `Formatter.format` adds, and the coloured copy of the message that uvicorn adds."""

_HANDLING: frozenset[CodeType] = frozenset({logging.Handler.handle.__code__, logging.Logger.callHandlers.__code__})
_MOST_FRAMES = 16  # loguru's intercept handler takes 6, structlog behind a handler 8


def _record_being_handled() -> logging.LogRecord | None:
    """The record that the standard library is handing to a handler in this thread, found on the stack.

    A library behind that handler gets a message and a level, and neither the record nor its logger's name.
    """
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    for _ in range(_MOST_FRAMES):
        if frame.f_code in _HANDLING:
            record = frame.f_locals.get("record")
            return record if isinstance(record, logging.LogRecord) else None
        if frame.f_back is None:
            return None
        frame = frame.f_back
    return None


def ids(span_context: SpanContext) -> dict[str, str]:
    """`trace_id`, `span_id` and `trace_flags` as text."""
    if not span_context.is_valid:
        return {"trace_id": NO_ID, "span_id": NO_ID, "trace_flags": "00"}
    return {
        "trace_id": f"{span_context.trace_id:032x}",
        "span_id": f"{span_context.span_id:016x}",
        "trace_flags": f"{span_context.trace_flags:02x}",
    }


def ids_beside(fields: Mapping[str, object], span_context: SpanContext) -> dict[str, str]:
    """The ids of `span_context` for a record that has `fields`; no ids where those name another trace."""
    found = ids(span_context)
    return found if fields.get("trace_id", found["trace_id"]) == found["trace_id"] else ids(INVALID_SPAN_CONTEXT)


class ServiceName:
    """The service's name: the argument, else the tracer provider's, else the environment's."""

    __slots__ = ("_given", "_name", "_seen", "_tracers")

    def __init__(self, given: str | None, tracer_provider: TracerProvider | None) -> None:
        self._given = given
        self._tracers = Tracers(tracer_provider)
        self._seen: TracerProvider | None = None
        self._name = ""

    def __call__(self) -> str:
        if self._given is not None:
            return self._given
        provider = self._tracers.provider()
        if provider is not self._seen:
            self._name = _name_of(provider) or _name_in_environment()
            self._seen = provider
        return self._name


def _name_of(provider: TracerProvider) -> str:
    attributes = getattr(getattr(provider, "resource", None), "attributes", None)  # only an SDK's provider has them
    return str(attributes.get("service.name") or "") if attributes else ""


def _name_in_environment() -> str:
    name = os.environ.get("OTEL_SERVICE_NAME", "").strip()
    if not name:
        pairs = (pair.partition("=") for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
        name = next((unquote(value.strip()) for key, _, value in pairs if key.strip() == "service.name"), "")
    return name or "unknown_service"
