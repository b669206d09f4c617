"""Generator functions and async generator functions with a span from the first step to the end.

The span is current while the generator's own code runs: it is made current before each step and put back after it, in
the same thread and context, so it does not matter that a framework runs each step in another thread. What the generator
itself makes current stays current inside it. A generator that is never started has no span.

A wrapper gets the globals of what it wraps (see `target.in_place_of`), so everything that it uses is in its closure.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import Token
from types import CodeType, FrameType
from typing import Any

from opentelemetry.context import Context

from .._otel.context import attach, get_current
from .operation import Operation, leave


def generator_function(target: Callable[..., Any], operation: Operation) -> Callable[..., Any]:
    """A generator function around a generator function."""
    tracer_now, start, steps_of = operation.tracer, operation.start, _Steps

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        generator = target(*args, **kwargs)
        tracer = tracer_now()
        context = None if tracer is None else start(tracer, args, kwargs)
        if context is None:
            return (yield from generator)
        steps = steps_of(operation, context)
        step, given = generator.send, None
        while True:
            try:
                produced = steps.run(step, given)
            except StopIteration as done:
                return done.value
            finally:
                given = None  # an exception that was thrown in would refer to itself through this frame
            try:
                given = yield produced
                step = generator.send
            except BaseException as thrown:
                step, given = generator.throw, thrown

    return wrapper


def async_generator_function(target: Callable[..., Any], operation: Operation) -> Callable[..., Any]:
    """An async generator function around an async generator function."""
    tracer_now, start, steps_of = operation.tracer, operation.start, _AsyncSteps
    frame_at = sys._getframe

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        generator = target(*args, **kwargs)
        tracer = tracer_now()
        context = None if tracer is None else start(tracer, args, kwargs)
        steps = None if context is None else steps_of(operation, context, frame_at(1))
        step, given = generator.asend, None
        while True:
            try:
                produced = await (step(given) if steps is None else steps.run(step(given)))
            except StopAsyncIteration:
                return
            finally:
                given = None
            try:
                given = yield produced
                step = generator.asend
            except BaseException as thrown:
                step, given = generator.athrow, thrown

    _WRAPPERS.add(wrapper.__code__)
    return wrapper


class _Steps:
    """A generator in progress, whose span is current during each step."""

    __slots__ = ("_operation", "_span", "_within")

    def __init__(self, operation: Operation, context: Context) -> None:
        self._operation = operation
        self._span = context
        self._within = context

    def run(self, step: Callable[[Any], Any], given: Any) -> Any:
        """Run the generator to its next `yield`. Raises what it raises, StopIteration included."""
        token = attach(self._within)
        try:
            produced = step(given)
        except StopIteration:
            leave(token)
            self._operation.end(self._span)
            raise
        except BaseException as exc:
            del step, given  # what was thrown in would refer to itself through this frame
            leave(token)
            self._operation.failed(self._span, exc)
            raise
        self._within = get_current()
        leave(token)
        return produced


class _AsyncSteps:
    """An async generator in progress, whose span is current during each step.

    From the first step to the second it is current in the caller as well, when that has entered the generator as a
    context manager or as a dependency: what runs in between is what the generator is there for.
    """

    __slots__ = ("_kept", "_operation", "_span", "_stays", "_within")

    def __init__(self, operation: Operation, context: Context, caller: FrameType | None) -> None:
        self._operation = operation
        self._span = context
        self._stays = _enters(caller)
        self._within = _Entered(context) if self._stays else context
        self._kept: Token[Context] | None = None

    async def run(self, step: Awaitable[Any]) -> Any:
        """Run the generator to its next `yield`. Raises what it raises, StopAsyncIteration included."""
        if self._kept is not None:
            self._leave_caller(self._kept)
            self._kept = None
        token = attach(self._within)
        try:
            produced = await step
        except StopAsyncIteration:
            leave(token)
            self._operation.end(self._span)
            raise
        except BaseException as exc:
            del step
            leave(token)
            self._operation.failed(self._span, exc)
            raise
        self._within = get_current()
        if self._stays:
            self._stays = False
            self._kept = token
        else:
            leave(token)
        return produced

    def _leave_caller(self, kept: Token[Context]) -> None:
        """Put back what was current in the caller before it entered, now or when what it entered later is left.

        Dependencies of different scopes are not left in the reverse order: FastAPI leaves one of the scope "function"
        before one of the scope "request" that was entered after it.
        """
        if isinstance(self._within, _Entered) and get_current() is not self._within:
            self._within.left = kept
            return
        leave(kept)
        while isinstance(before := get_current(), _Entered) and before.left is not None:
            kept, before.left = before.left, None
            leave(kept)


class _Entered(Context):
    """The context that is current in a caller while it is inside an async generator."""

    left: Token[Context] | None = None
    """What to put back, where the generator is over and another one was entered after it."""


@asynccontextmanager
async def _nothing() -> AsyncGenerator[None, None]:
    yield


_entering: Any = type(_nothing()).__aenter__
_ENTERING: CodeType = _entering.__code__
"""The code in which `contextlib.asynccontextmanager` runs the first step: so FastAPI enters a `yield` dependency."""
_INJECTING = "litestar._kwargs.dependencies"
"""The module in which Litestar runs the first step of a provider."""
_WRAPPERS: set[CodeType] = {_AsyncSteps.run.__code__}
"""The code of what stands between the caller and a generator that is decorated twice."""


def _enters(caller: FrameType | None) -> bool:
    """Does the caller of the first step go on while the generator waits in its `yield`, as the body of a `with` does?

    An `async for` does not: between two steps it is the consumer's code that runs.
    """
    while caller is not None and caller.f_code in _WRAPPERS:
        caller = caller.f_back
    return caller is not None and (caller.f_code is _ENTERING or caller.f_globals.get("__name__") == _INJECTING)
