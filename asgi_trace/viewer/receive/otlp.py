"""OTLP messages into records. Accepts whatever a sender put into the fields: nothing here raises.

Spans and log lines without valid ids are dropped or belong to no trace; long texts, lists and nested values are cut to
a budget for each record, and the cut can be seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .records import Event, HistogramPoint, Link, LogRecord, SpanRecord, Value, Values

_MAX_NAME = 512
_MAX_TEXT = 4_096
_MAX_STACKTRACE = 32_768
_MAX_ITEMS = 128
_MAX_RECORD = 256 * 1024
"""Bytes of attributes, events and links that are kept of one span or log record."""
_OVERHEAD = 600
"""Bytes that a record costs in memory beyond them, roughly."""

_KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT", 4: "PRODUCER", 5: "CONSUMER"}
_DELTA = 1
_ERROR = 2


def spans_of(request: Any) -> Iterator[SpanRecord]:
    """The spans of an `ExportTraceServiceRequest` whose ids are valid."""
    for group in request.resource_spans:
        service, instance = _source(group.resource)
        for scoped in group.scope_spans:
            for span in scoped.spans:
                if _is_id(span.trace_id, 16) and _is_id(span.span_id, 8):
                    yield _span(span, service, instance, scoped.scope.name)


def _span(span: Any, service: str, instance: str, scope: str) -> SpanRecord:
    start = span.start_time_unix_nano
    reader = _Reader()
    return SpanRecord(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex() if _is_id(span.parent_span_id, 8) else "",
        name=span.name[:_MAX_NAME],
        kind=_KINDS.get(span.kind, "INTERNAL"),
        service=service,
        instance=instance,
        start=start,
        end=max(start, span.end_time_unix_nano),
        failed=span.status.code == _ERROR,
        message=span.status.message[:_MAX_TEXT],
        attributes=reader.values(span.attributes),
        events=tuple(
            Event(event.name[:_MAX_NAME], event.time_unix_nano, reader.values(event.attributes))
            for event in span.events[:_MAX_ITEMS]
        ),
        links=tuple(
            Link(link.trace_id[:16].hex(), link.span_id[:8].hex(), reader.values(link.attributes))
            for link in span.links[:_MAX_ITEMS]
        ),
        scope=scope[:_MAX_NAME],
        size=reader.used + _OVERHEAD,
    )


def logs_of(request: Any) -> Iterator[LogRecord]:
    """The log lines of an `ExportLogsServiceRequest`; one without a valid trace id belongs to no trace."""
    for group in request.resource_logs:
        service, _ = _source(group.resource)
        for scoped in group.scope_logs:
            for log in scoped.log_records:
                traced = _is_id(log.trace_id, 16)
                reader = _Reader()
                body = reader.value(log.body, _MAX_TEXT)
                yield LogRecord(
                    time=log.time_unix_nano or log.observed_time_unix_nano,
                    severity=log.severity_text[:20] or _severity(log.severity_number),
                    body=body if isinstance(body, str) else str(body or log.event_name[:_MAX_NAME]),
                    service=service,
                    logger=scoped.scope.name[:_MAX_NAME],
                    trace_id=log.trace_id.hex() if traced else "",
                    span_id=log.span_id.hex() if traced and _is_id(log.span_id, 8) else "",
                    attributes=reader.values(log.attributes),
                    size=reader.used + _OVERHEAD,
                )


def _severity(number: int) -> str:
    """OpenTelemetry logs data model, severity numbers: ranges of four."""
    return ("", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")[min(6, (number + 3) // 4)]


def histograms_of(request: Any) -> Iterator[tuple[HistogramPoint, bool]]:
    """The histogram points of an `ExportMetricsServiceRequest`, each with: is its temporality delta?"""
    for group in request.resource_metrics:
        service, instance = _source(group.resource)
        for scoped in group.scope_metrics:
            for metric in scoped.metrics:
                for point in metric.histogram.data_points:
                    yield (
                        HistogramPoint(
                            service=service,
                            instance=instance,
                            name=metric.name[:_MAX_NAME],
                            unit=metric.unit[:_MAX_NAME],
                            attributes=_Reader().values(point.attributes),
                            count=point.count,
                            total=point.sum,
                            bounds=tuple(point.explicit_bounds[:_MAX_ITEMS]),
                            counts=tuple(point.bucket_counts[: _MAX_ITEMS + 1]),
                            minimum=point.min if point.HasField("min") else None,
                            maximum=point.max if point.HasField("max") else None,
                        ),
                        metric.histogram.aggregation_temporality == _DELTA,
                    )


def _source(resource: Any) -> tuple[str, str]:
    """Service name and instance id of a resource."""
    values = _Reader().values(resource.attributes)
    name = str(values.get("service.name") or "unknown_service")
    return name[:_MAX_NAME], str(values.get("service.instance.id") or values.get("process.pid") or "")[:_MAX_NAME]


def _is_id(value: bytes, length: int) -> bool:
    return len(value) == length and any(value)


class _Reader:
    """Reads the values of one record, within a budget of bytes. `used` is what they cost so far."""

    def __init__(self) -> None:
        self.used = 0

    def values(self, pairs: Iterable[Any]) -> Values:
        """Key-value pairs, as many as fit."""
        values: Values = {}
        for pair in pairs:
            if len(values) >= _MAX_ITEMS or self.used >= _MAX_RECORD:
                break
            limit = _MAX_STACKTRACE if pair.key == "exception.stacktrace" else _MAX_TEXT
            key = pair.key[:_MAX_NAME]
            self.used += len(key)
            values[key] = self.value(pair.value, limit)
        return values

    def value(self, value: Any, limit: int, depth: int = 0) -> Value:
        """One value; text longer than `limit` is cut and says so, lists and maps end where the budget does."""
        kind = value.WhichOneof("value")
        self.used += 8
        if kind == "string_value":
            return self._text(value.string_value, limit)
        if kind == "bytes_value":
            return f"{value.bytes_value[:64].hex()} ({len(value.bytes_value):,} bytes)"
        if kind == "array_value":
            items = value.array_value.values[: self._room(depth)]
            return [self.value(item, limit, depth + 1) for item in items]
        if kind == "kvlist_value":
            pairs = value.kvlist_value.values[: self._room(depth)]
            return {pair.key[:_MAX_NAME]: self.value(pair.value, limit, depth + 1) for pair in pairs}
        return getattr(value, kind) if kind else None

    def _text(self, text: str, limit: int) -> str:
        limit = max(0, min(limit, _MAX_RECORD - self.used))
        self.used += min(len(text), limit)
        return text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"

    def _room(self, depth: int) -> int:
        return _MAX_ITEMS if depth < 4 and self.used < _MAX_RECORD else 0
