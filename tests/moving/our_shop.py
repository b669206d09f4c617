"""The application that the probes of other libraries serve, behind our middleware; and our set-up, kept in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_trace import TraceMiddleware
from asgi_trace._configuration.tracing import Tracing
from asgi_trace.httpx import TraceTransport
from asgi_trace.testing import CapturedSpans
from tests.support.asgi import drive, http_scope
from tests.support.configuration import built

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def order(request: Request) -> PlainTextResponse:
    return PlainTextResponse("kettle")


def fastapi_shop() -> FastAPI:
    """A FastAPI application with an endpoint that answers, one that checks health, and one that fails."""
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})  # as the page says

    @app.get("/orders/{id}")
    def by_id(id: int) -> int:
        return id

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.get("/failing")
    def failing() -> None:
        raise ValueError("no stock")

    return app


async def failing(request: Request) -> PlainTextResponse:
    raise ValueError("no stock")


async def status(request: Request) -> PlainTextResponse:
    return PlainTextResponse("", status_code=int(request.path_params["code"]))


def starlette_shop() -> Starlette:
    """A Starlette application with an endpoint that answers, one that fails, and one for each status code."""
    return Starlette(routes=[Route("/orders/{id}", order), Route("/failing", failing), Route("/status/{code}", status)])


def call(status: int = 200, url: str = "http://orders.test/orders/7") -> tuple[ReadableSpan, dict[str, str]]:
    """The span of one request through `TraceTransport`, and the headers that it sent."""
    spans = CapturedSpans()
    seen: dict[str, str] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        seen.update(request.headers)
        return httpx.Response(status)

    transport = TraceTransport(httpx.MockTransport(answer), tracer_provider=spans.tracer_provider)
    with httpx.Client(transport=transport) as client:
        client.get(url)
    return spans.client, seen


def served(app: Any, path: str = "/orders/7", headers: dict[str, str] | None = None, **options: Any) -> CapturedSpans:
    """The spans of one request through `TraceMiddleware` with these options."""
    spans = CapturedSpans()
    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    path, _, query = path.partition("?")
    scope = http_scope(path, headers=raw, query_string=query.encode())
    drive(TraceMiddleware(app, tracer_provider=spans.tracer_provider, **options), scope)
    return spans


@contextmanager
def configured(variables: dict[str, str] | None = None, **options: Any) -> Iterator[tuple[Tracing, list[ReadableSpan]]]:
    """What `configure()` builds, and the spans that a processor given to it has seen."""
    exporter = InMemorySpanExporter()
    tracing = built(variables, span_processors=[SimpleSpanProcessor(exporter)], **options)
    spans: list[ReadableSpan] = []
    try:
        with tracing.tracer_provider.get_tracer("shop").start_as_current_span("work"):
            pass
        spans += exporter.get_finished_spans()
        yield tracing, spans
    finally:
        tracing.shutdown()


def resource(options: dict[str, Any], *keys: str, variables: dict[str, str] | None = None) -> dict[str, Any]:
    """Attributes of the resource that `configure(**options)` builds."""
    with configured(variables, **options) as (_, [span]):
        return {key: span.resource.attributes.get(key) for key in keys}
