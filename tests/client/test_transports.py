"""Both libraries, sync and async, over HTTP/1.1 and HTTP/2: the same requests leave the same spans and errors."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from time import time_ns
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import (
    NonRecordingSpan,
    NoOpTracerProvider,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)

from asgi_trace import TraceMiddleware
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.http_clients import Kit, application, http1_server, http2_server

KITS = [("httpx", False), ("httpx", True), ("httpx2", False), ("httpx2", True)]
IDS = ["httpx-sync", "httpx-async", "httpx2-sync", "httpx2-async"]


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """The base URL for each protocol version."""
    with http1_server() as http1, http2_server() as http2:
        yield {"1.1": http1, "2": http2}


@pytest.fixture(params=["1.1", "2"])
def version(request: pytest.FixtureRequest) -> str:
    """The protocol version on the wire."""
    found: str = request.param
    return found


@pytest.fixture(params=KITS, ids=IDS)
def kit(request: pytest.FixtureRequest, servers: dict[str, str], version: str) -> Kit:
    """One library, sync or async, with a server of one protocol version."""
    library, is_async = request.param
    return Kit(library, is_async, servers[version], version)


@pytest.fixture(params=KITS, ids=IDS)
def local(request: pytest.FixtureRequest) -> Kit:
    """One library, sync or async, for transports that do without a network."""
    library, is_async = request.param
    return Kit(library, is_async)


@pytest.fixture
def meter() -> Iterator[tuple[MeterProvider, InMemoryMetricReader]]:
    """A meter provider and what it has measured."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider, reader
    provider.shutdown()


@asynccontextmanager
async def traced(kit: Kit, inner: Any = None, **options: Any) -> AsyncIterator[Any]:
    async with kit.client(kit.Transport(inner or kit.network(), **options)) as client:
        yield client


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def traceparent(span: ReadableSpan) -> str:
    return f"00-{format_trace_id(span.context.trace_id)}-{format_span_id(span.context.span_id)}-03"


def received(body: bytes, name: str) -> list[str]:
    """The lines of one header that the server got."""
    return [value for header, value in json.loads(body)["headers"] if header.lower() == name]


def exceptions(span: ReadableSpan) -> list[Any]:
    return [dict(event.attributes or {})["exception.type"] for event in span.events]


def points(reader: InMemoryMetricReader, name: str) -> list[Any]:
    data = reader.get_metrics_data()
    return [
        point
        for resource in (data.resource_metrics if data else ())
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if metric.name == name
        for point in metric.data.data_points
    ]


def parent(flags: int) -> otel_context.Context:
    return set_span_in_context(NonRecordingSpan(SpanContext(0xA, 0xB, False, TraceFlags(flags))))


def test_a_request_is_one_client_span(kit: Kit, spans: CapturedSpans) -> None:
    """A GET is one CLIENT span with exactly the attributes of the conventions, and its ids are what the server gets."""
    port = int(kit.base.rpartition(":")[2])

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            response = await kit.call(client.get(f"{kit.base}/headers?q=1&sig=s#part"))
        span = spans.client
        assert span.name == "GET"
        assert span.status.status_code is StatusCode.UNSET
        assert attributes(span) == {
            "http.request.method": "GET",
            "url.full": f"{kit.base}/headers?q=1&sig=REDACTED#part",
            "server.address": "127.0.0.1",
            "server.port": port,
            "network.peer.address": "127.0.0.1",
            "network.peer.port": port,
            "network.protocol.version": kit.version,
            "http.response.status_code": 200,
        }
        assert received(response.content, "traceparent") == [traceparent(span)]
        assert json.loads(response.content)["version"] == kit.version

    kit.run(scenario)


def test_a_template_names_the_span(kit: Kit, spans: CapturedSpans) -> None:
    """`url_template` on a request gives its span a name of low cardinality and the attribute."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            await kit.call(client.post(f"{kit.base}/status/201", extensions={"url_template": "/status/{code}"}))
        assert spans.client.name == "POST /status/{code}"
        assert attributes(spans.client)["url.template"] == "/status/{code}"

    kit.run(scenario)


def test_the_span_lasts_until_the_body_is_read(kit: Kit, spans: CapturedSpans) -> None:
    """A streamed body keeps the span open until its last byte."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client, kit.stream(client, "GET", f"{kit.base}/chunks") as response:
            assert len(spans) == 0
            assert b"".join(await kit.chunks(response)) == b"a" * 10 + b"b" * 10 + b"c" * 10
            assert len(spans) == 1
        assert len(spans) == 1

    kit.run(scenario)


@pytest.mark.parametrize("most", [0, 1])
def test_a_body_that_is_not_read_to_its_end_ends_the_span_at_the_close(
    kit: Kit, spans: CapturedSpans, most: int
) -> None:
    """A response that is closed early, or never read, ends its span at the close, without an error."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            async with kit.stream(client, "GET", f"{kit.base}/chunks") as response:
                if most:
                    assert len(await kit.chunks(response, most)) == most
                assert most or len(spans) == 0
            assert spans.client.status.status_code is StatusCode.UNSET
            assert "error.type" not in attributes(spans.client)

    kit.run(scenario)


@pytest.mark.parametrize("path", ["/chunks", "/status/204", "/status/404", "/cut"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_caller_sees_the_same_response(kit: Kit, spans: CapturedSpans, path: str, method: str) -> None:
    """Status, headers, body, types, errors and counts are those of an untraced client."""

    async def seen(kit: Kit, transport: Any) -> list[Any]:
        async with kit.client(transport) as client:
            request = client.build_request(method, f"{kit.base}{path}")
            try:
                response = await kit.call(client.send(request, stream=True))
                body: Any = await kit.chunks(response)
            except kit.library.HTTPError as exc:
                body = (type(exc), exc.request is request)
            lines = [line for line in response.headers.raw if line[0].lower() != b"date"]
            flags = (response.is_closed, response.is_stream_consumed, response.request is request)
            await kit.close(response)
            assert response.elapsed.total_seconds() > 0
            return [type(response), response.status_code, lines, body, flags, response.num_bytes_downloaded]

    async def scenario(kit: Kit) -> None:
        assert await seen(kit, kit.Transport(kit.network())) == await seen(kit, kit.network())
        assert len(spans) == 1

    kit.run(scenario)


def test_a_body_that_breaks_off_is_an_error(kit: Kit, spans: CapturedSpans) -> None:
    """A failure in the middle of the body is on the span, once, beside the status code of the response."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            with pytest.raises(kit.library.RemoteProtocolError) as caught:
                await kit.call(client.get(f"{kit.base}/cut"))
        span = spans.client
        assert attributes(span)["http.response.status_code"] == 200
        assert attributes(span)["error.type"] == f"{kit.name}.RemoteProtocolError"
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, str(caught.value))
        assert exceptions(span) == [f"{kit.name}.RemoteProtocolError"]

    kit.run(scenario)


@pytest.mark.parametrize(("path", "code"), [("/slow", None), ("/stall", 200)])
def test_a_read_timeout_is_an_error(kit: Kit, spans: CapturedSpans, path: str, code: int | None) -> None:
    """A server that keeps silent, before its response or in the middle of it, is a ReadTimeout on the span."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            timeout = kit.library.Timeout(30, read=0.05 if code is None else 30)
            request = client.build_request("GET", f"{kit.base}{path}", timeout=timeout)
            with pytest.raises(kit.library.ReadTimeout):
                await _read_quickly(kit, client, request)
        assert attributes(spans.client)["error.type"] == f"{kit.name}.ReadTimeout"
        assert attributes(spans.client).get("http.response.status_code") == code
        assert exceptions(spans.client) == [f"{kit.name}.ReadTimeout"]

    kit.run(scenario)


async def _read_quickly(kit: Kit, client: Any, request: Any) -> None:
    response = await kit.call(client.send(request, stream=True))
    request.extensions["timeout"]["read"] = 0.05  # the head of the response may have taken longer
    try:
        await kit.read(response)
    finally:
        await kit.close(response)


@pytest.mark.parametrize("version", ["1.1"], indirect=True)
def test_a_pool_timeout_is_an_error(kit: Kit, spans: CapturedSpans) -> None:
    """Connection limits are those of the transport further in, and waiting in vain for a connection is an error."""

    async def scenario(kit: Kit) -> None:
        limits, timeout = kit.library.Limits(max_connections=1), kit.library.Timeout(30, pool=0.05)
        async with traced(kit, kit.network(limits=limits)) as client, kit.stream(client, "GET", f"{kit.base}/chunks"):
            with pytest.raises(kit.library.PoolTimeout):
                await kit.call(client.get(f"{kit.base}/chunks", timeout=timeout))
            assert attributes(spans.client)["error.type"] == f"{kit.name}.PoolTimeout"

    kit.run(scenario)


@pytest.mark.parametrize("version", ["1.1"], indirect=True)
def test_no_connection_is_an_error_without_a_response(kit: Kit, spans: CapturedSpans) -> None:
    """A closed port, a server without TLS and a name that does not resolve: ConnectError, no status code, no peer."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{closed.getsockname()[1]}"
    resolve = socket.getaddrinfo

    def unresolved(host: Any, *rest: Any, **more: Any) -> Any:
        if host in ("nowhere.invalid", b"nowhere.invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "unknown name")
        return resolve(host, *rest, **more)

    async def scenario(kit: Kit) -> None:
        async with traced(kit, kit.network(retries=1)) as client:
            for url in (nobody, kit.base.replace("http:", "https:"), "http://nowhere.invalid"):
                with pytest.raises(kit.library.ConnectError):
                    await kit.call(client.get(url))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", unresolved)
        kit.run(scenario)
    assert [attributes(span)["server.address"] for span in spans] == ["127.0.0.1", "127.0.0.1", "nowhere.invalid"]
    for span in spans:
        assert attributes(span)["error.type"] == f"{kit.name}.ConnectError"
        assert not {"http.response.status_code", "network.peer.address"} & attributes(span).keys()


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_a_refusal_is_an_error_without_an_exception(kit: Kit, spans: CapturedSpans, status: int) -> None:
    """4xx and 5xx: ERROR without a description, the code as error type, no event."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            response = await kit.call(client.get(f"{kit.base}/status/{status}"))
        assert response.status_code == status
        span = spans.client
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
        assert attributes(span)["error.type"] == str(status)
        assert attributes(span)["http.response.status_code"] == status
        assert not span.events

    kit.run(scenario)


def test_each_redirect_is_a_span_of_its_own(kit: Kit, spans: CapturedSpans) -> None:
    """Every hop is one span with its number, its own ids in one `traceparent`, and no template of another URL."""

    async def scenario(kit: Kit) -> None:
        url = f"{kit.base}/redirect?to=/redirect%3Fto%3D/headers"
        extensions = {"url_template": "/redirect"}
        async with traced(kit) as client:
            response = await kit.call(client.get(url, follow_redirects=True, extensions=extensions))
        hops = spans.of_kind(SpanKind.CLIENT)
        assert [span.name for span in hops] == ["GET /redirect", "GET", "GET"]
        assert ["url.template" in attributes(span) for span in hops] == [True, False, False]
        assert [attributes(span).get("http.request.resend_count") for span in hops] == [None, 1, 2]
        assert [attributes(span)["http.response.status_code"] for span in hops] == [302, 302, 200]
        assert len({span.context.span_id for span in hops}) == 3
        assert received(response.content, "traceparent") == [traceparent(hops[2])]
        assert extensions == {"url_template": "/redirect"}

    kit.run(scenario)


def test_an_auth_challenge_is_two_spans(kit: Kit, spans: CapturedSpans) -> None:
    """A digest round trip is two sends of one request: the second counts as a resend and keeps the template."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            auth = kit.library.DigestAuth("user", "secret")
            await kit.call(client.get(f"{kit.base}/auth", auth=auth, extensions={"url_template": "/auth"}))
        first, second = spans
        assert (first.name, second.name) == ("GET /auth", "GET /auth")
        assert attributes(first)["error.type"] == "401"
        assert "http.request.resend_count" not in attributes(first)
        assert attributes(second)["http.request.resend_count"] == 1
        assert attributes(second)["http.response.status_code"] == 200

    kit.run(scenario)


def test_one_request_object_sent_many_times_stays_as_small(kit: Kit, spans: CapturedSpans) -> None:
    """A request that is sent 100 times has one `traceparent`, that of its last send, and grows no further."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            request = client.build_request("GET", f"{kit.base}/headers")
            sizes = set()
            for _ in range(100):
                response = await kit.call(client.send(request))
                sizes.add(len(request.headers))
        assert len(sizes) == 1
        assert received(response.content, "traceparent") == [traceparent(spans[99])]
        assert attributes(spans[99])["http.request.resend_count"] == 99

    kit.run(scenario)


def test_nothing_is_sent_where_it_may_not_go(kit: Kit, spans: CapturedSpans) -> None:
    """A redirect that leaves `propagate_to` carries no trace context and no baggage; its span is made all the same."""
    port = int(kit.base.rpartition(":")[2])

    async def scenario(kit: Kit) -> None:
        foreign = f"http://localhost:{port}/headers"
        token = otel_context.attach(_with_baggage())
        try:
            async with traced(kit, propagate_to="127.0.0.1") as client:
                inside = await kit.call(client.get(f"{kit.base}/headers"))
                headers = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "tracestate": "a=1", "x-id": "7"}
                away = await kit.call(
                    client.get(f"{kit.base}/redirect?to={foreign}", follow_redirects=True, headers=headers)
                )
        finally:
            otel_context.detach(token)
        assert received(inside.content, "baggage") == ["user=7"]
        assert received(inside.content, "traceparent") == [traceparent(spans[0])]
        for name in ("traceparent", "tracestate", "baggage"):
            assert received(away.content, name) == []
        assert received(away.content, "x-id") == ["7"]
        assert [attributes(span)["server.address"] for span in spans] == ["127.0.0.1", "127.0.0.1", "localhost"]

    kit.run(scenario)


def _with_baggage() -> otel_context.Context:
    from opentelemetry.baggage import set_baggage

    return set_baggage("user", "7", otel_context.get_current())


def test_the_span_is_current_while_the_request_is_sent(local: Kit, spans: CapturedSpans) -> None:
    """Inside of the transport further in the CLIENT span is current; in the body and after it the caller's is."""

    async def scenario(kit: Kit) -> None:
        seen: list[Any] = []

        def chunks() -> Iterator[bytes]:
            seen.append(get_current_span())
            yield b"a"

        def handler(request: Any) -> Any:
            seen.append(get_current_span())
            return kit.library.Response(200, stream=kit.body_of(chunks))

        before = get_current_span()
        async with traced(kit, kit.transport_of(handler)) as client:
            await kit.call(client.get(kit.base))
        assert seen[0].get_span_context() == spans.client.context
        assert seen[1] is before
        assert get_current_span() is before

    local.run(scenario)


def test_a_response_that_is_dropped_ends_its_span(local: Kit, spans: CapturedSpans) -> None:
    """A response that nobody reads on or closes ends its span when it is collected, at the time of its last read."""

    async def scenario(kit: Kit) -> None:
        inner = kit.transport_of(lambda request: _response(kit, lambda: iter([b"a", b"b", b"c"])))
        response = await _send(kit, kit.Transport(inner), kit.library.Request("GET", kit.base))
        reader: Any = aiter(response.stream) if kit.is_async else iter(response.stream)
        assert (await anext(reader) if kit.is_async else next(reader)) == b"a"
        read_at = time_ns()
        assert len(spans) == 0
        del response, reader
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0.001) if kit.is_async else None
        assert spans.client.status.status_code is StatusCode.UNSET
        assert (spans.client.end_time or 0) <= read_at

    local.run(scenario)


async def _send(kit: Kit, transport: Any, request: Any) -> Any:
    if kit.is_async:
        return await transport.handle_async_request(request)
    return transport.handle_request(request)


def test_a_body_in_memory_ends_the_span_at_once(local: Kit, spans: CapturedSpans) -> None:
    """A response that came with its whole body ends its span when it is returned, and is handed on as it is."""

    async def scenario(kit: Kit) -> None:
        for body in ({"content": b"abc"}, {"stream": kit.library.ByteStream(b"abc")}):
            response = kit.library.Response(200, **body)
            stream = response.stream
            transport = kit.Transport(kit.transport_of(_always(response)))
            returned = await _send(kit, transport, kit.library.Request("GET", kit.base))
            assert returned is response
            assert returned.stream is stream
        assert len(spans) == 2

    local.run(scenario)


def test_a_body_that_the_transport_has_read_ends_the_span_at_once(local: Kit, spans: CapturedSpans) -> None:
    """A transport of the application's own that reads the body itself leaves nothing to wait for."""

    async def scenario(kit: Kit) -> None:
        response = _response(kit, lambda: iter([b"a"]))
        assert await kit.read(response) == b"a"
        returned = await _send(
            kit, kit.Transport(kit.transport_of(_always(response))), kit.library.Request("GET", kit.base)
        )
        assert returned.content == b"a"
        assert len(spans) == 1

    local.run(scenario)


def test_the_last_byte_ends_the_span_before_the_close(local: Kit, spans: CapturedSpans) -> None:
    """A stream that is read to its end, closed or not, has ended its span."""

    async def scenario(kit: Kit) -> None:
        transport = kit.Transport(kit.transport_of(lambda request: _response(kit, lambda: iter([b"a", b"b"]))))
        response = await _send(kit, transport, kit.library.Request("GET", kit.base))
        body = [chunk async for chunk in response.stream] if kit.is_async else list(response.stream)
        assert body == [b"a", b"b"]
        assert len(spans) == 1
        await kit.call(response.stream.aclose() if kit.is_async else response.stream.close())
        assert len(spans) == 1

    local.run(scenario)


def test_a_close_that_fails_is_an_error(local: Kit, spans: CapturedSpans) -> None:
    """What closing the body raises is on the span, and reaches the caller."""

    def closed() -> None:
        raise OSError("gone")

    async def scenario(kit: Kit) -> None:
        stream = kit.body_of(lambda: iter([b"a"]), closed)
        async with traced(kit, kit.transport_of(lambda request: kit.library.Response(200, stream=stream))) as client:
            response = await kit.call(client.send(client.build_request("GET", kit.base), stream=True))
            with pytest.raises(OSError, match="gone"):
                await kit.close(response)
        assert attributes(spans.client)["error.type"] == "OSError"

    local.run(scenario)


class Stop(BaseException):
    """No Exception, and no cancellation."""


NAMES = ["ConnectTimeout", "WriteTimeout", "WriteError", "ProxyError", "UnsupportedProtocol", "LocalProtocolError"]


@pytest.mark.parametrize("name", NAMES)
def test_every_failure_of_the_library_keeps_its_public_name(local: Kit, spans: CapturedSpans, name: str) -> None:
    """`error.type` is the class as the library's users write it; the caller gets the very exception."""

    async def scenario(kit: Kit) -> None:
        error = getattr(kit.library, name)("it failed")

        def handler(request: Any) -> Any:
            raise error

        async with traced(kit, kit.transport_of(handler)) as client:
            with pytest.raises(type(error)) as caught:
                await kit.call(client.get(kit.base))
        assert caught.value is error
        assert attributes(spans.client)["error.type"] == f"{kit.name}.{name}"
        assert spans.client.status.description == "it failed"
        assert exceptions(spans.client) == [f"{kit.name}.{name}"]

    local.run(scenario)


@pytest.mark.parametrize("error", [Stop("now"), KeyboardInterrupt(), SystemExit(3)])
def test_what_is_no_exception_is_an_error_too(local: Kit, spans: CapturedSpans, error: BaseException) -> None:
    """A BaseException passes through unchanged and is an error on the span; nothing stays current."""

    async def scenario(kit: Kit) -> None:
        def handler(request: Any) -> Any:
            raise error

        transport = kit.Transport(kit.transport_of(handler))
        before = otel_context.get_current()
        with pytest.raises(type(error)) as caught:
            await _send(kit, transport, kit.library.Request("GET", kit.base))
        assert caught.value is error
        assert otel_context.get_current() == before
        assert spans.client.status.status_code is StatusCode.ERROR
        assert attributes(spans.client)["error.type"].endswith(type(error).__name__)

    local.run(scenario)


def test_an_unsampled_call_is_not_recorded_but_known(local: Kit, spans: CapturedSpans) -> None:
    """Below an unsampled parent no span is recorded, the body is the library's own, and the flag is handed on."""

    async def scenario(kit: Kit) -> None:
        stream = kit.body_of(lambda: iter([b"a"]))
        transport = kit.Transport(kit.transport_of(lambda request: kit.library.Response(200, stream=stream)))
        request = kit.library.Request("GET", kit.base, headers={"Tracestate": "stale=1"})
        token = otel_context.attach(parent(0))
        try:
            response = await _send(kit, transport, request)
        finally:
            otel_context.detach(token)
        assert response.stream is stream
        assert request.headers["traceparent"].startswith(f"00-{0xA:032x}-")
        assert request.headers["traceparent"].endswith("-00")
        assert "tracestate" not in request.headers
        assert len(spans) == 0

    local.run(scenario)


def test_without_a_provider_the_current_context_is_sent(local: Kit) -> None:
    """Where nobody records, the caller's own context goes out as it is, and where there is none, nothing is touched."""

    async def scenario(kit: Kit) -> None:
        transport = kit.Transport(kit.library.MockTransport(lambda request: kit.library.Response(200)))
        alone = kit.library.Request("GET", kit.base)
        extensions, before = alone.extensions, list(alone.headers.raw)
        await _send(kit, transport, alone)
        assert (alone.headers.raw, alone.extensions) == (before, extensions)
        request = kit.library.Request("GET", kit.base)
        token = otel_context.attach(parent(1))
        try:
            await _send(kit, transport, request)
        finally:
            otel_context.detach(token)
        assert request.headers["traceparent"] == f"00-{0xA:032x}-{0xB:016x}-01"

    local.run(scenario)


def test_one_transport_inside_another_is_one_span(local: Kit, spans: CapturedSpans) -> None:
    """Two of our transports around each other make one span, and a second send of the request makes one more."""

    async def scenario(kit: Kit) -> None:
        inner = kit.transport_of(lambda request: kit.library.Response(200))
        async with traced(kit, kit.Transport(kit.Transport(inner))) as client:
            request = client.build_request("GET", kit.base)
            await kit.call(client.send(request))
            assert len(spans) == 1
            await kit.call(client.send(request))
            assert len(spans) == 2

    local.run(scenario)


class Slow:
    """Answers only when every one of `number` requests is on its way, and says what each carried then."""

    def __init__(self, kit: Kit, number: int) -> None:
        self.seen: list[str] = []
        self.meet = threading.Barrier(number)
        self.kit, self.number, self.waiting = kit, number, 0
        base = kit.Base

        class Inner(base):  # type: ignore[misc, valid-type]
            def handle_request(inner, request: Any) -> Any:
                self.meet.wait(5)
                return self.answer(request)

            async def handle_async_request(inner, request: Any) -> Any:
                self.waiting += 1
                while self.waiting < self.number:
                    await asyncio.sleep(0)
                return self.answer(request)

        self.inner = Inner()

    def answer(self, request: Any) -> Any:
        self.seen.append(request.headers["traceparent"])
        return self.kit.library.Response(200, content=request.content)


def test_one_request_on_its_way_many_times_is_as_many_spans(
    local: Kit, spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader]
) -> None:
    """Each of ten sends at once of one request object has its span, its count and its own ids on the wire."""
    provider, reader = meter

    async def scenario(kit: Kit) -> None:
        slow = Slow(kit, 10)
        async with traced(kit, kit.Transport(slow.inner), meter_provider=provider) as client:
            request = client.build_request("POST", kit.base, content=b"abc")
            if kit.is_async:
                responses = await asyncio.gather(*[client.send(request) for _ in range(10)])
            else:
                with ThreadPoolExecutor(10) as pool:
                    responses = list(pool.map(client.send, [request] * 10))
            assert {(response.content, response.request is request) for response in responses} == {(b"abc", True)}
        assert sorted(slow.seen) == sorted(map(traceparent, spans))
        assert len(set(slow.seen)) == 10
        assert {attributes(span).get("http.request.resend_count", 0) for span in spans} == set(range(10))
        assert sum(point.count for point in points(reader, "http.client.request.duration")) == 10

    local.run(scenario)


def _carrying(**entries: str) -> otel_context.Context:
    from opentelemetry.baggage import set_baggage

    context = otel_context.Context()
    for key, value in entries.items():
        context = set_baggage(key, value, context)
    return context


@asynccontextmanager
async def _within(context: otel_context.Context) -> AsyncIterator[None]:
    token = otel_context.attach(context)
    try:
        yield
    finally:
        otel_context.detach(token)


TRACE_HEADERS = ("traceparent", "tracestate", "baggage")


def _trace_headers(request: Any) -> dict[str, str]:
    return {name: request.headers[name] for name in TRACE_HEADERS if name in request.headers}


@pytest.mark.parametrize("kind", ["sampled", "unsampled", "no-provider", "excluded"])
def test_a_request_that_is_sent_again_carries_nothing_of_an_earlier_context(local: Kit, kind: str) -> None:
    """Below another context, or none, only the caller's own headers and what is current now go out."""

    async def scenario(kit: Kit) -> None:
        sent: list[dict[str, str]] = []

        def handler(request: Any) -> Any:
            sent.append(_trace_headers(request))
            return kit.library.Response(200)

        transport = kit.Transport(kit.transport_of(handler), exclude="svc" if kind == "excluded" else ())
        request = kit.library.Request("GET", kit.base, headers=[("Baggage", "mine=1"), ("baggage", "too=2")])
        own = list(request.headers.raw)
        for user in range(20):
            around = parent(0 if kind == "unsampled" else 1)
            async with _within(otel_context.Context({**around, **_carrying(**{f"user{user}": "x"})})):
                await _send(kit, transport, request)
        assert {len(headers["baggage"].split(",")) for headers in sent} == {3}
        assert "user19=x" in sent[-1]["baggage"]
        async with _within(otel_context.Context()):
            await _send(kit, transport, request)
        assert sent[-1]["baggage"] == "mine=1, too=2"
        if kind in ("no-provider", "excluded"):
            assert sent[-1] == {"baggage": "mine=1, too=2"}
            assert sorted(request.headers.raw) == sorted(own)

    if kind == "no-provider":
        local.run(scenario)
    else:
        with capture_spans():
            local.run(scenario)


def test_what_the_caller_writes_between_two_sends_stays(local: Kit) -> None:
    """Trace headers that the caller has changed since the last send are the caller's own."""

    async def scenario(kit: Kit) -> None:
        transport = kit.Transport(kit.transport_of(lambda request: kit.library.Response(200)))
        request = kit.library.Request("GET", kit.base, headers={"baggage": "a=1"})
        async with _within(otel_context.Context({**parent(1), **_carrying(user="1")})):
            await _send(kit, transport, request)
        mine = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "baggage": "b=2"}
        request.headers.update(mine)
        await _send(kit, transport, request)
        assert _trace_headers(request) == mine

    local.run(scenario)


def test_a_redirect_takes_no_ids_of_another_hop_along(local: Kit, spans: CapturedSpans) -> None:
    """A redirect to what is excluded leaves the first hop's ids behind; the caller's headers go on, where allowed."""
    sent: list[dict[str, str]] = []

    async def scenario(kit: Kit) -> None:
        def handler(request: Any) -> Any:
            sent.append(_trace_headers(request))
            hops = {"http://a.test/": "http://b.test/", "http://b.test/": "http://a.test/silent"}
            to = hops.get(str(request.url))
            return kit.library.Response(302, headers={"location": to}) if to else kit.library.Response(200)

        for inner in (kit.transport_of(handler), kit.library.MockTransport(handler)):
            sent.clear()
            async with traced(kit, inner, exclude="silent", propagate_to="a.test") as client:
                headers = {"baggage": "mine=1"}
                await kit.call(client.get("http://a.test/", follow_redirects=True, headers=headers))
            assert sent[0].keys() == {"traceparent", "baggage"}
            assert sent[1:] == [{}, {"baggage": "mine=1"}]

    local.run(scenario)


NESTED: dict[str, dict[str, Any]] = {
    "forbidden": {"propagate_to": "*.good.test"},
    "excluded": {"exclude": "svc", "propagate_to": "*.good.test"},
    "silent": {"propagate_to": "*.good.test"},
}


@pytest.mark.parametrize("flags", [0, 1, None])
@pytest.mark.parametrize("sdk", [True, False])
@pytest.mark.parametrize("case", list(NESTED))
def test_the_outer_one_of_two_transports_decides(local: Kit, case: str, sdk: bool, flags: int | None) -> None:
    """What the outer transport excludes the inner one does not trace, and it sends nothing where the outer must not."""

    async def scenario(kit: Kit) -> None:
        sent: list[dict[str, str]] = []

        def handler(request: Any) -> Any:
            sent.append(_trace_headers(request))
            if len(sent) == 2:
                raise kit.library.ConnectError("no route")
            return kit.library.Response(200)

        with capture_spans() as spans:
            options = {"tracer_provider": spans.tracer_provider}
            inner = kit.Transport(kit.library.MockTransport(handler), **options)
            outer = kit.Transport(
                inner, **NESTED[case], **(options if sdk else {"tracer_provider": NoOpTracerProvider()})
            )
            request = kit.library.Request("GET", kit.base, extensions={"asgi_trace": False} if case == "silent" else {})
            async with _within(otel_context.Context() if flags is None else parent(flags)):
                await _send(kit, outer, request)
                with pytest.raises(kit.library.ConnectError):
                    await _send(kit, outer, request)
            traced = sdk and case == "forbidden" and flags != 0
            assert [attributes(span)["server.address"] for span in spans] == ["svc.test"] * (2 if traced else 0)
            assert sent == [{}, {}]
            if case != "silent":  # the inner one alone decides for itself, also about a request that was seen before
                await _send(kit, inner, request)
                assert len(spans) == (3 if traced else 1)
                assert attributes(spans[-1]).get("http.request.resend_count") == (2 if traced else None)

    local.run(scenario)


def test_an_upload_is_counted_anew_for_each_send(
    local: Kit, spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader]
) -> None:
    """A body that can be read again is counted at each of a thousand sends, and grows no deeper."""
    provider, reader = meter

    async def scenario(kit: Kit) -> None:
        class Reading(kit.Base):  # type: ignore[misc, name-defined]
            def handle_request(self, request: Any) -> Any:
                return kit.library.Response(200, content=b"".join(request.stream))

            async def handle_async_request(self, request: Any) -> Any:
                return kit.library.Response(200, content=b"".join([part async for part in request.stream]))

        name = "http.client.request.body.size"
        transport = kit.Transport(Reading(), meter_provider=provider, metrics=name)
        request = kit.library.Request("POST", kit.base, stream=kit.body_of(lambda: iter([b"abc"])))
        for _ in range(1000):
            assert (await _send(kit, transport, request)).content == b"abc"
        (point,) = points(reader, name)
        assert (point.count, point.sum, point.max) == (1000, 3000, 3)

    local.run(scenario)


def test_a_reader_that_stops_stops_the_body_at_once(local: Kit, spans: CapturedSpans) -> None:
    """Closing the iteration of a body closes that of the body further in, without the garbage collector."""

    async def scenario(kit: Kit) -> None:
        ended: list[str] = []

        def parts() -> Iterator[bytes]:
            try:
                yield b"a"
                yield b"b"
            finally:
                ended.append("closed")

        async def parts_async() -> AsyncIterator[bytes]:
            for part in parts():
                try:
                    yield part
                finally:
                    ended.append("closed")

        kept: Any = parts_async() if kit.is_async else parts()  # nor by counting references

        class Body(kit.Stream):  # type: ignore[misc, name-defined]
            def __iter__(self) -> Any:
                return kept

            def __aiter__(self) -> Any:
                return kept

        response = await _send(
            kit,
            kit.Transport(kit.transport_of(lambda request: kit.library.Response(200, stream=Body()))),
            kit.library.Request("GET", kit.base),
        )
        if kit.is_async:
            reading = response.stream.__aiter__()
            assert await reading.__anext__() == b"a"
            await reading.aclose()
        else:
            reading = iter(response.stream)
            assert next(reading) == b"a"
            reading.close()
        assert ended[:1] == ["closed"]
        await kit.close(response)
        assert len(spans) == 1

    local.run(scenario)


def test_a_response_that_is_dropped_while_it_is_read_ends_with_the_last_read(local: Kit, spans: CapturedSpans) -> None:
    """Who stops reading and forgets the response has a span that ends when the last bytes came."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit, kit.transport_of(lambda request: _response(kit, lambda: iter([b"a", b"b"])))) as client:
            response = await kit.call(client.send(client.build_request("GET", kit.base), stream=True))
            if kit.is_async:
                reading = response.aiter_bytes()
                await reading.__anext__()
            else:
                reading = response.iter_bytes()
                next(reading)
            read = time_ns()
            del response, reading
            gc.collect()
            if kit.is_async:
                await asyncio.sleep(0.01)
                gc.collect()
        assert spans.client.end_time is not None
        assert spans.client.end_time <= read

    local.run(scenario)


@pytest.mark.parametrize("local", KITS[:2], ids=IDS[:2], indirect=True)
def test_a_body_that_does_not_decode_is_an_error(
    local: Kit, spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader]
) -> None:
    """A call of httpx that fails because its body is not what Content-Encoding says is an error; another is not."""
    provider, reader = meter

    async def scenario(kit: Kit) -> None:
        def handler(request: Any) -> Any:
            parts = kit.body_of(lambda: iter([b"no gzip", b"at all"]))
            return kit.library.Response(200, headers={"content-encoding": "gzip"}, stream=parts)

        async with traced(kit, kit.transport_of(handler), meter_provider=provider) as client:
            other = await kit.call(client.send(client.build_request("GET", kit.base), stream=True))
            with pytest.raises(kit.library.DecodingError):
                await _get_and_close(kit, client, other)
        failed, clean = sorted(spans, key=lambda span: len(span.events), reverse=True)
        assert attributes(failed)["error.type"] == f"{kit.name}.DecodingError"
        assert attributes(failed)["http.response.status_code"] == 200
        assert exceptions(failed) == [f"{kit.name}.DecodingError"]
        assert (clean.status.status_code, attributes(clean).get("error.type")) == (StatusCode.UNSET, None)
        errors = {point.attributes.get("error.type") for point in points(reader, "http.client.request.duration")}
        assert errors == {None, f"{kit.name}.DecodingError"}

    local.run(scenario)


async def _get_and_close(kit: Kit, client: Any, other: Any) -> None:
    try:
        await kit.call(client.get(kit.base))
    except kit.library.DecodingError:
        await kit.close(other)
        raise


@pytest.mark.parametrize("version", ["1.1"], indirect=True)
def test_a_header_that_is_refused_is_not_quoted(kit: Kit, spans: CapturedSpans) -> None:
    """A credential that the library refuses to send, and quotes, is in no part of the span; the caller sees it."""

    async def scenario(kit: Kit) -> None:
        headers = {"authorization": "Bearer SECRET\n", "x-token": "SECRET"}
        async with traced(kit, redact="x-token") as client:
            with pytest.raises(kit.library.LocalProtocolError, match="SECRET"):
                await kit.call(client.get(f"{kit.base}/headers", headers=headers))
        told = spans.client.to_json()
        assert "SECRET" not in told
        assert spans.client.status.description is not None
        assert "REDACTED" in spans.client.status.description
        assert exceptions(spans.client) == [f"{kit.name}.LocalProtocolError"]
        assert "Traceback" in told

    kit.run(scenario)


def test_hooks_see_the_request_and_the_response(local: Kit, spans: CapturedSpans) -> None:
    """Hooks get the real objects and may set what they like; headers that a hook writes are sent."""

    async def scenario(kit: Kit) -> None:
        seen: list[Any] = []

        def on_request(span: Any, request: Any) -> None:
            seen.append((request, get_current_span() is span))
            request.headers["x-hook"] = "1"
            span.set_attribute("hook.request", True)

        def on_response(span: Any, request: Any, response: Any) -> None:
            seen.append((request, response))
            span.set_attribute("error.type", "of the hook")

        sent: list[Any] = []
        given = kit.library.Response(500)

        def handler(request: Any) -> Any:
            sent.append(request.headers["x-hook"])
            return given

        transport = kit.Transport(kit.transport_of(handler), on_request=on_request, on_response=on_response)
        request = kit.library.Request("GET", kit.base)
        await _send(kit, transport, request)
        assert seen == [(request, True), (request, given)]
        assert sent == ["1"]
        assert attributes(spans.client)["hook.request"] is True
        assert attributes(spans.client)["error.type"] == "of the hook"

    local.run(scenario)


@pytest.mark.parametrize("error", [LookupError, asyncio.CancelledError])
def test_a_hook_that_fails_changes_nothing(
    local: Kit, spans: CapturedSpans, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    """A failing hook is logged, each kind once as ERROR; request, response and span are what they would be."""

    async def scenario(kit: Kit) -> None:
        def broken(*arguments: Any) -> None:
            raise error("in the hook")

        transport = kit.Transport(
            kit.transport_of(lambda request: kit.library.Response(200)), on_request=broken, on_response=broken
        )
        with caplog.at_level(logging.ERROR, logger="asgi_trace"):
            for _ in range(3):
                response = await _send(kit, transport, kit.library.Request("GET", kit.base))
                assert response.status_code == 200
        assert len(caplog.records) == 2
        assert [attributes(span)["http.response.status_code"] for span in spans] == [200, 200, 200]

    local.run(scenario)


def test_headers_are_captured_by_name_and_masked(kit: Kit, spans: CapturedSpans) -> None:
    """Captured headers are lists with one item per line, under their own names; what is secret is masked."""

    async def scenario(kit: Kit) -> None:
        options: dict[str, Any] = {
            "capture_request_headers": ("X-Id", "Authorization", "x-secret", "absent"),
            "capture_response_headers": "X-Served",
            "redact": "x-secret",
        }
        async with traced(kit, **options) as client:
            headers = [("x-id", "1"), ("X-Id", "2"), ("authorization", "Bearer x"), ("x-secret", "s")]
            await kit.call(client.get(f"{kit.base}/chunks", headers=headers))
        found = {key: value for key, value in attributes(spans.client).items() if ".header." in key}
        assert found == {
            "http.request.header.x-id": ("1", "2"),
            "http.request.header.authorization": ("REDACTED",),
            "http.request.header.x-secret": ("REDACTED",),
            "http.response.header.x-served": ("a", "b"),
        }

    kit.run(scenario)


def test_the_metric_is_the_span_in_seconds(
    kit: Kit, spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader]
) -> None:
    """The duration has the conventions' labels and is exactly that of the span, body included."""
    provider, reader = meter
    port = int(kit.base.rpartition(":")[2])

    async def scenario(kit: Kit) -> None:
        async with traced(kit, meter_provider=provider) as client:
            await kit.call(client.get(f"{kit.base}/chunks?x=1", extensions={"url_template": "/chunks"}))
        (point,) = points(reader, "http.client.request.duration")
        assert isinstance(point, HistogramDataPoint)
        assert dict(point.attributes or {}) == {
            "http.request.method": "GET",
            "server.address": "127.0.0.1",
            "server.port": port,
            "url.template": "/chunks",
            "http.response.status_code": 200,
            "network.protocol.version": kit.version,
        }
        span = spans.client
        assert point.sum == ((span.end_time or 0) - (span.start_time or 0)) / 1e9

    kit.run(scenario)


ENDINGS: list[tuple[str, Callable[[Kit], Any], dict[str, Any]]] = [
    ("success", lambda kit: lambda request: kit.library.Response(200, content=b"abc"), {}),
    ("refusal", lambda kit: lambda request: kit.library.Response(503), {"error.type": "503"}),
    (
        "body",
        lambda kit: lambda request: kit.library.Response(200, stream=kit.body_of(_broken)),
        {"error.type": "OSError"},
    ),
    ("failure", lambda kit: _raises(kit.library.ConnectTimeout("no")), {"error.type": "{}.ConnectTimeout"}),
    ("stop", lambda kit: _raises(SystemExit(1)), {"error.type": "SystemExit"}),
    ("cancelled", lambda kit: _raises(asyncio.CancelledError()), {}),
    ("no response", lambda kit: lambda request: None, {}),
]


def _always(response: Any) -> Callable[[Any], Any]:
    return lambda request: response


def _raises(error: BaseException) -> Callable[[Any], Any]:
    def handler(request: Any) -> Any:
        raise error

    return handler


def _response(kit: Kit, chunks: Callable[[], Iterator[bytes]]) -> Any:
    return kit.library.Response(200, stream=kit.body_of(chunks))


def _broken() -> Iterator[bytes]:
    yield b"a"
    raise OSError("broken")


@pytest.mark.parametrize(("name", "handler", "error"), ENDINGS, ids=[ending[0] for ending in ENDINGS])
@pytest.mark.parametrize("flags", [0, 1])
def test_every_ending_is_measured_once(
    local: Kit,
    spans: CapturedSpans,
    meter: tuple[MeterProvider, InMemoryMetricReader],
    name: str,
    handler: Any,
    error: dict[str, Any],
    flags: int,
) -> None:
    """Sampled or not, however a call ends: one duration, no request left active, the error type of the span."""
    provider, reader = meter

    async def scenario(kit: Kit) -> None:
        names = ("http.client.request.duration", "http.client.active_requests")
        transport = kit.Transport(kit.transport_of(handler(kit)), meter_provider=provider, metrics=names)
        token = otel_context.attach(parent(flags))
        try:
            response = await _send(kit, transport, kit.library.Request("GET", kit.base))
            if response is not None:
                await kit.read(response)
        except BaseException:
            pass
        finally:
            otel_context.detach(token)
        assert len(spans) == flags
        (duration,) = points(reader, "http.client.request.duration")
        assert duration.count == 1
        expected = {key: value.format(kit.name) for key, value in error.items()}
        assert {k: v for k, v in duration.attributes.items() if k == "error.type"} == expected
        (active,) = points(reader, "http.client.active_requests")
        assert active.value == 0
        assert dict(active.attributes) == {
            "http.request.method": "GET",
            "server.address": "svc.test",
            "server.port": 80,
        }

    local.run(scenario)


def test_body_sizes_are_those_on_the_wire(
    kit: Kit, spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader]
) -> None:
    """The opt-in sizes count the bytes of both bodies, announced or streamed, and the server gets all of them."""
    provider, reader = meter

    async def scenario(kit: Kit) -> None:
        names = ("http.client.request.body.size", "http.client.response.body.size")
        transport = kit.Transport(kit.network(), meter_provider=provider, metrics=names)
        async with kit.client(transport) as client:
            for content in (b"x" * 500, _upload(kit)):
                response = await kit.call(client.post(f"{kit.base}/length", content=content))
                assert response.content == b"500"
        (sent,) = points(reader, "http.client.request.body.size")
        (got,) = points(reader, "http.client.response.body.size")
        assert (sent.count, sent.sum) == (2, 1000)
        assert (got.count, got.sum) == (2, 6)

    kit.run(scenario)


def _upload(kit: Kit) -> Any:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 100

    return chunks() if kit.is_async else iter([b"x" * 100] * 5)


@pytest.mark.parametrize("how", ["pattern", "callable", "extension", "HTTPX", "ALL"])
def test_an_excluded_call_leaves_nothing_but_the_callers_context(
    local: Kit, spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader], how: str
) -> None:
    """Excluded by pattern, callable, extension or variable: no span, no metric; the current context is still sent."""
    provider, reader = meter

    async def scenario(kit: Kit) -> None:
        options: dict[str, Any] = {}
        extensions: dict[str, Any] = {}
        if how == "pattern":
            options["exclude"] = ("/nothing$", r"^http://svc\.test/health")
        elif how == "callable":
            options["exclude"] = lambda request: request.url.path == "/health"
        elif how == "extension":
            extensions["asgi_trace"] = False
        inner = kit.transport_of(lambda request: kit.library.Response(200))
        transport = kit.Transport(inner, meter_provider=provider, **options)
        request = kit.library.Request("GET", f"{kit.base}/health?x=1", extensions=extensions)
        token = otel_context.attach(parent(1))
        try:
            await _send(kit, transport, request)
            assert len(spans) == 0
            assert request.headers["traceparent"] == f"00-{0xA:032x}-{0xB:016x}-01"
            await _send(kit, transport, kit.library.Request("GET", f"{kit.base}/orders"))
        finally:
            otel_context.detach(token)
        assert len(spans) == 1
        (point,) = points(reader, "http.client.request.duration")
        assert point.count == 1

    with pytest.MonkeyPatch.context() as patch:
        if how == "HTTPX":
            patch.setenv("OTEL_PYTHON_HTTPX_EXCLUDED_URLS", "/status,svc.test/health")
            patch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "orders")
        elif how == "ALL":
            patch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "health")
        local.run(scenario)


def test_the_proxies_of_the_environment_are_kept(
    kit: Kit, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`for_client()` keeps the proxies of the environment and their exceptions, and traces what goes through them."""
    monkeypatch.setenv("HTTP_PROXY", kit.base)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,.direct.test")

    async def scenario(kit: Kit) -> None:
        arguments = kit.Transport.for_client(http1=kit.version == "1.1", http2=kit.version == "2")
        transport = arguments.pop("transport")
        assert list(arguments["mounts"]) == ["http://", "all://127.0.0.1", "all://*.direct.test"]
        async with kit.client(transport, **arguments) as client:
            await kit.call(client.get(f"{kit.base}/chunks"))
            if kit.version == "1.1":
                await kit.call(client.get("http://far.test/chunks"))
        near, *far = spans
        assert attributes(near)["server.port"] == int(kit.base.rpartition(":")[2])
        for span in far:
            assert attributes(span)["server.address"] == "far.test"
            assert attributes(span)["server.port"] == 80
            assert attributes(span)["network.peer.port"] == int(kit.base.rpartition(":")[2])
            assert attributes(span)["http.response.status_code"] == 200

    kit.run(scenario)


def test_mounts_are_wrapped_once(local: Kit, spans: CapturedSpans) -> None:
    """`for_client()` traces each mount with the same options, leaves None and what is traced already as they are."""

    async def scenario(kit: Kit) -> None:
        inner = kit.transport_of(lambda request: kit.library.Response(200))
        traced_already = kit.Transport(inner)
        mounts = {"all://a.test": inner, "all://b.test": None, "all://c.test": traced_already}
        arguments = kit.Transport.for_client(transport=inner, mounts=mounts, redact="token")
        assert arguments["mounts"]["all://b.test"] is None
        assert arguments["mounts"]["all://c.test"] is traced_already
        again = kit.Transport.for_client(**arguments)
        assert again == arguments
        async with kit.client(**arguments) as client:
            for host in ("a", "b", "c", "d"):
                await kit.call(client.get(f"http://{host}.test/?token=1"))
        assert [attributes(span)["url.full"] for span in spans] == [
            "http://a.test/?token=REDACTED",
            "http://b.test/?token=REDACTED",
            "http://c.test/?token=1",
            "http://d.test/?token=REDACTED",
        ]

    local.run(scenario)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("where", ["/slow", "/stall"])
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_cancelled_call_is_marked_and_no_error(
    servers: dict[str, str],
    spans: CapturedSpans,
    meter: tuple[MeterProvider, InMemoryMetricReader],
    caplog: pytest.LogCaptureFixture,
    library: str,
    backend: str,
    where: str,
    version: str,
) -> None:
    """A call that its caller cancels, before the response or in its body, is marked, counted, and no error."""
    anyio = pytest.importorskip("anyio")
    pytest.importorskip(backend)
    provider, reader = meter
    kit = Kit(library, True, servers[version], version)

    async def main() -> None:
        async with traced(kit, meter_provider=provider) as client:
            with anyio.move_on_after(0.1) as scope:
                await client.get(f"{kit.base}{where}")
            assert scope.cancelled_caught

    anyio.run(main, backend=backend)
    span = spans.client
    assert attributes(span)["asgi_trace.cancelled"] is True
    assert "error.type" not in attributes(span)
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events
    (point,) = points(reader, "http.client.request.duration")
    assert point.count == 1
    assert "error.type" not in point.attributes
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_the_version_is_negotiated_over_tls(local: Kit, spans: CapturedSpans) -> None:
    """Certificates and HTTP/2 are the transport's affair: over TLS the span has what both sides agreed upon."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)
    server.set_alpn_protocols(["h2", "http/1.1"])

    async def scenario(kit: Kit) -> None:
        async with traced(kit, kit.Network(verify=client, http2=True)) as session:
            await kit.call(session.get(base))
        async with traced(kit, kit.Network(http2=True)) as session:
            with pytest.raises(kit.library.ConnectError):
                await kit.call(session.get(base))
        agreed, refused = spans
        assert attributes(agreed)["network.protocol.version"] == "2"
        assert attributes(agreed)["server.address"] == "localhost"
        assert attributes(refused)["error.type"] == f"{kit.name}.ConnectError"

    with http2_server(server) as url:
        base = url.replace("http://127.0.0.1", "https://localhost")
        local.run(scenario)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_an_application_in_the_same_process_continues_the_trace(library: str, spans: CapturedSpans) -> None:
    """Through `ASGITransport` the application's SERVER span is the child of the CLIENT span."""
    kit = Kit(library, True)

    async def scenario(kit: Kit) -> None:
        inner = kit.library.ASGITransport(TraceMiddleware(application))
        async with traced(kit, inner) as client:
            response = await client.get("http://svc.test/chunks")
            assert response.content == b"a" * 10 + b"b" * 10 + b"c" * 10
        assert spans.server.parent is not None
        assert spans.server.parent.span_id == spans.client.context.span_id

    kit.run(scenario)


def test_all_four_leave_the_same_spans(servers: dict[str, str], spans: CapturedSpans) -> None:
    """One scenario, run by both libraries, sync and async, leaves spans that differ in ids and times only."""

    async def scenario(kit: Kit) -> None:
        transport = kit.Transport(kit.network(), capture_response_headers="x-served", redact="token")
        async with kit.client(transport, follow_redirects=True) as client:
            await kit.call(client.get(f"{kit.base}/redirect?to=/status/404%3Ftoken=1"))
            await kit.call(client.post(f"{kit.base}/length", content=b"abc", extensions={"url_template": "/length"}))
            await kit.call(client.request("BREW", f"{kit.base}/chunks", headers={"host": "pot.test"}))
            for path, read in (("/cut", 30), ("/slow", 0.05)):
                with pytest.raises(kit.library.TransportError):
                    await kit.call(client.get(f"{kit.base}{path}", timeout=kit.library.Timeout(30, read=read)))

    def told(version: str, library: str, is_async: bool) -> list[Any]:
        spans.clear()
        Kit(library, is_async, servers[version], version).run(scenario)
        return [
            (
                span.name,
                span.kind,
                span.status.status_code,
                {key: str(value).replace(f"{library}.", "") for key, value in attributes(span).items()},
                [str(name).replace(f"{library}.", "") for name in exceptions(span)],
            )
            for span in spans
        ]

    for version in servers:
        first, *others = [told(version, library, is_async) for library, is_async in KITS]
        assert len(first) == 6
        assert others == [first, first, first]
