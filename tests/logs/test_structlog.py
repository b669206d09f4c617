"""structlog: the processor `add_trace_context` puts the ids on every event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
import structlog

from asgi_trace import TraceMiddleware
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.logging import trace_context
from asgi_trace.structlog import add_trace_context
from asgi_trace.testing import CapturedSpans

from ..support.log_capture import ids_of


@pytest.fixture
def log() -> Iterator[StringIO]:
    """What structlog writes, as JSON lines."""
    written = StringIO()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            add_trace_context,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(written),
    )
    yield written
    structlog.reset_defaults()


def serve(app: Any) -> None:
    async def run() -> None:
        async def outer(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await TraceMiddleware(app)(scope, receive, send)
            except ValueError as exc:
                caught.append(exc)
                structlog.get_logger().exception("failed")

        scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await outer(scope, receive, send)

    async def receive() -> Any:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        return

    caught: list[ValueError] = []
    asyncio.run(run())
    for exc in caught:
        structlog.get_logger().error("told later", exc_info=exc)
        structlog.get_logger().error("told later", exc_info=(ValueError, exc, None))


def events(log: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


async def answers(scope: Scope, receive: Receive, send: Send) -> None:
    structlog.get_logger().info("paid", order=7)
    await asyncio.to_thread(structlog.get_logger().info, "in a thread")
    await structlog.get_logger().ainfo("awaited")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def fails(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("no such order")


def test_events_in_a_request_carry_the_ids(log: StringIO, spans: CapturedSpans) -> None:
    """One processor adds ids, flags and service to every event of a request, in threads too."""
    serve(answers)
    trace_id, span_id = ids_of(spans.server)
    ids = {
        "trace_id": trace_id,
        "span_id": span_id,
        "trace_flags": f"{spans.server.context.trace_flags:02x}",
        "service.name": spans.tracer_provider.resource.attributes["service.name"],
    }
    assert events(log) == [
        {"event": "paid", "order": 7, **ids},
        {"event": "in a thread", **ids},
        {"event": "awaited", **ids},
    ]


def test_an_event_about_a_failed_request_carries_its_ids(log: StringIO, spans: CapturedSpans) -> None:
    """Outside of the middleware the exception tells which request it was, in each form that `exc_info` has."""
    serve(fails)
    ids = [(event["trace_id"], event["span_id"]) for event in events(log)]
    assert ids == [ids_of(spans.server)] * 3
    assert all("ValueError: no such order" in event["exception"] for event in events(log)[:2])


def test_an_event_about_anothers_exception_carries_its_own_ids(log: StringIO, spans: CapturedSpans) -> None:
    """An exception that has escaped from one request, and reaches the next, does not bring its ids along."""
    shared = ValueError("no such order")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        structlog.get_logger().error("told", exc_info=shared)
        raise shared

    serve(app)
    serve(app)
    told = [(event["trace_id"], event["span_id"]) for event in events(log) if event["event"] == "told"]
    first, second = (ids_of(span) for span in spans)
    assert told == [first, second]


def test_an_event_outside_of_a_request_carries_the_service_alone(log: StringIO) -> None:
    """Without a span there are no ids to search for, and no keys."""
    structlog.get_logger().info("started")
    assert events(log) == [{"event": "started", "service.name": "unknown_service"}]


def test_what_an_event_carries_already_stays(log: StringIO, spans: CapturedSpans) -> None:
    """Ids and service that the author gave are not overwritten."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        structlog.get_logger().info("replayed", **{"trace_id": "mine", "service.name": "other"})

    serve(app)
    assert events(log) == [{"event": "replayed", "trace_id": "mine", "service.name": "other"}]


def test_what_an_event_lacks_is_added(log: StringIO, spans: CapturedSpans) -> None:
    """One id that the author gave does not keep the others away, nor is it overwritten."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        structlog.get_logger().info("replayed", span_id="mine")
        structlog.get_logger().info("of this trace", trace_id=trace_context()["trace_id"])

    serve(app)
    trace_id, span_id = ids_of(spans.server)
    assert [(event["trace_id"], event["span_id"]) for event in events(log)] == [(trace_id, "mine"), (trace_id, span_id)]
