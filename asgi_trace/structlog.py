"""The ids of the current span in structlog's events: one processor.

It needs nothing of structlog, which calls processors by position; it is a module of its own so that its import
says what it is for.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from logging import LogRecord
from typing import Any, cast

from ._log_correlation import NO_ID, ServiceName, ids_beside, span_context_now, span_context_of

__all__ = ["add_trace_context"]

_service_name = ServiceName(None, None)


def add_trace_context(logger: Any, method_name: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add `trace_id`, `span_id` and `trace_flags` where there is a span, and `service.name`.

        structlog.configure(processors=[add_trace_context, structlog.processors.JSONRenderer()])

    What the event carries already stays, and beside the `trace_id` of another trace no ids are added. Put it before
    processors that format the exception: a handler outside of the middleware gets its ids from that. In the
    `foreign_pre_chain` of a `ProcessorFormatter` it adds the ids to the records of the standard library, those of the
    server included.
    """
    exc = _exception_of(event_dict)
    record = event_dict.get("_record")  # ProcessorFormatter's own key
    span_context = span_context_of(record, exc) if isinstance(record, LogRecord) else span_context_now(exc)
    found = ids_beside(event_dict, span_context)
    if found["trace_id"] != NO_ID:
        for name, value in found.items():
            event_dict.setdefault(name, value)
    event_dict.setdefault("service.name", _service_name())
    return event_dict


def _exception_of(event_dict: MutableMapping[str, Any]) -> BaseException | None:
    exc_info: Any = event_dict.get("exc_info")
    if isinstance(exc_info, tuple):
        found = cast("tuple[object, ...]", exc_info)
        exc_info = found[1] if len(found) == 3 else None
    return exc_info if isinstance(exc_info, BaseException) else None
