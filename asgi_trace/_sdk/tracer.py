"""A provider and a tracer that do what the SDK's do, and start spans in a fraction of the time.

The provider is the SDK's in everything but the class of its tracers, and a tracer is the SDK's in everything but
`start_span`: that asks the same questions in the same order (parent, id generator, sampler, metrics, processors). A
call that is out of the ordinary is handed back to the SDK.
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

from .._propagation.propagator import SPAN_KEY
from .attributes import Bounds
from .sampler_thresholds import LOCAL, LOW_BITS, REMOTE, Thresholds, thresholds
from .span import _Span, new_span
from .span_check import are_twins

_SAMPLED = int(TraceFlags.SAMPLED)
_RANDOM = int(getattr(TraceFlags, "RANDOM_TRACE_ID", 0))  # 0 where the API does not know it: before 1.42
_NO_STATE = INVALID_SPAN_CONTEXT.trace_state
_TOO_LARGE = 1 << 128
_new_tuple: Any = tuple.__new__  # what the constructor of a span context comes to
_FLAGS = tuple(TraceFlags(number) for number in range(1 + _SAMPLED + _RANDOM))


class Tracer(sdk.Tracer):
    """See `opentelemetry.sdk.trace.Tracer`."""

    _bounds: Bounds
    _foreseen: Sampler | None
    """The sampler whose answers are known beforehand, if they are."""
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
        odd = type(parent) is not SpanContext or (not links and type(links) is not tuple)
        if odd or not self._is_enabled():
            return super().start_span(
                name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception
            )
        generator = self.id_generator
        trace_id, _, is_remote, flags, trace_state, is_valid = parent
        if is_valid:
            branch = (REMOTE if is_remote else LOCAL) + (flags & _SAMPLED)
        else:
            branch = 0
            parent = trace_state = None
            trace_id = generator.generate_trace_id()

        sampler = self.sampler
        if sampler is self._foreseen:
            recording = sampled = trace_id & LOW_BITS < self._thresholds[branch]
            decision = Decision.RECORD_AND_SAMPLE if sampled else Decision.DROP
            if attributes is not None and type(attributes) is not dict and sampled:
                attributes = MappingProxyType(attributes)  # as in a sampler's result; refuses what is no mapping
        else:
            result: Any = sampler.should_sample(context, trace_id, name, kind, attributes, links)
            decision, attributes, trace_state = result.decision, result.attributes, result.trace_state
            recording, sampled = result.decision.is_recording(), result.decision.is_sampled()

        is_random = _RANDOM and (generator.is_trace_id_random() if parent is None else flags & _RANDOM)
        flags = _FLAGS[(_SAMPLED if sampled else 0) + (_RANDOM if is_random else 0)]
        span_id = generator.generate_span_id()
        if 0 < span_id <= LOW_BITS and 0 < trace_id < _TOO_LARGE:
            state = _NO_STATE if trace_state is None else trace_state
            span_context = _new_tuple(SpanContext, (trace_id, span_id, False, flags, state, True))
        else:
            span_context = SpanContext(trace_id, span_id, False, flags, trace_state)
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


class TracerProvider(sdk.TracerProvider):
    """See `opentelemetry.sdk.trace.TracerProvider`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        are_twins(adopted)  # now, and not within the first request

    def get_tracer(self, *args: Any, **kwargs: Any) -> APITracer:
        """See `opentelemetry.trace.TracerProvider`."""
        tracer = super().get_tracer(*args, **kwargs)
        if type(tracer) is sdk.Tracer and are_twins(adopted):
            return adopted(tracer)
        return tracer


def adopted(tracer: sdk.Tracer) -> Tracer:
    """That very tracer, since its provider goes on to know it, as one of ours."""
    found: Any = tracer
    limits = found._span_limits
    found._bounds = Bounds(limits.max_span_attributes, limits.max_span_attribute_length)
    known = thresholds(tracer.sampler)
    found._foreseen, found._thresholds = (None, ()) if known is None else (tracer.sampler, known)
    found.__class__ = Tracer
    ours: Tracer = found
    return ours
