"""`Tracer.drops_below()`: the answer that starting a span would give, without starting one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    Span,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

from asgi_trace import _sdk as sdk
from asgi_trace._sdk.unsampled_span import UnsampledSpan


class Named(Sampler):
    """Records what is called "wanted", below any parent."""

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *args: Any, **kwargs: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_AND_SAMPLE if name == "wanted" else Decision.DROP)

    def get_description(self) -> str:
        return "named"


SAMPLERS: Sequence[Sampler] = [
    ALWAYS_ON,
    ALWAYS_OFF,
    ParentBased(ALWAYS_ON),
    ParentBased(ALWAYS_OFF),
    ParentBased(ALWAYS_ON, local_parent_not_sampled=ALWAYS_ON),
    ParentBased(ALWAYS_ON, local_parent_sampled=ALWAYS_OFF),
    ParentBased(ALWAYS_ON, remote_parent_not_sampled=TraceIdRatioBased(0.5)),
    TraceIdRatioBased(0.5),
]
TRACES = (0x1, 0xFFFF_FFFF_FFFF_FFFF)


def tracer_with(sampler: Sampler) -> Any:
    tracer: Any = sdk.TracerProvider(sampler=sampler, shutdown_on_exit=False).get_tracer("test")
    assert hasattr(tracer, "drops_below")
    return tracer


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.get_description())
@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("flags", [0, 1])
@pytest.mark.parametrize("trace_id", TRACES)
def test_it_says_what_the_start_would_do(sampler: Sampler, remote: bool, flags: int, trace_id: int) -> None:
    """For every standard sampler the answer is that of the start, where the parent is not sampled; else it is no."""
    tracer = tracer_with(sampler)
    parent = NonRecordingSpan(SpanContext(trace_id, 2, remote, TraceFlags(flags)))
    started = tracer.start_span("any", set_span_in_context(parent))
    assert tracer.drops_below(parent) is (flags == 0 and not started.is_recording())


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.get_description())
def test_it_knows_an_unsampled_request_without_making_its_ids(sampler: Sampler) -> None:
    """The span of a request that its caller did not sample stays without a context."""
    tracer = tracer_with(sampler)
    parent = UnsampledSpan((None, b"%032x" % 1, b"%016x" % 2, 0, None))
    dropped = tracer.drops_below(parent)
    assert "_context" not in vars(parent)
    below = NonRecordingSpan(SpanContext(1, 2, False, TraceFlags(0)))
    recorded = tracer.start_span("any", set_span_in_context(below)).is_recording()
    assert not (dropped and recorded)
    assert dropped or recorded or isinstance(sampler, TraceIdRatioBased)


def custom(span_context: SpanContext) -> Span:
    class Custom(NonRecordingSpan):
        """Another library's span."""

    return Custom(span_context)


UNSAMPLED = SpanContext(1, 2, False, TraceFlags(0))


@pytest.mark.parametrize(
    ("sampler", "parent"),
    [
        (Named(), NonRecordingSpan(UNSAMPLED)),
        (ParentBased(ALWAYS_ON), None),
        (ParentBased(ALWAYS_ON), INVALID_SPAN),
        (ParentBased(ALWAYS_ON), custom(UNSAMPLED)),
        (ParentBased(ALWAYS_OFF), object()),
    ],
)
def test_where_it_cannot_be_known_the_span_is_started(sampler: Sampler, parent: Any) -> None:
    """A sampler that has to be asked, a root, a span of an unknown class: the answer is no."""
    assert tracer_with(sampler).drops_below(parent) is False


def test_a_sampler_that_is_exchanged_counts() -> None:
    """As for a start."""
    tracer = tracer_with(ParentBased(ALWAYS_ON))
    parent = NonRecordingSpan(UNSAMPLED)
    assert tracer.drops_below(parent) is True
    tracer.sampler = ALWAYS_ON
    assert tracer.drops_below(parent) is False


def test_a_recorded_parent_is_no_reason() -> None:
    """Below a span that is recorded the start decides."""
    tracer = tracer_with(ParentBased(ALWAYS_ON))
    assert tracer.drops_below(tracer.start_span("parent")) is False
