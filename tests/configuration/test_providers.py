"""What `configure()` builds: exporters, processors and samplers of one's own, and a flush that tells the truth."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from asgi_trace._configuration import sdk_settings
from asgi_trace._configuration.environment import Environment

from ..support.configuration import built
from ..support.otlp_receiver import closed_port


def test_an_exporter_of_ones_own() -> None:
    """A SpanExporter gets the spans in batches, and force_flush() hands them over."""
    memory = InMemorySpanExporter()
    with built(exporter=memory) as tracing:
        tracing.tracer_provider.get_tracer("test").start_span("work").end()
        assert memory.get_finished_spans() == ()
        assert tracing.force_flush()
        assert [span.name for span in memory.get_finished_spans()] == ["work"]


def test_a_sampler_of_ones_own() -> None:
    """A Sampler is taken as it is, and a ratio follows the caller's decision."""
    assert sdk_settings.sampler(ALWAYS_OFF, Environment({})) is ALWAYS_OFF
    with built(sampler=ALWAYS_OFF) as tracing:
        assert not tracing.tracer_provider.get_tracer("test").start_span("work").is_recording()
    description = sdk_settings.sampler(0.25, Environment({"OTEL_TRACES_SAMPLER": "always_on"})).get_description()
    assert description.startswith("ParentBased{root:TraceIdRatioBased{0.25}")
    assert "TraceIdRatioBased{1.0}" in sdk_settings.sampler(1, Environment({})).get_description()


def test_force_flush_tells_the_truth() -> None:
    """force_flush() is True when everything arrived, and False when the collector is not there."""
    with closed_port() as port:
        tracing = built(exporter="otlp", endpoint=f"http://127.0.0.1:{port}")
        with tracing:
            assert tracing.force_flush()
            tracing.tracer_provider.get_tracer("test").start_span("work").end()
            assert not tracing.force_flush()


def test_settings_reach_the_provider() -> None:
    """Limits and batch settings are those of the environment."""
    with built({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2"}, service_name="orders") as tracing:
        assert isinstance(tracing.tracer_provider, TracerProvider)
        assert tracing.tracer_provider.resource.attributes["service.name"] == "orders"
        span: Any = tracing.tracer_provider.get_tracer("test").start_span("work", attributes={"a": 1, "b": 2, "c": 3})
        assert dict(span.attributes) == {"b": 2, "c": 3}
