"""loguru: `trace_context()` in its patcher puts the ids on every line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import loguru
import pytest

from asgi_trace import TraceMiddleware
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.logging import trace_context
from asgi_trace.testing import CapturedSpans

from ..support.log_capture import ids_of

logger = loguru.logger


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What loguru writes, with the ids put into `extra` by its own hook."""
    written: list[str] = []
    logger.remove()
    logger.configure(patcher=lambda record: record["extra"].update(trace_context()))
    logger.add(written.append, format="{message} {extra[trace_id]} {extra[span_id]} {extra[trace_flags]}", catch=False)
    yield written
    logger.remove()
    logger.configure(patcher=lambda record: None)


async def receive() -> Any:
    return {"type": "http.request"}


async def send(message: Any) -> None:
    return


def serve(app: Any) -> None:
    asyncio.run(TraceMiddleware(app)({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send))


def line(message: str, spans: CapturedSpans) -> str:
    return " ".join([message, *ids_of(spans.server), f"{spans.server.context.trace_flags:02x}"]) + "\n"


def test_lines_of_a_request_carry_the_ids(lines: list[str], spans: CapturedSpans) -> None:
    """Loguru's patcher reads the ids when a line is written, on the loop and in threads."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        logger.info("paid")
        await asyncio.to_thread(logger.info, "in a thread")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    logger.info("before")
    serve(app)
    assert lines == ["before 0 0 00\n", line("paid", spans), line("in a thread", spans)]


def test_a_line_about_a_failed_request_carries_its_ids(lines: list[str], spans: CapturedSpans) -> None:
    """Outside of the middleware, the exception that is being handled tells which request it was."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("no such order")

    try:
        serve(app)
    except ValueError:
        logger.exception("failed")
    assert lines[0].startswith(line("failed", spans))
    assert "ValueError: no such order" in lines[0]


def test_a_line_about_anothers_exception_carries_its_own_ids(lines: list[str], spans: CapturedSpans) -> None:
    """An exception that has escaped from one request, and reaches the next, does not bring its ids along."""
    shared = ValueError("no such order")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            raise shared
        except ValueError:
            logger.info("told")
            raise

    for _ in range(2):
        with pytest.raises(ValueError, match="no such order"):
            serve(app)
    assert [line.split()[1:3] for line in lines] == [[*ids_of(span)] for span in spans]


def test_serialized_lines_carry_the_ids(lines: list[str], spans: CapturedSpans) -> None:
    """Loguru's own JSON has them under `extra`, also when it writes from its own thread."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        logger.info("paid")

    written: list[str] = []
    sink = logger.add(written.append, serialize=True, enqueue=True)
    serve(app)
    logger.complete()
    logger.remove(sink)
    extra = json.loads(written[0])["record"]["extra"]
    assert (extra["trace_id"], extra["span_id"]) == ids_of(spans.server)
