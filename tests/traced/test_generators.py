"""Generators: one span from the first step to the end, in every way in which they can end."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager, suppress
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from asgi_trace import traced
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of
from ..support.generators import FAILED, Log, Steps, current, outcome, three, three_async


def exhausted(generator: Steps, spans: CapturedSpans) -> None:
    seen = []
    for number in generator:
        assert current() == 0  # between two steps it is the consumer's code that runs
        seen.append(number)
    assert seen == [0, 1, 2]


def closed_early(generator: Steps, spans: CapturedSpans) -> None:
    with closing(generator):
        assert next(generator) == 0
        assert len(spans) == 0


def thrown_into(generator: Steps, spans: CapturedSpans) -> None:
    next(generator)
    with pytest.raises(ValueError, match="no stock"):
        generator.throw(ValueError("no stock"))


def thrown_into_and_closed(generator: Steps, spans: CapturedSpans) -> None:
    next(generator)
    generator.close()
    generator.close()
    assert list(generator) == []


def collected(generator: Steps, spans: CapturedSpans) -> None:
    next(generator)
    del generator
    gc.collect()


def collected_in_another_thread(generator: Steps, spans: CapturedSpans) -> None:
    next(generator)
    box = [generator]
    del generator
    thread = threading.Thread(target=box.clear)
    thread.start()
    thread.join()


def collected_in_another_context(generator: Steps, spans: CapturedSpans) -> None:
    next(generator)
    box = [generator]
    del generator
    contextvars.Context().run(box.clear)


def each_step_in_another_thread(generator: Steps, spans: CapturedSpans) -> None:
    seen: list[Any] = []
    for _ in range(4):
        thread = threading.Thread(target=lambda: seen.append(next(generator, "end")))
        thread.start()
        thread.join()
    assert seen == [0, 1, 2, "end"]


def each_step_in_another_context(generator: Steps, spans: CapturedSpans) -> None:
    assert [contextvars.Context().run(next, generator, "end") for _ in range(4)] == [0, 1, 2, "end"]


def delegated(generator: Steps, spans: CapturedSpans) -> None:
    def outer() -> Steps:
        return (yield from generator)

    rest = outer()
    assert [next(rest), rest.send("a"), rest.send("b")] == [0, 1, 2]
    with pytest.raises(StopIteration) as done:
        rest.send("c")
    assert done.value.value == "done"


ENDS = {
    "exhausted": exhausted,
    "closed early": closed_early,
    "thrown into": thrown_into,
    "closed twice": thrown_into_and_closed,
    "collected": collected,
    "collected in another thread": collected_in_another_thread,
    "collected in another context": collected_in_another_context,
    "each step in another thread": each_step_in_another_thread,
    "each step in another context": each_step_in_another_context,
    "delegated": delegated,
}


@pytest.mark.parametrize("end", ENDS)
def test_a_generator_ends_its_span(end: str, log: Log, spans: CapturedSpans) -> None:
    """One span from the first step to the end, current inside and nowhere else; closing it is no error."""
    ENDS[end](traced(three)(log), spans)
    gc.collect()
    assert outcome(spans) == FAILED.get(end, (None, 0))
    assert set(log.current) == {spans[0].context.span_id}
    assert log.finished == 1
    assert current() == 0


@pytest.mark.parametrize("sampled", [True, False])
def test_values_that_are_sent_and_returned_arrive(sampled: bool, log: Log) -> None:
    """`send`, `throw` and the returned value work as without it, with and without a span."""
    generator: Any = traced(three)(log, catches=True)
    assert [next(generator), generator.send("a"), generator.throw(ValueError("b")), next(generator, "end")] == [
        0,
        1,
        2,
        "end",
    ]
    assert log.given == ["a", None]
    assert [str(exc) for exc in log.thrown] == ["b"]


def test_an_exception_that_the_generator_catches_is_no_error(log: Log, spans: CapturedSpans) -> None:
    """What is thrown in and handled inside is not on the span."""
    generator = traced(three)(log, catches=True)
    next(generator)
    assert generator.throw(ValueError("no stock")) == 1
    generator.close()
    assert outcome(spans) == (None, 0)


def never_started(log: Log) -> None:
    traced(three)(log).close()
    generator = traced(three)(log)
    del generator


def never_started_async(log: Log) -> None:
    async def run() -> None:
        await traced(three_async)(log).aclose()
        generator = traced(three_async)(log)
        del generator

    asyncio.run(run())


@pytest.mark.parametrize("never", [never_started, never_started_async])
def test_a_generator_that_is_never_started_has_no_span(
    never: Callable[[Log], None], log: Log, spans: CapturedSpans
) -> None:
    """It has not run."""
    never(log)
    gc.collect()
    assert len(spans) == 0
    assert log.finished == 0


def raising_at_once(number: int = 0) -> Steps:
    if number == 0:
        raise ValueError("no stock")
    yield number
    return ""


def raising_in_the_end() -> Steps:
    yield 0
    raise ValueError("no stock")


def raising_in_clean_up() -> Steps:
    try:
        yield 0
    finally:
        raise ValueError("no stock")


def ignoring_the_close() -> Steps:
    try:
        yield 0
    except GeneratorExit:
        yield 1
    return "done"


def test_a_generator_that_fails_has_its_exception(spans: CapturedSpans) -> None:
    """In its first step, in a later one, and while it is closed."""
    with pytest.raises(ValueError, match="no stock"):
        next(traced(raising_at_once)())
    with pytest.raises(ValueError, match="no stock"):
        list(traced(raising_in_the_end)())
    generator = traced(raising_in_clean_up)()
    next(generator)
    with pytest.raises(ValueError, match="no stock"):
        generator.close()
    assert [attributes_of(span)["error.type"] for span in spans] == ["ValueError"] * 3
    assert [len(span.events) for span in spans] == [1, 1, 1]


def test_a_generator_that_ignores_its_close_says_so(spans: CapturedSpans) -> None:
    """Python's own complaint is raised, and the span ends when the generator does."""
    generator = traced(ignoring_the_close)()
    next(generator)
    with pytest.raises(RuntimeError, match="generator ignored GeneratorExit"):
        generator.close()
    assert list(generator) == []
    assert outcome(spans) == (None, 0)


def test_an_exception_leaves_no_cycle(log: Log, spans: CapturedSpans) -> None:
    """What was thrown in is freed without the garbage collector."""
    import weakref

    class Refused(ValueError):
        pass

    generator = traced(three)(log)
    next(generator)
    gc.collect()
    gc.disable()
    try:
        error = Refused("no stock")
        gone = weakref.ref(error)
        with suppress(Refused):
            generator.throw(error)
        log.thrown.clear()
        del error
        assert gone() is None
    finally:
        gc.enable()


def test_what_a_generator_makes_current_stays_so_inside(spans: CapturedSpans) -> None:
    """A span of the SDK around a `yield` is current in the next step, and not for the consumer."""
    tracer = spans.tracer_provider.get_tracer("shop")
    seen: list[int] = []

    @traced
    def steps() -> Generator[int, None, None]:
        with tracer.start_as_current_span("inner") as inner:
            seen.append(inner.get_span_context().span_id)
            yield 0
            seen.append(current())
        seen.append(current())

    for _ in steps():
        assert current() == 0
    inner_span, outer_span = spans
    assert seen == [inner_span.context.span_id, inner_span.context.span_id, outer_span.context.span_id]
    assert spans.children_of(outer_span) == [inner_span]


def test_two_generators_take_turns(log: Log, spans: CapturedSpans) -> None:
    """Steps of several generators in any order do not mix their spans."""
    first, second = Log(), Log()
    for _ in zip(traced("first")(three)(first), traced("second")(three)(second), strict=False):
        assert current() == 0
    gc.collect()
    by_name = {span.name: span.context.span_id for span in spans}
    assert set(first.current) == {by_name["first"]}
    assert set(second.current) == {by_name["second"]}


def test_a_context_manager_of_a_generator_has_one_span(spans: CapturedSpans) -> None:
    """Set-up, body and tear-down are one span; an exception of the body that passes is recorded on it."""

    @contextmanager
    @traced
    def session() -> Generator[int, None, None]:
        yield current()

    with session() as inside:
        assert current() == 0
    with pytest.raises(ValueError, match="no stock"), session():
        raise ValueError("no stock")
    good, bad = spans
    assert inside == good.context.span_id
    assert good.status.status_code is StatusCode.UNSET
    assert attributes_of(bad)["error.type"] == "ValueError"
