"""The metrics `otel.sdk.exporter.*` and `otel.sdk.processor.*`, as OpenTelemetry's own exporters and processors keep
them.

Names, units, descriptions and attributes are those of the semantic conventions and of OpenTelemetry Python, which makes
them by private functions that differ from version to version.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.metrics import MeterProvider, Observation

from .collector import GRPC, Collector
from .forking import in_child
from .signals import LOGS, METRICS, TRACES, Signal

_METER = "opentelemetry-sdk"
_instances: Counter[str] = Counter()
"""How many components of each type this process has had: their names are numbered."""

_EXPORTERS = {TRACES: "span_exporter", METRICS: "metric_exporter", LOGS: "log_exporter"}
_EXPORTED = {
    TRACES: ("otel.sdk.exporter.span.exported", "{span}", "spans"),
    METRICS: ("otel.sdk.exporter.metric_data_point.exported", "{data_point}", "metric data points"),
    LOGS: ("otel.sdk.exporter.log.exported", "{log_record}", "log records"),
}
_INFLIGHT = {
    TRACES: "otel.sdk.exporter.span.inflight",
    METRICS: "otel.sdk.exporter.metric_data_point.inflight",
    LOGS: "otel.sdk.exporter.log.inflight",
}
_PROCESSORS = {TRACES: "span_processor", LOGS: "log_processor"}
_PROCESSED = {
    TRACES: ("otel.sdk.processor.span.processed", "{span}", "spans"),
    LOGS: ("otel.sdk.processor.log.processed", "{log_record}", "log records"),
}
_QUEUE_CAPACITY = {
    TRACES: ("otel.sdk.processor.span.queue.capacity", "spans the queue of a given instance of an SDK span processor"),
    LOGS: (
        "otel.sdk.processor.log.queue.capacity",
        "log records the queue of a given instance of an SDK Log Record processor",
    ),
}
_QUEUE_SIZE = {
    TRACES: ("otel.sdk.processor.span.queue.size", "{span}", "spans", "span"),
    LOGS: ("otel.sdk.processor.log.queue.size", "{log}", "logs", "log"),
}


class ExporterMetrics:
    """What one exporter records of itself."""

    def __init__(self, meter_provider: MeterProvider, signal: Signal, collector: Collector) -> None:
        protocol = "grpc" if collector.protocol == GRPC else "http"
        self._attributes = {**_component(f"otlp_{protocol}_{_EXPORTERS[signal]}"), **_server(collector)}
        meter = meter_provider.get_meter(_METER)
        name, unit, things = _EXPORTED[signal]
        self._inflight = meter.create_up_down_counter(
            _INFLIGHT[signal],
            unit,
            f"The number of {things} which were passed to the exporter, but that have not been exported yet (neither "
            "successful, nor failed).",
        )
        self._exported = meter.create_counter(
            name, unit, f"The number of {things} for which the export has finished, either successful or failed."
        )
        self._duration = meter.create_histogram(
            "otel.sdk.exporter.operation.duration", "s", "The duration of exporting a batch of telemetry records."
        )

    def begin(self, count: int) -> None:
        """An export of so many begins."""
        self._inflight.add(count, self._attributes)

    def end(self, count: int, seconds: float, failure: Mapping[str, Any]) -> None:
        """It has ended. `failure` holds `error.type` and more, and is empty after a success."""
        self._inflight.add(-count, self._attributes)
        exported = self._attributes
        if "error.type" in failure:
            exported = {**exported, "error.type": failure["error.type"]}
        self._exported.add(count, exported)
        self._duration.record(seconds, {**self._attributes, **failure})


class ProcessorMetrics:
    """What one processor records of itself. `queue` is its bound and what asks for its length, where it has a queue."""

    def __init__(
        self, meter_provider: MeterProvider, signal: Signal, queue: tuple[int, Callable[[], int]] | None
    ) -> None:
        self._attributes = _component(f"{'simple' if queue is None else 'batching'}_{_PROCESSORS[signal]}")
        meter = meter_provider.get_meter(_METER)
        name, unit, things = _PROCESSED[signal]
        self._processed = meter.create_counter(
            name, unit, f"The number of {things} for which the processing has finished, either successful or failed."
        )
        if queue is not None:
            self._size, length = queue
            name, holder = _QUEUE_CAPACITY[signal]
            self._capacity = meter.create_up_down_counter(name, unit, f"The maximum number of {holder} can hold.")
            self._record_capacity()
            in_child(self._record_capacity)  # where all metrics begin at zero
            name, unit, things, kind = _QUEUE_SIZE[signal]
            meter.create_observable_up_down_counter(
                name,
                [lambda options: [Observation(length(), self._attributes)]],
                unit,
                f"The number of {things} in the queue of a given instance of an SDK {kind} processor.",
            )

    def _record_capacity(self) -> None:
        self._capacity.add(self._size, self._attributes)

    def passed_on(self, count: int) -> None:
        """So many were handed to the exporter."""
        self._processed.add(count, self._attributes)

    def dropped(self, reason: str) -> None:
        """One was lost before: "queue_full" or "already_shutdown"."""
        self._processed.add(1, {**self._attributes, "error.type": reason})


def _component(kind: str) -> dict[str, Any]:
    number = _instances[kind]
    _instances[kind] += 1
    return {"otel.component.type": kind, "otel.component.name": f"{kind}/{number}"}


def _server(collector: Collector) -> dict[str, Any]:
    parts = urlsplit(collector.target if "://" in collector.target else f"//{collector.target}")
    try:
        port = parts.port or (80 if parts.scheme == "http" else 443)
    except ValueError:  # another kind of target that gRPC knows
        return {}
    return {"server.address": parts.hostname, "server.port": port} if parts.hostname else {}
