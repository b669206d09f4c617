"""Another library has set OpenTelemetry's global providers first: an operator's choice, which stops no service."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from opentelemetry import trace as trace_api

from .._guard import logger
from .._otel.stop import STOP_SECONDS
from .tracing import Tracing
from .within import within


class ForeignTracing(Tracing):
    """The `Tracing` around providers that are not ours: it flushes them, and ends nothing."""

    def __init__(self, tracer_provider: Any, meter_provider: Any = None, logger_provider: Any = None) -> None:
        super().__init__(trace_api.NoOpTracerProvider())  # no thread, nothing to stop
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider
        self.logger_provider = logger_provider
        providers = (tracer_provider, meter_provider, logger_provider)
        flushes = [getattr(provider, "force_flush", None) for provider in providers]
        self._flushes: list[Callable[[int], object]] = [flush for flush in flushes if callable(flush)]

    @property
    def enabled(self) -> bool:
        """Tracing is on: by the other library."""
        return True

    def force_flush(self, timeout_millis: float = STOP_SECONDS * 1000) -> bool:
        """Pass the call on. False after `timeout_millis` at the latest."""
        return within(timeout_millis / 1000, *(partial(flush, int(timeout_millis)) for flush in self._flushes))

    def shutdown(self, timeout_millis: float = STOP_SECONDS * 1000) -> None:
        """Flush only: what ends the providers is what has set them."""
        self.force_flush(min(timeout_millis, STOP_SECONDS * 1000))


def say(kind: str, provider: object, instead: str) -> None:
    """One WARNING that names the provider."""
    where = f"{type(provider).__module__}.{type(provider).__qualname__}"
    logger.warning(
        "a global %s provider (%s) is set already, by another library or by opentelemetry-instrument, and stays: %s",
        kind,
        where,
        instead,
    )
