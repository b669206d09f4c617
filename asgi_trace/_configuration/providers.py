"""The providers that `configure()` sets up, built from settings. Nothing global is touched."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from opentelemetry import trace as trace_api
from opentelemetry.sdk.metrics.export import (
    ConsoleMetricExporter,
    MetricExporter,
    MetricReader,
    PeriodicExportingMetricReader,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter

from .._export.exporters import OTLPMetricExporter, OTLPSpanExporter
from .._export.foreign import CountingMetricExporter
from .._export.pipeline import Pipeline
from .._export.signals import METRICS, TRACES
from .._sdk import TracerProvider, span_encoder
from . import sdk_settings
from .environment import Environment
from .importing import logs_can_be_imported
from .meter_provider import MeterProvider
from .otlp_settings import collector
from .processors import BatchingSpanProcessor, ImmediateSpanProcessor
from .resource import build_resource
from .settings import Settings
from .stop_budget import StopBudget
from .tracing import Tracing


def build(settings: Settings, environment: Environment) -> Tracing:
    """Build the providers, with exporters that send from now on."""
    limits, id_generator = sdk_settings.span_limits(environment), sdk_settings.id_generator(environment)
    if sdk_settings.disabled(environment):
        return Tracing(trace_api.NoOpTracerProvider())
    resource = build_resource(settings.resource_attributes, environment)
    budget = StopBudget()
    pipelines: list[Pipeline] = []
    meter_provider = None
    if settings.readers is not None:
        meter_provider = _meter_provider(settings, environment, resource, budget, pipelines)
    tracer_provider = TracerProvider(
        sampler=settings.sampler,
        resource=resource,
        shutdown_on_exit=False,
        id_generator=id_generator,
        span_limits=limits,
    )
    for processor in settings.span_processors:
        tracer_provider.add_span_processor(processor)
    for chosen in settings.exporters:
        tracer_provider.add_span_processor(_span_processor(chosen, settings, environment, budget, pipelines))
    logger_provider = _logger_provider(settings, environment, resource, budget, pipelines)
    return Tracing(
        tracer_provider, meter_provider, logger_provider, pipelines=pipelines, budget=budget, resource=resource
    )


def _logger_provider(
    settings: Settings, environment: Environment, resource: Resource, budget: StopBudget, pipelines: list[Pipeline]
) -> Any:
    if not settings.log_exporters:
        return None
    with logs_can_be_imported():
        from .logs import logger_provider
    return logger_provider(settings.log_exporters, settings.collector, environment, resource, budget, pipelines)


def _span_processor(
    chosen: str | SpanExporter,
    settings: Settings,
    environment: Environment,
    budget: StopBudget,
    pipelines: list[Pipeline],
) -> SpanProcessor:
    processor: ImmediateSpanProcessor | BatchingSpanProcessor
    if chosen == "console":
        processor = ImmediateSpanProcessor(ConsoleSpanExporter(out=sys.stdout))
    else:
        if isinstance(chosen, str):
            found = collector(TRACES, settings.collector, environment, sdk_settings.OTLP_PROTOCOLS[chosen])
            limit = sdk_settings.export_timeout(environment) or found.timeout
            chosen = OTLPSpanExporter(replace(found, timeout=min(limit, found.timeout)), encode=span_encoder())
        processor = BatchingSpanProcessor(chosen, settings.batching, budget)
    pipelines.append(processor.pipeline)
    return processor


def _meter_provider(
    settings: Settings, environment: Environment, resource: Resource, budget: StopBudget, pipelines: list[Pipeline]
) -> MeterProvider:
    own: list[Pipeline] = []
    readers = [_reader(chosen, settings, environment, own) for chosen in settings.readers or ()]
    pipelines += own
    return MeterProvider(
        own,
        budget,
        metric_readers=readers,
        resource=resource,
        exemplar_filter=sdk_settings.exemplar_filter(environment),
    )


def _reader(
    chosen: str | MetricReader, settings: Settings, environment: Environment, pipelines: list[Pipeline]
) -> MetricReader:
    if isinstance(chosen, MetricReader):
        return chosen
    exporter: MetricExporter
    if chosen == "console":
        exporter = CountingMetricExporter(ConsoleMetricExporter(out=sys.stdout))
        pipelines.append(Pipeline(exporter.losses, None, exporter.losses.give_up))
    else:
        preferences = sdk_settings.metric_preferences(environment)
        found = collector(METRICS, settings.collector, environment, sdk_settings.OTLP_PROTOCOLS[chosen])
        exporter = OTLPMetricExporter(found, **preferences)
        pipelines.append(Pipeline(exporter.losses, exporter.delivery, exporter.losses.give_up))
    interval, timeout = sdk_settings.metric_times(environment)
    return PeriodicExportingMetricReader(exporter, export_interval_millis=interval, export_timeout_millis=timeout)
