"""From a batch to the bytes of an OTLP request, by the official encoders.

Spans have a faster encoder of their own, `asgi_trace._sdk.span_encoder()`, which is passed in from above.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

from opentelemetry.exporter.otlp.proto.common import metrics_encoder, trace_encoder
from opentelemetry.sdk.metrics.export import Metric, MetricsData, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.trace import ReadableSpan


class DataPoint(NamedTuple):
    """One data point with all that it belongs to: what a batch of metrics consists of, and is cut into."""

    resource: ResourceMetrics
    scope: ScopeMetrics
    metric: Metric
    point: Any


def encode_spans(spans: Sequence[ReadableSpan]) -> bytes:
    """An `ExportTraceServiceRequest`."""
    return bytes(trace_encoder.encode_spans(spans).SerializeToString())


def encode_logs(records: Sequence[Any]) -> bytes:
    """An `ExportLogsServiceRequest`."""
    from opentelemetry.exporter.otlp.proto.common import (
        _log_encoder,  # as the official exporters do: it has no other name
    )

    return bytes(_log_encoder.encode_logs(records).SerializeToString())


def data_points(data: MetricsData) -> list[DataPoint]:
    """All data points of a collection, in order."""
    return [
        DataPoint(resource, scope, metric, point)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    ]


def encode_data_points(points: Sequence[DataPoint]) -> bytes:
    """An `ExportMetricsServiceRequest`."""
    data = MetricsData(
        [
            replace(resource, scope_metrics=[
                replace(scope, metrics=[
                    replace(metric, data=replace(metric.data, data_points=[each.point for each in of_metric]))
                    for metric, of_metric in _by("metric", of_scope)
                ])
                for scope, of_scope in _by("scope", of_resource)
            ])
            for resource, of_resource in _by("resource", points)
        ]
    )  # fmt: skip
    return bytes(metrics_encoder.encode_metrics(data).SerializeToString())


def _by(field: str, points: Sequence[DataPoint]) -> Iterator[tuple[Any, list[DataPoint]]]:
    """Adjacent points that belong to the same object. By identity: comparing resources and metrics would be slow."""
    for _, group in groupby(points, key=lambda point: id(getattr(point, field))):
        found = list(group)
        yield getattr(found[0], field), found
