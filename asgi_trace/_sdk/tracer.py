"""A provider and a tracer that do what the SDK's do, and start spans in a fraction of the time.

The provider is the SDK's in everything but the class of its tracers, and a tracer is the SDK's in everything but
`start_span`: that asks the same questions in the same order (parent, id generator, sampler, metrics, processors). A
call that is out of the ordinary is left to the SDK's own method.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import getrandbits
from time import time_ns
from types import MappingProxyType
from typing import Any

from opentelemetry.context import Context, get_current
from opentelemetry.sdk import trace as sdk
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    get_current_span,
)
from opentelemetry.trace import Tracer as APITracer
from opentelemetry.util.types import Attributes

from .._otel.api import SPAN_KEY
from .._propagation.traceparent import RemoteParent, remote_trace_id
from .current_span import CurrentSpan
from .sampler_thresholds import LOCAL, LOW_BITS, REMOTE
from .span import NO_STATE, UNSET, _Span, new_span
from .span_check import same_as_sdk
from .tracer_settings import FLAGS, RANDOM, SAMPLED, TracerSettings
from .unsampled_span import UnsampledSpan

_new = object.__new__
_TOO_LARGE = 1 << 128
_new_tuple: Any = tuple.__new__  # what the constructor of a span context comes to, without its checks


class Tracer(sdk.Tracer):
    """See `opentelemetry.sdk.trace.Tracer`."""

    _settings: TracerSettings | None
    """None until they are needed. Without a default in the class, which would make it three times as slow to read."""
    facts_span = _Span
    """The class of what `start_from_facts` returns where the span is recorded."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a field, of which `_settings` may say something else."""
        super().__setattr__(name, value)
        super().__setattr__("_settings", None)

    def _current_settings(self) -> TracerSettings:
        settings = self._settings
        if settings is None or settings.multi_processor._span_processors is not settings.processors:
            settings = TracerSettings(self)
            super().__setattr__("_settings", settings)
        return settings

    # Longer than other functions: each step that became one of its own took every span 600 instructions of 9,000.
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
        settings = self._settings
        if settings is None or settings.multi_processor._span_processors is not settings.processors:
            settings = self._current_settings()
        known = settings.thresholds
        if (
            known is None
            or type(parent) is not SpanContext
            or (not links and type(links) is not tuple)
            or not settings.tracer_config.is_enabled
        ):
            return self._start_asking(
                settings,
                parent,
                (name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception),
            )
        if parent[5]:  # is_valid
            trace_id = parent[0]
            limit = known[(REMOTE if parent[2] else LOCAL) + (parent[3] & SAMPLED)]
        else:
            parent = None
            trace_id = getrandbits(128) or self.id_generator.generate_trace_id()
            limit = known[0]
        if trace_id & LOW_BITS >= limit:
            return NonRecordingSpan(self._new_context(trace_id, parent, False, None if parent is None else parent[4]))
        if attributes is not None and type(attributes) is not dict:
            attributes = MappingProxyType(attributes)  # as in a sampler's result; raises for what is no mapping
        span = new_span(settings, name, parent, kind, attributes, start_time)
        span._trace_id = trace_id
        span._span_id = getrandbits(64) or self.id_generator.generate_span_id()
        if links:
            span._links = span._new_links(links)
        if not (record_exception and set_status_on_exception):
            span._record_exception = record_exception
            span._set_status_on_exception = set_status_on_exception
        if not settings.quiet_start:
            self.span_processor.on_start(span, parent_context=context)
        return span

    def start_unsampled(self, remote: RemoteParent) -> UnsampledSpan | None:
        """The span of a request whose caller has not sampled it, where the sampler follows in every such case."""
        settings = self._settings
        if settings is None or settings.multi_processor._span_processors is not settings.processors:
            settings = self._current_settings()
        if not (settings.follows_unsampled and settings.tracer_config.is_enabled):
            return None
        span = _new(UnsampledSpan)
        span._remote = remote
        return span

    # As start_span(). The slots are filled here, since new_span() would be one more call with nine arguments.
    def start_from_facts(self, name: str, kind: SpanKind, received: Any, facts: Any, start_time: int | None) -> Any:
        """Start the span of a request that `facts` describe. None: it has to be started in the usual way.

        `received` is what the caller sent: the parts of a `traceparent`, or a Context. Facts that are None may follow,
        by the span's `keep()`. The span records exceptions and sets its status only when told to.
        """
        settings = self._settings
        if settings is None or settings.multi_processor._span_processors is not settings.processors:
            settings = self._current_settings()
        if not (settings.starts_from_facts and settings.tracer_config.is_enabled):
            return None
        known: Any = settings.thresholds
        remote = parent = None
        trace_id = 0
        if type(received) is tuple:
            remote = received
            if not (remote[1] & SAMPLED and settings.follows_sampled):
                limit = known[REMOTE + (remote[1] & SAMPLED)]
                if limit <= LOW_BITS and remote_trace_id(remote) & LOW_BITS >= limit:
                    unsampled = _new(UnsampledSpan)
                    unsampled._remote = remote
                    return unsampled
        else:
            if received:
                current: Any = received.get(SPAN_KEY)
                if type(current) is not _Span and type(current) is not NonRecordingSpan:  # as in start_span()
                    current = get_current_span(received)
                parent = current.get_span_context()
                if type(parent) is not SpanContext:
                    return None
            if parent is not None and parent[5]:  # is_valid
                trace_id = parent[0]
                limit = known[(REMOTE if parent[2] else LOCAL) + (parent[3] & SAMPLED)]
            else:
                parent = None
                trace_id = getrandbits(128) or self.id_generator.generate_trace_id()
                limit = known[0]
            if limit <= LOW_BITS and trace_id & LOW_BITS >= limit:
                state = None if parent is None else parent[4]
                return NonRecordingSpan(self._new_context(trace_id, parent, False, state))
        span = _new(_Span)
        span._remote = remote
        span._made_parent = parent
        span._trace_id = trace_id
        span._span_id = getrandbits(64) or self.id_generator.generate_span_id()
        span._settings = settings
        span._name = name
        span._kind = kind
        span._status = UNSET
        span._listed = False
        span._open = True
        span._made_lock = None
        span._facts = facts
        span._values = {}
        span._last = span._made_context = span._made_attributes = None
        span._start_time = start_time or time_ns()
        span._end_time = None  # pyright: ignore[reportAttributeAccessIssue]
        return span

    def drops_below(self, parent: Any) -> bool:
        """Whether a child of this unsampled span is dropped whatever it is. False: it has to be started to know.

        For what starts a span at each call of a function: starting an unsampled child, which nothing needs, takes
        12,000 instructions, and this question 2,000.
        """
        kind = type(parent)
        if kind is NonRecordingSpan:
            context: Any = parent.get_span_context()
            if type(context) is not SpanContext or context[3] & SAMPLED or not context[5]:  # is_valid
                return False
        elif kind is not UnsampledSpan:
            return False
        settings = self._settings
        if settings is None or settings.multi_processor._span_processors is not settings.processors:
            settings = self._current_settings()
        known = settings.thresholds
        if known is None or not settings.tracer_config.is_enabled:
            return False
        if kind is UnsampledSpan:  # its context is not made for this question
            return known[LOCAL] == 0
        # Bound: the kind of the parent is the same two tests ago.
        return bool(context[0] & LOW_BITS >= known[REMOTE if context[2] else LOCAL])  # pyright: ignore

    def _start_asking(self, settings: TracerSettings, parent: Any, arguments: tuple[Any, ...]) -> Span:
        """Start a span whose sampler, ids or metrics have to be asked, in the SDK's order."""
        name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception = arguments
        unusual = type(parent) is not SpanContext or (not links and type(links) is not tuple)
        if unusual or not self._is_enabled():
            return super().start_span(*arguments)
        trace_id = parent.trace_id
        if not parent.is_valid:
            parent = None
            trace_id = self.id_generator.generate_trace_id()
        result: Any = self.sampler.should_sample(context, trace_id, name, kind, attributes, links)
        span_context = self._new_context(trace_id, parent, result.decision.is_sampled(), result.trace_state)
        ended = self._tracer_metrics.start_span(parent, result.decision)
        if not result.decision.is_recording():
            return NonRecordingSpan(span_context)
        if not span_context.trace_flags & SAMPLED:  # recorded, but not for those who take sampled spans only
            settings = settings.replaced(on_end=None)
        span = new_span(settings, name, parent, kind, result.attributes, start_time)
        span._made_context = span_context
        span._trace_id, span._span_id = span_context.trace_id, span_context.span_id
        span._record_exception = record_exception
        span._set_status_on_exception = set_status_on_exception
        span._record_end_metrics = ended  # pyright: ignore[reportAttributeAccessIssue]
        if links:
            span._links = span._new_links(links)
        self.span_processor.on_start(span, parent_context=context)
        return span

    def _new_context(self, trace_id: int, parent: Any, sampled: bool, trace_state: Any) -> SpanContext:
        """The context of a new span, asked of the id generator in the SDK's order."""
        generator = self.id_generator
        is_random = RANDOM and (generator.is_trace_id_random() if parent is None else parent.trace_flags & RANDOM)
        flags = FLAGS[(SAMPLED if sampled else 0) + (RANDOM if is_random else 0)]
        span_id = generator.generate_span_id()
        if 0 < span_id <= LOW_BITS and 0 < trace_id < _TOO_LARGE:
            state = NO_STATE if trace_state is None else trace_state
            made: SpanContext = _new_tuple(SpanContext, (trace_id, span_id, False, flags, state, True))
            return made
        return SpanContext(trace_id, span_id, False, flags, trace_state)

    def start_as_current_span(  # type: ignore[override]
        self,
        name: str,
        context: Context | None = None,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Attributes = None,
        links: Sequence[Link] | None = (),
        start_time: int | None = None,
        record_exception: bool = True,
        set_status_on_exception: bool = True,
        end_on_exit: bool = True,
    ) -> CurrentSpan:
        """See `opentelemetry.trace.Tracer`."""
        arguments = (name, context, kind, attributes, links, start_time, record_exception, set_status_on_exception)
        return CurrentSpan(self.start_span, arguments, end_on_exit)


class TracerProvider(sdk.TracerProvider):
    """See `opentelemetry.sdk.trace.TracerProvider`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        same_as_sdk(adopt)  # now, and not during the first request

    def get_tracer(self, *args: Any, **kwargs: Any) -> APITracer:
        """See `opentelemetry.trace.TracerProvider`."""
        return fast_tracer(super().get_tracer(*args, **kwargs))


def fast_tracer(tracer: APITracer) -> APITracer:
    """The same tracer as one of ours, where it is the SDK's own and its spans are as expected; else as it is."""
    return adopt(tracer) if type(tracer) is sdk.Tracer and same_as_sdk(adopt) else tracer


def adopt(tracer: sdk.Tracer) -> Tracer:
    """Make the SDK's tracer one of ours. It stays the same object, since its provider goes on to configure it."""
    adopted: Any = tracer
    adopted.__class__ = Tracer
    adopted._settings = None
    ours: Tracer = adopted
    return ours
