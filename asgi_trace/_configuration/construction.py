"""What the construction of all providers shares: settings, the resource, the time to stop, and what each part adds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from opentelemetry.sdk.resources import Resource

from .._export.collector import Collector
from .._export.delivery import Delivery
from .._export.pipeline import Pipeline
from .._export.self_metrics import ExporterMetrics
from .._export.signals import Signal
from .._otel.api import global_provider
from . import sdk_settings
from .environment import Environment
from .otlp_settings import collector
from .queued_export import ImmediateExport, QueuedExport
from .settings import Settings
from .stop_budget import StopBudget


@dataclass
class Construction:
    """One construction of the providers. `meter_provider` is set first: the other parts measure themselves with it."""

    settings: Settings
    environment: Environment
    resource: Resource
    budget: StopBudget = field(default_factory=StopBudget)
    pipelines: list[Pipeline] = field(default_factory=list)
    meter_provider: Any = None

    def collector(self, signal: Signal, exporter: str, limit: float | None = None) -> Collector:
        """Where the OTLP exporter of this name sends one signal to. An export takes at most `limit` seconds."""
        protocol = sdk_settings.OTLP_PROTOCOLS[exporter]
        found = collector(signal, self.settings.collector, self.environment, protocol)
        return found if limit is None else replace(found, timeout=min(limit, found.timeout))

    @property
    def meters(self) -> Any:
        """The meter provider for the SDK's metrics of itself: ours, else the global one; None where they are off."""
        if not sdk_settings.internal_metrics(self.environment):
            return None
        return self.meter_provider or global_provider("meter")

    def observe(self, delivery: Delivery) -> None:
        """Let an exporter measure itself, where that is on."""
        if (meters := self.meters) is not None:
            delivery.metrics = ExporterMetrics(meters, delivery.signal, delivery.collector)

    def add(self, processor: QueuedExport[Any] | ImmediateExport[Any]) -> None:
        """Keep what must be stopped and counted of a processor, and let it measure itself, where that is on."""
        self.pipelines.append(processor.pipeline)
        if processor.pipeline.delivery is not None:
            self.observe(processor.pipeline.delivery)
        if (meters := self.meters) is not None:
            processor.observe(meters)
