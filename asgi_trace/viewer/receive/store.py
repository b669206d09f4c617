"""What the receivers heard, kept in bounded memory: spans and log lines by trace, metrics by series, figures by route.

Spans may arrive in any order, twice, or without their parents; nothing here assumes otherwise. Two limits hold: a
number of traces and a number of bytes. When either is passed, whole traces are forgotten, the oldest first and those
that failed or were slow last; a single trace that fills the store alone stops growing instead. Everything that a
limit costs is counted. The store knows no protocol and no presentation.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from itertools import chain

from . import http
from .figures import Figures, RouteFigures
from .records import HistogramPoint, LogRecord, SpanRecord, add_points

MAX_TRACES = 20_000
MAX_MEMORY = 256 * 1024 * 1024


@dataclass(slots=True)
class Trace:
    """The spans and log lines of one trace id so far. `version` grows with every change, over all traces.

    `dropped` and `dropped_logs` count what did not fit; `longest` is the SERVER span that took the longest.
    """

    trace_id: str
    spans: dict[str, SpanRecord] = field(default_factory=dict)
    logs: list[LogRecord] = field(default_factory=list)
    updated: float = 0.0
    version: int = 0
    size: int = 0
    dropped: int = 0
    dropped_logs: int = 0
    failed: bool = False
    longest: SpanRecord | None = None


@dataclass(frozen=True)
class Forgotten:
    """What the limits, and unusable ids, cost so far."""

    traces: int = 0
    spans: int = 0
    logs: int = 0
    series: int = 0
    unusable: int = 0


@dataclass(frozen=True)
class Snapshot:
    """The state of the store at one moment: the versions of all its traces, and copies of those that changed."""

    version: int
    versions: dict[str, int]
    changed: dict[str, Trace]


class Store:
    """Thread-safe and bounded. `clock` gives seconds and only serves to tell how long a trace has been quiet."""

    def __init__(
        self,
        *,
        max_traces: int = MAX_TRACES,
        max_bytes: int = MAX_MEMORY,
        max_spans_per_trace: int = 20_000,
        max_logs_per_trace: int = 2_000,
        max_stray_logs: int = 1_000,
        max_series: int = 2_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_traces = max_traces
        self._max_bytes = max_bytes
        self._max_spans = max_spans_per_trace
        self._max_logs = max_logs_per_trace
        self._max_stray_logs = max_stray_logs
        self._max_series = max_series
        self._clock = clock
        self._lock = threading.Lock()
        self._traces: dict[str, Trace] = {}
        self._ordinary: OrderedDict[str, Trace] = OrderedDict()
        self._kept: OrderedDict[str, Trace] = OrderedDict()
        """The traces that failed or were slow, by the time when this was found out: forgotten last."""
        self._stray_logs: list[LogRecord] = []
        self._series: dict[tuple[object, ...], HistogramPoint] = {}
        self._figures = Figures()
        self._bytes = 0
        self._version = 0
        self._lost = Forgotten()

    @property
    def version(self) -> int:
        """Grows with everything that is kept or forgotten."""
        return self._version

    def add_span(self, span: SpanRecord) -> None:
        """Keep one span. A span id that is there already is a retried export and changes nothing."""
        self.add_spans((span,))

    def add_spans(self, spans: Iterable[SpanRecord]) -> None:
        """Keep these spans."""
        with self._lock:
            for span in spans:
                self._add_span(span)

    def _add_span(self, span: SpanRecord) -> None:
        trace = self._trace(span.trace_id)
        if span.span_id in trace.spans:
            return
        self._figures.add(span)
        failed = http.failed(span)
        full = len(trace.spans) >= self._max_spans + (self._max_spans // 10 if failed else 0)
        if full or not self._make_room(trace, span.size):
            trace.dropped += 1
            self._lose(spans=1)
            return
        self._enter(trace)
        trace.spans[span.span_id] = span
        if failed and not trace.failed:
            trace.failed = True
            self._keep(trace)
        if span.kind == "SERVER" and (trace.longest is None or (span.duration or 0) > (trace.longest.duration or 0)):
            trace.longest = span
        self._touch(trace, span.size)

    def add_log(self, log: LogRecord) -> None:
        """Keep one log line, with its trace when it names one."""
        size = log.size or len(log.body) + 200
        with self._lock:
            if not log.trace_id:
                self._add_stray_log(log)
                return
            trace = self._trace(log.trace_id)
            if len(trace.logs) >= self._max_logs and not self._drop_a_lesser_log(trace, log):
                return
            if not self._make_room(trace, size):
                trace.dropped_logs += 1
                self._lose(logs=1)
                return
            self._enter(trace)
            trace.logs.append(log)
            self._touch(trace, size)

    def _add_stray_log(self, log: LogRecord) -> None:
        self._version += 1
        self._stray_logs.append(log)
        if len(self._stray_logs) > self._max_stray_logs:
            lesser = (index for index, one in enumerate(self._stray_logs[:-1]) if not one.is_error)
            del self._stray_logs[next(lesser, 0)]
            self._lose(logs=1)

    def _drop_a_lesser_log(self, trace: Trace, log: LogRecord) -> bool:
        """Count one line of a full trace as lost; True when that made room for `log`, which is an error."""
        trace.dropped_logs += 1
        self._lose(logs=1)
        if not log.is_error:
            return False
        lesser = next((index for index in range(len(trace.logs) - 1, -1, -1) if not trace.logs[index].is_error), None)
        if lesser is None:
            return False
        del trace.logs[lesser]
        return True

    def set_histogram(self, point: HistogramPoint, *, delta: bool = False) -> None:
        """Keep the newest state of one series; with `delta` temporality, add `point` to it."""
        labels = tuple(sorted((key, str(value)) for key, value in point.attributes.items()))
        key = (point.service, point.instance, point.name, labels)
        with self._lock:
            before = self._series.get(key)
            if before is None and len(self._series) >= self._max_series:
                self._lose(series=1)
                return
            self._series[key] = add_points(before, point) if delta and before else point
            self._version += 1

    def count_unusable(self, records: int) -> None:
        """Count records whose ids are unusable: they belong to no trace."""
        with self._lock:
            self._lose(unusable=records)

    def traces(self) -> list[Trace]:
        """Copies of all traces, the earliest start first."""
        with self._lock:
            copies = [_copy(trace) for trace in self._traces.values()]
        return sorted(copies, key=_started)

    def trace(self, trace_id: str) -> Trace | None:
        """A copy of one trace, or None when nothing of it is here."""
        with self._lock:
            trace = self._traces.get(trace_id)
            return None if trace is None else _copy(trace)

    def snapshot(self, known: dict[str, int]) -> Snapshot:
        """The versions of all traces, with copies of those whose version is not in `known` (trace id to version)."""
        with self._lock:
            versions = {trace.trace_id: trace.version for trace in self._traces.values()}
            changed = {key: _copy(self._traces[key]) for key, value in versions.items() if known.get(key) != value}
            return Snapshot(self._version, versions, changed)

    def changed(self, seen: dict[str, int], *, quiet: float, patience: float) -> list[Trace]:
        """Copies of the traces that changed since `seen` (trace id to version) and look complete now.

        Complete means: no change for `quiet` seconds and every parent is here, or no change for `patience` seconds.
        `seen` is brought up to date, and forgets what the store has forgotten.
        """
        with self._lock:
            now = self._clock()
            ready = [
                _copy(trace)
                for trace in self._traces.values()
                if trace.version != seen.get(trace.trace_id)
                and trace.spans
                and now - trace.updated >= quiet
                and (now - trace.updated >= patience or is_whole(trace))
            ]
            for trace_id in [key for key in seen if key not in self._traces]:
                del seen[trace_id]
        for trace in ready:
            seen[trace.trace_id] = trace.version
        return sorted(ready, key=_started)

    def stray_logs(self) -> list[LogRecord]:
        """The newest log lines that belong to no trace."""
        with self._lock:
            return list(self._stray_logs)

    def histograms(self) -> list[HistogramPoint]:
        """The newest state of every series."""
        with self._lock:
            return list(self._series.values())

    def routes(self) -> list[RouteFigures]:
        """Requests, errors and durations by route, over everything that was seen."""
        with self._lock:
            return self._figures.routes()

    def forgotten(self) -> Forgotten:
        """What the limits cost so far."""
        return self._lost

    def _trace(self, trace_id: str) -> Trace:
        return self._traces.get(trace_id) or Trace(trace_id)

    def _enter(self, trace: Trace) -> None:
        if trace.trace_id not in self._traces:
            self._traces[trace.trace_id] = self._ordinary[trace.trace_id] = trace

    def _keep(self, trace: Trace) -> None:
        self._ordinary.pop(trace.trace_id, None)
        self._kept.setdefault(trace.trace_id, trace)

    def _touch(self, trace: Trace, size: int) -> None:
        trace.size += size
        self._bytes += size
        trace.updated = self._clock()
        self._version += 1
        trace.version = self._version

    def _make_room(self, trace: Trace, size: int) -> bool:
        """Forget traces, never `trace` itself, until one more record fits. False when that is not enough."""
        new = trace.trace_id not in self._traces
        while len(self._traces) + new > self._max_traces or self._bytes + size > self._max_bytes:
            victim = self._victim(trace)
            if victim is None:
                return False
            del self._traces[victim.trace_id]
            self._kept.pop(victim.trace_id, None)
            self._ordinary.pop(victim.trace_id, None)
            self._bytes -= victim.size
            self._lose(traces=1, spans=len(victim.spans), logs=len(victim.logs))
        return True

    def _victim(self, growing: Trace) -> Trace | None:
        """The oldest trace that neither failed nor was slow; the oldest of those when they are nearly all there is.

        What failed or was slow takes nine tenths of the room at most, so that new traces are still seen. A trace is
        found to be slow when it is about to be forgotten: by then there is something to compare it with.
        """
        limit = max(1, min(self._max_traces, len(self._traces)) * 9 // 10)
        while len(self._kept) <= limit:
            oldest = next((one for one in self._ordinary.values() if one is not growing), None)
            if oldest is None:
                break
            if len(self._kept) == limit or oldest.longest is None or not self._figures.is_slow(oldest.longest):
                return oldest
            self._keep(oldest)
        candidates = chain(self._kept.values(), self._ordinary.values())
        return next((one for one in candidates if one is not growing), None)

    def _lose(self, **counts: int) -> None:
        self._lost = replace(self._lost, **{name: getattr(self._lost, name) + n for name, n in counts.items()})
        self._version += 1


def is_whole(trace: Trace) -> bool:
    """Is a root here, and the parent of every other span?"""
    parents = [span.parent_id for span in trace.spans.values()]
    return "" in parents and all(parent in trace.spans for parent in parents if parent)


def _started(trace: Trace) -> tuple[int, str]:
    starts = [span.start for span in trace.spans.values()] or [log.time for log in trace.logs]
    return min(starts, default=0), trace.trace_id


def _copy(trace: Trace) -> Trace:
    return replace(trace, spans=dict(trace.spans), logs=list(trace.logs))
