"""Spans that go to a queue as they are: the same data and bytes as the SDK's, whatever asks for them and when."""

from __future__ import annotations

import copy
import random
import sys
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.sdk import trace as official
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, SamplingResult, StaticSampler
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
from asgi_trace._configuration.processors import BatchingSpanProcessor
from asgi_trace._configuration.stop_budget import StopBudget
from asgi_trace._export.queue import Batching
from asgi_trace._sdk.encoder import SpanEncoder, official_bytes
from asgi_trace._sdk.span import _Span
from asgi_trace._sdk.span_check import same_as_sdk
from asgi_trace._sdk.tracer import adopt

from ..support.sdk import CALLER, Stage, TakingLive, facts, heard, outcome
from .test_span_calls import CALLS, CONTEXTS, LIMITS, LINKS, STARTS, TIMES

pytestmark = pytest.mark.skipif(not same_as_sdk(adopt), reason="this SDK has other spans than ours")

ENCODER = SpanEncoder()
"""One for all examples, as a service has it: what it remembers must not change a byte."""


def play(stage: Stage, start: dict[str, Any], program: Sequence[Any], asking: bool) -> list[Any]:
    """One span's life, and what its queue holds at the end. `asking`: everything is asked for before that."""
    start, program = copy.deepcopy((start, program))
    start["links"] = [Link(*each) for each in start["links"]]
    start["context"] = set_span_in_context(NonRecordingSpan(start.pop("parent")), Context())
    random.seed(5)
    with heard() as messages:
        span: Any = stage.tracer.start_span(**start)
        seen: list[Any] = [facts(span)] if asking else []
        for name, args, kwargs in program:
            seen.append((name, outcome(getattr(span, name), *args, **kwargs)))
        span.end(20)
        (ended,) = stage.processor.ended
        seen += [outcome(official_bytes, [ended]), facts(ended), outcome(official_bytes, [ended])]
    return [*seen, messages]


@settings(max_examples=150, deadline=None)
@given(
    start=STARTS,
    program=st.lists(CALLS, max_size=6),
    limits=LIMITS,
    asking=st.booleans(),
)
def test_any_program_leaves_the_same_span_in_a_queue(
    start: dict[str, Any], program: Any, limits: official.SpanLimits, asking: bool
) -> None:
    """Results, messages, everything public of the ended span, JSON and bytes are those of the SDK's span."""
    theirs = play(Stage(official.TracerProvider, ALWAYS_ON, limits, live=True), start, program, asking)
    stage = Stage(sdk.TracerProvider, ALWAYS_ON, limits, live=True)
    with heard():
        assert play(stage, start, program, asking) == theirs
        (ended,) = stage.processor.ended
        assert outcome(ENCODER, [ended]) == outcome(official_bytes, [ended])


@settings(max_examples=150, deadline=None)
@given(
    start=st.fixed_dictionaries(
        {
            "name": st.sampled_from(["a", "é", "", "long " * 50]),
            "parent": CONTEXTS,
            "kind": st.sampled_from(SpanKind),
            "attributes": st.dictionaries(st.text(max_size=3), st.one_of(st.text(), st.integers(-5, 5)), max_size=4),
            "links": LINKS,
            "start_time": TIMES,
        }
    ),
    program=st.lists(CALLS, max_size=4),
)
def test_a_span_is_encoded_before_anything_asks_for_its_fields(start: dict[str, Any], program: Any) -> None:
    """The bytes that are written straight from a span are those of the official encoder, which asks for everything."""
    stage = Stage(sdk.TracerProvider, ALWAYS_ON, live=True)
    start["links"] = [Link(*each) for each in start["links"]]
    start["context"] = set_span_in_context(NonRecordingSpan(start.pop("parent")), Context())
    with heard():
        span: Any = stage.tracer.start_span(**start)
        for name, args, kwargs in program:
            outcome(getattr(span, name), *args, **kwargs)
        span.end(30)
        written = outcome(ENCODER, stage.processor.ended)
        assert written == outcome(official_bytes, stage.processor.ended)


def test_an_ordinary_span_is_queued_as_it_is() -> None:
    """No copy, no context, no attributes, no lists: what nothing has asked for is not made."""
    stage = Stage(sdk.TracerProvider, live=True)
    with stage.tracer.start_as_current_span("outer") as outer, stage.tracer.start_as_current_span("inner") as inner:
        inner.set_attribute("a", 1)
    ended: list[Any] = [*stage.processor.ended]
    assert ended == [inner, outer]
    made: Any = inner
    assert (made._made_context, made._made_attributes, made._listed, vars(made)) == (None, None, False, {})
    assert made.parent == outer.get_span_context()
    assert made.context is made.get_span_context()
    assert made.context.trace_id == outer.get_span_context().trace_id


def test_two_ends_are_one() -> None:
    """Of many threads that end a span one does; the others say that it has ended."""
    stage = Stage(sdk.TracerProvider, live=True)
    for _ in range(20):
        span = stage.tracer.start_span("name")
        go = threading.Barrier(4)

        def end(span: Any = span, go: threading.Barrier = go) -> None:
            go.wait()
            span.end()

        threads = [threading.Thread(target=end) for _ in range(4)]
        with heard() as messages:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert [text for _, _, text in messages] == ["Calling end() on an ended span."] * 3
    assert len(stage.processor.ended) == 20


def test_all_threads_see_one_attributes_object() -> None:
    """What is made at the first read is made once, also while the span ends, and is frozen from its end on."""
    stage = Stage(sdk.TracerProvider, live=True)
    for _ in range(30):
        span: Any = stage.tracer.start_span("name", attributes={"a": 1})
        go = threading.Barrier(5)
        found: list[Any] = []

        def read(span: Any = span, go: threading.Barrier = go, found: list[Any] = found) -> None:
            go.wait()
            found.append(span._attributes)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        go.wait()
        span.end()
        for thread in threads:
            thread.join()
        assert all(each is span._attributes for each in found)
        with pytest.raises(TypeError):
            span._attributes["b"] = 2
        assert dict(span.attributes) == {"a": 1}


def test_an_exporter_of_the_users_own_gets_readable_spans() -> None:
    """Our queue takes spans as they are; an exporter that is not ours gets the SDK's plain snapshots of them."""
    exported: list[Any] = []

    class Exporter(SpanExporter):
        def export(self, spans: Sequence[official.ReadableSpan]) -> SpanExportResult:
            exported.extend(spans)
            return SpanExportResult.SUCCESS

    provider = sdk.TracerProvider(shutdown_on_exit=False)
    processor = BatchingSpanProcessor(Exporter(), Batching(10, 10, 10, 3600), StopBudget())
    provider.add_span_processor(processor)
    with provider.get_tracer("test").start_as_current_span("name", attributes={"a": 1}) as span:
        assert type(span) is _Span
    assert processor.force_flush(5000)
    provider.shutdown()
    assert [(type(each), each.name, dict(each.attributes or {})) for each in exported] == [
        (official.ReadableSpan, "name", {"a": 1})
    ]


# --- what changes later ---


class _Seeing(official.SpanProcessor):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def on_start(self, span: official.Span, parent_context: Context | None = None) -> None:
        self.seen.append(("on_start", span.name))

    def _on_ending(self, span: official.Span) -> None:
        self.seen.append(("_on_ending", span.name))

    def on_end(self, span: official.ReadableSpan) -> None:
        self.seen.append((type(span).__name__, dict(span.attributes or {})))


def test_a_processor_that_comes_later_sees_the_rest() -> None:
    """Added in the middle of a span it sees its end, and everything of later ones; the queue goes on to get them."""
    stage = Stage(sdk.TracerProvider, live=True)
    first = stage.tracer.start_span("first", attributes={"a": 1})
    late = _Seeing()
    stage.provider.add_span_processor(late)
    first.set_attribute("b", 2)
    first.end()
    stage.tracer.start_span("second").end()
    assert late.seen == [
        ("_on_ending", "first"),
        ("ReadableSpan", {"a": 1, "b": 2}),
        ("on_start", "second"),
        ("_on_ending", "second"),
        ("ReadableSpan", {}),
    ]
    assert [span.name for span in stage.processor.ended] == ["first", "second"]


@pytest.mark.parametrize("name", ["on_start", "_on_ending", "on_end"])
@pytest.mark.parametrize("where", ["class", "instance"])
def test_a_processor_with_one_method_of_its_own(name: str, where: str) -> None:
    """A method is left out only where it is empty; one that was put on the instance counts."""
    called: list[Any] = []

    class Own(official.SpanProcessor):
        pass

    processor: Any = Own()
    if where == "class":
        setattr(Own, name, lambda self, *args, **kwargs: called.append(name))
    else:
        setattr(processor, name, lambda *args, **kwargs: called.append(name))
    stage = Stage(sdk.TracerProvider, live=True)
    stage.provider.add_span_processor(processor)
    stage.tracer.start_span("name").end()
    assert called == [name]
    (ended,) = stage.processor.ended
    assert type(ended) is (_Span if name == "on_start" else official.ReadableSpan)


@pytest.mark.parametrize("kind", [official.SpanProcessor, SimpleSpanProcessor, BatchSpanProcessor])
def test_the_sdks_own_processors_do_nothing_at_the_start(kind: Any) -> None:
    """With those, a span of a request is kept as facts until its end."""
    exporter = InMemorySpanExporter()
    processor = kind() if kind is official.SpanProcessor else kind(exporter)
    stage = Stage(sdk.TracerProvider)
    provider = sdk.TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer: Any = provider.get_tracer("test")
    settings = tracer._current_settings()
    assert settings.quiet_start
    assert settings.takes_facts
    assert (settings.on_end is None) is (kind is not official.SpanProcessor)
    processor.shutdown()
    assert not stage.tracer._current_settings().quiet_start  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("method", "quiet"),
    [
        (lambda self, *args, **kwargs: None, True),
        # From 3.15 on None has an instruction of its own: a method that returns another constant is called.
        (lambda self, *args, **kwargs: "five", sys.version_info < (3, 15)),
        (lambda self, *args, **kwargs: print("started"), False),
        (lambda self, *args, **kwargs: [][0], False),
        (print, False),
        (None, False),
    ],
)
def test_a_method_is_empty_when_it_returns_a_constant(method: Any, quiet: bool) -> None:
    """Anything that could do something, or that cannot be looked into, is called."""
    processor: Any = type("Own", (official.SpanProcessor,), {"on_start": method})()
    provider = sdk.TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(processor)
    tracer: Any = provider.get_tracer("test")
    assert tracer._current_settings().quiet_start is quiet


def test_two_queues_both_get_a_span() -> None:
    """With more than one processor that has something to do, spans take the SDK's own way."""
    stage, second = Stage(sdk.TracerProvider, live=True), TakingLive()
    stage.provider.add_span_processor(second)
    stage.tracer.start_span("name").end()
    assert [[span.name for span in each.ended] for each in (stage.processor, second)] == [["name"], ["name"]]


def test_a_span_that_is_recorded_and_not_sampled_is_not_queued() -> None:
    """A queue takes sampled spans only, whatever a sampler of its own kind decides."""

    class Recording(StaticSampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            return SamplingResult(self._decision, {"by": "sampler"}, TraceState([("s", "1")]))

    for decision, taken in ((Decision.RECORD_ONLY, 0), (Decision.RECORD_AND_SAMPLE, 1)):
        stage = Stage(sdk.TracerProvider, Recording(decision), live=True)
        stage.tracer.start_span("name").end()
        assert len(stage.processor.live) == taken  # type: ignore[attr-defined]
        (ended,) = stage.processor.ended
        assert (dict(ended.attributes or {}), ended.context.trace_state.get("s")) == ({"by": "sampler"}, "1")
        assert ENCODER([ended]) == official_bytes([ended])


def test_fields_of_a_tracer_may_be_set_at_any_time() -> None:
    """The resource and the sampler of the next span are those that its tracer has then; earlier spans keep theirs."""
    stage = Stage(sdk.TracerProvider, live=True)
    tracer: Any = stage.tracer
    before: Any = tracer.start_span("before")
    tracer.resource = Resource({"service.name": "another"})
    after: Any = tracer.start_span("after")
    assert before.resource.attributes["service.name"] == "stage"
    assert after.resource.attributes["service.name"] == "another"
    tracer.sampler = ALWAYS_OFF
    assert not tracer.start_span("never").is_recording()
    before.end()
    after.end()
    assert ENCODER(stage.processor.ended) == official_bytes(stage.processor.ended)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_resource", Resource({"service.name": "mine"})),
        ("_attributes", {"replaced": "by a dict"}),
        ("_attributes", None),
        ("_name", "mine"),
        ("_context", CALLER),
        ("_parent", None),
        ("_parent", SpanContext(5, 6, True, TraceFlags(1))),
        ("_events", [official.Event("mine", {}, 5)]),
        ("_links", [Link(CALLER, {"a": 1})]),
        ("_kind", SpanKind.PRODUCER),
    ],
    ids=[f"field{number}" for number in range(10)],
)
@pytest.mark.parametrize("ended_first", [False, True])
def test_a_private_field_that_was_set_counts(name: str, value: Any, ended_first: bool) -> None:
    """Some processors and exporters write the SDK's private fields: what they write is what is read and sent."""
    stage = Stage(sdk.TracerProvider, live=True)
    span: Any = stage.tracer.start_span("name", set_span_in_context(NonRecordingSpan(CALLER), Context()))
    if ended_first:
        span.end()
    setattr(span, name, value)
    assert getattr(span, name) is value
    if not ended_first and value is not None and not isinstance(value, dict):
        span.end()
    assert ENCODER([span]) == official_bytes([span])


def test_our_spans_look_like_the_sdks() -> None:
    """`repr`, JSON and the classes are those of the SDK."""
    texts = []
    for kind in (official.TracerProvider, sdk.TracerProvider):
        random.seed(7)
        stage = Stage(kind, live=True)
        span: Any = stage.tracer.start_span("name", attributes={"a": 1}, start_time=1)
        texts.append(repr(span))
        span.end(2)
        texts.append(stage.processor.ended[0].to_json())
    assert texts[:2] == texts[2:]
    assert type(span) is _Span
    assert isinstance(span, official.ReadableSpan)
