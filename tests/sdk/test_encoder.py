"""Our encoder and the official one: the same bytes for every batch, the same errors for what cannot be sent."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk import trace as official_sdk
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from asgi_trace import _sdk as sdk
from asgi_trace._sdk import attribute_cache, encoder, encoder_check
from asgi_trace._sdk.encoder import SpanEncoder, official_bytes
from asgi_trace._sdk.protobuf import NULL_IS_EMPTY

from ..support.sdk import CALLER, MAPPINGS, Colour, Level, Sly, Stage, Text, outcome


def span(**fields: Any) -> ReadableSpan:
    """A span like any other, but for what is given."""
    usual: dict[str, Any] = {
        "name": "GET /orders/{id}",
        "context": SpanContext(1 << 100, 1 << 60, False, TraceFlags(1)),
        "parent": CALLER,
        "resource": Resource({"service.name": "orders"}),
        "attributes": {"http.request.method": "GET", "http.response.status_code": 200},
        "kind": SpanKind.SERVER,
        "start_time": 1,
        "end_time": 2,
        "instrumentation_scope": InstrumentationScope("asgi_trace", "1"),
    }
    return ReadableSpan(**{**usual, **fields})


# --- random batches ---

CONTEXTS = st.builds(
    SpanContext,
    st.one_of(st.integers(0, 2**128 - 1), st.sampled_from([2**128, -1])),
    st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([2**64])),
    st.booleans(),
    st.sampled_from([TraceFlags(0), TraceFlags(3), None]),
    st.sampled_from([None, TraceState(), TraceState([("a", "1"), ("b", "é"), ("c", "2")])]),
)
GOOD_CONTEXTS = st.builds(
    SpanContext, st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.booleans(), st.just(TraceFlags(1))
)
ATTRIBUTES = st.one_of(
    st.none(),
    MAPPINGS,
    MAPPINGS.map(lambda given: BoundedAttributes(3, given, max_value_len=4)),
    st.dictionaries(st.sampled_from(["a", "b"]), st.one_of(st.booleans(), st.integers(0, 2), st.text(max_size=2))),
)
TIMES = st.sampled_from([None, 0, 1, 1 << 60, (1 << 64) - 1, 1 << 64, -1, 0.5, 2.0, True])
NAMES = st.one_of(st.text(max_size=4), st.sampled_from([None, b"bytes", "\ud800", "n" * 200, Text("text"), 5]))
EVENTS = st.lists(st.builds(Event, NAMES, ATTRIBUTES, st.one_of(TIMES, st.just(3))), max_size=2)
LINKS = st.lists(st.builds(Link, CONTEXTS, ATTRIBUTES), max_size=2)
STATUSES = st.one_of(
    st.none(), st.builds(Status, st.sampled_from(StatusCode), st.one_of(st.none(), st.text(max_size=3)))
)
RESOURCES: st.SearchStrategy[Any] = st.sampled_from(
    [
        lambda: Resource({"service.name": "a", "list": ["b"]}),
        lambda: Resource({"service.name": "b"}, "https://schema.test"),
        lambda: Resource({}),
    ]
)
SCOPES: st.SearchStrategy[Any] = st.sampled_from(
    [
        lambda: None,
        lambda: InstrumentationScope("a"),
        lambda: InstrumentationScope("a", "1", "https://schema.test", {"a": 1}),
        lambda: InstrumentationScope("", ""),
    ]
)
ODD = st.fixed_dictionaries(
    {},
    optional={
        "name": NAMES,
        "context": CONTEXTS,
        "parent": st.one_of(st.none(), CONTEXTS),
        "attributes": ATTRIBUTES,
        "events": EVENTS,
        "links": LINKS,
        "kind": st.one_of(st.sampled_from(SpanKind), st.sampled_from([None, 2])),
        "status": STATUSES,
        "start_time": TIMES,
        "end_time": TIMES,
        "resource": RESOURCES.map(lambda make: make()),
        "instrumentation_scope": SCOPES.map(lambda make: make()),
    },
)
ENCODER = SpanEncoder()
"""One for all examples, as a service has it: what it remembers must not change a byte."""


@settings(max_examples=150, deadline=None)
@given(st.lists(ODD, max_size=4))
def test_any_batch_is_encoded_as_ever(batch: list[dict[str, Any]]) -> None:
    """The official bytes, or the official error, whatever a span holds."""
    logging.disable(logging.CRITICAL)  # the official encoder has a lot to say
    try:
        spans = [span(**fields) for fields in batch]
        assert outcome(ENCODER, spans) == outcome(official_bytes, spans)
    finally:
        logging.disable(logging.NOTSET)


PLAIN = st.one_of(
    st.text(max_size=5),
    st.integers(-(2**63), 2**63 - 1),
    st.booleans(),
    st.floats(),
    st.binary(max_size=3),
    st.lists(st.text(max_size=3), max_size=3),
    st.lists(st.one_of(st.integers(-3, 300), st.booleans(), st.floats()), max_size=3),
    st.dictionaries(st.text(max_size=2), st.integers(-1, 1), max_size=2),
    st.sampled_from([Text("subclass"), Colour.RED, Level.HIGH, "long " * 500]),
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "name": st.text(max_size=5),
                "context": GOOD_CONTEXTS,
                "parent": st.one_of(st.none(), GOOD_CONTEXTS),
                "attributes": st.dictionaries(st.text(max_size=3), PLAIN, max_size=5),
                "events": st.lists(
                    st.tuples(st.text(max_size=3), st.dictionaries(st.text(max_size=2), PLAIN, max_size=2)), max_size=2
                ),
                "links": st.lists(
                    st.tuples(GOOD_CONTEXTS, st.dictionaries(st.text(max_size=2), PLAIN, max_size=2)), max_size=2
                ),
                "kind": st.sampled_from(SpanKind),
                "resource": RESOURCES,
                "scope": SCOPES,
            }
        ),
        max_size=4,
    )
)
def test_any_ordinary_batch_is_encoded_by_hand(batch: list[dict[str, Any]]) -> None:
    """Spans as people make them never need the official encoder, whoever made them."""
    scopes = {make: make() for make in {fields["scope"] for fields in batch}}
    ended: list[ReadableSpan] = []
    for number, fields in enumerate(copy.copy(batch)):
        common = {"resource": fields["resource"](), "instrumentation_scope": scopes[fields["scope"]]}
        stage = Stage(sdk.TracerProvider if number % 2 else official_sdk.TracerProvider)
        made: Any = stage.tracer.start_span("", attributes=fields["attributes"], kind=fields["kind"], start_time=5)
        for event in fields["events"]:
            made.add_event(*event, 7)
        for link in fields["links"]:
            made.add_link(*link)
        made.update_name(fields["name"])
        made.end(9)
        finished: Any = stage.processor.ended[0]
        for field in ("context", "parent"):
            setattr(finished, f"_{field}", fields[field])
        for field, value in common.items():
            setattr(finished, f"_{field}", value)
        ended.append(finished)
    assert ENCODER.encode(ended) == official_bytes(ended)


# --- pointed ---


def by_hand(*spans: Any) -> bool:
    """Whether the official encoder was not needed; the bytes are compared in any case."""
    assert SpanEncoder()(spans) == official_bytes(spans)
    try:
        SpanEncoder().encode(spans)
    except Exception:
        return False
    return True


@pytest.mark.parametrize(
    ("value", "known"),
    [
        ("", True),
        (0, True),
        (False, True),
        (0.0, True),
        (-0.0, True),
        (float("nan"), True),
        (b"", True),
        ((), True),
        ({}, True),
        (2**63 - 1, True),
        (-(2**63), True),
        (None, NULL_IS_EMPTY),
        ((None, "a"), NULL_IS_EMPTY),
        ({"a": None}, NULL_IS_EMPTY),
        (Sly("text"), True),
        *(("x" * size, True) for size in (127, 128, 1017, 1018, 1019, 1020, 1021, 1023, 1024, 16383, 16384)),
        (2**63, False),
        (-(2**63) - 1, False),
        ("\ud800", False),
        (["a", 1j], False),
        (1j, False),
        (range(3), False),
    ],
    ids=lambda each: repr(each)[:30],
)
def test_a_value(value: Any, known: bool) -> None:
    """Defaults are written where protobuf writes them; what the official encoder refuses, it refuses itself."""
    logging.disable(logging.CRITICAL)
    try:
        fields = {"attributes": {"before": 1, "key": value, "after": 2}}
        assert by_hand(span(**fields)) is known
        assert by_hand(span(events=[Event("event", fields["attributes"], 1)])) is known
        assert by_hand(span(links=[Link(CALLER, fields["attributes"])])) is known
    finally:
        logging.disable(logging.NOTSET)


def test_nothing_as_a_value() -> None:
    """None is encoded by hand where the official encoder knows it."""
    logging.disable(logging.CRITICAL)
    try:
        kept = b"nothing" in official_bytes([span(attributes={"nothing": None})])
    finally:
        logging.disable(logging.NOTSET)
    assert kept is NULL_IS_EMPTY


@pytest.mark.parametrize("times", [(0, 0), (0, 5), (5, 0), (None, 5), (5, None), (5, 6)])
def test_times(times: tuple[int | None, int | None]) -> None:
    """A time that is 0 or not set takes no room."""
    assert by_hand(span(start_time=times[0], end_time=times[1]))


def test_a_scope_that_is_nothing() -> None:
    """What is false counts as no scope at all."""

    class Empty(InstrumentationScope):
        def __bool__(self) -> bool:
            return False

    assert by_hand(span(instrumentation_scope=Empty("empty")), span(instrumentation_scope=None))


def test_numbers_and_truth_are_told_apart() -> None:
    """1, 1.0 and True are equal, and remembered as what they are."""
    spans = [span(attributes={"key": value}) for value in (1, True, 1.0, 0, False, 0.0, -0.0, "1", 1)]
    encoder = SpanEncoder()
    for _ in range(2):
        assert [encoder.encode([each]) for each in spans] == [official_bytes([each]) for each in spans]


def test_equal_resources_and_scopes_are_one() -> None:
    """They are grouped by what they say, in the order of their first span, also when each span has its own object."""
    spans = [
        span(
            name=str(number),
            resource=Resource({"service.name": "ab"[number % 2]}),
            instrumentation_scope=InstrumentationScope("xyz"[number % 3]),
        )
        for number in range(12)
    ]
    assert by_hand(*spans)
    assert len(SpanEncoder().encode(spans)) < sum(len(SpanEncoder().encode([each])) for each in spans)


def test_an_object_that_lives_for_a_moment() -> None:
    """A span that makes up its resource each time it is asked is grouped rightly all the same."""

    class Inventive(ReadableSpan):
        @property
        def resource(self) -> Resource:
            return Resource({"service.name": self.name})

    assert by_hand(*[Inventive(str(number % 3), CALLER, start_time=1, end_time=2) for number in range(60)])


def test_a_span_of_nobodys_sdk() -> None:
    """Anything with the public properties of a readable span will do."""

    class Other:
        def __init__(self, attributes: Mapping[str, Any] | None) -> None:
            self.name, self.kind, self.status = "other", SpanKind.CLIENT, Status(StatusCode.ERROR, "why")
            self.parent, self.resource, self.instrumentation_scope = None, Resource({}), None
            self.start_time, self.end_time = 1, None
            self.attributes = attributes
            self.events: Sequence[Event] = [Event("event", None, 1)]
            self.links: None = None
            self.dropped_attributes = self.dropped_events = self.dropped_links = 1

        def get_span_context(self) -> SpanContext:
            return CALLER

    assert by_hand(Other({"a": 1}), Other(None))


def test_dropped_without_any_left() -> None:
    """With room for nothing, what was dropped is still counted."""
    limits = official_sdk.SpanLimits(max_span_attributes=0, max_events=0, max_links=0)
    for kind in (official_sdk.TracerProvider, sdk.TracerProvider):
        stage = Stage(kind, limits=limits)
        made = stage.tracer.start_span("name", attributes={"a": 1})
        made.add_event("event")
        made.add_link(CALLER)
        made.end()
        (ended,) = stage.processor.ended
        assert (ended.dropped_attributes, ended.dropped_events, ended.dropped_links) == (1, 1, 1)
        assert by_hand(ended)


# --- what is remembered ---


def test_what_is_remembered_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, values of a key and the length of a value: past its bound each is encoded anew, into the same bytes."""
    monkeypatch.setattr(attribute_cache, "MAX_KEYS", 3)
    monkeypatch.setattr(attribute_cache, "MAX_VALUES", 4)
    monkeypatch.setattr(attribute_cache, "MAX_LENGTH", 5)
    encoder = SpanEncoder()
    for number in range(40):
        each = span(
            attributes={
                "key": number % 4,
                "path": str(number),
                "host": "hhh" * (number % 3),
                f"key {number}": "a",
                "k" * 9: 1,
            }
        )
        assert encoder.encode([each]) == official_bytes([each])
    cache = encoder._cache
    assert sorted(cache._values) == sorted(cache._heads) == ["host", "key", "path"]
    assert sorted(cache._fields) == [("host", ""), ("host", "hhh"), *(("key", number) for number in range(4))]
    assert len(cache._values["path"]) == 5


def test_equal_resources_belong_together_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each object is remembered, equal ones as one, and all are forgotten between two batches when there are many."""
    monkeypatch.setattr(encoder, "MAX_VALUES", 3)
    made = SpanEncoder()
    for round_ in range(3):
        batch = [span(resource=Resource({"a": number % 4}, "https://a.test")) for number in range(12)]
        for _ in range(2):
            assert made.encode(batch) == official_bytes(batch)
        assert len(made._equal) == 4
        assert len(made._resources) == 12, round_


def test_a_resource_whose_attributes_are_exchanged() -> None:
    """A resource that is renewed in place, as an older SDK's is after a fork, is encoded with what it has now."""
    resource: Any = Resource({"service.instance.id": "parent"})
    batch = [span(resource=resource)]
    made = SpanEncoder()
    before = made.encode(batch)
    for number in range(50):  # a dict finds the same object, by chance, whatever its hash is now
        resource._attributes = Resource({"service.instance.id": f"child {number}"})._attributes
        assert made.encode(batch) == official_bytes(batch) != before


# --- other versions ---


def test_another_encoding_is_followed(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Where the official encoder writes other bytes than expected, or fails, it is used, which is said once at INFO."""
    caplog.set_level("INFO")
    assert isinstance(sdk.span_encoder(), SpanEncoder)
    assert caplog.records == []
    for changed in (lambda spans: official_bytes(spans) + b"\x10\x00", lambda spans: 1 / 0):
        monkeypatch.setattr(encoder_check, "official_bytes", changed)
        encoder_check.writes_official_bytes.cache_clear()
        caplog.clear()
        assert [sdk.span_encoder(), sdk.span_encoder()] == [changed, changed]
        assert [(record.name, record.levelname) for record in caplog.records] == [("asgi_trace", "INFO")]
        assert "spans are encoded by the official encoder" in caplog.text
    monkeypatch.undo()
    encoder_check.writes_official_bytes.cache_clear()
    monkeypatch.setattr(encoder, "_LOCAL_PARENT", b"\x00\x00\x00\x00")
    assert sdk.span_encoder() is official_bytes
    monkeypatch.undo()
    encoder_check.writes_official_bytes.cache_clear()
