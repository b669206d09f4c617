"""Requests, errors and durations by route, counted when a SERVER span arrives: they outlive the spans themselves.

Durations go into buckets whose bounds grow by 2 %, so that a percentile is exact to 1 % however many requests there
were; up to 256 of them it is exact.
"""

from __future__ import annotations

import math
from bisect import insort
from collections import Counter
from dataclasses import dataclass, field

from . import http
from .records import SpanRecord

_EXACT = 256
_GROWTH = math.log(1.02)
_MAX_ROUTES = 2_000


@dataclass(slots=True)
class Durations:
    """A distribution of durations in nanoseconds."""

    count: int = 0
    maximum: int = 0
    _exact: list[int] = field(default_factory=list)
    _buckets: Counter[int] = field(default_factory=Counter)

    def add(self, nanoseconds: int) -> None:
        """One more."""
        self.count += 1
        self.maximum = max(self.maximum, nanoseconds)
        if self.count <= _EXACT:
            insort(self._exact, nanoseconds)
        self._buckets[int(math.log(max(1, nanoseconds)) / _GROWTH)] += 1

    def percentile(self, share: float) -> int | None:
        """The smallest duration that at least `share` (0 to 1) of all do not exceed; None without any."""
        if not self.count:
            return None
        rank = max(1, math.ceil(share * self.count))
        if self.count <= _EXACT:
            return self._exact[rank - 1]
        seen = 0
        for bucket in sorted(self._buckets):
            seen += self._buckets[bucket]
            if seen >= rank:
                return min(self.maximum, round(math.exp((bucket + 0.5) * _GROWTH)))
        return self.maximum

    def histogram(self, edges: tuple[int, ...]) -> list[int]:
        """How many lie at or below each edge and above the one before; the last number is the rest."""
        counts = [0] * (len(edges) + 1)
        pairs = (
            [(value, 1) for value in self._exact]
            if self.count <= _EXACT
            else [(round(math.exp((bucket + 0.5) * _GROWTH)), number) for bucket, number in self._buckets.items()]
        )
        for value, number in pairs:
            counts[sum(value > edge for edge in edges)] += number
        return counts

    def copy(self) -> Durations:
        """A copy that no later `add` changes."""
        return Durations(self.count, self.maximum, list(self._exact), Counter(self._buckets))


@dataclass(slots=True)
class RouteFigures:
    """One route of one service: `method` and `route` are None where no span named them."""

    service: str
    method: str | None
    route: str | None
    requests: int = 0
    errors: int = 0
    durations: Durations = field(default_factory=Durations)


class Figures:
    """Figures by route over everything that was seen. Bounded: past the limit, new routes count as route None."""

    def __init__(self, max_routes: int = _MAX_ROUTES) -> None:
        self._routes: dict[tuple[str, str | None, str | None], RouteFigures] = {}
        self._max_routes = max_routes
        self._all = Durations()

    def add(self, span: SpanRecord) -> None:
        """Count a SERVER span; others are passed over."""
        if span.kind != "SERVER":
            return
        method, route = http.method_and_route(span)
        found = self._of(span.service, method, route)
        found.requests += 1
        found.errors += http.failed(span)
        if span.duration is not None:
            found.durations.add(span.duration)
            self._all.add(span.duration)

    def is_slow(self, span: SpanRecord) -> bool:
        """Is it among the slowest 5 % of its route or of all, and at least twice as slow as half of them?"""
        took = span.duration
        if took is None:
            return False
        known = self._routes.get((span.service, *http.method_and_route(span)))
        return any(
            durations.count > 1
            and took >= (durations.percentile(0.95) or 0)
            and took >= 2 * (durations.percentile(0.5) or 0)
            for durations in (self._all, *([known.durations] if known else ()))
        )

    def routes(self) -> list[RouteFigures]:
        """Copies, by service, the busiest route first."""
        copies = [
            RouteFigures(one.service, one.method, one.route, one.requests, one.errors, one.durations.copy())
            for one in self._routes.values()
        ]
        return sorted(copies, key=lambda one: (one.service, -one.requests, one.route or "", one.method or ""))

    def _of(self, service: str, method: str | None, route: str | None) -> RouteFigures:
        key = (service, method, route)
        found = self._routes.get(key)
        if found is None:
            if len(self._routes) >= self._max_routes:
                key = (service if len(self._routes) < 2 * self._max_routes else "", None, None)
                found = self._routes.get(key)
            if found is None:
                found = self._routes[key] = RouteFigures(*key)
        return found
