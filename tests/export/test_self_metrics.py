"""`otel.sdk.*`: what the SDK, its exporters and its processors record of themselves, beside the official set-up."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ..support.collectors import GRPC, HTTP, PROTOCOLS, FaultyCollector
from ..support.subprocess import check

WORK = """
    import json, logging, os, sys, time
    logging.getLogger("opentelemetry").setLevel("CRITICAL")
    logging.getLogger("asgi_trace").setLevel("CRITICAL")
    from opentelemetry import metrics, trace
    from opentelemetry._logs import LogRecord, SeverityNumber, get_logger
    endpoint, protocol = sys.argv[1:] if len(sys.argv) > 1 else json.loads(os.environ["COLLECTOR"])

    def work(flush):
        tracer, emitter = trace.get_tracer("test"), get_logger("test")
        for _ in range(3):
            tracer.start_span("a").end()
            emitter.emit(LogRecord(body="a", severity_number=SeverityNumber.INFO, timestamp=1))
        flush()
"""

OFFICIAL = """
    from opentelemetry._logs import set_logger_provider
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    if protocol == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
        at = lambda signal: {"endpoint": endpoint}
    else:
        from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        at = lambda signal: {"endpoint": f"{endpoint}/v1/{signal}"}
    meters = MeterProvider([PeriodicExportingMetricReader(OTLPMetricExporter(**at("metrics")))], shutdown_on_exit=False)
    metrics.set_meter_provider(meters)
    spans = TracerProvider(shutdown_on_exit=False)
    spans.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(**at("traces"))))
    trace.set_tracer_provider(spans)
    logs = LoggerProvider(shutdown_on_exit=False)
    logs.add_log_record_processor(BatchLogRecordProcessor(OTLPLogExporter(**at("logs"))))
    set_logger_provider(logs)
    def flush():
        spans.force_flush()
        logs.force_flush()
        meters.force_flush()
    work(flush)
    flush()
"""

OURS = """
    from asgi_trace import configure
    tracing = configure("orders", endpoint=endpoint, protocol=protocol, metrics=True, logs=True)
    def flush():
        tracing.tracer_provider.force_flush()
        tracing.logger_provider.force_flush()
        tracing.meter_provider.force_flush()
    work(flush)
    flush()
"""


def recorded(script: str, protocol: str, enabled: str = "true", **faults: Any) -> dict[str, set[str]]:
    """What a program has recorded of its SDK: by name, unit and description, the attributes of the data points."""
    with FaultyCollector(protocol, **faults) as receiver:
        check(
            WORK + script,
            COLLECTOR=json.dumps([receiver.endpoint, protocol]),
            OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED=enabled,
            PYTHONWARNINGS="ignore",
            OTEL_BSP_MAX_QUEUE_SIZE="2048",
            OTEL_BLRP_MAX_QUEUE_SIZE="2048",
        )
        points = receiver.report()["points"]
    found: dict[str, set[str]] = {}
    for name, unit, description, _, attributes in points:
        if name.startswith("otel.sdk."):
            attributes.pop("server.port", None)
            found.setdefault(f"{name} [{unit}] {description}", set()).add(json.dumps(attributes, sort_keys=True))
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_sdks_metrics_of_itself(protocol: str) -> None:
    """Switched on, the metrics have the names, units, descriptions and attributes that the official set-up gives."""
    if protocol == HTTP:
        pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    official = recorded(OFFICIAL, protocol)
    if not official:
        pytest.skip("this SDK does not measure itself")
    assert recorded(OURS, protocol) == official
    assert any(name.startswith("otel.sdk.exporter.operation.duration") for name in official)


def test_a_failed_export() -> None:
    """What a collector refuses has its error in the metrics, as with the official exporter."""
    official = recorded(OFFICIAL, GRPC, refuse=["INTERNAL", "INTERNAL"])
    if not official:
        pytest.skip("this SDK does not measure itself")
    assert recorded(OURS, GRPC, refuse=["INTERNAL", "INTERNAL"]) == official
    assert "INTERNAL" in str(official)


@pytest.mark.parametrize("enabled", ["", "false"])
def test_by_default_nothing_is_measured(enabled: str) -> None:
    """Without the variable there is none of these metrics."""
    assert recorded(OURS, GRPC, enabled) == {}


def test_a_full_queue_and_a_late_span() -> None:
    """Spans that are dropped are counted by their reason."""
    script = """
    from asgi_trace import configure
    tracing = configure(endpoint=endpoint, protocol=protocol, metrics=True, max_queue_size=10)
    for _ in range(100):
        trace.get_tracer("test").start_span("a").end()
    tracing.tracer_provider.force_flush()
    tracing.tracer_provider.shutdown()
    trace.get_tracer("test").start_span("late").end()
    tracing.meter_provider.force_flush()
    """
    found = recorded(script, GRPC)
    processed = next(points for name, points in found.items() if name.startswith("otel.sdk.processor.span.processed"))
    assert {json.loads(point).get("error.type") for point in processed} == {None, "queue_full", "already_shutdown"}
