"""Our spans and the SDK's in processors, blocks and threads: the same classes, the same order, the same data."""

from __future__ import annotations

import copy
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.sdk import trace as official
from opentelemetry.trace import (
    NonRecordingSpan,
    set_span_in_context,
)

from asgi_trace._sdk import span as span_module
from asgi_trace._sdk.span_check import same_as_sdk
from asgi_trace._sdk.tracer import adopt

from ..support.sdk import CALLER, both, facts, heard, outcome

OURS = same_as_sdk(adopt)
"""False with an SDK that our spans do not match: then its own are used, and only the outside is tested."""


pytestmark = pytest.mark.filterwarnings("ignore:You should use InstrumentationScope:DeprecationWarning")


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
