"""Which request does a log record belong to that is written after the request is over?

A server writes its traceback, and in part its access line, after the middleware has returned and put the context back;
so do exception handlers and middleware outside of ours. Two things carry the ids there: the exception that escaped,
which reaches other tasks as well, and a context variable, for a server that logs in the task of the request.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, SpanContext, TraceFlags, get_current_span

from .._otel.api import SPAN_KEY
from .._otel.context import get_current
from .._otel.exceptions import chain
from .excluded_span import UnreadContext

_MARK = "_asgi_trace_origin"

_last: ContextVar[tuple[Span | Context, Context, bool] | None] = ContextVar("asgi_trace_last_request", default=None)
"""The last request of this context: its span, the context that was current after it, and whether it failed.

The span and not its SpanContext, and the whole context of an excluded request that nothing has looked into: ids are
made when something asks for them.
"""


_LOGS_AFTERWARDS = ("granian", "gunicorn")


def server_logs_afterwards() -> bool:
    """Does this process's server write its access lines after the application has returned?

    Only then is the end of every request worth remembering: that takes 2,500 instructions, which is an eighth of what
    an excluded request costs. uvicorn and hypercorn log while the response is sent, so the context is still there.
    """
    return any(name in sys.modules for name in _LOGS_AFTERWARDS)


def remember_end(context: Context, failed: bool) -> None:
    """Remember which request has just ended here: that of `context`, which is no longer attached.

    `failed`: the application left it to the server to answer, or to end the response.
    """
    span: Any = context if type(context) is UnreadContext else context.get(SPAN_KEY, INVALID_SPAN)
    _last.set((span, get_current(), failed))


def remember_failure(context: Context, exc: BaseException) -> None:
    """Remember which request has just failed, and which exception escaped from it."""
    remember_end(context, True)
    span_context = get_current_span(context).get_span_context()
    # Not setattr: a frozen dataclass may be an exception. Plain numbers: it may be unpickled where we are not.
    exc.__dict__[_MARK] = span_context.trace_id, span_context.span_id, int(span_context.trace_flags)


def last_failed() -> SpanContext | None:
    """The request that failed last in this context, as long as nothing has changed the current span since."""
    last = _last.get()
    return _span_context(last[0]) if last is not None and last[2] and _still_there(last[1]) else None


def last_ended() -> SpanContext | None:
    """The request that ended last in this context, failed or not, under the same condition."""
    last = _last.get()
    return _span_context(last[0]) if last is not None and _still_there(last[1]) else None


def _span_context(request: Span | Context) -> SpanContext:
    return (get_current_span(request) if isinstance(request, Context) else request).get_span_context()


def _still_there(context: Context) -> bool:
    return get_current_span(context) is get_current_span()


def failed_request_of(exc: BaseException) -> SpanContext | None:
    """The request that `exc`, or the nearest exception behind it, last escaped from."""
    for link in chain(exc):
        mark = link.__dict__.get(_MARK)
        if mark is not None:
            trace_id, span_id, flags = mark
            return SpanContext(trace_id, span_id, False, TraceFlags(flags))
    return None
