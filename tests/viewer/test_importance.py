"""What a limit cuts is cut by importance, and what memory cannot hold is forgotten by importance."""

from __future__ import annotations

import random

import pytest

from asgi_trace.viewer.analysis.cause import explain
from asgi_trace.viewer.analysis.importance import logs_to_show, path_to, rows_to_show
from asgi_trace.viewer.receive.figures import Durations, Figures
from asgi_trace.viewer.receive.store import Store
from asgi_trace.viewer.render.screen import Screen, to_text
from asgi_trace.viewer.render.terminal import MAX_LOGS, MAX_ROWS, trace_lines

from ..support.viewer import make_log, make_span, make_timeline, ms

MANY = [make_span(f"s{n}", n, n + 1, parent="root") for n in range(1, 3_000)]
ROOT = make_span("root", 0, 4_000, kind="SERVER", failed=True, status=500)
CULPRIT = [
    make_span("deep 1", 3_500, 3_600, parent="s2900"),
    make_span("deep 2", 3_510, 3_590, parent="deep 1", failed=True, exception="KeyError: 'sku'"),
]


def test_the_way_to_the_culprit_is_always_shown() -> None:
    """Three thousand rows in: its whole path is among the few that are drawn, and the terminal has them."""
    timeline = make_timeline(ROOT, *MANY, *CULPRIT)
    cause = explain(timeline)
    assert cause is not None
    shown = rows_to_show(timeline, cause, 50)
    assert len(shown) == 50
    assert set(path_to(timeline, cause.row)) <= set(shown)
    assert [timeline.rows[index].span.name for index in path_to(timeline, cause.row)] == [
        "root", "s2900", "deep 1", "deep 2",
    ]  # fmt: skip
    text = to_text(trace_lines(timeline, Screen(width=100)), Screen(width=100))
    assert "KeyError: 'sku'" in text
    assert len([line for line in text.splitlines() if "━" in line]) <= MAX_ROWS


def test_a_way_longer_than_the_limit_keeps_both_ends() -> None:
    """Root and culprit stay."""
    spans = [make_span(f"s{n}", n, 999, parent=f"s{n - 1}" if n else "", failed=True) for n in range(300)]
    timeline = make_timeline(*spans)
    cause = explain(timeline)
    assert cause is not None
    shown = rows_to_show(timeline, cause, 20)
    assert (len(shown), shown[0], shown[-1]) == (20, 0, 299)


def test_the_one_error_line_is_shown() -> None:
    """Among a thousand lines the ERROR stands in the terminal, in its place in time."""
    logs = [make_log(f"line {n}", n) for n in range(1_000)]
    logs[900] = make_log("the disk is full", 900, severity="ERROR")
    timeline = make_timeline(ROOT, logs=tuple(logs))
    assert 900 in logs_to_show(timeline, MAX_LOGS)
    text = to_text(trace_lines(timeline, Screen(width=100)), Screen(width=100))
    assert text.index("line 58") < text.index("841 more lines") < text.index("the disk is full") < text.index("99 more")


def add(store: Store, trace: str, took: float = 10, **options: object) -> None:
    store.add_span(make_span("GET /", 0, took, trace_id=trace, kind="SERVER", **options))  # type: ignore[arg-type]


def test_failed_and_slow_traces_are_forgotten_last() -> None:
    """Fifty good requests later the failed one and the slow one are still here, and what went is counted."""
    store = Store(max_traces=10)
    add(store, "failed", status=500)
    add(store, "slow", 5_000, status=200)
    for number in range(50):
        add(store, f"good {number}", 10 + number % 3, status=200)
    kept = {trace.trace_id for trace in store.traces()}
    assert {"failed", "slow", "good 49"} <= kept
    assert len(kept) == 10
    assert (store.forgotten().traces, store.forgotten().spans) == (42, 42)


def test_new_traces_are_seen_even_when_everything_fails() -> None:
    """Failed traces fill nine tenths of the room at most; of them the oldest go."""
    store = Store(max_traces=10)
    for number in range(30):
        add(store, f"bad {number}", failed=True)
    add(store, "good", status=200)
    kept = {trace.trace_id for trace in store.traces()}
    assert {"good", "bad 29"} <= kept
    assert "bad 0" not in kept


def test_a_failure_that_arrives_late_keeps_its_trace() -> None:
    """A trace that turns out to have failed is kept from then on."""
    store = Store(max_traces=5)
    add(store, "t")
    store.add_span(make_span("late", trace_id="t", failed=True))
    for number in range(20):
        add(store, f"good {number}")
    assert store.trace("t") is not None


def test_an_endless_trace_keeps_its_errors() -> None:
    """A full trace still takes spans that failed and ERROR lines, and says what it dropped."""
    store = Store(max_spans_per_trace=10, max_logs_per_trace=3)
    for number in range(20):
        store.add_span(make_span(f"s{number}", number, number + 1))
        store.add_log(make_log(f"line {number}", number))
    store.add_span(make_span("culprit", 30, 31, failed=True))
    store.add_log(make_log("the error", 31, severity="ERROR"))
    (trace,) = store.traces()
    assert "culprit" in trace.spans
    assert [log.body for log in trace.logs] == ["line 0", "line 1", "the error"]
    assert (trace.dropped, trace.dropped_logs) == (10, 18)


def test_stray_errors_outlive_other_stray_lines() -> None:
    """Of the lines without a trace, ERROR and above go last."""
    store = Store(max_stray_logs=3)
    store.add_log(make_log("error", trace_id="", severity="ERROR"))
    for number in range(10):
        store.add_log(make_log(f"line {number}", trace_id=""))
    assert [log.body for log in store.stray_logs()] == ["error", "line 8", "line 9"]


def test_route_figures_come_from_server_spans_and_outlive_them() -> None:
    """Requests, errors and percentiles are there without metrics, over everything that was seen."""
    store = Store(max_traces=3)
    for number in range(1, 101):
        add(store, f"t{number}", number, attributes={"http.route": "/a", "http.request.method": "GET"},
            status=500 if number % 10 == 0 else 200)  # fmt: skip
    store.add_span(make_span("GET", kind="CLIENT", trace_id="c", attributes={"http.route": "/a"}))
    add(store, "x", 7)
    add(store, "x", 7)
    one, unnamed = store.routes()
    assert (one.service, one.method, one.route, one.requests, one.errors) == ("shop", "GET", "/a", 100, 10)
    assert [one.durations.percentile(share) for share in (0.5, 0.95)] == [ms(50), ms(95)]
    assert one.durations.maximum == ms(100)
    assert (unnamed.method, unnamed.route, unnamed.requests) == (None, None, 1)


@pytest.mark.parametrize("count", [1, 256, 257, 20_000])
def test_percentiles_are_right_to_a_hundredth(count: int) -> None:
    """However many durations there are."""
    chance = random.Random(count)
    values = sorted(int(chance.lognormvariate(16, 1.5)) for _ in range(count))
    durations = Durations()
    for value in chance.sample(values, count):
        durations.add(value)
    for share in (0.5, 0.95, 0.99):
        true = values[max(0, -(-int(share * 100) * count // 100) - 1)]
        assert durations.percentile(share) == pytest.approx(true, rel=0.011)
    assert durations.maximum == values[-1]
    assert sum(durations.histogram((10**6, 10**7, 10**8))) == count


def test_routes_are_bounded() -> None:
    """A sender with a route for each request fills no memory; its requests are still counted."""
    figures = Figures(max_routes=5)
    for number in range(100):
        figures.add(make_span("x", kind="SERVER", service=f"s{number}", attributes={"http.route": f"/{number}"}))
    assert len(figures.routes()) <= 11
    assert sum(route.requests for route in figures.routes()) == 100
