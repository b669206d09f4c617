"""How an application uses the package. It only has to satisfy a strict type checker; mypy reads it with the tests."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
from opentelemetry.sdk.trace.export import ConsoleSpanExporter
from opentelemetry.trace import Span
from starlette.applications import Starlette

from asgi_trace import TraceMiddleware, configure, server_span, set_route
from asgi_trace.httpx import AsyncTraceTransport, TraceTransport
from asgi_trace.logging import TraceContextFilter
from asgi_trace.testing import CapturedSpans, capture_spans


async def raw(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})


def note(span: Span, scope: Mapping[str, Any]) -> None:
    span.set_attribute("tenant", str(scope.get("path")))


def use() -> None:
    with configure(service_name="orders", sampler=0.1, exporter=ConsoleSpanExporter()) as tracing:
        tracing.force_flush(1000)
    app = Starlette()
    app.add_middleware(TraceMiddleware, exclude="^/health$", trust=["10.0.0.0/8"], on_request=note)
    TraceMiddleware(app, response_header="server-timing", redact=("token",), websocket="handshake")
    TraceMiddleware(raw)
    httpx.Client(transport=TraceTransport(httpx.HTTPTransport(retries=2), propagate_to="*.internal"))
    httpx.AsyncClient(transport=AsyncTraceTransport())
    server_span().set_attribute("orders.id", 7)
    set_route("/orders/{id}")
    logging.getLogger().addFilter(TraceContextFilter())


def captured() -> CapturedSpans:
    with capture_spans() as spans:
        names: list[str] = [span.name for span in spans]
        assert not names
    return spans
