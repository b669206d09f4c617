"""The span of a request that its caller did not sample, whose context most requests never ask for."""

from __future__ import annotations

from random import getrandbits

from opentelemetry.trace import NonRecordingSpan, SpanContext

from .._propagation.traceparent import RemoteParent, remote_span_context
from .tracer_settings import FLAGS, RANDOM


class UnsampledSpan(NonRecordingSpan):
    """What `NonRecordingSpan` is; its context, with a new span id in the caller's trace, is made at the first look.

    The tracer skips the constructor, which takes as long as all the rest.
    """

    __slots__ = ("_remote",)

    def __init__(self, remote: RemoteParent) -> None:
        self._remote = remote

    def get_span_context(self) -> SpanContext:
        """See `opentelemetry.trace.Span`."""
        if "_context" not in self.__dict__:
            caller = remote_span_context(self._remote)
            flags = FLAGS[caller.trace_flags & RANDOM]
            made = SpanContext(caller.trace_id, getrandbits(64) or 1, False, flags, caller.trace_state)
            vars(self).setdefault("_context", made)  # one step, so that all threads see the same ids
        return self._context

    def __repr__(self) -> str:
        return f"NonRecordingSpan({self.get_span_context()!r})"
