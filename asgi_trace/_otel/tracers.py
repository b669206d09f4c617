"""Which tracer to use now.

A provider given at construction wins; else the one that `asgi_trace.testing` has put in place for a test; else
OpenTelemetry's global one, asked for at each use, so that one which is set after the application was built counts.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

from opentelemetry import trace
from opentelemetry.trace import (
    NoOpTracer,
    NoOpTracerProvider,
    ProxyTracerProvider,
    Span,
    SpanKind,
    Tracer,
    TracerProvider,
)
from opentelemetry.trace import get_tracer_provider as global_tracer_provider

from .._guard import Guard, logger
from .._semconv.names import SCHEMA_URL
from .._version import VERSION
from .api import GLOBAL_PROVIDER

INSTRUMENTATION_SCOPE = "asgi_trace"

_API = vars(trace)

StartUnsampled: TypeAlias = Callable[[Any], "Span | None"]
"""The span of a request whose caller says that it is not sampled; None where that is not all that decides."""
DropsBelow: TypeAlias = Callable[[Any], bool]
"""Whether a child of this span, which is not sampled, is dropped whatever it is; False where that is not known."""
StartFromFacts: TypeAlias = Callable[[str, SpanKind, Any, Any, "int | None"], "Span | None"]
"""Starts a span with name, kind, caller, facts and start in nanoseconds. None: it has to be started in the usual way.

Only the tracers of `asgi_trace._sdk` have it. The caller is what `Propagation.receive` returns, or a Context with the
parent. The facts are those of `_semconv.server.server_facts`, or None where those of `_semconv.client` may follow.
"""

_override: TracerProvider | None = None


def override_provider(provider: TracerProvider | None) -> TracerProvider | None:
    """Put `provider` in the global one's place for everything in this package; return what stood there before."""
    global _override
    before, _override = _override, provider
    return before


class Tracers:
    """Looks up the tracer of the provider that counts now, and remembers it for as long as it does."""

    __slots__ = (
        "_given",
        "_guard",
        "_seen",
        "_tracer",
        "drops_below",
        "facts_span",
        "fixed",
        "recorded",
        "start_from_facts",
        "start_unsampled",
    )

    def __init__(self, provider: TracerProvider | None, guard: Guard | None = None) -> None:
        """`guard` reports a provider that raises in `current()`, which is none then. Without it, the caller must."""
        self._given = provider
        self._guard = guard
        self._seen: object = self
        """The provider that `_tracer` belongs to. None: none is set. At first, and where one was given, neither."""
        self._tracer: Tracer | None = None
        self.fixed = None if provider is None else _tracer_of(provider)
        """The tracer of a provider that was given: it needs no looking up."""
        self.start_from_facts: StartFromFacts | None = getattr(self.fixed, "start_from_facts", None)
        """The method of the last tracer that keeps the facts of a request as they are; None where it has none."""
        self.facts_span: type[Any] | None = getattr(self.fixed, "facts_span", None)
        """The class of the spans that it records; what it starts otherwise is not recorded."""
        self.start_unsampled: StartUnsampled | None = getattr(self.fixed, "start_unsampled", None)
        """Likewise."""
        self.drops_below: DropsBelow | None = getattr(self.fixed, "drops_below", None)
        """Likewise."""
        self.recorded = True
        """Was the last span recorded? The next one most likely fares the same: a guess that only costs time."""

    def provider(self) -> TracerProvider:
        """The provider that counts now."""
        if self._given is not None:
            return self._given
        return global_tracer_provider() if _override is None else _override

    def current(self) -> Tracer | None:
        """The tracer to use now, or None where no SDK is there to record anything."""
        provider: object = _override
        if provider is None:
            try:
                provider = _API[GLOBAL_PROVIDER]  # get() takes twice the instructions
            except KeyError:
                provider = None
        return self._tracer if provider is self._seen else self._look_up()

    def _look_up(self) -> Tracer | None:
        """The tracer of another provider than the last time."""
        if self._given is not None:
            return self.fixed
        provider = self.provider()
        if provider is not self._seen:
            self._tracer = _tracer_of(provider) if self._guard is None else _guarded(provider, self._guard)
            self.start_from_facts = getattr(self._tracer, "start_from_facts", None)
            self.facts_span = getattr(self._tracer, "facts_span", None)
            self.start_unsampled = getattr(self._tracer, "start_unsampled", None)
            self.drops_below = getattr(self._tracer, "drops_below", None)
            none_is_set = isinstance(provider, ProxyTracerProvider) and GLOBAL_PROVIDER in _API
            self._seen = None if none_is_set else provider  # None, as the API's variable is then
        return self._tracer


def _tracer_of(provider: TracerProvider) -> Tracer | None:
    if isinstance(provider, (ProxyTracerProvider, NoOpTracerProvider)):
        return None
    tracer = provider.get_tracer(INSTRUMENTATION_SCOPE, VERSION, SCHEMA_URL)
    return None if isinstance(tracer, NoOpTracer) else _fast(tracer)  # OTEL_SDK_DISABLED


def _guarded(provider: TracerProvider, guard: Guard) -> Tracer | None:
    try:
        return _tracer_of(provider)
    except Exception:
        guard.report(f"asking {type(provider).__qualname__} for a tracer")
        return None


def _fast(tracer: Tracer) -> Tracer:
    """The SDK's tracer for our own scope, with the spans of `asgi_trace._sdk`; other scopes are left as they are.

    ASGI_TRACE_FAST_SPANS=false leaves this one as it is, too. The import has no name that is known beforehand: this
    district knows the API only, and where a provider is the SDK's own the SDK is there.
    """
    if type(tracer).__module__ != "opentelemetry.sdk.trace" or not _wants_fast_spans():
        return tracer
    try:
        faster: Tracer = import_module("asgi_trace._sdk").fast_tracer(tracer)
    except Exception as exc:
        logger.info("the SDK's own spans are used: %r", exc)
        return tracer
    return faster


def _wants_fast_spans() -> bool:
    return os.environ.get("ASGI_TRACE_FAST_SPANS", "").strip().lower() not in ("false", "0", "no", "off")
