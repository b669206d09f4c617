"""Generators that note what happens to them, for the tests of `traced`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from typing import Any, TypeVar

import pytest
import trio
from opentelemetry.trace import StatusCode, get_current_span

from asgi_trace.testing import CapturedSpans

from .asgi import attributes_of

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


def outcome(spans: CapturedSpans) -> tuple[Any, int]:
    """`error.type` of the only span, and how many exceptions are recorded on it."""
    [span] = spans
    failed = attributes_of(span).get("error.type")
    assert (span.status.status_code is StatusCode.ERROR) == (failed is not None)
    assert "asgi_trace.cancelled" not in attributes_of(span)
    return failed, len(span.events)


FAILED = {"thrown into": ("ValueError", 1)}
