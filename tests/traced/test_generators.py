"""Generators and async generators: one span from the first step to the end, in every way in which they can end."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from contextlib import aclosing, asynccontextmanager, closing, contextmanager, suppress
from typing import Any, TypeVar

import pytest
import trio
from opentelemetry.trace import StatusCode, get_current_span

from asgi_trace import traced
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of

T = TypeVar("T")
Steps = Generator[int, Any, str]
AsyncSteps = AsyncGenerator[int, Any]


def current() -> int:
    """The id of the current span."""
    return get_current_span().get_span_context().span_id


def in_asyncio(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return asyncio.run(work())


def in_trio(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    return trio.run(work)


LOOPS: list[Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]] = [in_asyncio, in_trio]
loops = pytest.mark.parametrize("loop", LOOPS)


class Log:
    """What a generator saw, from the inside."""

    def __init__(self) -> None:
        self.current: list[int] = []
        self.given: list[Any] = []
        self.thrown: list[BaseException] = []
        self.finished = 0


@pytest.fixture
def log() -> Log:
    return Log()


def three(log: Log, *, catches: bool = False) -> Steps:
    """Yields 0, 1, 2 and notes what happens to it."""
    try:
        for number in range(3):
            log.current.append(current())
            try:
                log.given.append((yield number))
            except ValueError as exc:
                log.thrown.append(exc)
                if not catches:
                    raise
        return "done"
    finally:
        log.current.append(current())
        log.finished += 1


async def three_async(log: Log, *, catches: bool = False) -> AsyncSteps:
    """The same, and awaits."""
    try:
        for number in range(3):
            log.current.append(current())
            try:
                log.given.append((yield number))
            except ValueError as exc:
                log.thrown.append(exc)
                if not catches:
                    raise
    finally:
        log.current.append(current())
        log.finished += 1


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
FAILED = {"thrown into": ("ValueError", 1)}


def outcome(spans: CapturedSpans) -> tuple[Any, int]:
    """`error.type` of the only span, and how many exceptions are recorded on it."""
    [span] = spans
    failed = attributes_of(span).get("error.type")
    assert (span.status.status_code is StatusCode.ERROR) == (failed is not None)
    assert "asgi_trace.cancelled" not in attributes_of(span)
    return failed, len(span.events)


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


# Async generators


async def exhausted_async(generator: AsyncSteps) -> None:
    seen = []
    async for number in generator:
        assert current() == 0
        seen.append(number)
    assert seen == [0, 1, 2]


async def closed_early_async(generator: AsyncSteps) -> None:
    async with aclosing(generator):
        assert await anext(generator) == 0


async def broken_off(generator: AsyncSteps) -> None:
    async for _ in generator:
        assert current() == 0
        break
    await generator.aclose()


async def thrown_into_async(generator: AsyncSteps) -> None:
    await anext(generator)
    with pytest.raises(ValueError, match="no stock"):
        await generator.athrow(ValueError("no stock"))


async def sent_values(generator: AsyncSteps) -> None:
    assert [await generator.asend(None), await generator.asend("a"), await generator.asend("b")] == [0, 1, 2]
    with pytest.raises(StopAsyncIteration):
        await generator.asend("c")


ASYNC_ENDS: dict[str, Callable[[AsyncSteps], Awaitable[None]]] = {
    "exhausted": exhausted_async,
    "closed early": closed_early_async,
    "broken off": broken_off,
    "thrown into": thrown_into_async,
    "sent values": sent_values,
}


@loops
@pytest.mark.parametrize("end", ASYNC_ENDS)
def test_an_async_generator_ends_its_span(end: str, loop: Any, log: Log, spans: CapturedSpans) -> None:
    """As a generator's: current inside, not for an `async for`, and closing it is no error."""

    async def run() -> None:
        await ASYNC_ENDS[end](traced(three_async)(log))
        assert current() == 0

    loop(run)
    assert outcome(spans) == FAILED.get(end, (None, 0))
    assert set(log.current) == {spans[0].context.span_id}
    assert log.finished == 1


@pytest.mark.parametrize("end", ASYNC_ENDS)
def test_an_async_generator_without_a_span_runs_as_it_is(end: str, log: Log) -> None:
    """Values that are sent, exceptions that are thrown in, and the close reach it without a provider, too."""

    async def run() -> None:
        await ASYNC_ENDS[end](traced(three_async)(log))

    asyncio.run(run())
    assert set(log.current) == {0}
    assert log.finished == 1
    assert len(log.thrown) == (end == "thrown into")
    assert log.given == (["a", "b", "c"] if end == "sent values" else log.given)


def test_an_async_generator_that_is_collected_ends_its_span(log: Log, spans: CapturedSpans) -> None:
    """The loop closes it in a task of its own."""

    async def run() -> None:
        generator = traced(three_async)(log)
        await anext(generator)
        del generator
        gc.collect()
        for _ in range(3):
            await asyncio.sleep(0)

    asyncio.run(run())
    assert outcome(spans) == (None, 0)
    assert log.finished == 1


def test_each_step_of_an_async_generator_may_run_in_another_task(log: Log, spans: CapturedSpans) -> None:
    """No task keeps the span."""

    async def step(generator: AsyncSteps) -> Any:
        value = await anext(generator, "end")
        assert current() == 0
        return value

    async def run() -> list[Any]:
        generator = traced(three_async)(log)
        return [await asyncio.create_task(step(generator)) for _ in range(4)]

    assert asyncio.run(run()) == [0, 1, 2, "end"]
    assert outcome(spans) == (None, 0)


def test_an_async_generator_that_is_cancelled_says_so(log: Log, spans: CapturedSpans) -> None:
    """A cancellation inside of it is marked, and no error."""

    @traced
    async def waits() -> AsyncSteps:
        yield 0
        await asyncio.sleep(3600)
        yield 1

    async def run() -> None:
        generator = waits()
        await anext(generator)
        task = asyncio.ensure_future(anext(generator))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    [span] = spans
    assert attributes_of(span)["asgi_trace.cancelled"] is True
    assert (span.status.status_code, span.events) == (StatusCode.UNSET, ())


# Entered as a context manager


@loops
def test_an_async_context_manager_has_its_span_current_in_its_body(loop: Any, spans: CapturedSpans) -> None:
    """What the body opens is a child of it; afterwards the span from before is current again."""
    tracer = spans.tracer_provider.get_tracer("shop")
    seen: list[int] = []

    @asynccontextmanager
    @traced
    async def session(name: str) -> AsyncGenerator[str, None]:
        seen.append(current())
        yield name
        seen.append(current())

    async def run() -> None:
        with tracer.start_as_current_span("outer"):
            outer = current()
            async with session("a") as name:
                seen.append(current())
                with tracer.start_as_current_span(f"within {name}"):
                    pass
                async with session("b"):
                    seen.append(current())
                seen.append(current())
            assert current() == outer
        assert current() == 0

    loop(run)
    within, inner, session_span, outer_span = spans
    assert spans.children_of(outer_span) == [session_span]
    assert spans.children_of(session_span) == [within, inner]
    a, b = session_span.context.span_id, inner.context.span_id
    assert seen == [a, a, b, b, b, a, a]


@loops
def test_an_exception_of_the_body_is_recorded_on_the_context_manager(loop: Any, spans: CapturedSpans) -> None:
    """The generator may let it pass or handle it, and what was current before is so again."""

    def fails() -> None:
        raise ValueError("no stock")

    @asynccontextmanager
    @traced
    async def session(handles: bool) -> AsyncGenerator[None, None]:
        try:
            yield
        except ValueError:
            if not handles:
                raise

    async def run() -> None:
        with pytest.raises(ValueError, match="no stock"):
            async with session(False):
                raise ValueError("no stock")
        assert current() == 0
        async with session(True):
            fails()
        assert current() == 0

    loop(run)
    passed, handled = spans
    assert (attributes_of(passed)["error.type"], len(passed.events)) == ("ValueError", 1)
    assert (handled.status.status_code, handled.events) == (StatusCode.UNSET, ())


def test_a_context_manager_may_be_left_in_another_task(spans: CapturedSpans) -> None:
    """Frameworks that clean up elsewhere find their own context as it is."""

    @asynccontextmanager
    @traced
    async def session() -> AsyncGenerator[int, None]:
        yield current()
        seen.append(current())

    seen: list[int] = []

    async def leave(manager: Any) -> None:
        await manager.__aexit__(None, None, None)
        assert current() == 0

    async def run() -> None:
        loop = asyncio.get_running_loop()
        manager = session()
        inside = await asyncio.create_task(manager.__aenter__())
        assert current() == 0
        task: asyncio.Task[None] = loop.create_task(leave(manager))
        await task
        seen.append(inside)

    asyncio.run(run())
    assert seen == [spans[0].context.span_id] * 2


def test_two_decorators_are_two_spans_and_the_inner_one_is_current(spans: CapturedSpans) -> None:
    """The body of an async context manager runs in the innermost span."""

    @asynccontextmanager
    @traced("outer")
    @traced("inner")
    async def session() -> AsyncGenerator[None, None]:
        yield

    async def run() -> int:
        async with session():
            inside = current()
        assert current() == 0
        return inside

    inside = asyncio.run(run())
    inner, outer = spans
    assert spans.children_of(outer) == [inner]
    assert inside == inner.context.span_id
