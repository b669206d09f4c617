"""Names, units, buckets and attributes of the server's metrics: each cell of the page is what a library shows."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_trace import TraceMiddleware
from tests.support.metrics import labels
from tests.support.moving import NOTHING, PAGE, Columns, listed
from tests.support.moving_server import shown

from .shop import LIBRARIES, REQUESTS, asked, shop

METRICS = Columns("Metrics of a server")

KINDS = {
    "duration": "http.server.request.duration http.server.duration",
    "requests in flight": "http.server.active_requests",
    "size of a request's body": "http.server.request.body.size http.server.request.size",
    "size of a response's body": "http.server.response.body.size http.server.response.size",
}


def metric(library: str, kind: str, request: str = "a body") -> Any:
    """The metric of a kind that the library records; None where it does not."""
    metrics = asked(library, request).metrics
    return next((metrics[name] for name in KINDS[kind].split() if name in metrics), None)


def point(library: str, kind: str, request: str = "a body") -> Any:
    return metric(library, kind, request).data.data_points[0]


def named(kind: str) -> Any:
    def cell(library: str) -> str:
        found = metric(library, kind)
        return NOTHING if found is None else f"`{found.name}`, `{found.unit}`"

    return cell


for _kind in KINDS:
    METRICS(_kind)(named(_kind))


@METRICS("buckets of the duration")
def buckets(library: str) -> str:
    bounds = point(library, "duration").explicit_bounds
    return f"{len(bounds)}, `{bounds[0]:g}` to `{bounds[-1]:g}`"


@METRICS("attributes of the duration")
def attributes(library: str) -> str:
    return listed(sorted(labels(point(library, "duration"))))


@METRICS("more of them, for an exception")
def of_an_exception(library: str) -> str:
    more = labels(point(library, "duration", "failing"))
    found = {name: more[name] for name in sorted(more) if name not in labels(point(library, "duration"))}
    return ", ".join(f"`{name}`: `{value}`" for name, value in found.items()).replace(
        "tests.moving.shop.", "shop."
    ) or (NOTHING)


@METRICS("attributes of requests in flight")
def attributes_in_flight(library: str) -> str:
    return listed(sorted(labels(point(library, "requests in flight"))))


@METRICS("a response of 15 bytes without `content-length`")
def without_length(library: str) -> str:
    found = metric(library, "size of a response's body", "a stream")
    if found is None:
        return NOTHING
    return f"{found.data.data_points[0].sum} bytes"


@METRICS("instruments that count a WebSocket")
def websocket(library: str) -> str:
    metrics = asked(library, "a socket").metrics
    return listed(name for name, found in metrics.items() if found.data.data_points)


@pytest.mark.parametrize("row", METRICS.titles())
def test_metrics(row: str) -> None:
    """A row of metrics says what every library records, and yes where that is what we record."""
    METRICS.check(row)


@pytest.mark.parametrize("library", [name for name in LIBRARIES if name != "Starlette"])
def test_every_metric_has_a_row(library: str) -> None:
    """No library records a metric that the table does not have."""
    recorded = {name for request in REQUESTS for name in asked(library, request).metrics}
    assert recorded - {name for names in KINDS.values() for name in names.split()} == set()


def test_starlettes_middleware_records_no_metrics() -> None:
    """The page leaves Starlette out of the table of metrics, since its middleware records none."""
    assert "Starlette's middleware records no metrics" in PAGE.text
    assert all(asked("Starlette", request).metrics == {} for request in REQUESTS)


def test_only_the_duration_is_recorded_unless_the_option_names_others() -> None:
    """Without the option `metrics`, the middleware records the duration alone."""
    side = shown(lambda spans, meters: TraceMiddleware(shop(), tracer_provider=spans, meter_provider=meters))
    assert list(side.metrics) == ["http.server.request.duration"]
