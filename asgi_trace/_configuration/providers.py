"""The providers that `configure()` sets up, and what ends them: built from settings, without a global in sight."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from .._export.exporter import OTLPMetricExporter, OTLPSpanExporter, Sender
from .._otel.stop import STOP_SECONDS
from .._sdk import TracerProvider, span_encoder
from . import sdk_settings
from .environment import Environment
from .otlp_settings import CollectorArguments, collector
from .resource import build_resource
from .shutdown import Errand, Patience, StoppableMeterProvider, StoppableSpanProcessor, within


class Tracing:
    """What `configure()` has set up. Flushes it and shuts it down; as a context manager, at the end of the block.

    `tracer_provider` is a no-op one when `OTEL_SDK_DISABLED` is true; `meter_provider` is None without metrics.
    """

    def __init__(
        self,
        tracer_provider: trace_api.TracerProvider,
        meter_provider: metrics_api.MeterProvider | None = None,
        *,
        senders: Sequence[Sender] = (),
        patience: Sequence[Patience] = (),
    ) -> None:
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider
        self._senders = senders
        self._patience = patience
        self._errands: list[Errand] = []
        for provider in self._providers():
            self._errands.append(Errand("asgi-trace-stop", partial(self._stop, provider)))

    @property
    def enabled(self) -> bool:
        """False when `OTEL_SDK_DISABLED` is true."""
        return bool(self._errands)

    def force_flush(self, timeout_millis: float = STOP_SECONDS * 1000) -> bool:
        """Send what is queued. True when all of it arrived, False after `timeout_millis` at the latest."""
        lost = [sender.lost for sender in self._senders]
        calls = [partial(provider.force_flush, int(timeout_millis)) for provider in self._providers()]
        flushed = within(timeout_millis / 1000, *calls)
        return flushed and lost == [sender.lost for sender in self._senders]

    def shutdown(self, timeout_millis: float = STOP_SECONDS * 1000) -> None:
        """Send what is queued and stop for good, after `timeout_millis` at the latest. Again is harmless.

        Happens by itself at the interpreter's exit. A flush that has just failed shortens the wait.
        """
        seconds = min([timeout_millis / 1000, *(patience.left() for patience in self._patience)])
        deadline = time.monotonic() + seconds
        for errand in self._errands:
            errand.go()
        ended = [errand.wait(deadline - time.monotonic()) for errand in self._errands]
        for sender in self._senders:
            sender.close()
        if not all(ended):  # what was cut off ends at once
            for errand in self._errands:
                errand.wait(0.1)

    def _providers(self) -> list[TracerProvider | StoppableMeterProvider]:
        providers = (self.tracer_provider, self.meter_provider)
        return [provider for provider in providers if isinstance(provider, (TracerProvider, StoppableMeterProvider))]

    def _stop(self, provider: TracerProvider | StoppableMeterProvider) -> None:
        for sender in self._senders:
            sender.hurry()
        provider.shutdown()

    def __enter__(self) -> Tracing:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.shutdown()


def build(
    environment: Environment,
    *,
    resource_attributes: Mapping[str, Any],
    sampler: Sampler,
    exporters: Sequence[str | SpanExporter],
    collector_arguments: CollectorArguments,
    batching: Mapping[str, Any],
    span_processors: Sequence[SpanProcessor] = (),
    readers: Sequence[str | MetricReader] | None = None,
) -> Tracing:
    """Build the providers without setting anything global. `readers` is None for no metrics at all."""
    limits, id_generator = sdk_settings.span_limits(environment), sdk_settings.id_generator(environment)
    if sdk_settings.disabled(environment):
        return Tracing(trace_api.NoOpTracerProvider())
    resource = build_resource(resource_attributes, environment)
    senders: list[Sender] = []
    patience: list[Patience] = []
    meter_provider = None
    if readers is not None:
        metric_readers = [_reader(chosen, collector_arguments, environment, senders) for chosen in readers]
        meter_provider = StoppableMeterProvider(
            tuple(senders),
            metric_readers=metric_readers,
            resource=resource,
            exemplar_filter=sdk_settings.exemplar_filter(environment),
            shutdown_on_exit=False,
        )
        patience.append(meter_provider.patience)
    tracer_provider = TracerProvider(
        sampler=sampler, resource=resource, shutdown_on_exit=False, id_generator=id_generator, span_limits=limits
    )
    for processor in span_processors:
        tracer_provider.add_span_processor(processor)
    for chosen in exporters:
        if chosen == "console":  # nobody waits for a console, and a person watches it
            tracer_provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter(out=sys.stdout)))
            continue
        sender = None
        if isinstance(chosen, str):
            chosen = OTLPSpanExporter(collector("TRACES", collector_arguments, environment), encode=span_encoder())
            sender = chosen.sender
            senders.append(sender)
        batch = StoppableSpanProcessor(chosen, sender, **batching)
        patience.append(batch.patience)
        tracer_provider.add_span_processor(batch)
    return Tracing(tracer_provider, meter_provider, senders=senders, patience=patience)


def _reader(
    chosen: str | MetricReader, arguments: CollectorArguments, environment: Environment, senders: list[Sender]
) -> MetricReader:
    if isinstance(chosen, MetricReader):
        return chosen
    exporter: MetricExporter
    if chosen == "console":
        exporter = ConsoleMetricExporter(out=sys.stdout)
    else:
        preferences = sdk_settings.metric_preferences(environment)
        exporter = OTLPMetricExporter(collector("METRICS", arguments, environment), **preferences)
        senders.append(exporter.sender)
    interval, timeout = sdk_settings.metric_times(environment)
    return PeriodicExportingMetricReader(exporter, export_interval_millis=interval, export_timeout_millis=timeout)
