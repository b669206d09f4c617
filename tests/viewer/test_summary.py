"""Figures by route from histograms, and traces as plain data."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_trace.viewer.analysis.summary import from_histograms, percentile
from asgi_trace.viewer.receive.records import HistogramPoint
from asgi_trace.viewer.render.data import metrics_data, trace_data

from ..support.viewer import failing_checkout, make_span, make_timeline

NAME = "http.server.request.duration"
POINT = HistogramPoint(
    "shop",
    "1",
    NAME,
    "s",
    {"http.request.method": "GET", "http.route": "/a", "http.response.status_code": 200},
    4,
    1.0,
    (0.1, 0.2, 0.4),
    (0, 4, 0, 0),
    0.12,
    0.18,
)


def test_routes_add_up_over_statuses_and_instances() -> None:
    """All series of one route become one line; failures are those with an error type."""
    failed = replace(
        POINT,
        instance="2",
        attributes={**POINT.attributes, "http.response.status_code": 500, "error.type": "500"},
        count=1,
        counts=(0, 0, 0, 1),
        maximum=2.0,
    )
    other = replace(POINT, service="inventory", attributes={"http.request.method": "GET"})
    stats = from_histograms([POINT, failed, other, replace(POINT, name="other"), replace(POINT, count=0)])
    assert [(each.service, each.method, each.route, each.requests, each.errors, each.maximum) for each in stats] == [
        ("inventory", "GET", None, 4, 0, 0.18e9),
        ("shop", "GET", "/a", 5, 1, 2e9),
    ]


def test_the_median_lies_inside_its_bucket() -> None:
    """Half of four values in one bucket is its middle; minimum and maximum bound it."""
    assert percentile(POINT, 0.5) == pytest.approx(0.15)
    assert percentile(replace(POINT, minimum=0.16), 0.5) == 0.16
    assert percentile(replace(POINT, maximum=0.14), 0.5) == 0.14
    assert percentile(replace(POINT, minimum=None, maximum=None), 0.5) == pytest.approx(0.15)
    assert percentile(replace(POINT, counts=(0, 0, 0, 2), maximum=0.9), 0.5) == pytest.approx(0.65)


def test_without_buckets_there_is_no_median() -> None:
    """Exponential histograms and broken points still have a count."""
    assert percentile(replace(POINT, bounds=(), counts=()), 0.5) is None
    assert percentile(replace(POINT, counts=(1,)), 0.5) is None
    assert percentile(replace(POINT, counts=(0, 0, 0, 0)), 0.5) is None


@given(st.lists(st.floats(0.001, 5), min_size=1, max_size=50))
def test_the_median_is_right_to_a_bucket(values: list[float]) -> None:
    """It never leaves the bucket in which the true median lies."""
    bounds = (0.01, 0.1, 0.5, 1.0, 2.5)
    counts = [0] * 6
    for value in values:
        counts[sum(value > bound for bound in bounds)] += 1
    point = replace(POINT, bounds=bounds, counts=tuple(counts), minimum=min(values), maximum=max(values))
    true = sorted(values)[(len(values) - 1) // 2]
    edges = (0.0, *bounds, max(values))
    bucket = sum(true > bound for bound in bounds)
    found = percentile(point, 0.5)
    assert found is not None
    assert edges[bucket] - 1e-9 <= found <= max(edges[bucket + 1], min(values)) + 1e-9


def test_the_data_is_json_with_everything_in_it() -> None:
    """Spans in tree order, the exception, the cause and log lines survive a round trip through JSON."""
    data = json.loads(json.dumps(trace_data(failing_checkout(), "a checkout")))
    assert (data["heading"], data["title"], data["status_code"], data["failed"]) == (
        "a checkout",
        "POST /checkout",
        502,
        True,
    )
    assert data["cause"]["service"] == "inventory"
    assert data["cause"]["span_id"] == "h"
    assert data["cause"]["passed_on"] == [
        {"service": "orders", "status_code": 502},
        {"service": "shop", "status_code": 502},
    ]
    assert [span["span_id"] for span in data["spans"]] == list("abcdefgh")
    assert data["spans"][7]["exception"]["where"] == "stock.py:31 in take"
    assert [log["body"] for log in data["logs"]] == ["checkout of ada", "taking 3 umbrellas", "no order"]
    assert data["duration_ms"] == 100.0


def test_a_good_trace_has_no_cause_in_its_data() -> None:
    """Nothing failed: null."""
    data = trace_data(make_timeline(make_span("GET /", kind="SERVER", status=200)))
    assert data["cause"] is None
    assert data["spans"][0]["exception"] is None


def test_metrics_are_in_milliseconds() -> None:
    """The unit is in the name."""
    (route,) = metrics_data([POINT])
    assert route["median_ms"] == pytest.approx(150)
    assert route["max_ms"] == pytest.approx(180)
    (without,) = metrics_data([replace(POINT, bounds=(), counts=(), maximum=None)])
    assert (without["median_ms"], without["max_ms"]) == (None, None)
