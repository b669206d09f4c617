"""Requests over HTTP/1.1 and HTTP/2, both libraries, sync and async: one span each, nothing else is different."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.trace import (
    StatusCode,
    get_current_span,
)

from asgi_trace import TraceMiddleware
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of
from ..support.http_clients import Kit, application, http2_server
from ..support.servers import uvicorn_serving
from ..support.transports import (
    KITS,
    exceptions_of,
    received,
    traced,
    traceparent_of,
)

httpx = pytest.importorskip("httpx")


def test_a_request_is_one_client_span(kit: Kit, spans: CapturedSpans) -> None:
    """A GET is one CLIENT span with exactly the attributes of the conventions, and its ids are what the server gets."""
    port = int(kit.base.rpartition(":")[2])

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            response = await kit.call(client.get(f"{kit.base}/headers?q=1&sig=s#part"))
        span = spans.client
        assert span.name == "GET"
        assert span.status.status_code is StatusCode.UNSET
        assert attributes_of(span) == {
            "http.request.method": "GET",
            "url.full": f"{kit.base}/headers?q=1&sig=REDACTED#part",
            "server.address": "127.0.0.1",
            "server.port": port,
            "network.peer.address": "127.0.0.1",
            "network.peer.port": port,
            "network.protocol.version": kit.version,
            "http.response.status_code": 200,
        }
        assert received(response.content, "traceparent") == [traceparent_of(span)]
        assert json.loads(response.content)["version"] == kit.version

    kit.run(scenario)


def test_a_template_names_the_span(kit: Kit, spans: CapturedSpans) -> None:
    """`url_template` on a request gives its span a name of low cardinality and the attribute."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            await kit.call(client.post(f"{kit.base}/status/201", extensions={"url_template": "/status/{code}"}))
        assert spans.client.name == "POST /status/{code}"
        assert attributes_of(spans.client)["url.template"] == "/status/{code}"

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
        assert attributes_of(agreed)["network.protocol.version"] == "2"
        assert attributes_of(agreed)["server.address"] == "localhost"
        assert attributes_of(refused)["error.type"] == f"{kit.name}.ConnectError"

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

    def described(version: str, library: str, is_async: bool) -> list[Any]:
        spans.clear()
        Kit(library, is_async, servers[version], version).run(scenario)
        return [
            (
                span.name,
                span.kind,
                span.status.status_code,
                {key: str(value).replace(f"{library}.", "") for key, value in attributes_of(span).items()},
                [str(name).replace(f"{library}.", "") for name in exceptions_of(span)],
            )
            for span in spans
        ]

    for version in servers:
        first, *others = [described(version, library, is_async) for library, is_async in KITS]
        assert len(first) == 6
        assert others == [first, first, first]


def test_a_socket_is_one_span_as_long_as_its_connection(spans: CapturedSpans) -> None:
    """A WebSocket of httpx2's client is one span with status 101 that ends when the socket is closed."""
    library: Any = pytest.importorskip("httpx2")
    pytest.importorskip("wsproto")
    from asgi_trace.httpx2 import TraceTransport as TraceTransport2

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"]})
        await receive()

    with uvicorn_serving(echo, ws="wsproto") as server, library.Client(transport=TraceTransport2()) as client:
        with client.websocket(f"{server.url.replace('http', 'ws')}/chat") as session:
            session.send_text("hello")
            assert session.receive_text() == "hello"
            assert len(spans) == 0
        found = attributes_of(spans.client)
    assert found["http.response.status_code"] == 101
    assert found["server.port"] == server.port
    assert spans.client.status.status_code is StatusCode.UNSET
