"""Transports around an answer, and what spans and servers say of a send: for the tests of the client side."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import httpx
from opentelemetry import context as otel_context
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    format_span_id,
    format_trace_id,
    set_span_in_context,
)

from asgi_trace.httpx import TraceTransport

from .http_clients import Kit

KITS = [("httpx", False), ("httpx", True), ("httpx2", False), ("httpx2", True)]
"""Each library, sync and async: the arguments of a `Kit`."""
IDS = ["httpx-sync", "httpx-async", "httpx2-sync", "httpx2-async"]


class Answer(httpx.BaseTransport):
    """Answers every request, and keeps the headers of each as they went out."""

    def __init__(self, status: int = 200, **response: Any) -> None:
        self.status, self.response = status, response
        self.sent: list[httpx.Headers] = []

    def handle_request(self, request: Any) -> Any:
        self.sent.append(httpx.Headers(request.headers.raw))
        return httpx.Response(self.status, **self.response)


class Sent(NamedTuple):
    """A request after its send, and its headers as they went out."""

    request: httpx.Request
    headers: httpx.Headers


class Chunks(httpx.SyncByteStream):
    """A body that has not been read yet."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"a"


def send(
    url: str = "http://svc.test/", method: str = "GET", inner: Any = None, request: Any = None, **options: Any
) -> Sent:
    """Send one request through a traced transport; `request` are arguments of the request."""
    sent = httpx.Request(method, url, **(request or {}))
    answer = Answer() if inner is None else inner
    TraceTransport(answer, **options).handle_request(sent)
    return Sent(sent, answer.sent[-1] if isinstance(answer, Answer) else httpx.Headers())


def parent(flags: int) -> otel_context.Context:
    """A context with a remote-like parent span: trace id 10, span id 11, and these flags."""
    return set_span_in_context(NonRecordingSpan(SpanContext(0xA, 0xB, False, TraceFlags(flags))))


class Peer:
    """A network stream whose other end has the given address; an exception is raised instead."""

    def __init__(self, address: Any) -> None:
        self.address = address

    def get_extra_info(self, name: str) -> Any:
        if isinstance(self.address, Exception):
            raise self.address
        return self.address if name == "server_addr" else None


class Watching(Sampler):
    """A sampler with one decision, which notes what it is asked."""

    def __init__(self, decision: Decision, look: bool = True) -> None:
        self.decision, self.look = decision, look
        self.seen: list[dict[str, Any]] = []

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *rest: Any, **more: Any) -> SamplingResult:
        given: Any = more.get("attributes", rest[1] if len(rest) > 1 else None)
        if self.look:
            self.seen.append({**(given or {}), "len": len(given or ()), "name": name})
        return SamplingResult(self.decision, given)

    def get_description(self) -> str:
        return "watching"


def failing(request: Any) -> Any:
    """A handler of `MockTransport` that cannot connect."""
    raise httpx.ConnectError("no route")


async def send_through(kit: Kit, transport: Any, request: Any) -> Any:
    """Send a request through a transport, without a client."""
    if kit.is_async:
        return await transport.handle_async_request(request)
    return transport.handle_request(request)


@asynccontextmanager
async def traced(kit: Kit, inner: Any = None, **options: Any) -> AsyncIterator[Any]:
    """A client with a traced transport around `inner`, or around the library's own one."""
    async with kit.client(kit.Transport(inner or kit.network(), **options)) as client:
        yield client


def traceparent_of(span: ReadableSpan) -> str:
    """The `traceparent` that the request of a span must have carried."""
    context = span.context
    return f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{context.trace_flags:02x}"


def received(body: bytes, name: str) -> list[str]:
    """The values of one header, line by line, that the server of `http_clients` got."""
    return [value for header, value in json.loads(body)["headers"] if header.lower() == name]


def exceptions_of(span: ReadableSpan) -> list[Any]:
    """The class names of the exceptions recorded on a span."""
    return [dict(event.attributes or {})["exception.type"] for event in span.events]


def points(reader: InMemoryMetricReader, name: str) -> list[Any]:
    """The data points of one metric."""
    data = reader.get_metrics_data()
    return [
        point
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]


def carrying(**entries: str) -> otel_context.Context:
    """A context with these entries of baggage and nothing else."""
    from opentelemetry.baggage import set_baggage

    context = otel_context.Context()
    for key, value in entries.items():
        context = set_baggage(key, value, context)
    return context


@asynccontextmanager
async def within(context: otel_context.Context) -> AsyncIterator[None]:
    """Make a context the current one for a block."""
    token = otel_context.attach(context)
    try:
        yield
    finally:
        otel_context.detach(token)


TRACE_HEADERS = ("traceparent", "tracestate", "baggage")


def trace_headers(request: Any) -> dict[str, str]:
    """Those of the trace headers that a request has."""
    return {name: request.headers[name] for name in TRACE_HEADERS if name in request.headers}


def always(response: Any) -> Callable[[Any], Any]:
    """A handler that answers every request with the same response."""
    return lambda request: response


def response_of(kit: Kit, chunks: Callable[[], Iterator[bytes]]) -> Any:
    """A response whose body is yet to be read."""
    return kit.library.Response(200, stream=kit.body_of(chunks))
