"""Instruments that are read back, and the names of the HTTP metrics."""

from __future__ import annotations

from typing import Any

import httpx
from opentelemetry.sdk.metrics import ExemplarFilter, MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp

DURATION = "http.server.request.duration"
ACTIVE = "http.server.active_requests"
REQUEST_SIZE = "http.server.request.body.size"
RESPONSE_SIZE = "http.server.response.body.size"
SERVER = (DURATION, ACTIVE, REQUEST_SIZE, RESPONSE_SIZE)
CLIENT = tuple(name.replace("server", "client") for name in SERVER)
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class Meters:
    """A MeterProvider and what it has collected."""

    def __init__(self, exemplar_filter: ExemplarFilter | None = None) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider(
            [self._reader], exemplar_filter=exemplar_filter or TraceBasedExemplarFilter(), shutdown_on_exit=False
        )

    def collected(self) -> dict[str, Any]:
        """Name -> metric."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {m.name: m for group in data.resource_metrics for scope in group.scope_metrics for m in scope.metrics}

    def points(self, name: str = DURATION) -> list[Any]:
        """The data points of one instrument."""
        metrics = self.collected()
        return list(metrics[name].data.data_points) if name in metrics else []

    def point(self, name: str = DURATION) -> Any:
        """The one data point of one instrument."""
        [point] = self.points(name)
        return point

    def active(self, name: str = ACTIVE) -> list[int]:
        """What the gauge stands at, for each of its attribute sets."""
        return [point.value for point in self.points(name)]


def labels(point: HistogramDataPoint | NumberDataPoint) -> dict[str, Any]:
    """The attributes of a data point."""
    return dict(point.attributes or {})


def seconds(*spans: Any) -> float:
    """How long these spans lasted, together."""
    return float(sum(span.end_time - span.start_time for span in spans)) / 1e9


def traced(app: ASGIApp, meters: Meters, **options: Any) -> TraceMiddleware:
    """The application behind a middleware with these instruments."""
    return TraceMiddleware(app, meter_provider=meters.provider, **options)


def answer_hello(request: httpx.Request) -> httpx.Response:
    """What a client's requests get."""
    return httpx.Response(200, content=b"hello")
