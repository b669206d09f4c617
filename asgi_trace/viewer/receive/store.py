"""What the receiver heard, kept in bounded memory: spans and log lines by trace, metrics by series.

Spans may arrive in any order, twice, or without their parents; nothing here assumes otherwise. Two limits hold: a
number of spans and a number of bytes. When either is passed, whole traces are forgotten, the oldest first; a single
trace that fills the store alone stops growing instead. The store knows no protocol and no presentation.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from .records import HistogramPoint, LogRecord, SpanRecord, add_points


@dataclass
class Trace:
    """The spans and log lines of one trace id so far. `version` grows with every change."""

    trace_id: str
    spans: dict[str, SpanRecord] = field(default_factory=dict)
    logs: list[LogRecord] = field(default_factory=list)
    updated: float = 0.0
    version: int = 0
    size: int = 0
    dropped: int = 0


@dataclass(frozen=True)
class Forgotten:
    """What the limits cost so far."""

    traces: int = 0
    spans: int = 0
    logs: int = 0
    series: int = 0


class Store:
    """Thread-safe and bounded. `clock` gives seconds and only serves to tell how long a trace has been quiet."""

    def __init__(
        self,
        *,
        max_spans: int = 50_000,
        max_bytes: int = 128 * 1024 * 1024,
        max_logs_per_trace: int = 2_000,
        max_stray_logs: int = 1_000,
        max_series: int = 2_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_spans = max_spans
        self._max_bytes = max_bytes
        self._max_logs = max_logs_per_trace
        self._max_stray_logs = max_stray_logs
        self._max_series = max_series
        self._clock = clock
        self._lock = threading.Lock()
        self._traces: OrderedDict[str, Trace] = OrderedDict()
        self._stray_logs: list[LogRecord] = []
        self._series: dict[tuple[object, ...], HistogramPoint] = {}
        self._spans = 0
        self._bytes = 0
        self._lost_traces = self._lost_spans = self._lost_logs = self._lost_series = 0

    def add_span(self, span: SpanRecord) -> None:
        """Keep one span. A span id that is there already is a retried export and changes nothing."""
        with self._lock:
            trace = self._trace(span.trace_id)
            if span.span_id in trace.spans:
                return
            if not self._make_room(trace, span.size, spans=1):
                trace.dropped += 1
                self._lost_spans += 1
                return
            self._traces[trace.trace_id] = trace
            trace.spans[span.span_id] = span
            self._spans += 1
            self._touch(trace, span.size)

    def add_log(self, log: LogRecord) -> None:
        """Keep one log line, with its trace when it names one."""
        size = log.size or len(log.body) + 200
        with self._lock:
            if not log.trace_id:
                self._stray_logs.append(log)
                self._lost_logs += len(self._stray_logs) > self._max_stray_logs
                del self._stray_logs[: -self._max_stray_logs]
                return
            trace = self._trace(log.trace_id)
            if len(trace.logs) >= self._max_logs or not self._make_room(trace, size, spans=0):
                self._lost_logs += 1
                return
            self._traces[trace.trace_id] = trace
            trace.logs.append(log)
            self._touch(trace, size)

    def set_histogram(self, point: HistogramPoint, *, delta: bool = False) -> None:
        """Keep the newest state of one series; with `delta` temporality, add `point` to it."""
        labels = tuple(sorted((key, str(value)) for key, value in point.attributes.items()))
        key = (point.service, point.instance, point.name, labels)
        with self._lock:
            before = self._series.get(key)
            if before is None and len(self._series) >= self._max_series:
                self._lost_series += 1
                return
            self._series[key] = add_points(before, point) if delta and before else point

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
                if trace.spans
                and trace.version != seen.get(trace.trace_id)
                and now - trace.updated >= (quiet if is_whole(trace) else patience)
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

    def forgotten(self) -> Forgotten:
        """What the limits cost so far."""
        with self._lock:
            return Forgotten(self._lost_traces, self._lost_spans, self._lost_logs, self._lost_series)

    def _trace(self, trace_id: str) -> Trace:
        return self._traces.get(trace_id) or Trace(trace_id)

    def _touch(self, trace: Trace, size: int) -> None:
        trace.size += size
        self._bytes += size
        trace.updated = self._clock()
        trace.version += 1

    def _make_room(self, trace: Trace, size: int, *, spans: int) -> bool:
        """Forget the oldest traces, never `trace` itself, until one more fits. False when that is not enough."""
        while self._spans + spans > self._max_spans or self._bytes + size > self._max_bytes:
            oldest = next((other for other in self._traces.values() if other is not trace), None)
            if oldest is None:
                return False
            del self._traces[oldest.trace_id]
            self._spans -= len(oldest.spans)
            self._bytes -= oldest.size
            self._lost_traces += 1
            self._lost_spans += len(oldest.spans)
            self._lost_logs += len(oldest.logs)
        return True


def is_whole(trace: Trace) -> bool:
    """Is a root here, and the parent of every other span?"""
    parents = [span.parent_id for span in trace.spans.values()]
    return "" in parents and all(parent in trace.spans for parent in parents if parent)


def _started(trace: Trace) -> tuple[int, str]:
    starts = [span.start for span in trace.spans.values()] or [log.time for log in trace.logs]
    return min(starts, default=0), trace.trace_id


def _copy(trace: Trace) -> Trace:
    return Trace(
        trace.trace_id, dict(trace.spans), list(trace.logs), trace.updated, trace.version, trace.size, trace.dropped
    )
