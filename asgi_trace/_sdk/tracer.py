"""A provider and a tracer that do what the SDK's do, and start spans in a fraction of the time.

The provider is the SDK's in everything but the class of its tracers, and a tracer is the SDK's in everything but
`start_span`: that asks the same questions in the same order (parent, id generator, sampler, metrics, processors). A
call that is out of the ordinary is left to the SDK's own method.
"""

from __future__ import annotations

from collections.abc import Sequence
from time import time_ns
from types import MappingProxyType
from typing import Any

from opentelemetry.context import Context, get_current
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.trace.sampling import Decision, Sampler
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    get_current_span,
)
from opentelemetry.trace import Tracer as APITracer
from opentelemetry.util.types import Attributes

from .._otel.api import SPAN_KEY
from .attributes import AttributeLimits
from .sampler_thresholds import LOCAL, LOW_BITS, REMOTE, Thresholds, thresholds
from .span import _Span, new_span
from .span_check import same_as_sdk

_SAMPLED = int(TraceFlags.SAMPLED)
_RANDOM = int(getattr(TraceFlags, "RANDOM_TRACE_ID", 0))  # 0 before API 1.42, which does not know it
_NO_STATE = INVALID_SPAN_CONTEXT.trace_state
_TOO_LARGE = 1 << 128
_new_tuple: Any = tuple.__new__  # what the constructor of a span context comes to, without its checks
_FLAGS = tuple(TraceFlags(number) for number in range(1 + _SAMPLED + _RANDOM))


class Tracer(sdk.Tracer):
    """See `opentelemetry.sdk.trace.Tracer`."""

    _attribute_limits: AttributeLimits
    _known_sampler: Sampler | None
    """The sampler whose decisions `_thresholds` holds, if there is one."""
    _thresholds: Thresholds

    def start_span(
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
    ) -> Span:
        """See `opentelemetry.trace.Tracer`."""
        current: Any = (get_current() if context is None else context).get(SPAN_KEY)
        if type(current) is not _Span and type(current) is not NonRecordingSpan:  # spares an ABC's `isinstance`
            current = get_current_span(context)
        parent: Any = current.get_span_context()
        unusual = type(parent) is not SpanContext or (not links and type(links) is not tuple)
        if unusual or not self._is_enabled():
            return super().start_span(
                name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
            )
        trace_id, _, is_remote, flags, trace_state, is_valid = parent
        branch = (REMOTE if is_remote else LOCAL) + (flags & _SAMPLED)
        if not is_valid:
            branch = 0
            parent = trace_state = None
            trace_id = self.id_generator.generate_trace_id()

        if self.sampler is self._known_sampler:
            recording = sampled = trace_id & LOW_BITS < self._thresholds[branch]
            decision = Decision.RECORD_AND_SAMPLE if sampled else Decision.DROP
            if attributes is not None and type(attributes) is not dict and sampled:
                attributes = MappingProxyType(attributes)  # as in a sampler's result; raises for what is no mapping
        else:
            result: Any = self.sampler.should_sample(context, trace_id, name, kind, attributes, links)
            decision, attributes, trace_state = result.decision, result.attributes, result.trace_state
            recording, sampled = decision.is_recording(), decision.is_sampled()

        span_context = self._new_context(trace_id, parent, sampled, trace_state)
        ended = self._tracer_metrics.start_span(parent, decision)
        if not recording:
            return NonRecordingSpan(span_context)
        span = new_span(
            self,
            name,
            span_context,
            parent,
            kind,
            attributes,
            links or (),
            record_exception,
            set_status_on_exception,
            ended,
        )
        span._start_time = time_ns() if start_time is None else start_time
        self.span_processor.on_start(span, parent_context=context)
        return span

    def _new_context(self, trace_id: int, parent: Any, sampled: bool, trace_state: Any) -> SpanContext:
        """The context of a new span, asked of the id generator in the SDK's order."""
        generator = self.id_generator
        is_random = _RANDOM and (generator.is_trace_id_random() if parent is None else parent.trace_flags & _RANDOM)
        flags = _FLAGS[(_SAMPLED if sampled else 0) + (_RANDOM if is_random else 0)]
        span_id = generator.generate_span_id()
        if 0 < span_id <= LOW_BITS and 0 < trace_id < _TOO_LARGE:
            state = _NO_STATE if trace_state is None else trace_state
            made: SpanContext = _new_tuple(SpanContext, (trace_id, span_id, False, flags, state, True))
            return made
        return SpanContext(trace_id, span_id, False, flags, trace_state)


class TracerProvider(sdk.TracerProvider):
    """See `opentelemetry.sdk.trace.TracerProvider`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        same_as_sdk(adopt)  # now, and not during the first request

    def get_tracer(self, *args: Any, **kwargs: Any) -> APITracer:
        """See `opentelemetry.trace.TracerProvider`."""
        tracer = super().get_tracer(*args, **kwargs)
        if type(tracer) is sdk.Tracer and same_as_sdk(adopt):
            return adopt(tracer)
        return tracer


def adopt(tracer: sdk.Tracer) -> Tracer:
    """Make the SDK's tracer one of ours. It stays the same object, since its provider goes on to configure it."""
    adopted: Any = tracer
    limits = adopted._span_limits
    adopted._attribute_limits = AttributeLimits(limits.max_span_attributes, limits.max_span_attribute_length)
    known = thresholds(tracer.sampler)
    adopted._known_sampler, adopted._thresholds = (None, ()) if known is None else (tracer.sampler, known)
    adopted.__class__ = Tracer
    ours: Tracer = adopted
    return ours
