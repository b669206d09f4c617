"""The context and the span of a request that is to leave no trace.

What is made below that span is not recorded either, and what the caller sent is passed on to outgoing calls. Most
health checks never look into their context, so the caller's headers are read, and ids made, at the first look.
"""

from __future__ import annotations

from random import getrandbits

from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, TraceFlags

from .._otel.api import SPAN_KEY
from .._otel.unread import filled_at_first_look
from .._propagation.propagator import Propagation
from .._types import Headers

_RANDOM = 2  # W3C 3.2.2.5.2; older APIs have no name for it


class ExcludedSpan(NonRecordingSpan):
    """An unsampled span."""

    def __repr__(self) -> str:
        return f"ExcludedSpan({self.get_span_context()!r})"


class ExcludedContext(Context):
    """The context of an excluded request: an `ExcludedSpan`, and what else the caller sent."""

    __slots__ = ("headers", "propagation")
    propagation: Propagation | None
    """Finds the caller in `headers`; None: it is not trusted, and the span belongs to a new trace."""
    headers: Headers


def _read(context: ExcludedContext) -> None:
    if type(context) is ExcludedContext:  # another thread was first
        return
    caller: dict[str, object] = {}
    parent = None
    if context.propagation is not None:
        try:
            caller = dict(context.propagation.extract(dict(context.headers), context.headers))
            remote = caller.pop(SPAN_KEY, None)
            parent = remote.get_span_context() if isinstance(remote, Span) else None
        except Exception:  # noqa: S110 - headers that are not bytes: an excluded request is not worth a report
            pass
    dict.update(context, caller)
    # setdefault() is one atomic step, so that all threads see the same span.
    dict.setdefault(context, SPAN_KEY, ExcludedSpan(_unsampled(parent)))
    context.__class__ = ExcludedContext


@filled_at_first_look(_read)
class UnreadContext(ExcludedContext):
    """The same, as long as nothing has looked into it."""

    __slots__ = ()


def _unsampled(caller: SpanContext | None) -> SpanContext:
    """A span in the caller's trace with the sampled flag off, or in a new trace."""
    span_id = getrandbits(64) or 1
    if caller is None or not caller.is_valid:
        return SpanContext(getrandbits(128) or 1, span_id, False, TraceFlags(_RANDOM))
    flags = TraceFlags(caller.trace_flags & _RANDOM)  # a continued trace keeps its random bit (W3C 3.2.2.5.2)
    return SpanContext(caller.trace_id, span_id, False, flags, caller.trace_state)
