"""Below the span of something that is not an HTTP instrumentation, and below what a neighbour has excluded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

pytest.importorskip("starlette.middleware.opentelemetry", reason="newer than this Starlette")

from fastapi import FastAPI
from opentelemetry.context import Context, attach, detach, get_current, set_value
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracerProvider, SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as StarletteMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_trace import TraceMiddleware, server_span
from asgi_trace._types import ASGIApp, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans

from ..support.asgi import (
    CONNECT,
    OK,
    TRACE_ID,
    TRACEPARENT,
    attributes_of,
    drive,
    http_scope,
    responding,
    websocket_scope,
)


class Outer(NamedTuple):
    """A span that is current when the middleware is called: its instrumentation and its kind."""

    instrumentation: str
    kind: SpanKind


ENTRIES = {
    "a service's own": Outer("shop", SpanKind.SERVER),
    "AWS Lambda's": Outer("opentelemetry.instrumentation.aws_lambda", SpanKind.SERVER),
    "a queue worker's": Outer("opentelemetry.instrumentation.celery", SpanKind.CONSUMER),
    "a gRPC server's": Outer("opentelemetry.instrumentation.grpc", SpanKind.SERVER),
}
LEFT_OVER = {
    "a script's": Outer("shop", SpanKind.INTERNAL),
    "a client's": Outer("opentelemetry.instrumentation.httpx", SpanKind.CLIENT),
    "a producer's": Outer("shop", SpanKind.PRODUCER),
}


def below(spans: CapturedSpans, outer: Outer, app: ASGIApp, scope: Scope) -> Any:
    """Serve a scope while that span is current; the span."""
    tracer = spans.tracer_provider.get_tracer(outer.instrumentation)
    with tracer.start_as_current_span("outer", Context(), outer.kind) as span:
        drive(app, scope, script=[CONNECT])
    return span


@pytest.mark.parametrize("headers", [[], [(b"traceparent", TRACEPARENT)]], ids=["no caller", "a caller"])
@pytest.mark.parametrize("trust", [True, False])
@pytest.mark.parametrize("outer", ENTRIES.values(), ids=ENTRIES)
def test_a_request_below_another_entry_span_is_its_child(
    spans: CapturedSpans, outer: Outer, trust: bool, headers: list[Any]
) -> None:
    """One INTERNAL child with all that a SERVER span has, metrics included; the caller's other trace is linked to."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        server_span().set_attribute("seen.by", "endpoint")
        await OK(scope, receive, send)

    traced = TraceMiddleware(app, meter_provider=meters, trust=trust)
    scope = http_scope("/orders/7", headers=[(b"host", b"shop.test"), *headers])
    parent = below(spans, outer, traced, scope)

    (span,) = spans.of_kind(SpanKind.INTERNAL)
    attributes = attributes_of(span)
    assert span.name == "GET"
    assert span.parent == parent.get_span_context()
    assert len(spans) == 2
    assert [link.context.trace_id for link in span.links] == ([TRACE_ID] if headers else [])
    assert attributes["http.request.method"] == "GET"
    assert attributes["url.path"] == "/orders/7"
    assert attributes["server.address"] == "shop.test"
    assert attributes["http.response.status_code"] == 200
    assert attributes["seen.by"] == "endpoint"
    data = reader.get_metrics_data()
    assert data is not None
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert [point.count for point in metric.data.data_points] == [1]  # type: ignore[union-attr]
    assert set(scope) == set(http_scope())


def test_its_failure_is_recorded_as_any_other(spans: CapturedSpans) -> None:
    """An exception is on the INTERNAL span, with the 500 that the server answers; a WebSocket has one, too."""
    below(spans, ENTRIES["a service's own"], TraceMiddleware(responding(ValueError("no stock"))), http_scope())
    (span,) = spans.of_kind(SpanKind.INTERNAL)
    assert attributes_of(span)["http.response.status_code"] == 500
    assert (span.status.status_code, len(span.events)) == (StatusCode.ERROR, 1)

    spans.clear()
    accepts = responding({"type": "websocket.accept"}, {"type": "websocket.close"})
    below(spans, ENTRIES["AWS Lambda's"], TraceMiddleware(accepts), websocket_scope())
    (span,) = spans.of_kind(SpanKind.INTERNAL)
    assert attributes_of(span)["http.response.status_code"] == 101


@pytest.mark.parametrize("outer", LEFT_OVER.values(), ids=LEFT_OVER)
def test_a_span_that_no_work_enters_with_is_no_parent(spans: CapturedSpans, outer: Outer) -> None:
    """What is current by accident, as in a program that starts a server inside of a span, is not a request's."""
    below(spans, outer, TraceMiddleware(OK), http_scope(headers=[(b"traceparent", TRACEPARENT)]))

    assert spans.server.context.trace_id == TRACE_ID
    assert spans.server.links == ()


@pytest.mark.parametrize("suppress", [suppress_instrumentation, suppress_http_instrumentation])
def test_suppression_silences_the_middleware(spans: CapturedSpans, suppress: Callable[[], Any]) -> None:
    """Both of OpenTelemetry's switches count, as they do for the transports."""
    with suppress():
        assert drive(TraceMiddleware(OK)).status == 200

    assert len(spans) == 0


# --- what a neighbour has excluded ---


async def endpoint(request: Request) -> PlainTextResponse:
    """An endpoint with a span of its own."""
    with request.app.state.provider.get_tracer("shop").start_as_current_span("work"):
        return PlainTextResponse("ok")


def starlette_app(provider: TracerProvider, *middleware: Middleware) -> Starlette:
    routes = [Route("/health", endpoint), Route("/items", endpoint)]
    app = Starlette(routes=routes, middleware=list(middleware))
    app.state.provider = provider
    return app


def inside_fastapi(provider: TracerProvider) -> ASGIApp:
    options = {"exclude": lambda scope: scope["path"] == "/health", "tracer_provider": provider}
    app = FastAPI(telemetry=options)  # type: ignore[arg-type]
    app.state.provider = provider
    app.router.routes.extend([Route("/health", endpoint), Route("/items", endpoint)])
    app.add_middleware(TraceMiddleware)
    return app


NEIGHBOURS: dict[str, Callable[[TracerProvider], ASGIApp]] = {
    "FastAPI's telemetry": inside_fastapi,
    "Starlette's middleware": lambda provider: starlette_app(
        provider,
        Middleware(StarletteMiddleware, excluded_urls="/health", tracer_provider=provider),
        Middleware(TraceMiddleware),
    ),
    "Starlette's middleware around": lambda provider: StarletteMiddleware(
        TraceMiddleware(starlette_app(provider)), excluded_urls="/health", tracer_provider=provider
    ),
}


@pytest.mark.parametrize("build", NEIGHBOURS.values(), ids=NEIGHBOURS)
def test_what_a_neighbour_excludes_stays_excluded(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, build: Callable[[TracerProvider], ASGIApp]
) -> None:
    """No span in its place, and the application's own spans are silent; other requests are the neighbour's."""
    app = build(spans.tracer_provider)
    assert drive(app, http_scope("/health")).status == 200
    assert [span.name for span in spans] == []
    assert not caplog.records

    assert drive(app, http_scope("/items")).status == 200
    assert sorted(span.name for span in spans if span.name != "endpoint") == ["GET /items", "work"]


OFF: dict[str, Callable[[TracerProvider], ASGIApp]] = {
    "a no-op provider": lambda provider: starlette_app(
        provider, Middleware(StarletteMiddleware, tracer_provider=NoOpTracerProvider()), Middleware(TraceMiddleware)
    ),
    "no provider": lambda provider: starlette_app(
        provider, Middleware(StarletteMiddleware), Middleware(TraceMiddleware)
    ),
    "a no-op provider, behind another middleware": lambda provider: starlette_app(
        provider,
        Middleware(GZipMiddleware),
        Middleware(StarletteMiddleware, tracer_provider=NoOpTracerProvider()),
        Middleware(TraceMiddleware),
    ),
}


@pytest.mark.parametrize("headers", [[], [(b"traceparent", TRACEPARENT)]], ids=["no caller", "a caller"])
@pytest.mark.parametrize("build", OFF.values(), ids=OFF)
def test_a_neighbour_without_a_provider_excludes_nothing(
    spans: CapturedSpans, build: Callable[[TracerProvider], ASGIApp], headers: list[Any]
) -> None:
    """Starlette's mark alone says nothing where its middleware records nothing."""
    drive(build(spans.tracer_provider), http_scope("/items", headers=headers))

    assert spans.server.name == "GET /items"


def test_the_outer_context_goes_on(spans: CapturedSpans) -> None:
    """Other values of the outer context, baggage for one, are there in the application."""
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(get_current().get("job"))
        await OK(scope, receive, send)

    token = attach(set_value("job", 7))
    try:
        with spans.tracer_provider.get_tracer("shop").start_as_current_span("outer", kind=SpanKind.SERVER):
            drive(TraceMiddleware(app))
    finally:
        detach(token)
    assert seen == [7]
