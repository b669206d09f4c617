"""What goes on after the response: background work, and coroutines that are never finished."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
from collections.abc import Coroutine
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, get_current_span

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans

from ..support.asgi import (
    GONE,
    OK,
    Steps,
    body,
    http_scope,
    milliseconds,
    start,
)
from ..support.endings import (
    CANCELLED_MARK,
    ERROR,
    Ending,
    ending_of,
    nowhere,
    traced,
)


def test_a_background_failure_leaves_the_delivered_200_clean(spans: CapturedSpans) -> None:
    """It is recorded exactly once, on a child with the route's name that starts where the response ended."""
    traced(Steps(start(), body(b"ok"), 10, KeyError("mail")))

    server, (child,) = spans.server, spans.of_kind(SpanKind.INTERNAL)
    assert ending_of(server) == Ending(200)
    assert child.name == "GET background"
    assert child.parent is not None
    assert child.parent.span_id == server.context.span_id
    assert ending_of(child) == Ending(None, ERROR, "KeyError", 1)
    assert child.status.description == "'mail'"
    assert child.start_time == server.end_time
    assert milliseconds(child) >= 9


def test_background_spans_have_the_request_as_parent(spans: CapturedSpans) -> None:
    """What a background task traces belongs to the request's trace, below its span."""
    tracer = spans.tracer_provider.get_tracer("test")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await OK(scope, receive, send)
        with tracer.start_as_current_span("mail"):
            pass

    traced(app)

    (mail,) = spans.children_of(spans.server)
    assert mail.name == "mail"


def _suspended(app: ASGIApp) -> Coroutine[Any, Any, None]:
    """A request that waits for its client, in a context that is gone; nobody will wake it up."""

    @asyncio.coroutines.types.coroutine  # type: ignore[attr-defined, untyped-decorator]
    def receive() -> Any:
        yield

    request = TraceMiddleware(app)(http_scope(), receive, nowhere)
    assert isinstance(request, Coroutine)
    contextvars.copy_context().run(request.send, None)
    return request


async def _waits(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def _converts(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await receive()
    except GeneratorExit:
        raise RuntimeError("cleaning up failed") from None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("app", [_waits, _converts], ids=["as it is", "turned into another exception"])
def test_a_request_closed_by_the_garbage_collector_is_silent(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, app: ASGIApp
) -> None:
    """It is closed in a context that is not its own: no complaint about detaching, and the span ends as cancelled."""
    before = get_current_span()
    request = _suspended(app)
    del request
    gc.collect()

    assert [record.getMessage() for record in caplog.records] == []
    assert get_current_span() is before
    assert len(spans) == 1
    if app is _waits:
        assert ending_of(spans[0]) == Ending(None, ERROR, "GeneratorExit", 0, CANCELLED_MARK)


def test_a_stream_left_by_its_client_is_closed_quietly(spans: CapturedSpans, caplog: pytest.LogCaptureFixture) -> None:
    """A generator that is collected after its request keeps the request's span as parent, and logs nothing."""
    caplog.set_level(logging.DEBUG, "opentelemetry")
    tracer = spans.tracer_provider.get_tracer("test")
    parents: list[object] = []

    async def events() -> Any:
        try:
            while True:
                with tracer.start_as_current_span("event"):
                    parents.append(get_current_span())
                yield b"data: 1\n\n"
        finally:
            parents.append("closed")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        stream = events()
        await send(body(await stream.__anext__(), True))
        assert await receive() == GONE

    traced(app, script=[GONE])
    gc.collect()

    assert parents[-1] == "closed"
    assert [span.name for span in spans.children_of(spans.server)] == ["event"]
    assert [record.getMessage() for record in caplog.records] == []
