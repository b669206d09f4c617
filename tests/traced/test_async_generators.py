"""Async generators: as generators, and current in a caller that has entered one as a context manager."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from opentelemetry.trace import StatusCode

from asgi_trace import traced
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of
from ..support.generators import FAILED, AsyncSteps, Log, current, loops, outcome, three_async


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


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (0, 2, 1)], ids=str)
def test_context_managers_may_be_left_in_any_order(order: tuple[int, ...], spans: CapturedSpans) -> None:
    """What is still entered stays current, and afterwards the span from before is current again."""

    @asynccontextmanager
    @traced
    async def session() -> AsyncGenerator[int, None]:
        yield current()

    async def run() -> None:
        managers = [session() for _ in order]
        entered = [await manager.__aenter__() for manager in managers]
        inside = dict(enumerate(entered))
        for number in order:
            assert current() == inside[max(inside)]
            await managers[number].__aexit__(None, None, None)
            del inside[number]
        assert current() == 0

    asyncio.run(run())
    assert len(spans) == 3


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
