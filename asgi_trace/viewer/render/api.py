"""Traces and routes as the plain data of the JSON API. Times are RFC 3339 in UTC, durations milliseconds.

JSON knows no NaN and no infinity: such attribute values become texts, as in OTLP/JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from ..analysis.overview import Overview
from ..analysis.summary import RouteStats
from ..analysis.timeline import LogLine, Row, Timeline
from ..receive.records import Value

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def encode(data: Any) -> bytes:
    """JSON text, valid whatever was sent: what UTF-8 cannot say is replaced."""
    return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


def rfc3339(nanoseconds: int) -> str | None:
    """A moment as text, None when it is unknown (0) or beyond the calendar."""
    if nanoseconds <= 0:
        return None
    try:
        moment = _EPOCH + timedelta(microseconds=nanoseconds // 1_000)
    except OverflowError:
        return None
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def milliseconds(nanoseconds: float | None) -> float | None:
    """A duration, to a microsecond."""
    return None if nanoseconds is None else round(nanoseconds / 1e6, 3)


def list_row(row: Overview) -> dict[str, Any]:
    """A trace in a list."""
    return {
        "trace_id": row.trace_id,
        "name": row.name,
        "time": rfc3339(row.time),
        "service": row.service,
        "method": row.method,
        "path": row.path,
        "route": row.route,
        "status": row.status,
        "failed": row.failed,
        "duration_ms": milliseconds(row.duration),
        "span_count": row.span_count,
        "services": list(row.services),
        "cause": row.cause,
    }


def whole_trace(row: Overview, timeline: Timeline) -> dict[str, Any]:
    """A trace with its spans in tree order and its log lines in time order."""
    return {
        **list_row(row),
        "length_ms": milliseconds(timeline.length),
        "entries": [timeline.rows[index].span.span_id for index in timeline.entries],
        "notes": list(timeline.notes),
        "spans": [_span(one) for one in timeline.rows],
        "logs": [_log(line) for line in timeline.logs],
    }


def _span(row: Row) -> dict[str, Any]:
    span = row.span
    return {
        "span_id": span.span_id,
        "parent_span_id": span.parent_id or None,
        "name": span.name,
        "service": span.service,
        "kind": span.kind,
        "start": rfc3339(span.start),
        "duration_ms": milliseconds(span.duration),
        "status": span.status,
        "status_message": span.message or None,
        "http_status": row.status,
        "failed": row.failed,
        "attributes": plain(span.attributes),
        "events": [
            {"name": event.name, "time": rfc3339(event.time), "attributes": plain(event.attributes)}
            for event in span.events
        ],
        "links": [
            {"trace_id": link.trace_id, "span_id": link.span_id, "attributes": plain(link.attributes)}
            for link in span.links
        ],
    }


def _log(line: LogLine) -> dict[str, Any]:
    record = line.record
    return {
        "time": rfc3339(record.time),
        "severity": record.level or None,
        "body": record.body,
        "service": record.service,
        "span_id": record.span_id or None,
        "attributes": plain(record.attributes),
    }


def route_rows(routes: Iterable[RouteStats]) -> list[dict[str, Any]]:
    """Requests, errors and durations by route."""
    return [
        {
            "service": route.service,
            "method": route.method,
            "route": route.route,
            "requests": route.requests,
            "errors": route.errors,
            "p50_ms": milliseconds(route.p50),
            "p95_ms": milliseconds(route.p95),
            "max_ms": milliseconds(route.maximum),
        }
        for route in routes
    ]


def plain(value: Value | Mapping[str, Value]) -> Any:
    """A value without what JSON cannot say."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
