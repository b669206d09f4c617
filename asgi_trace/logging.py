"""The ids of the current span on log records: a filter, a JSON formatter and uvicorn's logging with both.

Nothing here replaces a handler, a formatter or the record factory: a `TraceContextFilter` is added to the handlers
that should carry the ids. Field names follow OpenTelemetry's "Trace Context in non-OTLP Log Formats"; what they hold
is known to `_log_fields`.
"""

from __future__ import annotations

import json as _json
import logging
from datetime import datetime, timezone
from typing import Any

from opentelemetry.trace import TracerProvider

from ._log_fields import NO_ID, ServiceName, ids, span_context_for

__all__ = ["JSONFormatter", "TraceContextFilter", "trace_context", "uvicorn_log_config"]


class TraceContextFilter(logging.Filter):
    """Puts `trace_id`, `span_id`, `trace_flags` and `service.name` on every record that passes; lets all of them pass.

    Add it to handlers, not to loggers: a logger's filters do not see the records of the loggers below it.

        handler.addFilter(TraceContextFilter())
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s trace_id=%(trace_id)s span_id=%(span_id)s"))

    `trace_id` is 32 hex digits, `span_id` 16, `trace_flags` 2 (`01`: sampled); without a span `0`, `0` and `00`. The
    name stands on the record twice, as `service.name` for JSON formatters and as `service_name`; it is `service_name`
    when given, else that of the provider (`tracer_provider`, None is the global one), else that of `OTEL_SERVICE_NAME`
    and `OTEL_RESOURCE_ATTRIBUTES`. A record that carries a `trace_id` already keeps its ids: it may have passed a
    filter in the thread that wrote it (`QueueHandler`), or its author has set them.
    """

    def __init__(self, service_name: str | None = None, *, tracer_provider: TracerProvider | None = None) -> None:
        super().__init__()
        self._service_name = ServiceName(service_name, tracer_provider)

    def filter(self, record: logging.LogRecord) -> bool:
        """Write the attributes; always True."""
        fields = record.__dict__
        if "trace_id" not in fields:
            span_context = span_context_for(record.name, record.exc_info[1] if record.exc_info else None)
            fields.update(ids(span_context))
        if "service.name" not in fields:
            fields["service.name"] = fields["service_name"] = self._service_name()
        return True


def trace_context(exc: BaseException | None = None) -> dict[str, str]:
    """`trace_id`, `span_id` and `trace_flags` of the current span, for loggers and messages of any kind.

    `exc` is the exception that the record is about, when it is not the one being handled. Without a span they are
    `0`, `0` and `00`.
    """
    return ids(span_context_for("", exc))


# What every record has, what `Formatter.format` adds, and the coloured copy of the message that uvicorn adds.
_OF_EVERY_RECORD = frozenset(logging.makeLogRecord({}).__dict__) | {
    "asctime",
    "color_message",
    "message",
    "service_name",
    "taskName",
}


class JSONFormatter(logging.Formatter):
    """One JSON object a line: `timestamp` (UTC), `level`, `logger`, `message`, the ids, `service.name`, `exception`.

    What was passed as `extra` follows under its own names. The ids are left out where there is no span.
    """

    def __init__(self, *, use_colors: bool | None = None) -> None:
        """`use_colors` has no effect; uvicorn hands its own option of this name to every formatter."""
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON. What JSON does not know becomes text."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((name, value) for name, value in record.__dict__.items() if name not in _OF_EVERY_RECORD)
        if line.get("trace_id") == NO_ID:
            for name in ("trace_id", "span_id", "trace_flags"):
                line.pop(name, None)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return _json.dumps(line, default=str)


_IDS = "trace_id=%(trace_id)s span_id=%(span_id)s trace_flags=%(trace_flags)s service.name=%(service_name)s"


def uvicorn_log_config(*, json: bool = False, service_name: str | None = None) -> dict[str, Any]:
    """Uvicorn's own logging, with the ids on its access and error lines, plain or as JSON.

        uvicorn.run(app, log_config=uvicorn_log_config())

    Dumped to a `.json` or `.yaml` file it serves `uvicorn --log-config`. It is a new dict at each call: add your own
    loggers to it (`config["loggers"]["shop"] = {"handlers": ["default"], "level": "INFO"}`). The root logger's handlers
    stay what they are.
    """
    formatters: dict[str, Any] = {
        "default": {
            "()": "uvicorn.logging.DefaultFormatter",
            "fmt": f"%(levelprefix)s [{_IDS}] %(message)s",  # ahead: uvicorn's messages end with a line break
            "use_colors": None,
        },
        "access": {
            "()": "uvicorn.logging.AccessFormatter",
            "fmt": f'%(levelprefix)s %(client_addr)s - "%(request_line)s" %(status_code)s {_IDS}',
            "use_colors": None,
        },
    }
    if json:
        formatters = {name: {"()": "asgi_trace.logging.JSONFormatter"} for name in formatters}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"trace_context": {"()": "asgi_trace.logging.TraceContextFilter", "service_name": service_name}},
        "formatters": formatters,
        "handlers": {
            "default": _handler("default", "ext://sys.stderr"),
            "access": _handler("access", "ext://sys.stdout"),
        },
        "loggers": {
            "uvicorn": {"handlers": ["default"], "level": "INFO", "propagate": False},
            "uvicorn.error": {"level": "INFO"},
            "uvicorn.access": {"handlers": ["access"], "level": "INFO", "propagate": False},
        },
    }


def _handler(name: str, stream: str) -> dict[str, Any]:
    return {"class": "logging.StreamHandler", "formatter": name, "filters": ["trace_context"], "stream": stream}
