"""The same request behind another library's middleware and behind ours, each with an SDK and readers of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.instrumentation._semconv import _OpenTelemetrySemanticConventionStability
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Message, Scope
from asgi_trace.testing import CapturedSpans

from .asgi import OK, REQUEST, Served, Step, attributes_of, drive, http_scope
from .metrics import Meters

Build = Callable[[TracerProvider, MeterProvider], ASGIApp]
"""Puts an application together that records with these providers."""


class Shown:
    """What one side recorded of the requests that it was given."""

    def __init__(self, spans: CapturedSpans, meters: Meters, served: list[Served]) -> None:
        self.spans = spans
        self.metrics: dict[str, Any] = meters.collected()
        self.served = served

    @property
    def server(self) -> ReadableSpan:
        """The one SERVER span."""
        return self.spans.server

    @property
    def attributes(self) -> dict[str, Any]:
        """The attributes of the one SERVER span."""
        return attributes_of(self.spans.server)

    @property
    def names(self) -> list[str]:
        """The names of all spans."""
        return [span.name for span in self.spans]


def shown(
    build: Build,
    *scopes: Scope,
    script: Iterable[Step] = (REQUEST,),
    on_send: Callable[[Message], None] | None = None,
    sampler: Sampler | None = None,
) -> Shown:
    """Build an application, serve the scopes (a plain request when there are none), and collect what was recorded."""
    spans, meters = CapturedSpans(sampler), Meters()
    app = build(spans.tracer_provider, meters.provider)
    served = [drive(app, scope, script, on_send) for scope in scopes or (http_scope(),)]
    return Shown(spans, meters, served)


def ours(app: ASGIApp = OK, **options: Any) -> Build:
    """Our middleware around an application."""
    return lambda spans, meters: TraceMiddleware(app, tracer_provider=spans, meter_provider=meters, **options)


def contrib(app: ASGIApp = OK, **options: Any) -> Build:
    """contrib's ASGI middleware around an application."""
    return lambda spans, meters: OpenTelemetryMiddleware(app, tracer_provider=spans, meter_provider=meters, **options)


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """These environment variables are set while applications are built, for contrib's conventions as well."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        # contrib reads OTEL_SEMCONV_STABILITY_OPT_IN once in a process.
        patch.setattr(_OpenTelemetrySemanticConventionStability, "_initialized", False)
        yield
    _OpenTelemetrySemanticConventionStability._initialized = False
