"""One FastAPI application behind each of the libraries that the page compares, by the titles of the page's columns."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from time import time_ns
from typing import Any

import pytest
from fastapi import BackgroundTasks, FastAPI, WebSocket
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Message, Scope
from tests.support.asgi import CONNECT, REQUEST, http_scope, websocket_scope
from tests.support.metrics import SERVER
from tests.support.moving_server import Build, Shown, environment, shown

pytest.importorskip("fastapi.telemetry", reason="newer than this FastAPI")
StarletteMiddleware = pytest.importorskip("starlette.middleware.opentelemetry").OpenTelemetryMiddleware

SILENT: Any = {"tracing": False, "metrics": False, "logs": False}
"""FastAPI's own telemetry is off."""


class OutOfStock(Exception):
    """An exception of the application's own."""


PACKED: list[int] = []
"""When the background task ran, in nanoseconds."""


async def packing() -> None:
    """A background task."""
    PACKED.append(time_ns())


def shop(telemetry: Any = SILENT) -> FastAPI:
    """The application."""
    app = FastAPI(telemetry=telemetry)

    @app.api_route("/orders/{order}", methods=["GET", "POST", "BREW"])
    async def read_order(order: int) -> PlainTextResponse:
        return PlainTextResponse("kettle")

    @app.get("/failing")
    async def failing() -> None:
        raise OutOfStock("no kettles")

    @app.get("/unavailable")
    async def unavailable() -> PlainTextResponse:
        return PlainTextResponse("later", 503)

    @app.get("/background")
    async def background(tasks: BackgroundTasks) -> str:
        tasks.add_task(packing)
        return "done"

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def three() -> Any:
            for _ in range(3):
                yield b"chunk"

        return StreamingResponse(three())

    @app.websocket("/rooms/{room}")
    async def room(websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    return app


def ours(spans: TracerProvider, meters: MeterProvider) -> ASGIApp:
    """Our middleware with every instrument, as the others have them."""
    return TraceMiddleware(shop(), tracer_provider=spans, meter_provider=meters, metrics=SERVER)


def instrumentor(spans: TracerProvider, meters: MeterProvider) -> ASGIApp:
    """contrib's instrumentor of FastAPI."""
    app = shop()
    FastAPIInstrumentor.instrument_app(app, tracer_provider=spans, meter_provider=meters)
    return app


def starlettes(spans: TracerProvider, meters: MeterProvider) -> ASGIApp:
    """Starlette's own middleware."""
    app = shop()
    app.add_middleware(StarletteMiddleware, tracer_provider=spans, meter_provider=meters)
    return app


def fastapis(spans: TracerProvider, meters: MeterProvider) -> ASGIApp:
    """FastAPI's own telemetry."""
    return shop({"tracer_provider": spans, "meter_provider": meters, "logs": False})


LIBRARIES: dict[str, Build] = {
    "here": ours,
    "contrib": instrumentor,
    "contrib, `http`": instrumentor,
    "Starlette": starlettes,
    "FastAPI": fastapis,
}

HEADERS = [(b"host", b"shop.test:8443"), (b"user-agent", b"curl/8.5")]
BOT = [(b"user-agent", b"Googlebot/2.1")]

REQUESTS: dict[str, tuple[Scope, list[Message]]] = {
    "an order": (http_scope("/orders/7", query_string=b"page=2", headers=HEADERS), [REQUEST]),
    "BREW": (http_scope("/orders/7", "BREW"), [REQUEST]),
    "nowhere": (http_scope("/nowhere"), [REQUEST]),
    "failing": (http_scope("/failing"), [REQUEST]),
    "unavailable": (http_scope("/unavailable"), [REQUEST]),
    "background": (http_scope("/background"), [REQUEST]),
    "a stream": (http_scope("/stream"), [REQUEST]),
    "a bot": (http_scope("/orders/7", headers=BOT), [REQUEST]),
    "a socket": (websocket_scope("/rooms/blue"), [CONNECT]),
    "a body": (
        http_scope("/orders/7", "POST", headers=[*HEADERS, (b"content-length", b"4")]),
        [{"type": "http.request", "body": b"four", "more_body": False}],
    ),
}


@cache
def asked(library: str, request: str) -> Shown:
    """What a library shows of a request."""
    scope, script = REQUESTS[request]
    conventions = {"OTEL_SEMCONV_STABILITY_OPT_IN": "http"} if library == "contrib, `http`" else {}
    with environment(**conventions), instrumented_once():
        return shown(LIBRARIES[library], dict(scope), script=script)


@contextmanager
def instrumented_once() -> Iterator[None]:
    """What contrib's instrumentor patches in Starlette does not outlive the block, and is patched anew within it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BackgroundTask, "__call__", BackgroundTask.__call__)
        patch.delattr(BackgroundTask, "_otel_original_call", raising=False)
        yield
        if "_otel_original_call" in vars(BackgroundTask):
            del BackgroundTask._otel_original_call  # type: ignore[attr-defined]
