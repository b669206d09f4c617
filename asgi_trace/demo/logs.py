"""The services' log lines, as `asgi_trace.logging.JSONFormatter` writes them, back into records for the store."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any

from ..viewer.receive.records import LogRecord

_OWN_FIELDS = frozenset(
    ("timestamp", "level", "logger", "message", "trace_id", "span_id", "trace_flags", "service.name", "exception")
)


def read_log(service: str, line: str) -> LogRecord:
    """The record of one line; text that is no JSON is a line of its own without a trace."""
    try:
        fields = json.loads(line)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return LogRecord(time=time.time_ns(), severity="", body=line.rstrip("\n"), service=service)
    attributes: dict[str, Any] = {name: value for name, value in fields.items() if name not in _OWN_FIELDS}
    if "exception" in fields:
        attributes["exception.stacktrace"] = str(fields["exception"])
    return LogRecord(
        time=_nanoseconds(fields.get("timestamp")),
        severity=str(fields.get("level", "")),
        body=str(fields.get("message", "")).rstrip("\n"),
        service=str(fields.get("service.name") or service),
        logger=str(fields.get("logger", "")),
        trace_id=str(fields.get("trace_id", "")),
        span_id=str(fields.get("span_id", "")),
        attributes=attributes,
    )


def _nanoseconds(timestamp: object) -> int:
    try:
        moment = datetime.fromisoformat(str(timestamp))
    except ValueError:
        return time.time_ns()
    return int(moment.timestamp() * 1_000_000) * 1_000
