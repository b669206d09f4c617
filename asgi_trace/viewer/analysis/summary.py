"""What the received histograms say about each route: how many requests, how many failed, how long they took.

Reads `http.server.request.duration` (seconds) only. The median comes from the buckets, as any metrics backend would
take it, so it is exact to a bucket and no better.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..receive.records import HistogramPoint, add_points

_DURATION = "http.server.request.duration"


@dataclass(frozen=True)
class RouteStats:
    """One route of one service. Durations are in seconds; `median` is None when no buckets were sent."""

    service: str
    method: str
    route: str
    requests: int
    errors: int
    median: float | None
    maximum: float | None


def by_route(points: Iterable[HistogramPoint]) -> list[RouteStats]:
    """The routes in `points`, by service, then the busiest first."""
    merged: dict[tuple[str, str, str], HistogramPoint] = {}
    errors: dict[tuple[str, str, str], int] = {}
    for point in points:
        if point.name != _DURATION or not point.count:
            continue
        attributes = point.attributes
        key = (
            point.service,
            str(attributes.get("http.request.method") or ""),
            str(attributes.get("http.route") or "(no route)"),
        )
        merged[key] = add_points(merged[key], point) if key in merged else point
        errors[key] = errors.get(key, 0) + (point.count if "error.type" in attributes else 0)
    stats = [RouteStats(*key, point.count, errors[key], median(point), point.maximum) for key, point in merged.items()]
    return sorted(stats, key=lambda route: (route.service, -route.requests, route.route, route.method))


def median(point: HistogramPoint) -> float | None:
    """The median of a histogram, interpolated inside its bucket and never outside minimum and maximum."""
    if not point.bounds or len(point.counts) != len(point.bounds) + 1 or not sum(point.counts):
        return None
    half = sum(point.counts) / 2
    low = 0.0
    for bucket, high in zip(point.counts, (*point.bounds, point.maximum or point.bounds[-1]), strict=True):
        if half <= bucket:
            value = low + (high - low) * half / bucket if bucket else low
            break
        half -= bucket
        low = high
    else:  # pragma: no cover - the counts add up to more than their half
        value = low
    if point.minimum is not None:
        value = max(value, point.minimum)
    return value if point.maximum is None else min(value, point.maximum)
