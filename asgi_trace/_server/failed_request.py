"""Which request did this exception come from? What the log records that are written after a request ask.

The server writes its traceback, and the access line of the 500 that it sends itself, after the middleware has returned
and put the context back; so do exception handlers and middleware outside of ours. The exception takes the ids there,
since it reaches also what runs in another task; a context variable takes them to servers that speak without one.
"""

from __future__ import annotations

from contextvars import ContextVar

from opentelemetry.trace import Span, SpanContext, TraceFlags, get_current_span

from .._otel.exceptions import chain

_MARK = "_asgi_trace_origin"

_left: ContextVar[tuple[SpanContext, Span] | None] = ContextVar("asgi_trace_left", default=None)


def leave(span_context: SpanContext, exc: BaseException | None = None) -> None:
    """Remember which request has just failed, and which exception it left with.

    For the two endings after which a server speaks in the request's name: an exception that escapes, and a response
    that the application never started or never finished. Call it after the request's context is detached.
    """
    _left.set((span_context, get_current_span()))
    if exc is not None:
        # Not setattr: a frozen dataclass may be an exception. Plain numbers: it may be unpickled where we are not.
        exc.__dict__[_MARK] = span_context.trace_id, span_context.span_id, int(span_context.trace_flags)


def left_behind() -> SpanContext | None:
    """The request that failed in this context, as long as the current span is still the one that it left behind."""
    left = _left.get()
    return left[0] if left is not None and left[1] is get_current_span() else None


def origin_of(exc: BaseException) -> SpanContext | None:
    """The request that `exc`, or the nearest exception behind it, last escaped from."""
    for link in chain(exc):
        mark = link.__dict__.get(_MARK)
        if mark is not None:
            trace_id, span_id, flags = mark
            return SpanContext(trace_id, span_id, False, TraceFlags(flags))
    return None
