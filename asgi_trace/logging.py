"""The ids of the current span on log records: a filter, a JSON formatter and uvicorn's logging with both.

Nothing here replaces a handler, a formatter or the record factory: a `TraceContextFilter` is added to the handlers
that should carry the ids. Field names follow OpenTelemetry's "Trace Context in non-OTLP Log Formats". Which span they
name is decided in `_log_correlation`.
"""

from __future__ import annotations

import json as _json
import logging
from datetime import datetime, timezone
from typing import Any

from opentelemetry.trace import INVALID_SPAN_CONTEXT, TracerProvider

from ._log_correlation import NO_ID, OF_EVERY_RECORD, ServiceName, ids, ids_beside, span_context_for, span_context_now

__all__ = ["JSONFormatter", "TraceContextFilter", "trace_context", "uvicorn_log_config"]


class TraceContextFilter(logging.Filter):
    """Puts `trace_id`, `span_id`, `trace_flags` and `service.name` on every record that passes; lets all of them pass.

    Add it to handlers, not to loggers: a logger's filters do not see the records of the loggers below it.

        handler.addFilter(TraceContextFilter())
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s trace_id=%(trace_id)s span_id=%(span_id)s"))

    `trace_id` is 32 hex digits, `span_id` 16, `trace_flags` 2 (`01`: sampled); without a span they are `0`, `0` and
    `00`. On a line of the server (uvicorn, Hypercorn, gunicorn's ASGI worker, granian) they are those of the request's
    SERVER span. The service's name is on the record twice, as `service.name` for JSON formatters and as `service_name`
    for format strings: the argument, else the name of the provider (`tracer_provider`, None is the global one), else
    that of `OTEL_SERVICE_NAME`, else that of `OTEL_RESOURCE_ATTRIBUTES`.

    What a record carries already stays: it may have passed a filter in the thread that wrote it (`QueueHandler`), or
    the application has set it. Beside the `trace_id` of another trace the current span's ids would mislead, so the
    fields that are missing there become `0` and `00`.
    """

    def __init__(self, service_name: str | None = None, *, tracer_provider: TracerProvider | None = None) -> None:
        """Without arguments the service's name is looked up, as the class says."""
        super().__init__()
        self._service_name = ServiceName(service_name, tracer_provider)

    def filter(self, record: logging.LogRecord) -> bool:
        """Write the attributes; always True."""
        fields = record.__dict__
        if "trace_id" not in fields or "span_id" not in fields or "trace_flags" not in fields:
            span_context = span_context_for(record.name, record.exc_info[1] if record.exc_info else None)
            for name, value in ids_beside(fields, span_context).items():
                fields.setdefault(name, value)
        if "service.name" not in fields:
            fields["service.name"] = self._service_name()
        fields.setdefault("service_name", fields["service.name"])
        return True


def trace_context(exc: BaseException | None = None) -> dict[str, str]:
    """`trace_id`, `span_id` and `trace_flags` of the current span, for loggers and messages of any kind.

    Called while a handler of the standard library writes a record (loguru's intercept handler, a formatter), they are
    that record's: on a server's access line those of the request, whichever span is current. `exc` is the exception
    that the line is about, when it is not the one being handled. Without a span they are `0`, `0` and `00`.
    """
    return ids(span_context_now(exc))


_NO_IDS = ids(INVALID_SPAN_CONTEXT)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception:
        return object.__repr__(value)


_encode = _json.JSONEncoder(default=_text, allow_nan=False).encode


def _encode_each(line: dict[str, Any]) -> str:
    """`line` as JSON, field by field: a value that JSON cannot hold becomes text, the others stay what they are."""
    pairs: list[str] = []
    for name, value in line.items():
        try:
            written = _encode(value)
        except Exception:
            written = _encode(_text(value))
        pairs.append(f"{_encode(_text(name))}: {written}")
    return f"{{{', '.join(pairs)}}}"


class JSONFormatter(logging.Formatter):
    """One JSON object a line: `timestamp` (UTC), `level`, `logger`, `message`, the ids, `service.name`, `exception`.

    What was passed as `extra` follows under its own names, or as `extra.level` where a field of the line has that name.
    The ids are left out where there is no span.
    """

    def __init__(self, *, use_colors: bool | None = None) -> None:
        """`use_colors` has no effect: uvicorn passes its own option of this name to every formatter."""
        super().__init__()

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line of JSON. What JSON cannot hold (NaN, cycles, keys that are tuples) becomes text."""
        fields = record.__dict__
        last: dict[str, Any] = {}
        if record.exc_info:
            last["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            last["stack"] = self.formatStack(record.stack_info)
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="microseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in fields.items():
            if name in OF_EVERY_RECORD or (name == "service_name" and value == fields.get("service.name")):
                continue
            while name in line or name in last:
                name = f"extra.{name}"
            line[name] = value
        line.update(last)
        if NO_ID in (line.get("trace_id"), line.get("span_id")):
            for name, value in _NO_IDS.items():
                if line.get(name) == value:
                    del line[name]
        try:
            return _encode(line)
        except Exception:
            return _encode_each(line)


_IDS = "trace_id=%(trace_id)s span_id=%(span_id)s trace_flags=%(trace_flags)s service.name=%(service_name)s"


def uvicorn_log_config(*, json: bool = False, service_name: str | None = None) -> dict[str, Any]:
    """Uvicorn's own logging, with the ids on its access and error lines, plain or as JSON.

        uvicorn.run(app, log_config=uvicorn_log_config())

    `json` writes one JSON object a line; `service_name` is the one that lines carry, by default what
    `TraceContextFilter` finds.

    Dumped to a `.json` or `.yaml` file it serves `uvicorn --log-config`. It is a new dict at each call: add your own
    loggers to it (`config["loggers"]["shop"] = {"handlers": ["default"], "level": "INFO"}`). The root logger's handlers
    stay what they are.
    """
    formatters: dict[str, Any] = {
        "default": {
            "()": "uvicorn.logging.DefaultFormatter",
            "fmt": f"%(levelprefix)s [{_IDS}] %(message)s",  # ids first: some messages of uvicorn end with a newline
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
