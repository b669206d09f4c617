"""OTLP messages into records. Accepts whatever a sender put into the fields: nothing here raises.

Spans whose ids are unusable are counted and left out, log lines without a usable trace id belong to no trace. Long
texts, lists and nested values are cut to a budget for each record: exceptions, and attributes that tell what happened,
are kept first, and a cut can be seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from sys import intern
from typing import Any, NamedTuple

from .records import Event, HistogramPoint, Link, LogRecord, SpanRecord, Value, Values

_MAX_NAME = 512
_MAX_TEXT = 4_096
_MAX_STACKTRACE = 32_768
_MAX_ITEMS = 128
_MAX_RECORD = 256 * 1024
"""Bytes of attributes, events and links that are kept of one span or log record."""
_OVERHEAD = 1_100
"""Bytes that a record costs in memory beyond them, measured with 200,000 small spans on CPython 3.11."""

_KINDS = {1: "INTERNAL", 2: "SERVER", 3: "CLIENT", 4: "PRODUCER", 5: "CONSUMER"}
_DELTA = 1
_STATUSES = {1: "OK", 2: "ERROR"}


def spans_of(request: Any) -> tuple[list[SpanRecord], int]:
    """The spans of an `ExportTraceServiceRequest` whose ids are valid, and how many have unusable ids."""
    found: list[SpanRecord] = []
    unusable = 0
    for group in request.resource_spans:
        source = _source(group.resource)
        for scoped in group.scope_spans:
            scope = scoped.scope.name[:_MAX_NAME]
            for span in scoped.spans:
                if _is_id(span.trace_id, 16) and _is_id(span.span_id, 8):
                    found.append(_span(span, source, scope))
                else:
                    unusable += 1
    return found, unusable


def _span(span: Any, source: _Source, scope: str) -> SpanRecord:
    reader = _Reader()
    attributes = reader.values(span.attributes)
    return SpanRecord(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex() if _is_id(span.parent_span_id, 8) else "",
        name=span.name[:_MAX_NAME],
        kind=_KINDS.get(span.kind, "INTERNAL"),
        service=source.service,
        instance=source.instance,
        start=span.start_time_unix_nano,
        end=span.end_time_unix_nano,
        status=_STATUSES.get(span.status.code, "UNSET"),
        message=span.status.message[:_MAX_TEXT],
        attributes=attributes,
        events=_events(span.events, reader),
        links=tuple(
            Link(link.trace_id[:16].hex(), link.span_id[:8].hex(), reader.values(link.attributes))
            for link in span.links[:_MAX_ITEMS]
        ),
        scope=scope,
        size=reader.used + len(span.name) + _OVERHEAD,
        resource=source.values,
    )


def _events(events: Any, reader: _Reader) -> tuple[Event, ...]:
    """The events in their order. Where there are too many, or they are too large, exceptions are kept first."""
    if not events:
        return ()
    chosen = sorted(range(len(events)), key=lambda index: events[index].name != "exception")[:_MAX_ITEMS]
    read = {
        index: Event(event.name[:_MAX_NAME], event.time_unix_nano, reader.values(event.attributes))
        for index in chosen
        if (event := events[index])
    }
    return tuple(read[index] for index in sorted(read))


def logs_of(request: Any) -> Iterator[LogRecord]:
    """The log lines of an `ExportLogsServiceRequest`; one without a valid trace id belongs to no trace."""
    for group in request.resource_logs:
        source = _source(group.resource)
        for scoped in group.scope_logs:
            for log in scoped.log_records:
                traced = _is_id(log.trace_id, 16)
                reader = _Reader()
                body = reader.value(log.body, _MAX_TEXT)
                yield LogRecord(
                    time=log.time_unix_nano or log.observed_time_unix_nano,
                    severity=_severity(log.severity_text[:20], log.severity_number),
                    body=body if isinstance(body, str) else str(body or log.event_name[:_MAX_NAME]),
                    service=source.service,
                    logger=scoped.scope.name[:_MAX_NAME],
                    trace_id=log.trace_id.hex() if traced else "",
                    span_id=log.span_id.hex() if traced and _is_id(log.span_id, 8) else "",
                    attributes=reader.values(log.attributes),
                    size=reader.used + _OVERHEAD,
                    resource=source.values,
                )


_LEVELS = ("", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")


def _severity(text: str, number: int) -> str:
    """The sender's own word where it is a known level or the only one; else that of the number (ranges of four)."""
    level = _LEVELS[max(0, min(6, (number + 3) // 4))]
    return text if text.upper() in (*_LEVELS[1:], "WARNING", "CRITICAL") or not level else level


def histograms_of(request: Any) -> Iterator[tuple[HistogramPoint, bool]]:
    """The histogram points of an `ExportMetricsServiceRequest`, each with: is its temporality delta?"""
    for group in request.resource_metrics:
        source = _source(group.resource)
        for scoped in group.scope_metrics:
            for metric in scoped.metrics:
                kind = metric.WhichOneof("data")
                if kind not in ("histogram", "exponential_histogram"):
                    continue
                histogram = getattr(metric, kind)
                for point in histogram.data_points:
                    explicit = kind == "histogram"
                    yield (
                        HistogramPoint(
                            service=source.service,
                            instance=source.instance,
                            name=metric.name[:_MAX_NAME],
                            unit=metric.unit[:_MAX_NAME],
                            attributes=_Reader().values(point.attributes),
                            count=point.count,
                            total=point.sum,
                            bounds=tuple(point.explicit_bounds[:_MAX_ITEMS]) if explicit else (),
                            counts=tuple(point.bucket_counts[: _MAX_ITEMS + 1]) if explicit else (),
                            minimum=point.min if point.HasField("min") else None,
                            maximum=point.max if point.HasField("max") else None,
                        ),
                        histogram.aggregation_temporality == _DELTA,
                    )


class _Source(NamedTuple):
    """The sender: the service, its instance, and all attributes of the resource."""

    service: str
    instance: str
    values: Values


def _source(resource: Any) -> _Source:
    values = _Reader().values(resource.attributes)
    name = str(values.get("service.name") or "unknown_service")
    instance = str(values.get("service.instance.id") or values.get("process.pid") or "")
    return _Source(name[:_MAX_NAME], instance[:_MAX_NAME], values)


def _is_id(value: bytes, length: int) -> bool:
    return len(value) == length and any(value)


_TELLING = ("error.", "exception.", "http.", "url.", "server.", "db.", "rpc.", "messaging.", "service.", "code.")
"""The namespaces of attributes that are kept first where a record has too many."""


def _is_lesser(pair: Any) -> bool:
    return not pair.key.startswith(_TELLING)


class _Reader:
    """Reads the values of one record, within a budget of bytes. `used` is what they cost so far."""

    def __init__(self) -> None:
        self.used = 0

    def values(self, pairs: Sequence[Any]) -> Values:
        """Key-value pairs, as many as fit; those that tell what happened first when they do not all fit."""
        values: Values = {}
        for pair in pairs if len(pairs) <= _MAX_ITEMS else sorted(pairs, key=_is_lesser):
            if len(values) >= _MAX_ITEMS or self.used >= _MAX_RECORD:
                break
            key = intern(pair.key[:_MAX_NAME])
            self.used += len(key)
            if key == "exception.stacktrace":
                values[key] = self.stacktrace(pair.value)
            else:
                values[key] = self.value(pair.value, _MAX_TEXT)
        return values

    def stacktrace(self, value: Any) -> Value:
        """A stack trace. When it is too long its middle goes: both ends name the place, depending on the language."""
        text = value.string_value
        if len(text) <= _MAX_STACKTRACE:
            return self.value(value, _MAX_STACKTRACE)
        half = _MAX_STACKTRACE // 2
        self.used += _MAX_STACKTRACE
        return f"{text[:half]}\n… ({len(text) - 2 * half:,} characters are left out here)\n{text[-half:]}"

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
