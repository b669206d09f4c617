"""The page of troubles quotes what is logged, and its ways around a framework's own command work."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import httpx
import pytest
from litestar import Litestar, Request, get
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from quart import Quart

from asgi_trace import TraceMiddleware
from asgi_trace._export.exporters import OTLPSpanExporter
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.routes.quart import trace_routes
from asgi_trace.testing import capture_spans

from ..support.asgi import OK, TRACEPARENT, drive, http_scope
from ..support.collectors import GRPC, HTTP, FaultyCollector
from ..support.configuration import built, read
from ..support.otlp_receiver import Receiver, closed_port
from ..support.pages import pages
from ..support.servers import uvicorn_serving
from ..support.spans import spans

PAGE = next(page for page in pages() if page.name == "asgi_trace/TROUBLESHOOTING.md")
MESSAGES = [block.text.strip() for block in PAGE.blocks() if block.language == "text"]
REASONS = re.findall(r"^\| `([^`]{30,})` \|", PAGE.text.partition("## 4317")[2], re.MULTILINE)


def _beside_contrib() -> None:
    with capture_spans() as spans:
        drive(OpenTelemetryMiddleware(TraceMiddleware(OK), tracer_provider=spans.tracer_provider))


def _address_from_a_header() -> None:
    """As behind uvicorn's `--proxy-headers`: without a port, since the header names none."""
    scope = http_scope(client=("10.0.0.7", 0), headers=[(b"traceparent", TRACEPARENT)])
    with capture_spans():
        drive(TraceMiddleware(OK, trust="10.0.0.0/8"), scope)


def _after_shutdown() -> None:
    tracing = built(exporter=InMemorySpanExporter())
    tracing.shutdown()
    tracing.tracer_provider.get_tracer("test").start_span("late").end()


class _Waiting(SpanExporter):
    """Exports nothing until it may."""

    def __init__(self) -> None:
        self.entered, self.may_go_on = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.entered.set()
        self.may_go_on.wait(30)
        return SpanExportResult.SUCCESS


def _more_than_the_queue_holds() -> None:
    exporter = _Waiting()
    tracing = built({"OTEL_BSP_MAX_QUEUE_SIZE": "2", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1"}, exporter=exporter)
    try:
        tracer = tracing.tracer_provider.get_tracer("test")
        tracer.start_span("first").end()
        assert exporter.entered.wait(30)
        for _ in range(10):
            tracer.start_span("more").end()
    finally:
        exporter.may_go_on.set()
        tracing.shutdown()


def _send(protocol: str, endpoint: str | None, **variables: str) -> None:
    found, problems = read(variables, protocol=protocol, timeout=0.9, endpoint=endpoint)
    assert problems == {}
    assert OTLPSpanExporter(found).ship(spans()) == 1


def _nothing_listens() -> None:
    with closed_port() as port:
        _send(GRPC, f"http://127.0.0.1:{port}")


def _grpc_without_otlp() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        _send(GRPC, f"http://127.0.0.1:{port}")
    finally:
        server.stop(None).wait()


def _without_tls() -> None:
    with Receiver() as receiver:
        _send(GRPC, receiver.endpoint.replace("http://", "https://"))


def _http_to_grpc() -> None:
    with Receiver() as receiver:
        _send(HTTP, receiver.endpoint)


def _path_twice() -> None:
    """A collector that has one path for traces, as the OpenTelemetry Collector has."""

    async def collector(scope: Scope, receive: Receive, send: Send) -> None:
        status = 200 if scope["path"] == "/v1/traces" else 404
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    with uvicorn_serving(collector) as server:
        _send(HTTP, None, OTEL_EXPORTER_OTLP_ENDPOINT=f"{server.url}/v1/traces")


def _redirected() -> None:
    with FaultyCollector(HTTP, always=308, location="https://collector.test/v1/traces") as receiver:
        _send(HTTP, receiver.endpoint)


CASES: dict[str, Callable[[], None]] = {
    "already traces these requests": _beside_contrib,
    "takes the caller's address from a header": _address_from_a_header,
    "come after shutdown()": _after_shutdown,
    "wait to be exported": _more_than_the_queue_holds,
    "did not reach": _nothing_listens,
    "is it running?": _nothing_listens,
    "does it speak OTLP/gRPC on this port?": _grpc_without_otlp,
    "does it speak TLS on this port": _without_tls,
    "does it speak OTLP/HTTP on this port?": _http_to_grpc,
    "does it speak OTLP/HTTP at this path?": _path_twice,
    "a redirect is not followed": _redirected,
}
"""What is done for a message that the page quotes to be logged, by a piece of it."""


def _case(quoted: str) -> Callable[[], None]:
    (case,) = [case for piece, case in CASES.items() if piece in quoted]
    return case


@pytest.mark.parametrize("message", MESSAGES)
def test_a_quoted_message_is_what_is_logged(message: str, caplog: pytest.LogCaptureFixture) -> None:
    """The situation that the page speaks of logs the message that it quotes, once; `…` stands for what differs."""
    _case(message)()
    pattern = ".+".join(re.escape(piece) for piece in message.split("…"))
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    logged = [record.getMessage() for record in warnings if record.name.startswith("asgi_trace")]
    assert [text for text in logged if re.fullmatch(pattern, text)] == logged
    assert len(logged) == 1


@pytest.mark.parametrize("reason", REASONS)
def test_a_quoted_reason_is_part_of_the_message_about_a_loss(reason: str, caplog: pytest.LogCaptureFixture) -> None:
    """A collector as the page describes it makes the exporter give that reason."""
    _case(reason)()
    (lost,) = [text for text in caplog.messages if " did not reach " in text]
    assert reason in lost


def test_every_case_is_quoted() -> None:
    """The page quotes a message or a reason for each case, and there are no others."""
    assert len(MESSAGES) == 5
    assert len(REASONS) == 6
    assert all(any(piece in text for text in [*MESSAGES, *REASONS]) for piece in CASES)


def _litestar() -> Any:
    async def read_order(request: Request[Any, Any, Any]) -> dict[str, int]:
        return {"id": request.path_params["order"]}

    app: Any = Litestar([get("/orders/{order:int}")(read_order)])
    app.asgi_handler = TraceMiddleware(app.asgi_handler)
    return app


def _quart() -> Any:
    app: Any = Quart("orders")
    trace_routes(app)

    async def read_order(order: int) -> dict[str, int]:
        return {"id": order}

    app.get("/orders/<int:order>")(read_order)
    app.asgi_app = TraceMiddleware(app.asgi_app)
    return app


@pytest.mark.parametrize(("build", "name"), [(_litestar, "GET /orders/{order}"), (_quart, "GET /orders/<int:order>")])
def test_a_handler_that_is_wrapped_in_its_own_application_traces_requests(build: Any, name: str) -> None:
    """The application object stays the framework's own, and a request to it is one span with its route."""

    async def ask() -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(build()), base_url="http://orders") as client:
            return (await client.get("/orders/7")).json()

    with capture_spans() as spans:
        assert asyncio.run(ask()) == {"id": 7}
    assert spans.server.name == name
