"""Is a span of ours the twin of the SDK's own, whichever version is installed?

Our span writes private fields of the SDK's classes, so nothing is taken for granted: the same short story is told to
one tracer before and after it becomes ours, and everything that a sampler, an id generator or a processor could see of
it, and every field that the SDK gives a span, has to be equal. If anything is not, the SDK's own classes do the work.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, TraceFlags, TraceState
from opentelemetry.trace import set_span_in_context as in_context

from .._guard import logger

_COMPARED = (BoundedList, BoundedAttributes, Status, Link, NonRecordingSpan, sdk.Event, sdk.ReadableSpan)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_CALLER = SpanContext(1 << 127 | 5, 1 << 63 | 7, True, TraceFlags(3), TraceState([("key", "value")]))
_PLAIN: dict[str, Any] = {"text": "a", "empty": "", "whole": 1 << 70, "yes": True, "float": 0.5}
_RARE: dict[str, Any] = {**_PLAIN, "list": ["a", "b"]}


@cache
def are_twins(adopt: Callable[[sdk.Tracer], sdk.Tracer]) -> bool:
    """Does a tracer do the same after `adopt` as before?"""
    try:
        ids, witness = _Ids(), _Witness()
        provider = sdk.TracerProvider(
            sampler=witness,
            resource=Resource({}),
            shutdown_on_exit=False,
            id_generator=ids,
            span_limits=sdk.SpanLimits(16, 16, 16, 16, 16, 16, sdk.SpanLimits.UNSET, sdk.SpanLimits.UNSET),
            meter_provider=NoOpMeterProvider(),
        )
        provider._disabled = False  # whatever OTEL_SDK_DISABLED says now
        provider.add_span_processor(_Processor(witness))
        tracer: Any = provider.get_tracer("twin", "1", "https://opentelemetry.io/schemas/1.44.0")
        theirs = _story(tracer, witness)
        ids.last = 0
        same = _same(theirs, _story(adopt(tracer), witness))
    except Exception as exc:
        logger.debug("the SDK's own spans are used, since this SDK is not as expected: %r", exc)
        return False
    if not same:
        logger.debug("the SDK's own spans are used, since those of this SDK differ from ours")
    return same


def _story(tracer: sdk.Tracer, witness: _Witness) -> list[Any]:
    witness.seen = []
    caller, nobody = in_context(NonRecordingSpan(_CALLER), Context()), Context()
    links = (Link(SpanContext(3, 4, False), {"link": 1}), Link(SpanContext(0, 0, False)))
    served: Any = tracer.start_span("one", caller, SpanKind.SERVER, _PLAIN, links, 10, False, False)
    served.set_attribute("text", "b")
    served.set_attributes({"empty": "c", "more": 2})
    served.update_name("two")
    served.add_event("event", {"a": 1}, 15)
    witness.seen += [served, repr(served), served._readable_span()]
    served.end(20)
    child: Any = tracer.start_span("child", in_context(served, Context()), attributes=_RARE, start_time=30)
    child.add_link(SpanContext(5, 6, True), {"b": 2})
    child.end(40)
    bare: Any = tracer.start_span("bare", nobody, start_time=50)
    bare.end(60)
    dropped: Any = tracer.start_span("drop", caller)
    witness.seen += [bare, dropped.get_span_context(), type(dropped)]
    return witness.seen


class _Witness(Sampler):
    """Keeps everything that it is told."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        self.seen.append((args, kwargs))
        if "drop" in args:
            return SamplingResult(Decision.DROP)
        return SamplingResult(Decision.RECORD_AND_SAMPLE, args[4], TraceState([("sampler", "1")]))

    def get_description(self) -> str:
        return "twin"


class _Processor(sdk.SpanProcessor):
    def __init__(self, witness: _Witness) -> None:
        self._witness = witness

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or name == "_witness":
            return super().__getattribute__(name)
        return lambda *args, **kwargs: self._witness.seen.append((name, args, kwargs))


class _Ids(IdGenerator):
    """Counts. What is asked for in another order gets other numbers."""

    last = 0

    def generate_trace_id(self) -> int:
        self.last += 1
        return self.last

    def generate_span_id(self) -> int:
        self.last += 1
        return self.last

    def is_trace_id_random(self) -> bool:
        self.last += 1
        return True


def _same(theirs: Any, ours: Any) -> bool:
    """Equal in all that the SDK's own object knows."""
    if theirs is ours or isinstance(theirs, _LOCKS):
        return True
    if isinstance(theirs, (list, tuple, deque)) and not isinstance(theirs, SpanContext):
        return len(theirs) == len(ours) and all(_same(*pair) for pair in zip(theirs, ours))  # noqa: B905
    if isinstance(theirs, dict):
        return list(theirs) == list(ours) and all(_same(theirs[key], ours[key]) for key in theirs)
    if isinstance(theirs, BoundedList) and ours == ():  # a list that is made when it is needed
        return not theirs and not theirs.dropped
    if isinstance(theirs, FunctionType):
        return isinstance(ours, FunctionType) and theirs.__code__ is ours.__code__
    if isinstance(theirs, _COMPARED):
        kind = sdk.Span if isinstance(theirs, sdk.Span) else type(theirs)
        return isinstance(ours, kind) and all(_same(value, getattr(ours, name)) for name, value in vars(theirs).items())
    return type(theirs) is type(ours) and bool(theirs == ours)
