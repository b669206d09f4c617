"""Starting a span: samplers, parents, contexts, ids and attributes are treated as the SDK treats them."""

from __future__ import annotations

import random
from collections import OrderedDict, UserDict
from types import MappingProxyType
from typing import Any

import pytest
from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.sdk import trace as official
from opentelemetry.sdk.trace.id_generator import IdGenerator
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
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from asgi_trace import _sdk as sdk

from ..support.sdk import CALLER, Stage, both, facts, outcome

pytestmark = pytest.mark.filterwarnings("ignore:You should use InstrumentationScope:DeprecationWarning")


class Watching(Sampler):
    """Keeps what it is asked, and answers as told."""

    def __init__(self, decision: Decision, attributes: Any = None, trace_state: TraceState | None = None) -> None:
        self.asked: list[Any] = []
        self._answer = SamplingResult(decision, attributes, trace_state)

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        self.asked.append((args, kwargs))
        return self._answer

    def get_description(self) -> str:
        return "watching"


PARENTS = [
    SpanContext(0, 0, False),
    *(SpanContext(1 << 127, 2, remote, TraceFlags(flags)) for remote in (False, True) for flags in range(4)),
    CALLER,
]


@pytest.mark.parametrize("decision", Decision)
def test_a_sampler_is_asked_the_same_and_obeyed(decision: Decision) -> None:
    """Arguments, their order and kind; its decision, attributes and trace state end up in the span as with the SDK."""
    state = TraceState([("sampler", "1")])
    seen: list[Any] = []
    for stage in both():
        sampler = Watching(decision, {"by": "sampler", "list": ["a"]}, state)
        stage = Stage(type(stage.provider), sampler)
        link = Link(CALLER)
        for parent in PARENTS:
            context = set_span_in_context(NonRecordingSpan(parent), Context())
            for links in ((), [], [link], None):
                span: Any = stage.tracer.start_span("name", context, SpanKind.CLIENT, {"a": 1}, links, 5)
                seen.append((span.get_span_context(), span.get_span_context().trace_flags, span.is_recording()))
                if span.is_recording():
                    seen[-1] += (facts(span)["attributes"],)
        seen.append([(args[1:], kwargs) for args, kwargs in sampler.asked if args[5] != [link]])
        seen.append([type(args[0]) for args, _ in sampler.asked])
        seen.append(stage.ids.asked)
    half = len(seen) // 2
    assert seen[:half] == seen[half:]


@pytest.mark.parametrize(
    "sampler",
    [
        ALWAYS_ON,
        ALWAYS_OFF,
        TraceIdRatioBased(0.5),
        ParentBased(ALWAYS_ON),
        ParentBased(TraceIdRatioBased(0.25)),
        ParentBased(
            ALWAYS_OFF,
            remote_parent_sampled=ALWAYS_OFF,
            remote_parent_not_sampled=TraceIdRatioBased(0.7),
            local_parent_sampled=TraceIdRatioBased(0.3),
            local_parent_not_sampled=ALWAYS_ON,
        ),
        ParentBased(ParentBased(ALWAYS_ON)),
        ParentBased(ALWAYS_ON, remote_parent_not_sampled=Watching(Decision.RECORD_ONLY)),
    ],
    ids=lambda sampler: sampler.get_description(),
)
def test_standard_samplers_decide_as_ever(sampler: Sampler) -> None:
    """Their answers, which are known beforehand, are those that they would have given, for each kind of parent."""
    numbers = random.Random(1)
    for _ in range(40):
        trace_id = numbers.getrandbits(128) | 1
        for remote in (None, False, True):
            for flags in (0, 1):
                parent = SpanContext(0 if remote is None else trace_id, 1, bool(remote), TraceFlags(flags))
                context = set_span_in_context(NonRecordingSpan(parent), Context())
                theirs, ours = both(sampler)
                for stage in (theirs, ours):
                    stage.ids.trace_id = trace_id
                got = [stage.tracer.start_span("name", context).get_span_context() for stage in (theirs, ours)]
                assert got[0] == got[1]


def test_a_sampler_that_is_replaced_later_counts() -> None:
    """`tracer.sampler` may be set at any time, as with the SDK."""
    for stage in both():
        tracer: Any = stage.tracer
        tracer.sampler = ALWAYS_OFF
        assert not tracer.start_span("name").is_recording()


ODD_ATTRIBUTES = [
    None,
    {},
    {"a": [1, 2]},
    {"": 1},
    {1: 1},
    MappingProxyType({"a": 1}),
    OrderedDict(a=1),
    UserDict({"a": "b"}),
    [("a", 1)],
    [],
    "text",
    5,
]


@pytest.mark.parametrize("sampler", [None, ALWAYS_ON, ALWAYS_OFF, Watching(Decision.RECORD_ONLY)])
@pytest.mark.parametrize("attributes", ODD_ATTRIBUTES, ids=repr)
def test_attributes_of_any_type_are_taken_or_refused_alike(attributes: Any, sampler: Sampler | None) -> None:
    """A mapping of another type is one, what is none raises what the SDK raises."""

    def started(stage: Stage) -> Any:
        span: Any = stage.tracer.start_span("name", Context(), attributes=attributes, start_time=1)
        return facts(span) if span.is_recording() else span.get_span_context()

    theirs, ours = (outcome(started, stage) for stage in both(sampler))
    if isinstance(theirs, tuple) and isinstance(theirs[0], type):  # a message of Python's, about one thing or another
        theirs, ours = theirs[0], ours[0]
    assert ours == theirs


class _Foreign(api.Span):
    """Somebody else's span, with a context of any kind."""

    def __init__(self, context: Any) -> None:
        self._context = context

    def get_span_context(self) -> Any:
        return self._context

    def _nothing(self, *args: Any, **kwargs: Any) -> Any:
        return None

    end = set_attributes = set_attribute = add_event = update_name = set_status = record_exception = _nothing
    is_recording = _nothing


class _Wider(SpanContext):
    pass


@pytest.mark.parametrize("parent", [None, CALLER, _Wider(1, 2, False), (1, 2), "text"], ids=repr)
def test_a_parent_of_any_type_is_taken_or_refused_alike(parent: Any) -> None:
    """A span that is not the SDK's can be a parent; a context that is none raises what the SDK raises."""
    context = set_span_in_context(_Foreign(parent), Context())
    theirs, ours = (outcome(stage.tracer.start_span, "name", context, start_time=1) for stage in both())
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("context", [{}, {"current-span": "text"}, CALLER, "text", 5], ids=repr)
def test_a_context_of_any_type_is_taken_or_refused_alike(context: Any) -> None:
    """What can be looked into is a context; what cannot raises what the SDK raises."""
    theirs, ours = (outcome(stage.tracer.start_span, "name", context, start_time=1) for stage in both())
    assert repr(ours) == repr(theirs)


class _Numbers(IdGenerator):
    """Numbers that are told beforehand; whether they are random is not said, unless it is."""

    def __init__(self, trace_id: int, span_id: int) -> None:
        self._trace_id, self._span_id = trace_id, span_id

    def generate_trace_id(self) -> int:
        return self._trace_id

    def generate_span_id(self) -> int:
        return self._span_id


class _RandomNumbers(_Numbers):
    def is_trace_id_random(self) -> bool:
        return True


@pytest.mark.parametrize("kind", [_Numbers, _RandomNumbers])
@pytest.mark.parametrize("trace_id", [0, 1, (1 << 128) - 1, 1 << 128, -1])
@pytest.mark.parametrize("span_id", [0, 1, (1 << 64) - 1, 1 << 64, -1])
def test_numbers_of_any_generator(kind: type[_Numbers], trace_id: int, span_id: int) -> None:
    """Numbers that are too small or too large make an invalid context; random ones are flagged as such, others not."""
    got = []
    for provider in (official.TracerProvider, sdk.TracerProvider):
        made = provider(ALWAYS_ON, shutdown_on_exit=False, id_generator=kind(trace_id, span_id))
        tracer = made.get_tracer("numbers")
        for parent in PARENTS:
            context = set_span_in_context(NonRecordingSpan(parent), Context())
            found = tracer.start_span("name", context).get_span_context()
            got.append((*found, found.is_valid, type(found), type(found.trace_flags)))
    assert got[: len(PARENTS)] == got[len(PARENTS) :]


def test_the_ambient_context_is_the_default() -> None:
    """Without a context the current span is the parent, also ours under theirs and theirs under ours."""
    theirs, ours = both()
    for outer, inner in ((theirs, ours), (ours, theirs), (ours, ours)):
        with outer.tracer.start_as_current_span("outer") as parent:
            child: Any = inner.tracer.start_span("inner")
        assert child.parent == parent.get_span_context()
        assert child.context.trace_id == parent.get_span_context().trace_id
