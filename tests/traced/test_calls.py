"""Calls of functions and coroutine functions: one span each, current inside, below what is current outside."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio
from opentelemetry import baggage
from opentelemetry.context import attach, detach, get_current, set_value
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import (
    INVALID_SPAN,
    SpanKind,
    StatusCode,
    TracerProvider,
    get_current_span,
    get_tracer_provider,
)

from asgi_trace import TraceMiddleware, traced
from asgi_trace._otel.api import SUPPRESS_ALL
from asgi_trace._otel.tracers import override_provider
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.actions import listening
from ..support.asgi import OK, attributes_of, drive, http_scope
from ..support.generators import current


@traced
def plain(value: int = 0) -> tuple[int, int]:
    return value, current()


@traced
async def awaited(value: int = 0) -> tuple[int, int]:
    await asyncio.sleep(0)
    return value, current()


def call(value: int = 0) -> tuple[int, int]:
    return plain(value)


def await_it(value: int = 0) -> tuple[int, int]:
    return asyncio.run(awaited(value))


def await_in_trio(value: int = 0) -> tuple[int, int]:
    @traced
    async def awaited_by_trio(value: int) -> tuple[int, int]:
        await trio.sleep(0)
        return value, current()

    return trio.run(awaited_by_trio, value)


def in_thread(value: int = 0) -> tuple[int, int]:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(contextvars.copy_context().run, plain, value).result()


def to_thread(value: int = 0) -> tuple[int, int]:
    async def run() -> tuple[int, int]:
        return await asyncio.to_thread(plain, value)

    return asyncio.run(run())


def task(value: int = 0) -> tuple[int, int]:
    async def run() -> tuple[int, int]:
        return await asyncio.create_task(awaited(value))

    return asyncio.run(run())


CALLS = [call, await_it, await_in_trio, in_thread, to_thread, task]
calls = pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)


@calls
def test_a_call_is_one_internal_span(call: Callable[[int], tuple[int, int]], spans: CapturedSpans) -> None:
    """The result comes back, the span was current inside, and it is a root where there is no parent."""
    assert current() == 0
    value, inside = call(7)
    [span] = spans
    assert (value, inside) == (7, span.context.span_id)
    assert (span.kind, span.parent, span.status.status_code) == (SpanKind.INTERNAL, None, StatusCode.UNSET)
    assert span.events == ()
    assert current() == 0


@calls
def test_a_call_is_a_child_of_the_current_span(call: Callable[[int], tuple[int, int]], spans: CapturedSpans) -> None:
    """Below a span of the SDK, of another traced function, or of a request; afterwards that one is current again."""
    tracer = spans.tracer_provider.get_tracer("shop")

    @traced
    def outer() -> int:
        call(1)
        return current()

    with tracer.start_as_current_span("by hand") as by_hand:
        outside = outer()
        assert get_current_span() is by_hand
    inner, outer_span, hand_span = spans
    assert spans.children_of(outer_span) == [inner]
    assert spans.children_of(hand_span) == [outer_span]
    assert outside == outer_span.context.span_id


def test_calls_within_a_request_are_below_its_span(spans: CapturedSpans) -> None:
    """Also in the task of another, in a thread, and after the response."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await awaited()
        await asyncio.to_thread(plain)
        await OK(scope, receive, send)
        await asyncio.create_task(awaited())

    drive(TraceMiddleware(app))
    assert [span.name for span in spans.children_of(spans.server)] == ["awaited", "plain", "awaited"]


def test_calls_that_run_at_once_have_their_own_spans(spans: CapturedSpans) -> None:
    """Two tasks and two threads do not see each other's span."""

    @traced
    async def slow(event: asyncio.Event, other: asyncio.Event) -> int:
        event.set()
        await other.wait()
        return current()

    async def run() -> list[int]:
        first, second = asyncio.Event(), asyncio.Event()
        return list(await asyncio.gather(slow(first, second), slow(second, first)))

    barrier = threading.Barrier(2, timeout=60)

    @traced
    def waits() -> int:
        barrier.wait()
        return current()

    found = asyncio.run(run())
    with ThreadPoolExecutor(2) as pool:
        found += [future.result() for future in [pool.submit(waits), pool.submit(waits)]]
    assert sorted(found) == sorted(span.context.span_id for span in spans)
    assert len(set(found)) == 4


def test_baggage_and_other_values_of_the_context_are_there_inside(spans: CapturedSpans) -> None:
    """Only the span is exchanged in the context."""
    token = attach(set_value("tenant", "kiosk", baggage.set_baggage("user", "ada")))
    try:
        seen = traced(lambda: (get_current().get("tenant"), baggage.get_baggage("user")))()
    finally:
        detach(token)
    assert seen == ("kiosk", "ada")


def test_recursion_nests(spans: CapturedSpans) -> None:
    """Each call is the child of the call that makes it."""

    @traced("count down")
    def count_down(count: int) -> int:
        return 0 if count == 0 else 1 + count_down(count - 1)

    assert count_down(3) == 3
    for inner, outer in zip(spans.finished, spans.finished[1:], strict=False):
        assert spans.children_of(outer) == [inner]


def test_a_coroutine_that_is_never_awaited_has_no_span(spans: CapturedSpans) -> None:
    """Nothing runs before the first await."""
    coroutine = awaited()
    coroutine.close()
    assert len(spans) == 0


def test_a_coroutine_that_is_closed_ends_its_span(spans: CapturedSpans) -> None:
    """GeneratorExit is no error, and the contexts of others stay what they are, whichever it is closed in."""

    @traced
    async def waits() -> None:
        await asyncio.sleep(3600)

    async def run() -> Any:
        coroutine = waits()
        coroutine.send(None)
        return coroutine

    coroutine = asyncio.run(run())
    contextvars.copy_context().run(coroutine.close)
    [span] = spans
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())
    assert attributes_of(span).keys() == {"code.function.name"}


def test_a_coroutine_that_changes_its_context_at_each_step_runs(spans: CapturedSpans) -> None:
    """A driver that gives each step a context of its own finds every context as it left it."""

    @traced
    async def steps() -> int:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return 7

    coroutine = steps()
    contexts = [contextvars.Context() for _ in range(3)]
    for context in contexts[:2]:
        context.run(coroutine.send, None)
    with pytest.raises(StopIteration) as done:
        contexts[2].run(coroutine.send, None)
    assert done.value.value == 7
    assert len(spans) == 1
    assert contexts[2].run(current) == 0


# Without a span


@calls
def test_without_a_provider_nothing_changes(call: Callable[[int], tuple[int, int]]) -> None:
    """The result comes back, and no span is current."""
    assert type(get_tracer_provider()).__name__ == "ProxyTracerProvider"
    assert call(7) == (7, 0)


def test_a_provider_that_is_set_later_counts() -> None:
    """A function that was called without a provider records as soon as there is one, and stops when it is gone."""
    plain()
    with capture_spans() as spans:
        plain()
    plain()
    assert len(spans) == 1


@calls
def test_an_unsampled_call_leaves_its_parent_current(call: Callable[[int], tuple[int, int]]) -> None:
    """What runs below has the caller's unsampled span, so its ids and its decision go on."""
    with capture_spans(ALWAYS_OFF) as spans:
        tracer = spans.tracer_provider.get_tracer("shop")
        with tracer.start_as_current_span("by hand") as by_hand:
            assert call(7) == (7, by_hand.get_span_context().span_id)
    assert len(spans) == 0


@pytest.mark.parametrize("key", SUPPRESS_ALL, ids=["now", "before"])
@calls
def test_suppressed_calls_have_no_span(key: str, call: Callable[[int], tuple[int, int]], spans: CapturedSpans) -> None:
    """Where instrumentation is switched off, as in an exporter's own calls, nothing is recorded."""
    token = attach(set_value(key, True))
    try:
        assert call(7) == (7, 0)
    finally:
        detach(token)
    assert len(spans) == 0


@pytest.mark.parametrize("sampler", [None, ALWAYS_ON])
def test_calls_below_an_excluded_request_have_no_span(sampler: Sampler | None) -> None:
    """Whatever the sampler says: no orphan is left of a health check."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        plain()
        await awaited()
        await OK(scope, receive, send)

    with capture_spans(sampler) as spans:
        drive(TraceMiddleware(app, exclude="^/health$"), http_scope("/health"))
    assert len(spans) == 0


# Attributes


class Basket:
    """Something with a method."""

    name = "basket"

    @traced(attributes=lambda self, sku, count, **more: {"shop.basket": self.name, "shop.line": f"{count} x {sku}"})
    def add(self, sku: str, count: int = 1, *, gift: bool = False) -> str:
        return sku


DESCRIBED: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], dict[str, Any]]] = {
    "defaults": (lambda sku, count=2: sku, ("kettle",), {}, {"sku": "kettle", "count": 2}),
    "keywords": (lambda sku, *, count: sku, (), {"sku": "kettle", "count": 3}, {"sku": "kettle", "count": 3}),
    "rest": (lambda *skus, **more: skus, ("a", "b"), {"c": 1}, {"skus": ("a", "b"), "more": {"c": 1}}),
    "positional only": (lambda sku, /: sku, ("kettle",), {}, {"sku": "kettle"}),
    "nothing": (lambda: 7, (), {}, {}),
}


@pytest.mark.parametrize("case", DESCRIBED)
def test_attributes_may_be_computed_from_the_arguments(case: str, spans: CapturedSpans) -> None:
    """The function gets every argument by its name, with defaults."""
    function, args, kwargs, expected = DESCRIBED[case]
    seen: list[dict[str, Any]] = []

    def describe(**arguments: Any) -> Mapping[str, Any]:
        seen.append(arguments)
        return {"shop.seen": True}

    assert traced(attributes=describe)(function)(*args, **kwargs) == function(*args, **kwargs)
    assert seen == [expected]
    assert attributes_of(spans[0])["shop.seen"] is True


def test_attributes_of_a_method_see_self(spans: CapturedSpans) -> None:
    """`self` is an argument like any other."""
    Basket().add("kettle")
    assert attributes_of(spans[0]) == {
        "code.function.name": f"{__name__}.Basket.add",
        "shop.basket": "basket",
        "shop.line": "1 x kettle",
    }


def test_attributes_are_not_computed_for_a_call_that_is_not_recorded() -> None:
    """Unsampled calls and calls without a provider do not pay for them."""
    function: Callable[[], int] = traced(attributes=lambda: pytest.fail("asked"))(lambda: 7)
    assert function() == 7
    with capture_spans(ALWAYS_OFF):
        assert function() == 7


@pytest.mark.parametrize(
    "wrong",
    [
        lambda **arguments: 1 / 0,
        lambda sku, more: {},
        lambda **arguments: 7,
        lambda **arguments: (_ for _ in ()).throw(asyncio.CancelledError),
    ],
)
def test_attributes_that_cannot_be_computed_are_said_once(wrong: Callable[..., Any], spans: CapturedSpans) -> None:
    """The function runs, its span is recorded without them, and one WARNING names the function, with the reason."""
    function: Callable[[str], str] = traced("reserve", attributes=wrong)(lambda sku: sku)
    with listening() as said:
        assert [function("kettle") for _ in range(3)] == ["kettle"] * 3
    assert [span.name for span in spans] == ["reserve"] * 3
    assert [span.status.status_code for span in spans] == [StatusCode.UNSET] * 3
    [record] = said.records
    assert (record.levelname, bool(record.exc_info)) == ("WARNING", True)
    assert "the attributes of reserve are left out" in record.getMessage()


def test_a_call_with_wrong_arguments_raises_what_it_raises(spans: CapturedSpans) -> None:
    """The TypeError is the function's own, and the attributes are not blamed for it."""
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'sku'"):
        Basket().add()  # type: ignore[call-arg]
    assert attributes_of(spans[0])["error.type"] == "TypeError"


def test_a_mapping_that_changes_later_changes_nothing(spans: CapturedSpans) -> None:
    """Attributes that are given as a mapping are copied when the function is decorated."""
    attributes: dict[str, Any] = {"shop.id": 7}
    function: Callable[[], None] = traced(attributes=attributes)(lambda: None)
    attributes["shop.id"] = 8
    function()
    assert attributes_of(spans[0])["shop.id"] == 7


def test_a_sampler_sees_name_and_attributes() -> None:
    """What is known before the call is there when it is decided whether to record."""
    seen: list[tuple[str, dict[str, Any]]] = []

    class Curious(Sampler):
        def should_sample(self, parent_context: Any, trace_id: int, name: str, *args: Any, **kwargs: Any) -> Any:
            attributes = kwargs.get("attributes") or args[1]
            seen.append((name, dict(attributes)))
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

        def get_description(self) -> str:
            return "curious"

    with capture_spans(Curious()):
        traced("reserve", attributes={"shop.id": 7})(plain)()
    assert seen[0] == ("reserve", {"code.function.name": f"{__name__}.plain", "shop.id": 7})


# What fails in telemetry


class Broken(SpanProcessor):
    """A processor that raises."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        if "on_start" in self.names:
            raise RuntimeError("broken")

    def on_end(self, span: ReadableSpan) -> None:
        if "on_end" in self.names:
            raise RuntimeError("broken")


class NoTracers(TracerProvider):
    """A provider of another library, which fails."""

    def get_tracer(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("broken")


def test_a_provider_that_fails_breaks_no_call() -> None:
    """The function runs without a span, which is said once."""
    function: Callable[[int], int] = traced(lambda value: value)
    before = override_provider(NoTracers())
    try:
        with listening() as said:
            assert [function(7), function(8)] == [7, 8]
    finally:
        override_provider(before)
    [record] = said.records
    assert record.getMessage().startswith("asking NoTracers for a tracer failed")


@pytest.mark.parametrize("where", ["on_start", "on_end"])
@pytest.mark.parametrize("fails", [False, True])
def test_telemetry_that_fails_breaks_no_call(where: str, fails: bool, spans: CapturedSpans) -> None:
    """The function runs, raises what it raises, and the failure of the telemetry is said once."""

    @traced
    def divides(by: int) -> float:
        return 7 / by

    spans.tracer_provider.add_span_processor(Broken(where))
    with listening() as said:
        for _ in range(2):
            if fails:
                with pytest.raises(ZeroDivisionError):
                    divides(0)
            else:
                assert divides(7) == 1
    assert len(said.records) == 1
    assert get_current_span() is INVALID_SPAN
