"""The figures of each route: from its SERVER spans, and beside them those of the histograms that a service exported.

Histograms are those of the HTTP conventions, `http.server.request.duration` in seconds and the older
`http.server.duration` in milliseconds. Their median comes from the buckets, as any metrics backend would take it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..receive.figures import RouteFigures
from ..receive.records import HistogramPoint, add_points

_NANOSECONDS = {"s": 1e9, "ms": 1e6, "us": 1e3, "ns": 1.0}
_METRICS = {"http.server.request.duration": "s", "http.server.duration": "ms"}
EDGES = tuple(int(ms * 1e6) for ms in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000))
"""Bounds of the latency histogram of a route, in nanoseconds."""


@dataclass(frozen=True)
class RouteStats:
    """One route of one service. Durations are in nanoseconds, None when no span or no bucket tells them; `method` and
    `route` are None where they were not named; `histogram` counts the requests up to each of `EDGES`, and the rest.
    """

    service: str
    method: str | None
    route: str | None
    requests: int
    errors: int
    p50: float | None
    p95: float | None
    maximum: float | None
    histogram: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        """Method and route."""
        return " ".join((self.method or "", self.route or "(no route)")).strip()


def from_spans(figures: Iterable[RouteFigures]) -> list[RouteStats]:
    """The routes as their SERVER spans tell them, in the order given."""
    return [
        RouteStats(
            one.service,
            one.method,
            one.route,
            one.requests,
            one.errors,
            one.durations.percentile(0.5),
            one.durations.percentile(0.95),
            one.durations.maximum if one.durations.count else None,
            tuple(one.durations.histogram(EDGES)),
        )
        for one in figures
    ]


def from_histograms(points: Iterable[HistogramPoint]) -> list[RouteStats]:
    """The routes in `points`, by service, then the busiest first."""
    merged: dict[tuple[str, str | None, str | None, str], HistogramPoint] = {}
    errors: dict[tuple[str, str | None, str | None, str], int] = {}
    for point in points:
        if point.name not in _METRICS or not point.count:
            continue
        values = point.attributes
        method = values.get("http.request.method") or values.get("http.method")
        route = values.get("http.route") or values.get("http.target")
        key = (point.service, str(method) if method else None, str(route) if route else None, point.name)
        merged[key] = add_points(merged[key], point) if key in merged else point
        status = values.get("http.status_code")
        failed = "error.type" in values or (isinstance(status, int) and status >= 500)
        errors[key] = errors.get(key, 0) + (point.count if failed else 0)
    stats = [
        RouteStats(
            *key[:3],
            point.count,
            errors[key],
            _nanoseconds(point, percentile(point, 0.5)),
            _nanoseconds(point, percentile(point, 0.95)),
            _nanoseconds(point, point.maximum),
        )
        for key, point in merged.items()
    ]
    return sorted(stats, key=lambda one: (one.service, -one.requests, one.route or "", one.method or ""))


def _nanoseconds(point: HistogramPoint, value: float | None) -> float | None:
    return None if value is None else value * _NANOSECONDS.get(point.unit or _METRICS[point.name], 1e9)


def percentile(point: HistogramPoint, share: float) -> float | None:
    """A percentile of a histogram, interpolated inside its bucket and never outside minimum and maximum."""
    if not point.bounds or len(point.counts) != len(point.bounds) + 1 or not sum(point.counts):
        return None
    wanted = sum(point.counts) * share
    low = value = 0.0
    for bucket, high in zip(point.counts, (*point.bounds, point.maximum or point.bounds[-1]), strict=True):
        if wanted <= bucket:
            value = low + (high - low) * wanted / bucket if bucket else low
            break
        wanted -= bucket
        low = value = high
    if point.minimum is not None:
        value = max(value, point.minimum)
    return value if point.maximum is None else min(value, point.maximum)
