"""The span of a request that is to leave no trace: never recorded, and given ids only when they are asked for."""

from __future__ import annotations

from random import getrandbits

from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, get_current_span

from .._propagation.propagator import Propagation
from .._types import Headers

_RANDOM = 2  # W3C 3.2.2.5.2; older APIs have no name for it


class ExcludedSpan(NonRecordingSpan):
    """An unsampled span: what is made below it is not recorded either.

    It belongs to the trace of the caller that `propagation` finds in `headers`, or to a new one. Most health checks
    never ask for the ids, so they are made at the first look.
    """

    _known: SpanContext | None = None

    def __init__(self, propagation: Propagation | None, headers: Headers) -> None:
        self._propagation = propagation
        self._headers = headers

    def get_span_context(self) -> SpanContext:
        """The caller's trace with the sampled flag off, or a new trace."""
        if self._known is None:
            self._known = _unsampled(self._caller())
        return self._known

    def _caller(self) -> SpanContext | None:
        if self._propagation is None:
            return None
        try:
            caller = get_current_span(self._propagation.extract(dict(self._headers), self._headers)).get_span_context()
        except Exception:  # of a propagator that is not ours: an excluded request is not worth a report
            return None
        return caller if caller.is_valid else None

    def __repr__(self) -> str:
        return f"ExcludedSpan({self.get_span_context()!r})"


def _unsampled(caller: SpanContext | None) -> SpanContext:
    span_id = getrandbits(64) or 1
    if caller is None:
        return SpanContext(getrandbits(128) or 1, span_id, False, TraceFlags(_RANDOM))
    flags = TraceFlags(caller.trace_flags & _RANDOM)  # a continued trace keeps its random bit (W3C 3.2.2.5.2)
    return SpanContext(caller.trace_id, span_id, False, flags, caller.trace_state)
