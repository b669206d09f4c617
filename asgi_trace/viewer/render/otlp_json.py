"""A trace as OTLP/JSON: what `asgi-trace view FILE` and any other OTLP receiver can read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..receive.records import LogRecord, SpanRecord, Value
from ..receive.store import Trace
from .api import plain

_KINDS = {"INTERNAL": 1, "SERVER": 2, "CLIENT": 3, "PRODUCER": 4, "CONSUMER": 5}
_STATUSES = {"UNSET": 0, "OK": 1, "ERROR": 2}
_NUMBERS = {"TRACE": 1, "DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17, "FATAL": 21}


def trace_as_otlp(trace: Trace) -> dict[str, Any]:
    """The trace as one object with `resourceSpans`, and `resourceLogs` where there are log lines."""
    data: dict[str, Any] = {"resourceSpans": _grouped(trace.spans.values(), "scopeSpans", "spans", _span, _scope)}
    if trace.logs:
        data["resourceLogs"] = _grouped(trace.logs, "scopeLogs", "logRecords", _log, _logger)
    return data


def _scope(span: SpanRecord) -> str:
    return span.scope


def _logger(log: LogRecord) -> str:
    return log.logger


def _grouped(records: Iterable[Any], scopes: str, items: str, write: Any, scope_of: Any) -> list[dict[str, Any]]:
    """Records below their resources and their scopes."""
    groups: dict[tuple[str, str], tuple[Mapping[str, Value], dict[str, list[Any]]]] = {}
    for record in records:
        key = (record.service, repr(sorted(record.resource.items(), key=str)))
        resource = record.resource or {"service.name": record.service}
        scoped = groups.setdefault(key, (resource, {}))[1]
        scoped.setdefault(scope_of(record), []).append(write(record))
    return [
        {
            "resource": {"attributes": _attributes(resource)},
            scopes: [{"scope": {"name": name}, items: written} for name, written in scoped.items()],
        }
        for resource, scoped in groups.values()
    ]


def _span(span: SpanRecord) -> dict[str, Any]:
    return {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "parentSpanId": span.parent_id,
        "name": span.name,
        "kind": _KINDS.get(span.kind, 1),
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": _attributes(span.attributes),
        "events": [
            {"name": event.name, "timeUnixNano": str(event.time), "attributes": _attributes(event.attributes)}
            for event in span.events
        ],
        "links": [
            {"traceId": link.trace_id, "spanId": link.span_id, "attributes": _attributes(link.attributes)}
            for link in span.links
        ],
        "status": {"code": _STATUSES[span.status], "message": span.message},
    }


def _log(log: LogRecord) -> dict[str, Any]:
    return {
        "timeUnixNano": str(log.time),
        "severityNumber": _NUMBERS.get(log.level, 0),
        "severityText": log.severity,
        "body": {"stringValue": log.body},
        "traceId": log.trace_id,
        "spanId": log.span_id,
        "attributes": _attributes(log.attributes),
    }


def _attributes(values: Mapping[str, Value]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Value) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": plain(value)}
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": _attributes(value)}}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [_value(item) for item in value]}}
    return {}
