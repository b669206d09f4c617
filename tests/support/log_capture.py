"""What the log tests share: a handler that keeps records, and a real uvicorn whose log lines can be read."""

from __future__ import annotations

import json
import logging
import logging.config
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from typing import Any

import httpx
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import Span, format_span_id, format_trace_id

from asgi_trace._types import ASGIApp, Receive, Scope, Send
from asgi_trace.logging import TraceContextFilter, uvicorn_log_config

from .asgi import body, start
from .servers import UvicornServer, uvicorn_serving

NO_IDS = ("0", "0")
NO_SPAN = {"trace_id": "0", "span_id": "0", "trace_flags": "00"}
"""What stands on a record without a span."""

shop = logging.getLogger("shop")
"""The application's own logger."""


class Kept(logging.Handler):
    """A user's handler with our filter on it: keeps the records that reach it."""

    def __init__(self, service_name: str | None = None) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.addFilter(TraceContextFilter(service_name))

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def ids(self) -> dict[str, tuple[str, str]]:
        """Message -> (trace id, span id)."""
        return {record.getMessage(): ids_on(record) for record in self.records}


def ids_on(record: logging.LogRecord) -> tuple[str, str]:
    """The trace id and the span id that a record carries."""
    return record.__dict__["trace_id"], record.__dict__["span_id"]


def ids_of(span: ReadableSpan) -> tuple[str, str]:
    """The trace id and the span id of an exported span, as logs write them."""
    return f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"


def ids_in(span: Span) -> tuple[str, str]:
    """The ids of a span that may not be recorded, as logs write them."""
    span_context = span.get_span_context()
    return format_trace_id(span_context.trace_id), format_span_id(span_context.span_id)


def record(message: str = "paid", **extra: Any) -> logging.LogRecord:
    """A record of the logger `shop` that no handler has seen."""
    return logging.makeLogRecord({"name": "shop", "levelname": "INFO", "msg": message, **extra})


async def get(app: ASGIApp, path: str = "/", **options: Any) -> httpx.Response:
    """One request through httpx's own ASGI transport, in the task of the caller."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        return await client.get(path, **options)


async def answer(send: Send, status: int = 200) -> None:
    """A whole response."""
    await send(start(status))
    await send(body())


async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    """An application that writes one line, `raw`, and answers."""
    shop.info("raw")
    await answer(send)


@contextmanager
def kept_by(name: str) -> Iterator[Kept]:
    """The records of the logger `name` and those below it, whatever a server has made of these before."""
    logger, handler = logging.getLogger(name), Kept()
    below = [each for each in list(logging.root.manager.loggerDict) if each.startswith(f"{name}.")]
    with loggers_restored(name, *below):
        for each in (name, *below):
            logging.getLogger(each).disabled = False
            logging.getLogger(each).setLevel(logging.INFO)
        for each in below:
            logging.getLogger(each).propagate = True
        logger.addHandler(handler)
        yield handler


@contextmanager
def loggers_restored(*names: str) -> Iterator[None]:
    """Gives the named loggers back their handlers, levels and propagation, and what switches them off."""
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.handlers[:], logger.level, logger.propagate, logger.disabled) for logger in loggers]
    try:
        yield
    finally:
        for logger, (handlers, level, propagate, disabled) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate, logger.disabled = handlers, propagate, disabled
            logger.setLevel(level)


class Log:
    """What uvicorn's two handlers have written."""

    def __init__(self) -> None:
        self.access_stream, self.error_stream = StringIO(), StringIO()

    @property
    def access(self) -> list[str]:
        """The access lines."""
        return self.access_stream.getvalue().splitlines()

    @property
    def error(self) -> list[str]:
        """The lines of the error log."""
        return self.error_stream.getvalue().splitlines()

    def records(self) -> list[dict[str, Any]]:
        """All lines, access first, parsed as JSON."""
        return [json.loads(line) for line in [*self.access, *self.error]]


@contextmanager
def logging_uvicorn(app: ASGIApp, *, json_lines: bool = False, **options: Any) -> Iterator[tuple[UvicornServer, Log]]:
    """Serve `app` with our log configuration; the log is complete after the block."""
    log = Log()
    config = uvicorn_log_config(json=json_lines, service_name="shop")
    config["handlers"]["access"]["stream"] = log.access_stream
    config["handlers"]["default"]["stream"] = log.error_stream
    with loggers_restored("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.config.dictConfig(config)
        with uvicorn_serving(app, access_log=True, **options) as server:
            yield server, log
