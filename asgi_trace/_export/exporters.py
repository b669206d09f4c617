"""The OTLP exporters of spans and metrics, for any of the protocols.

Each has `ship(batch)`, which returns how many members of a batch were lost; the SDK's `export()` is made of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from .batch import Batches
from .collector import Collector
from .delivery import Delivery
from .encode import DataPoint, data_points, encode_data_points, encode_spans
from .losses import Losses
from .signals import METRICS, TRACES


class OTLPSpanExporter(SpanExporter):
    """Exports spans. `encode` turns a batch into the bytes of an `ExportTraceServiceRequest`."""

    def __init__(self, collector: Collector, encode: Callable[[Sequence[ReadableSpan]], bytes] | None = None) -> None:
        self.delivery = Delivery(collector, TRACES)
        self.batches = Batches(self.delivery, encode or encode_spans, lambda span: f"the span {span.name!r}")

    def ship(self, spans: Sequence[ReadableSpan]) -> int:
        """Send a batch. Returns how many of it were lost."""
        return self.batches.send(spans)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch. FAILURE when anything of it was lost."""
        return SpanExportResult.FAILURE if self.ship(spans) else SpanExportResult.SUCCESS

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Stop at once; the processor has waited for what was under way."""
        self.delivery.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits in here."""
        return True


class OTLPMetricExporter(MetricExporter):
    """Exports metrics, and counts the data points that it loses."""

    def __init__(self, collector: Collector, **preferences: Any) -> None:
        super().__init__(**preferences)
        self.delivery = Delivery(collector, METRICS)
        self.losses = Losses(METRICS.things)
        self.batches: Batches[DataPoint] = Batches(
            self.delivery, encode_data_points, lambda point: f"a data point of the metric {point.metric.name!r}"
        )

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Send one collection. FAILURE when anything of it was lost."""
        points = data_points(metrics_data)
        if not points:
            return MetricExportResult.SUCCESS
        self.losses.begin(len(points))
        lost = self.batches.send(points)
        self.losses.end(lost)
        return MetricExportResult.FAILURE if lost else MetricExportResult.SUCCESS

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Stop at once."""
        self.delivery.close()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing waits in here."""
        return True
