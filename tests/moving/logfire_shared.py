# mypy: ignore-errors
# Logfire is not installed beside the tests: this runs in an environment of its own.
"""Logfire set up so that its spans are kept, and the applications that it traces."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable
from typing import Any

import httpx
import logfire
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from probe import Rows
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

ROWS = Rows()
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EXPORTER = InMemorySpanExporter()


def set_up(**options: Any) -> None:
    """`logfire.configure()` that keeps the spans and sends none."""
    logfire.configure(
        **{
            "send_to_logfire": False,
            "console": False,
            "metrics": False,
            "service_name": "shop",
            "distributed_tracing": True,
            "inspect_arguments": False,
            "additional_span_processors": [SimpleSpanProcessor(EXPORTER)],
            **options,
        }
    )


def spans() -> list[Any]:
    return list(EXPORTER.get_finished_spans())


def names() -> list[str]:
    return [span.name for span in spans()]


def resource(*keys: str) -> dict[str, Any]:
    with logfire.span("work"):
        pass
    found = spans()[0].resource.attributes
    return {key: found.get(key) for key in keys}


def own(span: Any) -> dict[str, Any]:
    """The attributes of a span that are not Logfire's own."""
    ours = {key: value for key, value in span.attributes.items() if not re.match(r"logfire\.|code\.", key)}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in ours.items()}


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def request(app: Any, path: str = "/orders/7", **options: Any) -> Any:
    """Send one request to an application in this process."""

    async def send() -> Any:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            return await client.get(path, **options)

    return asyncio.run(send())


def server() -> Any:
    [span] = [span for span in spans() if span.kind is trace.SpanKind.SERVER]
    return span


def shop() -> FastAPI:
    app = FastAPI()

    @app.get("/orders/{id}")
    def order(id: int) -> int:
        return id

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.get("/failing")
    def failing() -> None:
        raise ValueError("no stock")

    return app


async def order(request: Any) -> Any:
    return PlainTextResponse("kettle")


def starlette() -> Starlette:
    return Starlette(routes=[Route("/orders/{id}", order)])
