"""The providers that `configure()` sets up, built from settings. Nothing global is touched."""

from __future__ import annotations

import inspect
import sys
from typing import Any

from opentelemetry import trace as trace_api
from opentelemetry.sdk import trace as sdk_trace
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter

from .._export.exporters import OTLPMetricExporter, OTLPSpanExporter
from .._export.foreign import CountingMetricExporter
from .._export.pipeline import Pipeline
from .._export.signals import METRICS, TRACES
from .._sdk import TracerProvider, span_encoder
from . import sdk_settings
from .construction import Construction
from .environment import Environment
from .importing import logs_can_be_imported
from .meter_provider import MeterProvider
from .processors import BatchingSpanProcessor, ImmediateSpanProcessor
from .resource import build_resource
from .settings import Settings
from .tracing import Tracing


def build(settings: Settings, environment: Environment) -> Tracing:
    """Build the providers, with exporters that send from now on."""
    limits, id_generator = sdk_settings.span_limits(environment), sdk_settings.id_generator(environment)
    if sdk_settings.disabled(environment):
        return Tracing(trace_api.NoOpTracerProvider())
    made = Construction(settings, environment, build_resource(settings.resource_attributes, environment))
    if settings.readers is not None:
        made.meter_provider = _meter_provider(made)
    tracer_provider = TracerProvider(
        sampler=settings.sampler,
        resource=made.resource,
        shutdown_on_exit=False,
        id_generator=id_generator,
        span_limits=limits,
        **_measured_by(made.meters),
    )
    for processor in settings.span_processors:
        tracer_provider.add_span_processor(processor)
    for chosen in settings.exporters:
        tracer_provider.add_span_processor(_span_processor(chosen, made))
    return Tracing(
        tracer_provider,
        made.meter_provider,
        _logger_provider(made),
        pipelines=made.pipelines,
        budget=made.budget,
        resource=made.resource,
    )


def _measured_by(meters: Any) -> dict[str, Any]:
    known = "meter_provider" in inspect.signature(sdk_trace.TracerProvider).parameters  # older SDKs measure nothing
    return {"meter_provider": meters} if known and meters is not None else {}


def _span_processor(chosen: str | SpanExporter, made: Construction) -> SpanProcessor:
    processor: ImmediateSpanProcessor | BatchingSpanProcessor
    if chosen == "console":
        processor = ImmediateSpanProcessor(ConsoleSpanExporter(out=sys.stdout))
    else:
        if isinstance(chosen, str):
            limit = sdk_settings.export_timeout(made.environment, "OTEL_BSP_EXPORT_TIMEOUT")
            chosen = OTLPSpanExporter(made.collector(TRACES, chosen, limit), encode=span_encoder())
        processor = BatchingSpanProcessor(chosen, made.settings.batching, made.budget)
    made.add(processor)
    return processor


def _meter_provider(made: Construction) -> MeterProvider:
    pipelines: list[Pipeline] = []
    provider = MeterProvider(
        pipelines,
        made.budget,
        metric_readers=[_reader(chosen, made, pipelines) for chosen in made.settings.readers or ()],
        resource=made.resource,
        exemplar_filter=sdk_settings.exemplar_filter(made.environment),
    )
    made.meter_provider = provider
    for pipeline in pipelines:
        if pipeline.delivery is not None:
            made.observe(pipeline.delivery)
    made.pipelines += pipelines
    return provider


def _reader(chosen: str | MetricReader, made: Construction, pipelines: list[Pipeline]) -> MetricReader:
    if isinstance(chosen, MetricReader):
        return chosen
    exporter: MetricExporter
    if chosen == "console":
        exporter = CountingMetricExporter(ConsoleMetricExporter(out=sys.stdout))
        pipelines.append(Pipeline(exporter.losses, None, exporter.losses.give_up))
    else:
        preferences = sdk_settings.metric_preferences(made.environment)
        exporter = OTLPMetricExporter(made.collector(METRICS, chosen), **preferences)
        pipelines.append(Pipeline(exporter.losses, exporter.delivery, exporter.losses.give_up))
    interval, timeout = sdk_settings.metric_times(made.environment)
    return PeriodicExportingMetricReader(exporter, export_interval_millis=interval, export_timeout_millis=timeout)


def _logger_provider(made: Construction) -> Any:
    if not made.settings.log_exporters:
        return None
    with logs_can_be_imported():
        from .logs import logger_provider
    return logger_provider(made)
