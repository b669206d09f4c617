"""A server's lines that reach another logging library through a handler: their ids are those of the SERVER span.

The library behind a handler gets a message and a level. Which logger wrote the record, and for which request, is known
to the standard library alone, or to the record when it has been through a queue.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, TypeAlias, cast

import loguru
import pytest
import structlog

from asgi_trace import TraceMiddleware
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.logging import TraceContextFilter, trace_context
from asgi_trace.structlog import add_trace_context
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of, body, start
from ..support.log_capture import NO_IDS, ids_of, loggers_restored
from ..support.servers import uvicorn_serving

Line: TypeAlias = tuple[str, str, str]
"""Message, trace id, span id."""
Bridge: TypeAlias = Callable[[list[Line]], AbstractContextManager[logging.Handler]]


def line_of(event: Any) -> Line:
    return str(event["event"]), event.get("trace_id", "0"), event.get("span_id", "0")


def processor_formatter(lines: list[Line]) -> logging.Handler:
    """structlog's own bridge, with our processor in the chain for records of the standard library."""

    def keep(logger: Any, name: str, event: Any) -> str:
        lines.append(line_of(event))
        return ""

    handler = logging.StreamHandler()
    handler.terminator = ""
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, add_trace_context],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, keep],
        )
    )
    return handler


@contextmanager
def structlog_foreign(lines: list[Line]) -> Iterator[logging.Handler]:
    yield processor_formatter(lines)


@contextmanager
def structlog_behind_a_queue(lines: list[Line]) -> Iterator[logging.Handler]:
    """The filter has put the ids on the record in the thread that wrote it; structlog formats it in another one."""
    records: queue.Queue[logging.LogRecord] = queue.Queue()
    ahead = logging.handlers.QueueHandler(records)
    ahead.addFilter(TraceContextFilter())
    listener = logging.handlers.QueueListener(records, processor_formatter(lines))
    listener.start()
    yield ahead
    listener.stop()


@contextmanager
def structlog_intercept(lines: list[Line]) -> Iterator[logging.Handler]:
    """A handler that logs each record again with structlog."""

    class Intercept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            structlog.get_logger().log(record.levelno, record.getMessage(), exc_info=record.exc_info)

    def keep(logger: Any, name: str, event: Any) -> Any:
        lines.append(line_of(event))
        raise structlog.DropEvent

    structlog.configure(processors=[add_trace_context, keep])
    yield Intercept()
    structlog.reset_defaults()


@contextmanager
def loguru_intercept(lines: list[Line]) -> Iterator[logging.Handler]:
    """The handler of loguru's documentation, with our ids from its patcher."""

    class Intercept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            loguru.logger.opt(depth=6, exception=record.exc_info).log(record.levelname, record.getMessage())

    def keep(message: Any) -> None:
        extra = message.record["extra"]
        lines.append((message.record["message"], extra["trace_id"], extra["span_id"]))

    loguru.logger.remove()
    loguru.logger.configure(patcher=lambda record: record["extra"].update(trace_context()))
    loguru.logger.add(keep, catch=False)
    yield Intercept()
    loguru.logger.remove()
    loguru.logger.configure(patcher=lambda record: None)


@contextmanager
def own_formatter(lines: list[Line]) -> Iterator[logging.Handler]:
    """A formatter that asks for the ids while it formats."""

    class Formatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            ids = trace_context()
            lines.append((record.getMessage(), ids["trace_id"], ids["span_id"]))
            return ""

    handler = logging.StreamHandler()
    handler.terminator = ""
    handler.setFormatter(Formatter())
    yield handler


BRIDGES: list[Bridge] = [
    structlog_foreign,
    structlog_behind_a_queue,
    structlog_intercept,
    loguru_intercept,
    own_formatter,
]


@pytest.fixture(params=BRIDGES, ids=lambda bridge: bridge.__name__)
def lines(request: pytest.FixtureRequest) -> Iterator[list[Line]]:
    """What arrives behind one bridge of what uvicorn and the logger `shop` write; complete after `close`."""
    written: list[Line] = []
    names = ("uvicorn", "uvicorn.error", "uvicorn.access", "shop")
    with loggers_restored(*names), request.param(written) as handler:
        for name in names:
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate, logger.disabled = [handler], False, False
            logger.setLevel(logging.INFO)
        yield written


def complete(lines: list[Line]) -> list[Line]:
    """The lines, after those that still stand in a queue."""
    for handler in logging.getLogger("uvicorn.access").handlers:
        if isinstance(handler, logging.handlers.QueueHandler):
            cast(Any, handler.queue).join()
    return lines


async def shop(scope: Scope, receive: Receive, send: Send) -> None:
    path = scope["path"]
    logging.getLogger("shop").info("serving %s", path)
    if path == "/raises":
        raise ValueError("no such order")
    if path == "/unanswered":
        return
    await send(start(404 if path == "/missing" else 200, [(b"content-length", b"2")]))
    if path != "/half":
        await send(body(b"ok"))


PATHS = {
    "/ok": ["/ok"],
    "/missing": ["/missing"],
    "/unanswered": ["/unanswered", "without starting response"],
    "/half": ["/half", "without completing response"],
    "/raises": ["/raises", "Exception in ASGI application"],
}
"""For each path a word of every line that the server writes about it."""


@pytest.mark.parametrize("path", PATHS)
def test_a_servers_line_behind_a_handler_carries_the_ids_of_the_server_span(
    path: str, lines: list[Line], spans: CapturedSpans
) -> None:
    """Access and error lines name the request's own span, not the one that the application has opened inside of it."""
    tracer = spans.tracer_provider.get_tracer("shop")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with tracer.start_as_current_span("render"):
            await shop(scope, receive, send)

    with uvicorn_serving(TraceMiddleware(app), access_log=True) as server, suppress(EOFError):
        server.get(path)

    request = ids_of(spans.server)
    [child] = spans.children_of(spans.server)
    written = complete(lines)
    about = [line for line in written if any(word in line[0] for word in PATHS[path]) and "serving" not in line[0]]
    assert sorted({line[1:] for line in about}) == [request]
    assert len(about) == len(PATHS[path])
    assert [line for line in written if "serving" in line[0]] == [(f"serving {path}", *ids_of(child))]
    assert {line[1:] for line in written if "Uvicorn" in line[0] or "Started" in line[0]} <= {NO_IDS}


def test_a_line_outside_of_a_request_has_no_ids(lines: list[Line], spans: CapturedSpans) -> None:
    """A bridge adds nothing of its own: what the span is, the record's place decides."""
    with spans.tracer_provider.get_tracer("shop").start_as_current_span("job"):
        logging.getLogger("shop").info("in a job")
    logging.getLogger("shop").info("outside")
    assert {line[0]: line[1:] for line in complete(lines)} == {"in a job": ids_of(spans[0]), "outside": NO_IDS}
    assert attributes_of(spans[0]) == {}
