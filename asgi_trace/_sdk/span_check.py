"""Whether our spans are the same as the SDK's own, whichever version of it is installed.

Our span writes private fields of the SDK's classes, so nothing is taken for granted. One tracer is put through the same
calls before and after it becomes ours, within wide and narrow limits, with a sampler that is asked and with a standard
one. Everything that a sampler, an id generator, a processor, a meter or a log reader could see of the calls, and every
field that the SDK gives a span, has to be equal, and the SDK may count nothing on its classes. If anything differs, the
SDK's own classes do the work, which is said once at INFO.

What is not called here is not checked. Methods that our classes inherit need no check: a change in them is a change in
ours.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import FunctionType, MappingProxyType
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk import trace as sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, Status, TraceFlags, TraceState
from opentelemetry.trace import set_span_in_context as in_context

from .._guard import logger

_COMPARED = (BoundedList, BoundedAttributes, Status, Link, NonRecordingSpan, sdk.Event, sdk.ReadableSpan)
_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_CLASSES = (sdk.TracerProvider, sdk.Tracer, sdk.ReadableSpan, sdk.Span, sdk._Span, sdk.Event, BoundedAttributes)
_CONTAINERS = (dict, list, set, deque)
_LOGGERS = ("opentelemetry.sdk.trace", "opentelemetry.attributes")
_CALLER = SpanContext(1 << 127 | 5, 1 << 63 | 7, True, TraceFlags(3), TraceState([("key", "value")]))
_PLAIN: dict[str, Any] = {
    "text": "a",
    "empty": "",
    "control": "a\x00\n\x7f",
    "surrogate": "\ud800",
    "long": "é" * 5000,
    "whole": 1 << 70,
    "negative": -1,
    "yes": True,
    "no": False,
    "float": 0.5,
    "nan": float("nan"),
    "infinite": float("inf"),
    "minus": -0.0,
    "key " * 500: 1,
    "Key.With-Other/Signs": 2,
    "schlüssel": 3,
}
_RARE: dict[str, Any] = {"list": ["a", "b"], "bytes": b"a", **_PLAIN}
_WIDE = sdk.SpanLimits(64, 16, 16, 64, 16, 16, sdk.SpanLimits.UNSET, sdk.SpanLimits.UNSET)
_NARROW = sdk.SpanLimits(3, 1, 1, 3, 1, 1, 2, 2)
_ZERO = sdk.SpanLimits(0, 0, 0, 0, 0, 0, 0, 0)


@cache
def same_as_sdk(adopt: Callable[[sdk.Tracer], sdk.Tracer]) -> bool:
    """Whether a tracer does the same after `adopt` as before; found out once."""
    try:
        reason = None if all(_same_within(adopt, *each) for each in _settings()) else "its spans differ from ours"
    except Exception as exc:
        reason = repr(exc)
    if reason is not None:
        logger.info("the SDK's own spans are used, since this version of it is not as expected: %s", reason)
    return reason is None


def _settings() -> Iterator[tuple[_Witness, Sampler, sdk.SpanLimits]]:
    for limits in (_WIDE, _NARROW, _ZERO):
        witness = _Witness()
        yield witness, witness, limits
        yield _Witness(), ParentBased(ALWAYS_ON), limits


def _same_within(
    adopt: Callable[[sdk.Tracer], sdk.Tracer], witness: _Witness, sampler: Sampler, limits: sdk.SpanLimits
) -> bool:
    ids = _Ids()
    provider = sdk.TracerProvider(
        sampler=sampler,
        resource=Resource({}),
        shutdown_on_exit=False,
        id_generator=ids,
        span_limits=limits,
        meter_provider=_Recorder(witness),  # type: ignore[arg-type]
    )
    provider._disabled = False  # whatever OTEL_SDK_DISABLED says now
    provider.add_span_processor(_Recorder(witness))  # type: ignore[arg-type]
    tracer: Any = provider.get_tracer("check", "1", "https://opentelemetry.io/schemas/1.44.0")
    before = _counted(tracer, provider)
    theirs = _use(tracer, witness)
    if _counted(tracer, provider) != before:  # our spans would not be counted
        return False
    ids.last = 0
    return _same(theirs, _use(adopt(tracer), witness))


def _counted(*objects: object) -> list[Any]:
    """What changes on these objects, on the SDK's classes and in its module where spans are counted or kept."""
    found: list[Any] = []
    for owner in (*objects, *_CLASSES, sdk):
        for name, value in sorted(vars(owner).items()):
            if isinstance(value, _CONTAINERS):
                found.append((name, len(value)))
            elif isinstance(value, (int, float)):
                found.append((name, value))
    return found


def _use(tracer: sdk.Tracer, witness: _Witness) -> list[Any]:
    """Put a tracer through every call that our classes answer themselves; all that could be seen of it."""
    witness.seen = []
    with _logs_into(witness.seen):
        _use_served(tracer, witness)
        _use_others(tracer, witness)
    return witness.seen


def _use_served(tracer: sdk.Tracer, witness: _Witness) -> None:
    caller = in_context(NonRecordingSpan(_CALLER), Context())
    links = (Link(SpanContext(3, 4, False), {"link": 1}), Link(SpanContext(0, 0, False)))
    served: Any = tracer.start_span("one", caller, SpanKind.SERVER, _PLAIN, links, 10, False, False)
    witness.seen.append(dict(served.attributes))
    served.set_attribute("text", "b")
    for key, value in _PLAIN.items():
        served.set_attribute(f"set {key}", value)
    witness.seen.append(dict(served.attributes))
    served.set_attributes({"empty": "c", "more": 2})
    served.set_attributes(_PLAIN)
    for name in ("", " ", "long " * 1000, "two"):
        served.update_name(name)
        witness.seen.append(served.name)
    served.add_event("event", {"a": 1}, 15)
    witness.seen += [served, repr(served), served._readable_span(), dict(served.attributes)]
    served.end(20)
    for late in (served.end, lambda: served.set_attribute("late", 1), lambda: served.set_attributes({"late": 1})):
        late()
    served.update_name("late")
    with tracer.start_as_current_span("child", in_context(served, Context()), attributes=_RARE, start_time=30) as child:
        child.add_link(SpanContext(5, 6, True), {"b": 2})
        witness.seen.append(child.is_recording())
        child.end(40)


def _use_others(tracer: sdk.Tracer, witness: _Witness) -> None:
    nothing = Context()
    given: list[Any] = [None, {}, MappingProxyType({"a": 1}), {"": 1, "a": "b"}]
    for name, attributes in zip(("", " ", "name", "name"), given):  # noqa: B905
        span: Any = tracer.start_span(name, nothing, attributes=attributes, start_time=50)
        witness.seen.append(span)
        span.end(60)
    dropped: Any = tracer.start_span("drop", in_context(NonRecordingSpan(SpanContext(1, 2, True)), Context()))
    witness.seen += [dropped.get_span_context(), type(dropped) if isinstance(dropped, NonRecordingSpan) else None]
    if dropped.is_recording():
        dropped.end(70)


@contextmanager
def _logs_into(seen: list[Any]) -> Generator[None, None, None]:
    """Keep what the SDK logs in this thread, instead of showing it."""
    here = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        if record.thread is not None and record.thread != here:
            return True
        seen.append((record.levelno, record.getMessage()))
        return False

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for each in loggers:
        each.addFilter(keep)
    try:
        yield
    finally:
        for each in loggers:
            each.removeFilter(keep)


class _Witness(Sampler):
    """Keeps everything that it is told. Samples all but the spans that are called "drop"."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        self.seen.append((args, kwargs))
        if "drop" in args:
            return SamplingResult(Decision.DROP)
        return SamplingResult(Decision.RECORD_AND_SAMPLE, args[4], TraceState([("sampler", "1")]))

    def get_description(self) -> str:
        return "check"


class _Recorder:
    """Stands for a processor, a meter provider and its instruments: every call is kept, and answered with itself."""

    def __init__(self, witness: _Witness) -> None:
        self._witness = witness

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def called(*args: Any, **kwargs: Any) -> Any:
            self._witness.seen.append((name, args, kwargs))
            return self

        return called


class _Ids(IdGenerator):
    """Counts, so that an id which is asked for in another order is another number."""

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
    """Whether `ours` equals `theirs` in everything that the SDK's own object holds."""
    if theirs is ours or isinstance(theirs, _LOCKS):
        return True
    if isinstance(theirs, float):
        return repr(theirs) == repr(ours)  # NaN is not equal to itself
    if isinstance(theirs, BoundedList) and ours == ():  # a list that is made when it is needed
        return not theirs and not theirs.dropped
    if isinstance(theirs, FunctionType):
        return isinstance(ours, FunctionType) and theirs.__code__ is ours.__code__
    if isinstance(theirs, _COMPARED):
        kind = sdk.Span if isinstance(theirs, sdk.Span) else type(theirs)
        return isinstance(ours, kind) and all(_same(value, getattr(ours, name)) for name, value in vars(theirs).items())
    return _same_values(theirs, ours)


def _same_values(theirs: Any, ours: Any) -> bool:
    if isinstance(theirs, (list, tuple, deque)) and not isinstance(theirs, SpanContext):
        return len(theirs) == len(ours) and all(_same(*pair) for pair in zip(theirs, ours))  # noqa: B905
    if isinstance(theirs, Mapping):
        return list(theirs) == list(ours) and all(_same(theirs[key], ours[key]) for key in theirs)
    return type(theirs) is type(ours) and bool(theirs == ours)
