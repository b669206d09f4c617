"""Any calls on our span and on the SDK's: the same results, the same data, the same log messages."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk import trace as official
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
)
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceState,
    set_span_in_context,
)

from ..support.sdk import CALLER, KEYS, MAPPINGS, VALUES, Loud, Mute, Stage, Text, both, facts, heard, outcome

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
STARTS = st.fixed_dictionaries(
    {
        "name": st.text(max_size=3),
        "parent": CONTEXTS,
        "kind": st.sampled_from(SpanKind),
        "attributes": st.one_of(st.none(), MAPPINGS),
        "links": LINKS,
        "start_time": TIMES,
    }
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
    start=STARTS,
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


class _ReadOnce(Mapping[str, Any]):
    """Says something else each time it is read."""

    def __init__(self) -> None:
        self.reads = 0

    def _items(self) -> dict[str, Any]:
        self.reads += 1
        return {"read": self.reads, "list": ["a"]}

    def __iter__(self) -> Iterator[str]:
        return iter(self._items())

    def __getitem__(self, key: str) -> Any:
        return {"read": self.reads, "list": ["a"]}[key]

    def __len__(self) -> int:
        return 2


@pytest.mark.parametrize("limits", [None, official.SpanLimits(max_span_attribute_length=1)])
def test_a_mapping_is_read_once(limits: official.SpanLimits | None) -> None:
    """A span starts with what its mapping said at one moment, as with the SDK, also where values are cleaned."""
    started = []
    for stage in both(limits=limits):
        given = _ReadOnce()
        span: Any = stage.tracer.start_span("name", attributes=given)
        started.append((dict(span.attributes), given.reads))
    assert started[0] == started[1]
    assert started[1][1] == 1


@pytest.mark.parametrize("name", ["max_span_attributes", "max_span_attribute_length"])
@pytest.mark.parametrize("attributes", [None, {}, {"a": "b"}, {"a": ""}, {"a": ["b"]}], ids=str)
def test_a_limit_of_zero(name: str, attributes: dict[str, Any] | None) -> None:
    """A limit of 0 keeps no attribute, or no text, and counts what it drops, as the SDK does."""
    seen = []
    for stage in both(limits=official.SpanLimits(**{name: 0})):
        with heard() as messages:
            span: Any = stage.tracer.start_span("name", attributes=attributes)
            span.set_attribute("b", "c")
            span.set_attributes({"d": "e", "f": 1})
            span.set_attributes({})
            span.end()
        seen.append((dict(span.attributes), span.dropped_attributes, messages))
    assert seen[0] == seen[1]
