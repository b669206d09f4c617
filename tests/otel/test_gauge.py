"""The number of active requests returns to zero, however requests end."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind

from asgi_trace._types import Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import (
    GONE,
    OK,
    REQUEST,
    body,
    http_scope,
    serve,
    start,
    websocket_scope,
)
from ..support.metrics import (
    ACTIVE,
    SERVER,
    Meters,
    traced,
)


def test_the_gauge_counts_what_is_in_progress(meters: Meters, spans: CapturedSpans) -> None:
    """It stands at the number of requests that have begun and not ended."""
    seen = []

    async def run() -> None:
        gate = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await gate.wait()
            await OK(scope, receive, send)

        middleware = traced(app, meters, metrics=ACTIVE)
        tasks = [asyncio.create_task(serve(middleware)) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        seen.extend(meters.active())
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert (seen, meters.active()) == ([3], [0])


EXCEPTIONS = [ValueError(), OSError(), asyncio.CancelledError(), SystemExit(), KeyboardInterrupt(), GeneratorExit()]
STEPS = st.one_of(
    st.sampled_from([start(200), start(404), start(500), start(200, trailers=True), body(), body(b"x", True)]),
    st.sampled_from(
        [{"type": "http.response.trailers", "headers": []}, {"type": "http.response.pathsend", "path": ""}]
    ),
    st.sampled_from([{"type": "http.response.debug"}, {}, "receive", "pause"]),
    st.sampled_from(EXCEPTIONS),
)
RECEIVED = st.sampled_from([REQUEST, GONE, {"type": "http.request", "body": b"xy", "more_body": True}, {}, OSError()])


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(STEPS, max_size=6),
    script=st.lists(RECEIVED, max_size=3),
    cancel_at=st.none() | st.integers(0, 3),
    broken_send=st.none() | st.tuples(st.integers(0, 3), st.sampled_from(EXCEPTIONS)),
    sampled=st.booleans(),
    websocket=st.booleans(),
)
def test_the_gauge_returns_to_zero_after_every_ending(
    steps: list[Any],
    script: list[Any],
    cancel_at: int | None,
    broken_send: tuple[int, BaseException] | None,
    sampled: bool,
    websocket: bool,
) -> None:
    """Whatever an application, its client and its server do to a request, it ends once, and the gauge knows."""
    meters = Meters()
    pauses = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            if step == "receive":
                await receive()
            elif step == "pause":
                await pause()
            else:
                await send(dict(step))

    class Pause:
        def __await__(self) -> Any:
            yield

    async def pause() -> None:
        await Pause()

    messages = iter(script)

    async def receive() -> Message:
        await pause()
        message = next(messages, GONE)
        if isinstance(message, BaseException):
            raise message
        return message

    sends = 0

    async def send(message: Message) -> None:
        nonlocal sends
        sends += 1
        await pause()
        if broken_send is not None and broken_send[0] == sends:
            raise broken_send[1]

    ending: BaseException | None = None
    with capture_spans(None if sampled else ALWAYS_OFF) as spans:
        scope = websocket_scope() if websocket else http_scope()
        running: Any = traced(app, meters, metrics=SERVER)(scope, receive, send)
        try:  # a server's event loop, as small as can be
            while True:
                running.send(None)
                pauses += 1
                if pauses == cancel_at:
                    running.throw(asyncio.CancelledError())
                if pauses > 50:
                    running.close()
        except BaseException as exc:
            ending = exc
        assert isinstance(ending, (StopIteration, RuntimeError, *map(type, EXCEPTIONS)))
        assert len(spans.of_kind(SpanKind.SERVER)) == (1 if sampled else 0)

    assert meters.active() == ([] if websocket else [0])
    assert sum(point.count for point in meters.points()) == (0 if websocket else 1)
    meters.provider.shutdown()


def test_the_gauge_returns_to_zero_when_the_task_is_dropped(meters: Meters, spans: CapturedSpans) -> None:
    """A request that the garbage collector closes in the middle has ended, too."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200))
        await receive()

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def ignore(message: Message) -> None:
        return

    async def run() -> None:
        running = traced(app, meters, metrics=SERVER)(http_scope(), never, ignore)
        running.send(None)
        assert meters.active() == [1]
        running.close()

    asyncio.run(run())
    assert meters.active() == [0]
