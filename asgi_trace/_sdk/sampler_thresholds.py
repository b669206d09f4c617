"""What the SDK's standard samplers will decide, worked out beforehand.

Five of its samplers decide by nothing but the parent's flags and the trace id. Their decision for each kind of parent
is written down as a threshold for the trace id, so that starting a span needs one comparison in place of three calls.
Every other sampler is asked each time: one of another class, a subclass of these five too, and one whose
`should_sample` was replaced on the instance or in its class.
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
    StaticSampler,
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
"""What the low 64 bits of a sampled trace's id are less than: for a root, for a local parent that is not sampled, for
one that is, and for a remote parent likewise."""

LOW_BITS = (1 << 64) - 1
LOCAL, REMOTE = 1, 3
"""Indices of `Thresholds` for a parent that is not sampled."""

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
_ORIGINAL: dict[type[Sampler], Any] = {
    kind: kind.should_sample for kind in (ParentBased, StaticSampler, TraceIdRatioBased)
}
"""The methods as the SDK defines them."""


def thresholds(sampler: Sampler) -> Thresholds | None:
    """The thresholds of a sampler, or None when it has to be asked."""
    if type(sampler) is ParentBased:
        found = tuple(_threshold(getattr(sampler, branch, None)) for branch in _BRANCHES)
    else:
        found = (_threshold(sampler),) * len(_BRANCHES)
    if None in found or not _is_original(sampler):
        return None
    if not all(_holds(sampler, *each) for each in zip(_PARENTS, found)):  # noqa: B905
        return None
    return cast(Thresholds, found)


def _threshold(sampler: Sampler | None) -> int | None:
    if sampler is None or not _is_original(sampler):
        return None
    if sampler is ALWAYS_ON:
        return LOW_BITS + 1
    if sampler is ALWAYS_OFF:
        return 0
    return sampler.bound if type(sampler) is TraceIdRatioBased else None


def _is_original(sampler: Sampler) -> bool:
    """Whether its decision is the SDK's own code. A replacement may decide by the name, which no trial would show."""
    original = _ORIGINAL.get(type(sampler))
    return type(sampler).should_sample is original and "should_sample" not in vars(sampler)


def _holds(sampler: Sampler, parent: SpanContext, threshold: Any) -> bool:
    """Whether the sampler decides as the threshold says, on both sides of it."""
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
