"""Which tracer to use now.

A provider given at construction wins; else the one that `asgi_trace.testing` has put in place for a test; else
OpenTelemetry's global one, asked for at each use, so that one which is set after the application was built counts.
"""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.trace import NoOpTracer, NoOpTracerProvider, ProxyTracerProvider, Tracer, TracerProvider
from opentelemetry.trace import get_tracer_provider as global_tracer_provider

from .._semconv.names import SCHEMA_URL
from .._version import VERSION
from .api import GLOBAL_PROVIDER

INSTRUMENTATION_SCOPE = "asgi_trace"

_API = vars(trace)

_override: TracerProvider | None = None


def override_provider(provider: TracerProvider | None) -> TracerProvider | None:
    """Put `provider` in the global one's place for everything in this package; return what stood there before."""
    global _override
    before, _override = _override, provider
    return before


class Tracers:
    """Looks up the tracer of the provider that counts now, and remembers it for as long as it does."""

    __slots__ = ("_given", "_none_set", "_seen", "_tracer", "fixed", "recorded")

    def __init__(self, provider: TracerProvider | None) -> None:
        self._given = provider
        self._none_set = False
        self._seen: TracerProvider | None = None
        self._tracer: Tracer | None = None
        self.fixed = None if provider is None else _tracer_of(provider)
        """The tracer of a provider that was given: it needs no looking up."""
        self.recorded = True
        """Was the last span recorded? The next one most likely fares the same: a guess that only costs time."""

    def provider(self) -> TracerProvider:
        """The provider that counts now."""
        if self._given is not None:
            return self._given
        return global_tracer_provider() if _override is None else _override

    def current(self) -> Tracer | None:
        """The tracer to use now, or None where no SDK is there to record anything."""
        provider = _override if self._given is None else self._given
        if provider is None:
            provider = _API.get(GLOBAL_PROVIDER)
            if provider is None:
                if self._none_set:
                    return None
                provider = global_tracer_provider()
                self._none_set = isinstance(provider, ProxyTracerProvider) and GLOBAL_PROVIDER in _API
        if provider is not self._seen:
            self._tracer = _tracer_of(provider)
            self._seen = provider
        return self._tracer


def _tracer_of(provider: TracerProvider) -> Tracer | None:
    if isinstance(provider, (ProxyTracerProvider, NoOpTracerProvider)):
        return None
    tracer = provider.get_tracer(INSTRUMENTATION_SCOPE, VERSION, SCHEMA_URL)
    return None if isinstance(tracer, NoOpTracer) else tracer  # OTEL_SDK_DISABLED
