"""Which tracer counts now: that of a given provider, else of the global one, as often as that changes."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider

from asgi_trace._otel import tracers
from asgi_trace._otel.api import GLOBAL_PROVIDER
from asgi_trace._otel.tracers import Tracers, override_provider


def provider() -> Any:
    """A provider whose tracers know it by its resource."""
    return TracerProvider(shutdown_on_exit=False)


def made_by(tracer: Any, provider: Any) -> bool:
    """Whether a tracer is one of that provider."""
    return tracer is not None and tracer.span_processor is provider._active_span_processor


@pytest.mark.parametrize("variable", [True, False], ids=["the API's variable", "the API's function alone"])
def test_the_global_provider_is_looked_up_at_each_use(monkeypatch: pytest.MonkeyPatch, variable: bool) -> None:
    """None at first, then one, and another one: its tracer, the same object for as long as the provider counts."""
    api: dict[str, Any] = {}
    monkeypatch.setattr(tracers, "_API", api)
    current: Any = ProxyTracerProvider()
    monkeypatch.setattr(tracers, "global_tracer_provider", lambda: current)
    found = Tracers(None)
    for now in (current, provider(), provider(), current):
        current = now
        if variable:
            api[GLOBAL_PROVIDER] = None if isinstance(now, ProxyTracerProvider) else now
        tracer = found.current()
        assert found.current() is tracer
        assert tracer is None if isinstance(now, ProxyTracerProvider) else made_by(tracer, now)


def test_a_test_puts_another_provider_in_the_place_of_the_global_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as it is there, and before anything that is set."""
    fixed, other = provider(), provider()
    monkeypatch.setattr(tracers, "_API", {GLOBAL_PROVIDER: fixed})
    monkeypatch.setattr(tracers, "global_tracer_provider", lambda: fixed)
    found, before = Tracers(None), override_provider(None)
    try:
        assert made_by(found.current(), fixed)
        override_provider(other)
        assert made_by(found.current(), other)
        override_provider(None)
        assert made_by(found.current(), fixed)
    finally:
        override_provider(before)


@pytest.mark.parametrize("given", [provider(), NoOpTracerProvider()], ids=["SDK", "no-op"])
def test_a_provider_that_was_given_stays(given: Any) -> None:
    """Whatever is put in the place of the global one; a provider that makes nothing has no tracer."""
    found, before = Tracers(given), override_provider(provider())
    try:
        assert found.current() is found.fixed
        assert found.fixed is None if isinstance(given, NoOpTracerProvider) else made_by(found.fixed, given)
    finally:
        override_provider(before)
