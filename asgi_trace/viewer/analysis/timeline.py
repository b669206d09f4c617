"""One trace as the rows of a timeline: a pure function from the store's records to what every renderer draws.

Puts together what `tree` and `failures` decide: where each bar begins, which exception belongs to which row, which row
stands for the whole request, and where the time went.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..receive.records import LogRecord, SpanRecord
from ..receive.store import Trace
from .failures import Failure, failures_of
from .tree import arrange


@dataclass(frozen=True)
class Row:
    """One span in its place. `start` and `duration` are nanoseconds on the trace's own axis, after `shift`, by which
    the clock of the span's service was moved. `guides[i]` tells whether the ancestor at level `i + 1` (the last one:
    this row) has later siblings.
    """

    span: SpanRecord
    parent: int
    depth: int
    guides: tuple[bool, ...]
    start: int
    duration: int
    shift: int = 0
    note: str = ""
    failure: Failure | None = None

    @property
    def status(self) -> int | None:
        """The HTTP status code, if the span has one."""
        code = self.span.attributes.get("http.response.status_code")
        return code if isinstance(code, int) else None

    @property
    def label(self) -> str:
        """The span's name; a client call without a template in it also says whom it called."""
        name, attributes = self.span.name, self.span.attributes
        host = attributes.get("server.address")
        if self.span.kind != "CLIENT" or not host or " " in name:
            return name
        port = attributes.get("server.port")
        return f"{name} {host}:{port}" if port else f"{name} {host}"


@dataclass(frozen=True)
class LogLine:
    """A log line and when it was written, in nanoseconds on the trace's axis."""

    offset: int
    record: LogRecord


@dataclass(frozen=True)
class Timeline:
    """A trace ready to be drawn. `rows` stand in depth-first order, each after its parent; `entry` is the index of the
    row that stands for the whole request (-1 when there are only log lines).
    """

    trace_id: str
    start: int
    duration: int
    rows: tuple[Row, ...]
    logs: tuple[LogLine, ...]
    services: tuple[str, ...]
    entry: int
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name of the request."""
        return self.rows[self.entry].label if self.rows else "log lines only"

    @property
    def status(self) -> int | None:
        """The status code of the request."""
        return self.rows[self.entry].status if self.rows else None

    @property
    def failed(self) -> bool:
        """Did the request as a whole fail?"""
        return bool(self.rows) and self.rows[self.entry].span.failed


def build(trace: Trace) -> Timeline:
    """The timeline of one trace. Depends on its records alone, not on the order in which they came."""
    places = arrange(trace.spans)
    origin = min((place.span.start + place.shift for place in places), default=None)
    if origin is None:
        origin = min((log.time for log in trace.logs), default=0)
    ends = [place.span.end + place.shift - origin for place in places]
    failures = failures_of(places, trace.logs)
    rows = tuple(
        Row(
            span=place.span,
            parent=place.parent,
            depth=place.depth,
            guides=place.guides,
            start=place.span.start + place.shift - origin,
            duration=place.span.end - place.span.start,
            shift=place.shift,
            note=place.note,
            failure=failure,
        )
        for place, failure in zip(places, failures, strict=True)
    )
    shifts = {place.span.span_id: place.shift for place in places}
    logs = sorted(
        (LogLine(log.time + shifts.get(log.span_id, 0) - origin, log) for log in trace.logs),
        key=lambda line: line.offset,
    )
    return Timeline(
        trace_id=trace.trace_id,
        start=origin,
        duration=max(ends, default=0),
        rows=rows,
        logs=tuple(logs),
        services=tuple(dict.fromkeys([row.span.service for row in rows] + [log.service for log in trace.logs])),
        entry=_entry(rows),
        notes=_notes(trace, rows),
    )


def _entry(rows: Sequence[Row]) -> int:
    """The first real root, a SERVER span by preference; else the first row."""
    roots = [index for index, row in enumerate(rows) if row.parent < 0]
    best = sorted(roots, key=lambda index: (bool(rows[index].note), rows[index].span.kind != "SERVER", index))
    return best[0] if best else -1


def _notes(trace: Trace, rows: Sequence[Row]) -> tuple[str, ...]:
    notes: list[str] = []
    if trace.dropped:
        notes.append(f"{trace.dropped:,} more spans of this trace did not fit into memory")
    moved = {row.span.service: row.shift for row in rows if abs(row.shift) >= 1_000_000}
    notes += [f"the clock of {service} was moved by {shift / 1e6:+.1f} ms" for service, shift in moved.items()]
    return tuple(notes)


def self_times(timeline: Timeline) -> list[int]:
    """For each row the nanoseconds of it that no child covers."""
    children: list[list[tuple[int, int]]] = [[] for _ in timeline.rows]
    for row in timeline.rows:
        if row.parent >= 0:
            children[row.parent].append((row.start, row.start + row.duration))
    return [
        row.duration - _covered(spans, row.start, row.start + row.duration)
        for row, spans in zip(timeline.rows, children, strict=True)
    ]


def _covered(intervals: list[tuple[int, int]], low: int, high: int) -> int:
    covered, reached = 0, low
    for start, end in sorted(intervals):
        start, end = max(start, reached), min(end, high)
        if end > start:
            covered += end - start
            reached = end
    return covered
