"""What `configure()` builds: exporters, processors and samplers of one's own, and a flush that tells the truth."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from asgi_trace._configuration import sdk_settings
from asgi_trace._configuration.environment import Environment
from asgi_trace._configuration.settings import settings_from

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


@pytest.mark.parametrize(
    ("variable", "metrics", "built_here", "problem"),
    [
        ("", False, False, ""),
        ("none", False, False, ""),
        ("console", False, True, ""),
        ("otlp", False, True, ""),
        ("pigeon", False, False, "'none' is used instead"),
        ("pigeon", True, True, "'otlp' is used instead"),
        ("none", True, False, ""),
        ("", True, True, ""),
        ("otlp", (), False, ""),
        ("otlp", "none", False, ""),
        ("none", "console", True, ""),
    ],
)
def test_whether_metrics_are_built(variable: str, metrics: Any, built_here: bool, problem: str) -> None:
    """`metrics=False` asks whether OTEL_METRICS_EXPORTER names an exporter; `()` means none, whatever it says."""
    environment = Environment({"OTEL_METRICS_EXPORTER": variable})
    settings = settings_from(environment, {"exporter": "none", "metrics": metrics})
    assert (settings.readers is not None) is built_here
    assert environment.problems.get("OTEL_METRICS_EXPORTER", "").endswith(problem)


def test_a_configuration_file_is_said() -> None:
    """OTEL_CONFIG_FILE, which would replace all other variables, is one problem: it is not read."""
    environment = Environment({"OTEL_CONFIG_FILE": "/etc/otel.yaml"})
    settings_from(environment, {})
    assert environment.problems == {
        "OTEL_CONFIG_FILE": "OTEL_CONFIG_FILE is not read: use the other OTEL_* variables, or arguments of configure()"
    }


def test_the_timeout_of_an_export_is_a_bound() -> None:
    """OTEL_BSP_EXPORT_TIMEOUT bounds an export whose own timeout is longer, and no other one."""
    for milliseconds, seconds in (("500", 0.5), ("60000", 10.0), ("", 10.0)):
        with built(
            {"OTEL_BSP_EXPORT_TIMEOUT": milliseconds}, exporter="otlp", endpoint="http://127.0.0.1:9"
        ) as tracing:
            (pipeline,) = tracing._pipelines
            assert pipeline.delivery is not None
            assert pipeline.delivery.collector.timeout == seconds
