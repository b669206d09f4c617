"""What the SDK's standard samplers will say, worked out beforehand.

Five of its samplers decide by nothing but the parent's flags and the number of the trace. Their answer for each kind of
parent is written down as a threshold, so that a span needs one comparison in place of three calls. Every other sampler,
a subclass of these too, is asked each time.
"""

from __future__ import annotations

from typing import Any, cast

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

Thresholds = tuple[int, int, int, int, int]
"""What the low 64 bits of a sampled trace's number are less than: for a root, for a local parent that is not sampled,
for one that is, and for a remote parent likewise."""

LOW_BITS = (1 << 64) - 1
LOCAL, REMOTE = 1, 3
_BRANCHES = (
    "_root",
    "_local_parent_not_sampled",
    "_local_parent_sampled",
    "_remote_parent_not_sampled",
    "_remote_parent_sampled",
)
_STATE = TraceState([("key", "value")])
_PARENTS = (
    INVALID_SPAN_CONTEXT,
    *(SpanContext(1, 2, remote, TraceFlags(flags), _STATE) for remote in (False, True) for flags in (0, 1)),
)


def thresholds(sampler: Sampler) -> Thresholds | None:
    """The thresholds of a sampler, or None when it has to be asked."""
    if type(sampler) is ParentBased:
        found = tuple(_threshold(getattr(sampler, branch, None)) for branch in _BRANCHES)
    else:
        found = (_threshold(sampler),) * len(_BRANCHES)
    if None in found or not all(_holds(sampler, *each) for each in zip(_PARENTS, found)):  # noqa: B905
        return None
    return cast(Thresholds, found)


def _threshold(sampler: Sampler | None) -> int | None:
    if sampler is ALWAYS_ON:
        return LOW_BITS + 1
    if sampler is ALWAYS_OFF:
        return 0
    return sampler.bound if type(sampler) is TraceIdRatioBased else None


def _holds(sampler: Sampler, parent: SpanContext, threshold: Any) -> bool:
    """Does the sampler itself say so, on both sides of the threshold?"""
    context = set_span_in_context(NonRecordingSpan(parent), Context())
    for number in (0, threshold - 1, threshold, LOW_BITS):
        if 0 <= number <= LOW_BITS:
            result: Any = sampler.should_sample(context, 1 << 64 | number, "name", SpanKind.SERVER, {"a": 1}, ())
            decision = Decision.RECORD_AND_SAMPLE if number < threshold else Decision.DROP
            attributes = {"a": 1} if number < threshold else {}
            state = parent.trace_state if parent.is_valid else None
            if (result.decision, result.attributes, result.trace_state) != (decision, attributes, state):
                return False
    return True
