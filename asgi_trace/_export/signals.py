"""The three signals of OTLP: what distinguishes them for a sender."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse


@dataclass(frozen=True)
class Signal:
    """One signal. `things` is what is counted; `response` has the field `rejected` in its `partial_success`."""

    name: str
    things: str
    method: str
    path: str
    response: Any
    rejected: str


TRACES = Signal(
    name="traces",
    things="spans",
    method="/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    path="/v1/traces",
    response=ExportTraceServiceResponse,
    rejected="rejected_spans",
)
METRICS = Signal(
    name="metrics",
    things="data points",
    method="/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
    path="/v1/metrics",
    response=ExportMetricsServiceResponse,
    rejected="rejected_data_points",
)
LOGS = Signal(
    name="logs",
    things="logs",
    method="/opentelemetry.proto.collector.logs.v1.LogsService/Export",
    path="/v1/logs",
    response=ExportLogsServiceResponse,
    rejected="rejected_log_records",
)
SIGNALS = (TRACES, METRICS, LOGS)
