"""One trace as the rows of a timeline: a pure function from the store's records to what every renderer draws.

Puts together what `tree` and `failures` decide: where each bar begins, which exception belongs to which row, which row
stands for the whole request, and where the time went.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..receive import http
from ..receive.records import LogRecord, SpanRecord
from ..receive.store import Trace
from ..text import plural
from .failures import Failure, failures_of
from .tree import Placed, arrange


@dataclass(frozen=True)
class Row:
    """One span in its place. `start` and `duration` are nanoseconds on the trace's own axis, after `shift`, by which
    the clock of the span's service was moved; the duration is 0 where `is_timed` is False. `guides[i]` tells whether
    the ancestor at level `i + 1` (the last one: this row) has later siblings. `note` says why a root has no parent.
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
    def end(self) -> int:
        """Where it ends on the trace's axis."""
        return self.start + self.duration

    @property
    def is_timed(self) -> bool:
        """Are its start and its end known, in this order?"""
        return self.span.duration is not None

    @property
    def failed(self) -> bool:
        """Did the span fail: status ERROR, or a server's answer of 500 or above?"""
        return http.failed(self.span)

    @property
    def is_refusal(self) -> bool:
        """Is it a call that was answered with 4xx, and nothing worse? A caller may well expect that."""
        return self.span.kind == "CLIENT" and self.failure is None and 400 <= (self.status or 0) < 500

    @property
    def is_entry(self) -> bool:
        """Does a request or a job begin here: no parent, or a server or consumer whose parent is elsewhere?"""
        return self.parent < 0 and (not self.span.parent_id or self.span.kind in ("SERVER", "CONSUMER"))

    @property
    def status(self) -> int | None:
        """The HTTP status code, if the span has one."""
        return http.status_of(self.span.attributes)

    @property
    def label(self) -> str:
        """The span's name; one without a template also says which server it called, or on a server which path."""
        name = self.span.name
        if self.span.kind not in ("CLIENT", "SERVER") or " " in name:
            return name
        request = http.read(self.span)
        if self.span.kind == "SERVER":
            return f"{name} {request.path}" if request.path and name == request.method else name
        if not request.host:
            return name
        return f"{name} {request.host}:{request.port}" if request.port else f"{name} {request.host}"


@dataclass(frozen=True)
class LogLine:
    """A log line and when it was written, in nanoseconds on the trace's axis."""

    offset: int
    record: LogRecord


@dataclass(frozen=True)
class Timeline:
    """A trace ready to be drawn. `rows` stand in depth-first order, each after its parent; `length` is that of the
    whole trace. `entries` are the rows where a request or a job begins; `entry` is the one that stands for the trace:
    the first that failed, else the first, else the first row (-1 when there are only log lines).
    """

    trace_id: str
    start: int
    length: int
    rows: tuple[Row, ...]
    logs: tuple[LogLine, ...]
    services: tuple[str, ...]
    entries: tuple[int, ...]
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
    def duration(self) -> int | None:
        """How long the request took: the entry span's own duration, which may be shorter than the trace."""
        return self.rows[self.entry].span.duration if self.rows else None

    @property
    def failed(self) -> bool | None:
        """Did an entry fail? None while that cannot be known: an entry has no end, or a parent is still missing."""
        if any(self.rows[index].failed for index in self.entries):
            return True
        strays = [row for row in self.rows if row.parent < 0 and not row.is_entry]
        if any(row.failed and not row.is_refusal for row in strays):
            return True
        if not self.entries or strays or not all(self.rows[index].is_timed for index in self.entries):
            return None
        return False


def build(trace: Trace) -> Timeline:
    """The timeline of one trace. Depends on its records alone, not on the order in which they came."""
    places = arrange(trace.spans)
    begins = [place.span.start + place.shift for place in places if place.span.start > 0]
    origin = min(begins, default=min((log.time for log in trace.logs if log.time > 0), default=0))
    rows = _rows(places, failures_of(places, trace.logs), origin)
    shifts = {place.span.span_id: place.shift for place in places}
    logs = sorted(
        (LogLine(log.time + shifts.get(log.span_id, 0) - origin, log) for log in trace.logs),
        key=lambda line: line.offset,
    )
    entries = tuple(index for index, row in enumerate(rows) if row.is_entry)
    return Timeline(
        trace_id=trace.trace_id,
        start=origin,
        length=max((row.end for row in rows), default=0),
        rows=rows,
        logs=tuple(logs),
        services=tuple(dict.fromkeys([row.span.service for row in rows] + [log.service for log in trace.logs])),
        entries=entries,
        entry=_entry(rows, entries),
        notes=_notes(trace, rows),
    )


def _rows(places: Sequence[Placed], failures: Sequence[Failure | None], origin: int) -> tuple[Row, ...]:
    """The places on the trace's axis; a span without a start stands where its parent does."""
    rows: list[Row] = []
    for place, failure in zip(places, failures, strict=True):
        elsewhere = rows[place.parent].start if place.parent >= 0 else 0
        rows.append(
            Row(
                span=place.span,
                parent=place.parent,
                depth=place.depth,
                guides=place.guides,
                start=place.span.start + place.shift - origin if place.span.start > 0 else elsewhere,
                duration=place.span.duration or 0,
                shift=place.shift,
                note=place.note,
                failure=failure,
            )
        )
    return tuple(rows)


def _entry(rows: Sequence[Row], entries: Sequence[int]) -> int:
    """The entry that stands for the trace: the first that failed, else the earliest; a real root before an orphan."""
    if not entries:
        return 0 if rows else -1
    return min(entries, key=lambda index: (not rows[index].failed, bool(rows[index].note), rows[index].start, index))


def _notes(trace: Trace, rows: Sequence[Row]) -> tuple[str, ...]:
    notes: list[str] = []
    if trace.dropped:
        notes.append(f"{plural(trace.dropped, 'more span')} of this trace did not fit into memory")
    if trace.dropped_logs:
        notes.append(f"{plural(trace.dropped_logs, 'more log line')} of this trace did not fit into memory")
    moved = {row.span.service: row.shift for row in rows if abs(row.shift) >= 1_000_000}
    notes += [f"the clock of {service} was moved by {shift / 1e6:+.1f} ms" for service, shift in moved.items()]
    return tuple(notes)


def self_times(timeline: Timeline) -> list[int]:
    """For each row the nanoseconds of it that no child covers."""
    children: list[list[tuple[int, int]]] = [[] for _ in timeline.rows]
    for row in timeline.rows:
        if row.parent >= 0:
            children[row.parent].append((row.start, row.end))
    return [
        row.duration - _covered(spans, row.start, row.end) for row, spans in zip(timeline.rows, children, strict=True)
    ]


def _covered(intervals: list[tuple[int, int]], low: int, high: int) -> int:
    covered, reached = 0, low
    for start, end in sorted(intervals):
        start, end = max(start, reached), min(end, high)
        if end > start:
            covered += end - start
            reached = end
    return covered
