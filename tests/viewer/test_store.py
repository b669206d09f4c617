"""The bounded store: duplicates, limits, completeness."""

from __future__ import annotations

from dataclasses import replace

from asgi_trace.viewer.receive.records import HistogramPoint, LogRecord, SpanRecord
from asgi_trace.viewer.receive.store import Store

from ..support.viewer import make_span


class Clock:
    """Seconds that pass when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def span_of(trace: str, span: str, parent: str = "", start: float = 0.0, size: int = 100) -> SpanRecord:
    return make_span(span, start, start + 1, trace_id=trace, parent=parent, size=size)


def test_a_retried_export_changes_nothing() -> None:
    """A span that arrives twice is kept once."""
    store = Store()
    store.add_span(span_of("t", "a"))
    before = store.traces()[0].version
    store.add_span(span_of("t", "a"))
    assert [len(trace.spans) for trace in store.traces()] == [1]
    assert store.traces()[0].version == before


def test_traces_come_in_the_order_of_their_start() -> None:
    """The order of arrival does not matter."""
    store = Store()
    for trace, start in (("late", 9.0), ("early", 1.0)):
        store.add_span(span_of(trace, "a", start=start))
    assert [trace.trace_id for trace in store.traces()] == ["early", "late"]


def test_the_oldest_traces_go_when_there_are_too_many() -> None:
    """The number of traces stays bounded, and what was lost is counted."""
    store = Store(max_traces=10)
    for number in range(25):
        store.add_span(span_of(f"t{number:02}", "a", start=number))
    assert [trace.trace_id for trace in store.traces()] == [f"t{number}" for number in range(15, 25)]
    assert store.forgotten().traces == 15
    assert store.forgotten().spans == 15


def test_bytes_are_bounded_too() -> None:
    """Few huge spans cost other traces their place like many small ones."""
    store = Store(max_bytes=1_000)
    for name in "abc":
        store.add_span(span_of(name, "a", start=ord(name), size=450))
    assert [trace.trace_id for trace in store.traces()] == ["b", "c"]


def test_one_endless_trace_stops_growing() -> None:
    """A trace that fills the store alone keeps what it has, and counts the rest."""
    store = Store(max_spans_per_trace=5)
    for number in range(8):
        store.add_span(span_of("t", f"s{number}"))
    trace = store.traces()[0]
    assert (len(trace.spans), trace.dropped) == (5, 3)


def test_what_does_not_fit_leaves_no_empty_trace() -> None:
    """A span that is larger than the store leaves nothing behind."""
    store = Store(max_bytes=50)
    store.add_span(span_of("t", "a", size=51))
    assert store.traces() == []


def test_log_lines_are_bounded() -> None:
    """A trace keeps so many log lines, and those without a trace keep the newest."""
    store = Store(max_logs_per_trace=2, max_stray_logs=2)
    for number in range(4):
        store.add_log(LogRecord(number, "INFO", f"line {number}", "shop", trace_id="t"))
        store.add_log(LogRecord(number, "INFO", f"stray {number}", "shop"))
    assert [log.body for log in store.traces()[0].logs] == ["line 0", "line 1"]
    assert [log.body for log in store.stray_logs()] == ["stray 2", "stray 3"]
    assert store.forgotten().logs == 4


def test_a_trace_is_ready_when_it_is_whole_and_quiet() -> None:
    """Without a missing parent a short silence is enough."""
    clock = Clock()
    store, seen = Store(clock=clock), dict[str, int]()
    store.add_span(span_of("t", "a"))
    clock.now = 0.5
    assert store.changed(seen, quiet=1.0, patience=5.0) == []
    clock.now = 1.0
    assert [trace.trace_id for trace in store.changed(seen, quiet=1.0, patience=5.0)] == ["t"]
    assert store.changed(seen, quiet=1.0, patience=5.0) == []


def test_a_trace_without_its_root_waits_longer() -> None:
    """A missing parent may still come; when it comes late, the trace is ready once more."""
    clock = Clock()
    store, seen = Store(clock=clock), dict[str, int]()
    store.add_span(span_of("t", "b", parent="a"))
    clock.now = 4.0
    assert store.changed(seen, quiet=1.0, patience=5.0) == []
    clock.now = 5.0
    assert len(store.changed(seen, quiet=1.0, patience=5.0)) == 1
    store.add_span(span_of("t", "a"))
    clock.now = 6.0
    assert len(store.changed(seen, quiet=1.0, patience=5.0)) == 1


def test_what_was_seen_is_forgotten_with_its_trace() -> None:
    """The caller's memory of printed traces does not grow for ever."""
    store, seen = Store(max_traces=1, clock=Clock()), dict[str, int]()
    for number in range(3):
        store.add_span(span_of(f"t{number}", "a"))
        store.changed(seen, quiet=0.0, patience=0.0)
    assert list(seen) == ["t2"]


POINT = HistogramPoint("shop", "1", "m", "s", {"http.route": "/a"}, 2, 3.0, (1.0,), (1, 1), 0.5, 2.5)


def test_cumulative_points_replace_and_delta_points_add() -> None:
    """A series holds the newest cumulative state, or the sum of its deltas."""
    store = Store()
    store.set_histogram(POINT)
    store.set_histogram(replace(POINT, count=5))
    assert [point.count for point in store.histograms()] == [5]
    store.set_histogram(replace(POINT, count=1, total=9.0, counts=(0, 1), minimum=None, maximum=9.0), delta=True)
    merged = store.histograms()[0]
    assert (merged.count, merged.total, merged.counts, merged.minimum, merged.maximum) == (6, 12.0, (1, 2), 0.5, 9.0)


def test_points_with_other_buckets_give_their_buckets_up() -> None:
    """Counts and sums still add up when bounds differ."""
    store = Store()
    store.set_histogram(POINT)
    store.set_histogram(replace(POINT, bounds=(2.0,)), delta=True)
    merged = store.histograms()[0]
    assert (merged.count, merged.bounds, merged.counts) == (4, (), ())


def test_series_are_bounded() -> None:
    """New series are refused beyond the limit; known ones go on."""
    store = Store(max_series=1)
    store.set_histogram(POINT)
    store.set_histogram(replace(POINT, attributes={"http.route": "/b"}))
    store.set_histogram(replace(POINT, count=7))
    assert [point.count for point in store.histograms()] == [7]
    assert store.forgotten().series == 1
