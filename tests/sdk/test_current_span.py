"""`start_as_current_span` of our tracer and of the SDK's: as a block, as a decorator, and left the wrong way."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
from collections.abc import Generator
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk import trace as official
from opentelemetry.trace import INVALID_SPAN, get_current_span

from asgi_trace import _sdk as sdk

from ..support.sdk import Stage, both, heard


class _Stop(BaseException):
    """Not an error, as GeneratorExit is none."""


@pytest.mark.parametrize("error", [ValueError("bad"), StopIteration("early"), _Stop(), GeneratorExit(), None], ids=repr)
@pytest.mark.parametrize("end_on_exit", [True, False])
def test_a_block_ends_alike(error: BaseException | None, end_on_exit: bool) -> None:
    """What is raised goes on, an Exception is recorded and nothing else is, the earlier span is current again."""
    seen: list[Any] = []
    for stage in both():
        raised: Any = None
        try:
            with stage.tracer.start_as_current_span("name", Context(), end_on_exit=end_on_exit) as span:
                assert get_current_span() is span
                if error is not None:
                    raise error
        except BaseException as exc:
            raised = exc
        assert raised is error
        assert get_current_span() is INVALID_SPAN
        found: Any = span
        seen.append(
            [found.is_recording(), found.status.status_code, found.status.description, len(stage.processor.ended)]
            + [dict(event.attributes)["exception.type"] for event in found.events]
        )
    assert seen[0] == seen[1]
    assert seen[1][0] is not end_on_exit


def test_a_span_that_ended_inside_is_left_as_it_is() -> None:
    """An exception after the span's end is recorded nowhere, and the second end is logged as with the SDK."""
    seen = []
    for stage in both():
        with heard() as messages:
            try:
                with stage.tracer.start_as_current_span("name") as span:
                    span.end()
                    raise ValueError("late")
            except ValueError:
                pass
        found: Any = span
        seen.append((len(found.events), found.status.status_code, messages))
    assert seen[0] == seen[1]


def test_a_coroutine_function_has_its_span_until_it_returns() -> None:
    """The decorator waits for a coroutine function, which stays one, and gives each call a span of its own."""
    for stage in both():

        @stage.tracer.start_as_current_span("decorated", attributes={"a": 1})
        async def work(number: int) -> int:
            await asyncio.sleep(0)
            assert get_current_span().is_recording()
            return number

        assert inspect.iscoroutinefunction(work)
        assert work.__name__ == "work"
        assert asyncio.run(work(1)) + asyncio.run(work(2)) == 3
        assert [span.name for span in stage.processor.ended] == ["decorated", "decorated"]
        assert get_current_span() is INVALID_SPAN


def test_a_block_that_is_left_in_another_context_says_so() -> None:
    """An abandoned generator is closed elsewhere: the span ends, and the log says what the API says."""
    seen = []
    for kind in (official.TracerProvider, sdk.TracerProvider):
        stage = Stage(kind)

        def block(stage: Stage = stage) -> Generator[None, None, None]:
            with stage.tracer.start_as_current_span("name"):
                yield

        generator = block()
        contextvars.copy_context().run(next, generator)
        with heard() as messages:
            generator.close()
        seen.append((len(stage.processor.ended), [message[:2] for message in messages], messages[0][2][:24]))
    assert seen[0] == seen[1]


def test_it_is_a_context_manager_for_those_who_ask() -> None:
    """`contextlib` takes it, and nothing starts before the block does."""
    for stage in both():
        manager = stage.tracer.start_as_current_span("name")
        assert isinstance(manager, contextlib.AbstractContextManager)
        assert stage.ids.asked == []
        with contextlib.ExitStack() as stack:
            assert stack.enter_context(manager).is_recording()
        assert [span.name for span in stage.processor.ended] == ["name"]


def test_a_start_span_that_was_replaced_counts() -> None:
    """A tracer whose `start_span` was replaced starts the block's span with that."""
    for stage in both():
        tracer: Any = stage.tracer
        tracer.start_span = lambda *args, **kwargs: INVALID_SPAN
        with tracer.start_as_current_span("name") as span:
            assert span is INVALID_SPAN
