"""From a log record of the standard library to one of OpenTelemetry's log data model. Pure functions."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from time import time_ns
from typing import Any

from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext

from .._log_correlation import OF_EVERY_RECORD
from .._options.redact import Redaction
from .._options.text import encodable
from .._otel.api import SPAN_KEY
from .._otel.exceptions import exception_attributes
from .._semconv.names import CODE_FILE_PATH, CODE_FUNCTION_NAME, CODE_LINE_NUMBER

_OURS = frozenset({"trace_id", "span_id", "trace_flags", "service.name", "service_name"})
"""What `TraceContextFilter` adds: the record has fields of its own for it, or its resource has."""

_REDACTION = Redaction()
"""The standard rule: a record knows no middleware and no transport."""

_DEPTH = 6  # of nested values; what lies deeper is written as text


def translate(record: logging.LogRecord, span_context: SpanContext) -> LogRecord:
    """The same record for OpenTelemetry, as written within the span of `span_context`.

    Times are nanoseconds since the epoch. The body is the formatted message; the severity's text is the level's name.
    Attributes are `code.*` of the call, `exception.*`, and the fields that were passed as `extra`.
    """
    seconds, fraction = divmod(record.created, 1)  # a float has not enough digits for all of it in nanoseconds
    return LogRecord(
        timestamp=int(seconds) * 1_000_000_000 + round(fraction * 1_000_000_000),
        observed_timestamp=time_ns(),
        context=Context({SPAN_KEY: NonRecordingSpan(span_context)}),
        severity_number=severity(record.levelno),
        severity_text=record.levelname,
        body=body_of(record),
        attributes=_attributes(record),
    )


def severity(level: int) -> SeverityNumber:
    """The severity of a level: DEBUG is 5, INFO 9, WARNING 13, ERROR 17 and CRITICAL 21, as in the data model.

    Levels between two of those are one of the three steps between them; below DEBUG is TRACE (1 to 4). NOTSET has none.
    """
    if level <= 0:
        return SeverityNumber.UNSPECIFIED
    if level < logging.DEBUG:
        return SeverityNumber(1 + min(level // 3, 3))
    tens, units = divmod(level - logging.DEBUG, 10)
    return SeverityNumber(min(5 + 4 * tens + min(units, 3), 24))


def body_of(record: logging.LogRecord) -> str:
    """The message with its arguments; where they do not fit, the message and the arguments as they are."""
    try:
        return encodable(record.getMessage())
    except Exception:  # the logging module prints a complaint of its own and goes on, too
        return encodable(f"{_text(record.msg)} {_text(record.args)}")


def _attributes(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = {
        CODE_FILE_PATH: encodable(record.pathname),
        CODE_LINE_NUMBER: record.lineno,
        CODE_FUNCTION_NAME: encodable(record.funcName or ""),
    }
    if record.exc_info and record.exc_info[1] is not None:
        found.update(exception_attributes(record.exc_info[1], _REDACTION))
    for name, value in record.__dict__.items():
        if name not in OF_EVERY_RECORD and name not in _OURS and value is not None:
            found[encodable(name)] = _value(value, _DEPTH)
    return found


def _value(value: Any, depth: int) -> Any:
    """`value` as OTLP can hold it: what is no number, text, bytes, list or mapping becomes text."""
    if isinstance(value, str):
        return encodable(value)
    if value is None or isinstance(value, (bool, bytes)):
        return value
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**63 else str(int(value))
    if isinstance(value, float):
        return float(value)
    try:
        if depth and isinstance(value, Mapping):
            return {_text(key): _value(each, depth - 1) for key, each in value.items()}
        if depth and isinstance(value, (list, tuple)):
            return [_value(each, depth - 1) for each in value]
    except Exception:  # a mapping of the application's own, which cannot be read
        return _text(value)
    return _text(value)


def _text(value: object) -> str:
    try:
        return encodable(str(value))
    except Exception:  # its own __str__ failed
        return object.__repr__(value)
