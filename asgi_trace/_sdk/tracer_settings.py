"""What all spans of one tracer share, found out once and not for each span.

The SDK gives every span its own references to the resource, the scope, the limits and the processors, and asks the
sampler, the id generator and each processor every time. Here a span has one reference to its tracer's settings. They
say which of those questions have an answer that is known: a standard sampler, the random id generator, processors that
do nothing when a span starts. A tracer makes new settings when one of its own fields is set, or when a processor was
added to its provider, which one comparison of identities shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace import _tracer_metrics
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import TraceFlags

from .attributes import AttributeLimits
from .sampler_thresholds import LOW_BITS, REMOTE, Thresholds, thresholds

SAMPLED = int(TraceFlags.SAMPLED)
RANDOM = int(getattr(TraceFlags, "RANDOM_TRACE_ID", 0))  # 0 before API 1.42, which does not know it
FLAGS = tuple(TraceFlags(number) for number in range(1 + SAMPLED + RANDOM))

MOST_FACTS = 16
"""More than facts become attributes, and as many attributes may be added before the facts have become some."""

_NO_METRICS = getattr(_tracer_metrics, "NoOpTracerMetrics", None)
"""What counts nothing. None before SDK 1.42, where spans are always counted."""
_GENERATE = RandomIdGenerator.generate_trace_id, RandomIdGenerator.generate_span_id


class TracerSettings:
    """The settings of one tracer at one moment. No field changes after the constructor."""

    __slots__ = (
        "attribute_limits",
        "follows_sampled",
        "follows_unsampled",
        "instrumentation_info",
        "instrumentation_scope",
        "limits",
        "multi_processor",
        "on_end",
        "processors",
        "quiet_start",
        "resource",
        "room",
        "sampler",
        "span_processor",
        "starts_from_facts",
        "takes_facts",
        "thresholds",
        "tracer_config",
        "uncleaned",
    )

    resource: Any
    instrumentation_info: Any
    instrumentation_scope: Any
    sampler: Any
    span_processor: Any
    limits: Any

    attribute_limits: AttributeLimits
    room: int
    """How many attributes a span may have."""
    uncleaned: frozenset[type]
    """Types of attribute values that are kept as they are."""

    thresholds: Thresholds | None
    """The sampler's decisions, where all that matters is known beforehand: the sampler, the ids, no metrics."""
    tracer_config: Any
    """Says whether the tracer is switched on. Read here, since a field of the SDK's object takes longer to read."""
    follows_sampled: bool
    """Whether the sampler takes every span whose remote parent is sampled."""
    follows_unsampled: bool
    """Whether the sampler drops every span whose remote parent is not sampled."""
    takes_facts: bool
    """Whether a span may be kept as facts: all of these attributes fit in, and none is cut."""

    multi_processor: Any
    processors: Any
    """The processors that the next three are about, as long as they are `multi_processor._span_processors`."""
    quiet_start: bool
    """Whether no processor does anything when a span starts."""
    starts_from_facts: bool
    """Both: whether a span that is kept as facts may start."""
    on_end: Callable[[Any], object] | None
    """Takes a sampled span that has ended. None: the SDK's own way, through every processor.

    It is the attribute `take_live` of the one processor that does anything at the end of a span, if that has one.
    Such a processor takes our spans as they are, without a copy that is a `ReadableSpan` and no more.
    """

    def __init__(self, tracer: Any) -> None:
        self.resource = tracer.resource
        self.instrumentation_info = tracer.instrumentation_info
        self.instrumentation_scope = tracer._instrumentation_scope
        self.sampler = tracer.sampler
        self.span_processor = tracer.span_processor
        self.limits = limits = tracer._span_limits
        self.attribute_limits = AttributeLimits(limits.max_span_attributes, limits.max_span_attribute_length)
        self.room, self.uncleaned = self.attribute_limits.room, self.attribute_limits.uncleaned
        uncounted = type(tracer._tracer_metrics) is _NO_METRICS
        known = uncounted and _has_random_ids(tracer.id_generator)
        self.thresholds = thresholds(tracer.sampler) if known else None
        self.tracer_config = tracer._tracer_config
        self.follows_sampled = self.thresholds is not None and self.thresholds[REMOTE + SAMPLED] > LOW_BITS
        self.follows_unsampled = self.thresholds is not None and self.thresholds[REMOTE] == 0
        self.takes_facts = self.thresholds is not None and str in self.uncleaned and self.room >= 2 * MOST_FACTS
        self._look_at_processors(tracer.span_processor)
        self.starts_from_facts = self.takes_facts and self.quiet_start
        if not uncounted:
            self.on_end = None

    def replaced(self, **fields: Any) -> TracerSettings:
        """A copy with other values."""
        copied = TracerSettings.__new__(TracerSettings)
        for name in TracerSettings.__slots__:
            setattr(copied, name, fields.get(name, getattr(self, name)))
        return copied

    def _look_at_processors(self, multi_processor: Any) -> None:
        if type(multi_processor) is not sdk.SynchronousMultiSpanProcessor:
            self.multi_processor, self.processors = _UNKNOWN, _UNKNOWN._span_processors
            self.quiet_start, self.on_end = False, None
            return
        self.multi_processor = multi_processor
        self.processors = processors = multi_processor._span_processors
        self.quiet_start = all(_does_nothing(each, "on_start") for each in processors)
        self.on_end = None
        if all(_does_nothing(each, "_on_ending") for each in processors):
            busy = [each for each in processors if not _does_nothing(each, "on_end")]
            if not busy:
                self.on_end = _ignore
            elif len(busy) == 1:
                self.on_end = getattr(busy[0], "take_live", None)


class _Unknown:
    _span_processors: tuple[()] = ()


_UNKNOWN = _Unknown()
"""Stands for a processor of processors that is not the SDK's standard one: what it holds is never looked at."""


def _has_random_ids(generator: Any) -> bool:
    """Whether ids are the SDK's own random ones, so that `random.getrandbits` gives what the generator would give."""
    kind = type(generator)
    return (
        kind is RandomIdGenerator
        and (kind.generate_trace_id, kind.generate_span_id) == _GENERATE
        and not vars(generator)
        and generator.is_trace_id_random() is True
    )


def _documented() -> None:
    """Does nothing."""


def _undocumented() -> None:
    pass


_EMPTY = {_documented.__code__.co_code, _undocumented.__code__.co_code}
"""The bytecode of functions that return a constant and do nothing else."""


def _ignore(span: Any) -> None:
    """No processor does anything with a span that has ended."""


def _does_nothing(processor: Any, name: str) -> bool:
    """Whether a processor's method is empty, as those are that a class inherits from the SDK's base class."""
    if name in getattr(processor, "__dict__", ()):
        return False
    code = getattr(getattr(type(processor), name, None), "__code__", None)
    return code is not None and code.co_code in _EMPTY
