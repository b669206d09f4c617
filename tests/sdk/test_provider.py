"""Our provider and the SDK's: switched off, disabled, forked, counted."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.sdk import trace as official
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import (
    NonRecordingSpan,
    set_span_in_context,
)

from asgi_trace import _sdk as sdk
from asgi_trace._sdk.span_check import same_as_sdk
from asgi_trace._sdk.tracer import adopt

from ..support.sdk import CALLER, both

OURS = same_as_sdk(adopt)
"""False with an SDK that our spans do not match: then its own are used, and only the outside is tested."""


pytestmark = pytest.mark.filterwarnings("ignore:You should use InstrumentationScope:DeprecationWarning")


def test_a_tracer_can_be_switched_off() -> None:
    """A tracer configurator counts, for tracers that are there already too."""
    if not hasattr(official.TracerProvider, "_set_tracer_configurator"):
        pytest.fail("every supported SDK has it")
    for stage in both():
        provider: Any = stage.provider
        provider._set_tracer_configurator(tracer_configurator=official._disable_tracer_configurator)
        context = set_span_in_context(NonRecordingSpan(CALLER), Context())
        span = stage.tracer.start_span("name", context)
        assert (span.is_recording(), span.get_span_context()) == (False, CALLER)


def test_a_disabled_sdk_stays_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """`OTEL_SDK_DISABLED` gives the API's own tracer that does nothing."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    same_as_sdk.cache_clear()
    assert isinstance(sdk.TracerProvider(shutdown_on_exit=False).get_tracer("a"), api.NoOpTracer)
    assert same_as_sdk(adopt) is OURS


def test_a_child_process_has_a_resource_of_its_own() -> None:
    """What the SDK renews in a forked process reaches the spans of tracers that were there before."""
    for stage in both():
        provider: Any = stage.provider
        provider._resource = provider._resource.merge(Resource({"process.pid": 1}))
        if hasattr(provider, "_handle_fork"):
            provider._handle_fork()
        else:
            tracer: Any = stage.tracer
            tracer.resource = provider.resource
        span: Any = stage.tracer.start_span("name")
        assert span.resource == provider.resource
        assert "process.pid" in span.resource.attributes


def test_the_sdk_counts_its_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's metrics of itself are recorded for our spans too."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    monkeypatch.setenv("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", "true")
    counted = []
    for kind in (official.TracerProvider, sdk.TracerProvider):
        reader = InMemoryMetricReader()
        provider = kind(shutdown_on_exit=False, meter_provider=MeterProvider([reader], shutdown_on_exit=False))
        tracer = provider.get_tracer("a")
        tracer.start_span("still open")
        context = set_span_in_context(NonRecordingSpan(CALLER), Context())
        tracer.start_span("ended", context).end()
        data: Any = reader.get_metrics_data()
        counted.append(
            {
                (metric.name, tuple(sorted(point.attributes.items()))): point.value
                for metric in data.resource_metrics[0].scope_metrics[0].metrics
                for point in metric.data.data_points
            }
        )
    assert counted[0] == counted[1]
    assert len(counted[1]) == 3
