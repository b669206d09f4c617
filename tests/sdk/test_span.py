"""Our spans and the SDK's: the same calls, the same everything, down to what is logged."""

from __future__ import annotations

import copy
import random
import sys
import threading
import traceback
from collections import OrderedDict, UserDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk import trace as official
from opentelemetry.sdk.resources import Resource
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
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from asgi_trace import _sdk as sdk
from asgi_trace._sdk import span as span_module
from asgi_trace._sdk.span_check import are_twins
from asgi_trace._sdk.tracer import adopted

from ..support.sdk import CALLER, KEYS, MAPPINGS, VALUES, Loud, Mute, Stage, Text, both, facts, heard, outcome

OURS = are_twins(adopted)
"""False with an SDK that is unlike what our spans expect: then its own are used, and only the outside is tested."""

pytestmark = pytest.mark.filterwarnings("ignore:You should use InstrumentationScope:DeprecationWarning")


def encoded(span: official.ReadableSpan) -> Any:
    return outcome(lambda: encode_spans([span]).SerializeToString())


# --- random programs ---

CONTEXTS = st.sampled_from(
    [
        CALLER,
        SpanContext(1, 2, False),
        SpanContext(0, 0, False),
        SpanContext(0, 0, False, trace_state=TraceState([("a", "1")])),
    ]
)
TIMES = st.integers(1, 10**18)
LINKS = st.lists(st.tuples(CONTEXTS, st.one_of(st.none(), MAPPINGS)), max_size=3)
STATUSES = st.one_of(
    st.builds(Status, st.sampled_from(StatusCode)),
    st.just(Status(StatusCode.ERROR, "why")),
    st.sampled_from(StatusCode),
    st.just("no status"),
)


def call(name: str, *arguments: st.SearchStrategy[Any], **keywords: st.SearchStrategy[Any]) -> Any:
    return st.tuples(st.just(name), st.tuples(*arguments), st.fixed_dictionaries(keywords))


CALLS = st.one_of(
    call("set_attribute", KEYS, VALUES),
    call("set_attribute", KEYS, VALUES),
    call("set_attributes", MAPPINGS),
    call("add_event", st.text(max_size=3), st.one_of(st.none(), MAPPINGS), TIMES),
    call("add_link", CONTEXTS, st.one_of(st.none(), MAPPINGS)),
    call("update_name", st.text(max_size=3)),
    call("set_status", STATUSES, st.sampled_from([None, "described"])),
    call("record_exception", st.just(ValueError("bad")), MAPPINGS, TIMES, escaped=st.booleans()),
    call("is_recording"),
    call("start", TIMES),
    call("end", TIMES),
)
LIMITS = st.one_of(
    st.none(),
    st.builds(
        official.SpanLimits,
        max_span_attributes=st.integers(0, 4),
        max_event_attributes=st.integers(0, 2),
        max_link_attributes=st.integers(0, 2),
        max_events=st.integers(0, 2),
        max_links=st.integers(0, 2),
        max_attribute_length=st.sampled_from([None, 2]),
        max_span_attribute_length=st.sampled_from([None, 0, 3]),
    ),
)


def play(stage: Stage, start: dict[str, Any], program: Sequence[Any]) -> list[Any]:
    """What one span's life looks like from outside: results, messages, what the processor got, bytes."""
    start, program = copy.deepcopy((start, program))
    start["links"] = [Link(*each) for each in start["links"]]
    start["context"] = set_span_in_context(NonRecordingSpan(start.pop("parent")), Context())
    with heard() as messages:
        span: Any = stage.tracer.start_span(**start)
        seen: list[Any] = [repr(span)]
        for name, args, kwargs in program:
            seen.append((name, outcome(getattr(span, name), *args, **kwargs)))
        seen.append(facts(span))
        seen.append(outcome(span.end, 20))
        seen += [name for name, _, _ in stage.processor.told]
        seen += [(facts(ended), encoded(ended)) for ended in stage.processor.ended]
    return [*seen, messages]


@settings(max_examples=100, deadline=None)
@given(
    start=st.fixed_dictionaries(
        {
            "name": st.text(max_size=3),
            "parent": CONTEXTS,
            "kind": st.sampled_from(SpanKind),
            "attributes": st.one_of(st.none(), MAPPINGS),
            "links": LINKS,
            "start_time": TIMES,
        }
    ),
    program=st.lists(CALLS, max_size=8),
    limits=LIMITS,
)
def test_any_program_leaves_the_same_span(start: dict[str, Any], program: Any, limits: official.SpanLimits) -> None:
    """Whatever is called in whatever order: results, errors, log messages, JSON and bytes are those of the SDK."""
    theirs, ours = both(ALWAYS_ON, limits)
    assert play(ours, start, program) == play(theirs, start, program)


START = {"name": "", "parent": CALLER, "kind": SpanKind.SERVER, "attributes": None, "links": [], "start_time": 1}
NARROW = {
    "max_span_attributes": 2,
    "max_event_attributes": 1,
    "max_link_attributes": 1,
    "max_events": 1,
    "max_links": 1,
}
SHORT = {"max_attribute_length": 3, "max_span_attribute_length": 2}
THREE = {"a": 1, "b": 2, "c": 3}
LONG = {"a": "long", "b": "ok", "c": ["long"], "d": {"e": "long"}}


@pytest.mark.parametrize("limits", [{}, NARROW, SHORT, dict.fromkeys((*NARROW, *SHORT), 0)], ids=str)
@pytest.mark.parametrize("attributes", [None, THREE, LONG, {"a": 1}])
@pytest.mark.parametrize(
    "program",
    [
        [("set_attribute", (key, 1), {}) for key in ("", 1, None, Text("k"), "a", "b", "a")],
        [("set_attribute", (key, "long"), {}) for key in "abcab"],
        [
            ("set_attribute", ("a", value), {})
            for value in (None, True, 1.5, b"b", [1, "a", None], {"": 1}, {1: 2}, Mute())
        ],
        [
            ("set_attributes", (THREE,), {}),
            ("set_attributes", (LONG,), {}),
            ("set_attributes", ({"c": 1, "a": 2},), {}),
        ],
        [("set_attributes", ({"": 1, 1: 2, "a": Loud()},), {}), ("set_attributes", ([("a", 1)],), {})],
        [("add_event", ("event", attributes, 5), {}) for attributes in (None, THREE, LONG)],
        [("add_link", (CALLER, attributes), {}) for attributes in (None, THREE, LONG)],
        [("end", (9,), {}), ("set_attribute", ("a", 1), {}), ("set_attributes", (THREE,), {}), ("end", (10,), {})],
    ],
)
def test_limits_and_odd_values(limits: dict[str, int], attributes: Any, program: Any) -> None:
    """What is cut, dropped, moved to the end, cleaned or refused, at the start and later."""
    theirs, ours = both(ALWAYS_ON, official.SpanLimits(**limits))
    start = {**START, "attributes": attributes, "links": [(CALLER, attributes)] * 2}
    assert play(ours, start, program) == play(theirs, start, program)


def test_what_was_given_may_change_afterwards() -> None:
    """A span keeps what it was given, whatever its owner does with that later."""
    _, ours = both()
    given: dict[str, Any] = {"a": 1}
    span: Any = ours.tracer.start_span("name", attributes=given)
    given["b"] = 2
    assert dict(span.attributes) == {"a": 1}
    span.set_attributes(given)
    given["c"] = 3
    assert dict(span.attributes) == {"a": 1, "b": 2}


# --- starting ---


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


# --- classes, processors, context managers ---


def test_everything_is_one_of_the_sdks() -> None:
    """Provider, tracer, span and what processors get are of the SDK's classes, for everybody who asks."""
    _, ours = both()
    span = ours.tracer.start_span("name")
    span.end()
    assert isinstance(ours.provider, official.TracerProvider)
    assert isinstance(ours.tracer, official.Tracer)
    assert isinstance(span, official._Span)
    assert isinstance(span, official.ReadableSpan)
    assert [type(ended) for ended in ours.processor.ended] == [official.ReadableSpan]
    if OURS:
        assert type(span) is span_module._Span
    assert type(ours.provider.get_tracer("another")) is type(ours.tracer)


def test_processors_are_told_the_same() -> None:
    """Hooks, their order, positional and keyword arguments; what a processor changes in a hook counts."""
    told: list[Any] = []
    snapshot = official.ReadableSpan
    context = set_span_in_context(NonRecordingSpan(CALLER), Context())
    for stage in both():
        changing = _Changing()
        stage.provider.add_span_processor(changing)
        span = stage.tracer.start_span("name", context, start_time=1)
        span.end(2)
        told.append([(name, [type(arg) is snapshot for arg in args], kw) for name, args, kw in stage.processor.told])
        assert changing.order == ["on_start", "on_ending", "on_end"]
        told[-1].append(facts(changing.ended))
        told[-1].append(facts(stage.processor.ended[0]))
    assert told[0] == told[1]


class _Changing(official.SpanProcessor):
    def __init__(self) -> None:
        self.order: list[str] = []

    def on_start(self, span: official.Span, parent_context: Context | None = None) -> None:
        self.order.append("on_start")
        span.set_attribute("started", True)
        assert span.is_recording()
        assert span.events == ()

    def _on_ending(self, span: official.Span) -> None:
        self.order.append("on_ending")
        span.set_attribute("too late", True)

    def on_end(self, span: official.ReadableSpan) -> None:
        self.order.append("on_end")
        self.ended = span


@pytest.mark.parametrize("flags", [(True, True), (True, False), (False, True), (False, False)])
@pytest.mark.parametrize("way", ["with span", "start_as_current_span", "use_span"])
def test_a_block_that_fails(way: str, flags: tuple[bool, bool]) -> None:
    """`record_exception` and `set_status_on_exception` mean the same in every kind of block."""
    seen: list[Any] = []
    options = dict(zip(("record_exception", "set_status_on_exception"), flags, strict=True))
    for stage in both():
        tracer: Any = stage.tracer
        block: AbstractContextManager[Any]
        if way == "with span":
            block = tracer.start_span("name", Context(), **options)
        elif way == "start_as_current_span":
            block = tracer.start_as_current_span("name", Context(), **options)
        else:
            block = api.use_span(tracer.start_span("name", Context()), end_on_exit=True, **options)
        with pytest.raises(LookupError, match="lost"), block:
            raise LookupError("lost")
        (ended,) = stage.processor.ended
        events: list[dict[str, Any]] = [dict(event.attributes or {}) for event in ended.events]
        for event in events:
            assert "raise LookupError" in event.pop("exception.stacktrace")
        seen.append((ended.status.status_code, ended.status.description, events))
    assert seen[0] == seen[1]
    assert bool(seen[1][2]) is flags[0]


def test_start_as_current_span_decorates_functions() -> None:
    """The context manager is a decorator too, and leaves `end_on_exit` to its caller."""
    _, ours = both()

    @ours.tracer.start_as_current_span("decorated")
    def work() -> str:
        return "done"

    assert (work(), work()) == ("done", "done")
    with ours.tracer.start_as_current_span("open", end_on_exit=False) as span:
        pass
    assert span.is_recording()
    assert [ended.name for ended in ours.processor.ended] == ["decorated", "decorated"]


def test_an_exceptions_trace_is_that_of_the_traceback_module() -> None:
    """Type, message, whether it escaped, and the whole text of the traceback, chained causes included."""
    try:
        try:
            raise KeyError("inner")
        except KeyError as cause:
            raise ValueError("outer") from cause
    except ValueError as exc:
        error = exc
    _, ours = both()
    span = ours.tracer.start_span("name")
    span.record_exception(error, {"more": 1, "exception.message": "mine"}, 5, escaped=True)
    span.end()
    (event,) = ours.processor.ended[0].events
    assert event.timestamp == 5
    assert dict(event.attributes or {}) == {
        "exception.type": "ValueError",
        "exception.message": "mine",
        "exception.stacktrace": "".join(traceback.format_exception(error)),
        "exception.escaped": "True",
        "more": 1,
    }


def test_what_was_deprecated_is_still_there() -> None:
    """`instrumentation_info`, with its warning."""
    theirs, ours = both()
    for stage in (theirs, ours):
        span: Any = stage.tracer.start_span("name")
        span.end()
        readable: list[Any] = [span, stage.processor.ended[0]]
        for each in readable:
            with pytest.warns(DeprecationWarning, match="instrumentation_scope"):
                assert each.instrumentation_info.name == "stage"


def test_what_was_read_early_stays_current() -> None:
    """A view of the attributes follows what is set later, and is frozen where the SDK freezes it."""
    seen: list[Any] = []
    for stage in both():
        span: Any = stage.tracer.start_span("name", attributes={"a": 1}, start_time=1)
        view = span.attributes
        span.set_attribute("b", 2)
        span.end(2)
        frozen = outcome(span._attributes.__setitem__, "c", 3)
        seen.append((dict(view), frozen, span._attributes is stage.processor.ended[0]._attributes))
        copied = copy.copy(stage.processor.ended[0])
        seen.append(outcome(lambda ended=copied: facts(copy.deepcopy(ended))))
        span._attributes = {"replaced": "by a dict"}
        seen.append((dict(span.attributes), dict(stage.processor.ended[0].attributes or {})))
    assert seen[:3] == seen[3:]


# --- the provider ---


def test_a_tracer_can_be_switched_off() -> None:
    """A tracer configurator counts, for tracers that are there already too."""
    if not hasattr(official.TracerProvider, "_set_tracer_configurator"):
        pytest.fail("every supported SDK has it")
    for stage in both():
        provider: Any = stage.provider
        provider._set_tracer_configurator(tracer_configurator=official._disable_tracer_configurator)
        context = set_span_in_context(NonRecordingSpan(CALLER), Context())
        span = stage.tracer.start_span("name", context)
        assert (span.is_recording(), span.get_span_context()) == (False, CALLER)


def test_a_disabled_sdk_stays_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """`OTEL_SDK_DISABLED` gives the API's own tracer that does nothing."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    are_twins.cache_clear()
    assert isinstance(sdk.TracerProvider(shutdown_on_exit=False).get_tracer("a"), api.NoOpTracer)
    assert are_twins(adopted) is OURS


def test_a_child_process_has_a_resource_of_its_own() -> None:
    """What the SDK renews in a forked process reaches the spans of tracers that were there before."""
    for stage in both():
        provider: Any = stage.provider
        provider._resource = provider._resource.merge(Resource({"process.pid": 1}))
        if hasattr(provider, "_handle_fork"):
            provider._handle_fork()
        else:
            tracer: Any = stage.tracer
            tracer.resource = provider.resource
        span: Any = stage.tracer.start_span("name")
        assert span.resource == provider.resource
        assert "process.pid" in span.resource.attributes


def test_the_sdk_counts_its_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's metrics of itself are recorded for our spans too."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    counted = []
    for kind in (official.TracerProvider, sdk.TracerProvider):
        reader = InMemoryMetricReader()
        provider = kind(shutdown_on_exit=False, meter_provider=MeterProvider([reader], shutdown_on_exit=False))
        tracer = provider.get_tracer("a")
        tracer.start_span("still open")
        context = set_span_in_context(NonRecordingSpan(CALLER), Context())
        tracer.start_span("ended", context).end()
        data: Any = reader.get_metrics_data()
        counted.append(
            {
                (metric.name, tuple(sorted(point.attributes.items()))): point.value
                for metric in data.resource_metrics[0].scope_metrics[0].metrics
                for point in metric.data.data_points
            }
        )
    assert counted[0] == counted[1]
    assert len(counted[1]) == 3


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("busy_threads")
def test_threads_lose_nothing() -> None:
    """Attributes that many threads set while another one ends the span: all of them within the limit, none after it."""
    limits = official.SpanLimits(max_span_attributes=50)
    _, ours = both(limits=limits)
    for _ in range(20):
        span: Any = ours.tracer.start_span("name")
        go = threading.Barrier(5)

        def write(number: int, span: Any = span, go: threading.Barrier = go) -> None:
            go.wait()
            for each in range(40):
                span.set_attribute(f"{number}.{each}", each)
                span.set_attributes({f"{number}.{each}": each, "shared": each})
                span.add_event(str(each))

        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        with heard():
            for thread in threads:
                thread.start()
            go.wait()
            span.end()
            ended = ours.processor.ended[-1]
            first = (dict(ended.attributes or {}), len(ended.events))
            for thread in threads:
                thread.join()
        assert (dict(ended.attributes or {}), len(ended.events)) == first
        assert len(first[0]) <= 50


@pytest.mark.parametrize(
    ("name", "arguments"), [("set_attribute", ("b", 2)), ("set_attributes", ({"b": 2},)), ("update_name", ("other",))]
)
def test_what_comes_while_a_span_ends_comes_too_late(
    name: str, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call from another thread waits for the end, and then changes nothing that was handed on."""
    for stage in both():
        span: Any = stage.tracer.start_span("name", attributes={"a": 1})
        thread = threading.Thread(target=getattr(span, name), args=arguments)
        waited: list[bool] = []

        def clock(thread: threading.Thread = thread, waited: list[bool] = waited) -> int:
            thread.start()
            thread.join(0.05)
            waited.append(thread.is_alive())
            return 5

        monkeypatch.setattr(official, "time_ns", clock)
        with heard() as messages:
            span.end()
            thread.join()
        assert (waited, len(messages), span.end_time) == ([True], 1, 5)
        assert (span.name, dict(span.attributes)) == ("name", {"a": 1})


def test_a_span_without_events_has_no_lists() -> None:
    """Lists and locks that nobody needs are not made; one that is asked for is the same for everybody."""
    if not OURS:
        return
    _, ours = both()
    span: Any = ours.tracer.start_span("name", attributes={"a": 1})
    span.set_attribute("b", 2)
    assert not {"_events", "_links"} & vars(span).keys()
    assert "_lock" not in vars(span._attributes)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(span._events)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(each is span._events for each in found)
