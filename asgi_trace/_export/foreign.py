"""Exporters that are not ours, as what counts losses: their own word for success or failure is taken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData

from .._guard import Guard
from .encode import data_points
from .losses import Losses
from .signals import METRICS

T = TypeVar("T")


def counting(
    exporter: Any, things: str, prepare: Callable[[Sequence[T]], Sequence[T]] = lambda batch: batch
) -> Callable[[Sequence[T]], int]:
    """`exporter.export` as a function that returns how many of a batch were lost: none or all.

    The exporter gets what `prepare` makes of the batch.
    """
    guard = Guard()

    def ship(batch: Sequence[T]) -> int:
        result = exporter.export(prepare(batch))
        if getattr(result, "name", None) != "FAILURE":
            return 0
        name = type(exporter).__qualname__
        guard.warn("failure", f"{name} could not export {len(batch)} {things}, which are lost; this is said once")
        return len(batch)

    return ship


class CountingMetricExporter(MetricExporter):
    """Passes everything on to another exporter, and counts what that loses."""

    def __init__(self, exporter: MetricExporter) -> None:
        super().__init__(exporter._preferred_temporality, exporter._preferred_aggregation)
        self.losses = Losses(METRICS.things)
        self._exporter = exporter

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """See `MetricExporter`."""
        number = len(data_points(metrics_data))
        self.losses.begin(number)
        lost = number
        try:
            result = self._exporter.export(metrics_data, timeout_millis, **kwargs)
            lost = number if result is MetricExportResult.FAILURE else 0
        finally:
            self.losses.end(lost)
        return result

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """See `MetricExporter`."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """See `MetricExporter`."""
        self._exporter.shutdown(timeout_millis, **kwargs)
