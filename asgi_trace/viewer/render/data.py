"""The timeline as plain data for `--json`: the names and units are those of OTLP where it has them."""

from __future__ import annotations

from typing import Any

from ..analysis.cause import explain, time_spent
from ..analysis.summary import from_histograms
from ..analysis.timeline import Row, Timeline
from ..receive.records import HistogramPoint, LogRecord


def trace_data(timeline: Timeline, heading: str = "") -> dict[str, Any]:
    """One trace: what it says as a whole, its spans in tree order, its log lines in time order."""
    cause = explain(timeline)
    return {
        "trace_id": timeline.trace_id,
        "heading": heading,
        "title": timeline.title,
        "status_code": timeline.status,
        "failed": timeline.failed,
        "start_unix_nano": timeline.start,
        "duration_ms": None if timeline.duration is None else timeline.duration / 1e6,
        "length_ms": timeline.length / 1e6,
        "services": list(timeline.services),
        "cause": None
        if cause is None
        else {
            "service": cause.service,
            "span_id": timeline.rows[cause.row].span.span_id,
            "error": cause.error,
            "passed_on": [{"service": service, "status_code": status} for service, status in cause.passed_on],
            "fatal": cause.fatal,
            "sentence": cause.sentence,
        },
        "time_spent": time_spent(timeline),
        "notes": list(timeline.notes),
        "spans": [span_data(row) for row in timeline.rows],
        "logs": [log_data(line.record, line.offset) for line in timeline.logs],
    }


def span_data(row: Row) -> dict[str, Any]:
    """One span: where it stands in the timeline and what it says."""
    span, failure = row.span, row.failure
    return {
        "span_id": span.span_id,
        "parent_span_id": span.parent_id or None,
        "name": span.name,
        "kind": span.kind,
        "service": span.service,
        "instance": span.instance,
        "scope": span.scope,
        "depth": row.depth,
        "offset_ms": row.start / 1e6,
        "duration_ms": row.duration / 1e6 if row.is_timed else None,
        "start_unix_nano": span.start,
        "end_unix_nano": span.end,
        "clock_moved_ms": row.shift / 1e6,
        "note": row.note,
        "failed": row.failed,
        "status_message": span.message,
        "status_code": row.status,
        "exception": None
        if failure is None
        else {"type": failure.type, "message": failure.message, "where": failure.where, "first": failure.first},
        "attributes": span.attributes,
        "events": [
            {"name": event.name, "time_unix_nano": event.time, "attributes": event.attributes} for event in span.events
        ],
        "links": [
            {"trace_id": link.trace_id, "span_id": link.span_id, "attributes": link.attributes} for link in span.links
        ],
    }


def log_data(record: LogRecord, offset: int | None = None) -> dict[str, Any]:
    """One log line; `offset` is in nanoseconds from the start of its trace."""
    return {
        "offset_ms": None if offset is None else offset / 1e6,
        "time_unix_nano": record.time,
        "severity": record.severity,
        "service": record.service,
        "logger": record.logger,
        "span_id": record.span_id or None,
        "body": record.body,
        "attributes": record.attributes,
    }


def metrics_data(points: list[HistogramPoint]) -> list[dict[str, Any]]:
    """The routes: requests, errors, median and maximum in milliseconds."""
    return [
        {
            "service": route.service,
            "method": route.method or "",
            "route": route.route or "(no route)",
            "requests": route.requests,
            "errors": route.errors,
            "median_ms": None if route.p50 is None else route.p50 / 1e6,
            "max_ms": None if route.maximum is None else route.maximum / 1e6,
        }
        for route in from_histograms(points)
    ]
