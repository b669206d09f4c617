"""A span with the state of the SDK's own, made in a fraction of the time.

It is a subclass that skips the constructor: lists that most spans never need are made at the first read. Starting,
ending, events, links, status and exceptions are the SDK's own methods, inherited. A method is written here only because
it is called for every span, and it hands anything unusual to the SDK's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from opentelemetry.sdk import trace as sdk
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode

from .attributes import LazyField, SpanAttributes, need_no_cleaning

_new = object.__new__
_UNSET = Status(StatusCode.UNSET)
_NOTHING: tuple[Any, ...] = ()


def _events(span: Any) -> object:
    span._listed = True
    return span._new_events()


def _links(span: Any) -> object:
    span._listed = True
    return span._new_links(())


class _Span(sdk._Span):  # has the SDK's name as well, since `repr()` shows it
    _trace_config = None
    _status = _UNSET
    _events: Any = LazyField(_events)
    _links: Any = LazyField(_links)
    _listed = False
    """Whether there is a list of events or links."""

    def set_attribute(self, key: str, value: Any) -> None:
        """See `opentelemetry.trace.Span`."""
        attributes = self._attributes
        if type(attributes) is SpanAttributes and type(value) in attributes.uncleaned and type(key) is str and key:
            with self._lock:
                values = attributes._dict
                if self._end_time is None and len(values) < attributes.room:
                    values.pop(key, None)  # an attribute that is set again moves to the end, as in the SDK
                    values[key] = value
                    return
        super().set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """See `opentelemetry.trace.Span`."""
        own = self._attributes
        if type(attributes) is dict and type(own) is SpanAttributes:
            given = attributes.copy()  # the copy is checked: another thread may change the original meanwhile
            if need_no_cleaning(given, own.uncleaned):
                with self._lock:
                    values = own._dict
                    if self._end_time is None and len(values) + len(given) <= own.room:
                        for key, value in given.items():
                            values.pop(key, None)
                            values[key] = value
                        return
        super().set_attributes(attributes)

    def update_name(self, name: str) -> None:
        """See `opentelemetry.trace.Span`."""
        with self._lock:
            if self._end_time is None:
                self._name = name
                return
        super().update_name(name)

    def _readable_span(self) -> sdk.ReadableSpan:
        made = _new(sdk.ReadableSpan)
        made._name = self._name
        made._context = self._context
        made._parent = self._parent
        made._kind = self._kind
        made._resource = self._resource
        made._attributes = self._attributes
        made._events = self._events if self._listed else _NOTHING
        made._links = self._links if self._listed else _NOTHING
        made._status = self._status
        made._start_time = self._start_time
        made._end_time = self._end_time
        made._instrumentation_info = self._instrumentation_info
        made._instrumentation_scope = self._instrumentation_scope
        return made


def new_span(
    tracer: Any,  # ours: its class imports this module
    name: str,
    context: SpanContext,
    parent: SpanContext | None,
    kind: SpanKind,
    attributes: Mapping[str, Any] | None,
    links: Sequence[Link],
    record_exception: bool,
    set_status_on_exception: bool,
    record_end_metrics: Callable[[], None] | None,
) -> _Span:
    """A span that has not started yet: what the SDK's constructor does."""
    span = _new(_Span)
    span._name = name
    span._context = context
    span._kind = kind
    span._parent = parent
    span._start_time = None
    span._end_time = None
    span._resource = tracer.resource
    span._instrumentation_info = tracer.instrumentation_info
    span._instrumentation_scope = tracer._instrumentation_scope
    span._sampler = tracer.sampler
    span._record_exception = record_exception
    span._set_status_on_exception = set_status_on_exception
    span._span_processor = tracer.span_processor
    span._limits = tracer._span_limits
    span._lock = threading.Lock()
    span._attributes = tracer._attribute_limits.attributes(attributes)
    span._record_end_metrics = record_end_metrics
    if links:
        span._listed = True
        span._links = span._new_links(links)
    return span
