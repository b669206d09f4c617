"""Which request did this exception come from? What the log records that are written after a request ask.

The server writes its traceback, and the access line of the 500 that it sends itself, after the middleware has returned
and put the context back; so do exception handlers and middleware outside of ours. The exception takes the ids there,
since it reaches also what runs in another task; a context variable takes them to servers that speak without one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar

from opentelemetry.trace import Span, SpanContext, TraceFlags, get_current_span

_MARK = "_asgi_trace_origin"
_MOST_LINKS = 32  # of causes, contexts and groups that one question follows

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


def chain(exc: BaseException) -> Iterator[BaseException]:
    """`exc` and what is behind it (causes, contexts, parts of a group), the nearest first, and not without end."""
    queue, seen = deque([exc]), 0
    while queue and seen < _MOST_LINKS:
        link = queue.popleft()
        seen += 1
        yield link
        queue.extend(behind for behind in (link.__cause__, link.__context__) if behind is not None)
        if hasattr(type(link), "exceptions") and _is_group(link):
            queue.extend(link.exceptions)  # type: ignore[attr-defined]


def _is_group(exc: BaseException) -> bool:
    # by name: the type is built in from Python 3.11 on, and comes from a package (anyio needs it) before
    return any(base.__name__ == "BaseExceptionGroup" for base in type(exc).__mro__)
