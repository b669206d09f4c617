"""What a CLIENT span says at its start: URL, server, method, template, peer, protocol version, headers."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from itertools import repeat
from typing import Any

import pytest
from opentelemetry import trace as otel_trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import (
    SpanKind,
)

from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of
from ..support.http_clients import Kit
from ..support.transports import (
    Answer,
    Peer,
    send,
    traced,
)

httpx = pytest.importorskip("httpx")
from asgi_trace.httpx import TraceTransport  # noqa: E402


@pytest.mark.parametrize(
    ("url", "headers", "full", "address", "port"),
    [
        ("http://svc.test/a?b=1#c", {}, "http://svc.test/a?b=1#c", "svc.test", 80),
        ("https://SVC.test", {}, "https://svc.test", "svc.test", 443),
        ("https://svc.test:443/", {}, "https://svc.test/", "svc.test", 443),
        ("http://svc.test:8080/", {}, "http://svc.test:8080/", "svc.test", 8080),
        ("http://me:pw@svc.test/", {}, "http://REDACTED:REDACTED@svc.test/", "svc.test", 80),
        (
            "http://me@svc.test/?x-amz-signature=1&sig=2",
            {},
            "http://REDACTED:REDACTED@svc.test/?x-amz-signature=REDACTED&sig=REDACTED",
            "svc.test",
            80,
        ),
        ("http://[::1]:8080/", {}, "http://[::1]:8080/", "::1", 8080),
        ("http://10.0.0.1/", {}, "http://10.0.0.1/", "10.0.0.1", 80),
        ("http://bücher.test/", {}, "http://xn--bcher-kva.test/", "bücher.test", 80),
        ("http://xn--bcher-kva.test:81/", {}, "http://xn--bcher-kva.test:81/", "bücher.test", 81),
        ("http://127.0.0.1:8080/", {"Host": "svc.test"}, "http://127.0.0.1:8080/", "svc.test", 80),
        ("http://127.0.0.1:8080/", {"host": "svc.test:99"}, "http://127.0.0.1:8080/", "svc.test", 99),
        ("https://127.0.0.1/", {"HOST": "xn--bcher-kva.test"}, "https://127.0.0.1/", "xn--bcher-kva.test", 443),
        ("http://svc.test/", {"Host": "no host:x"}, "http://svc.test/", "svc.test", 80),
        ("http://svc.test/", {"Host": "a" * 5000}, "http://svc.test/", "svc.test", 80),
        ("ws://svc.test/", {}, "ws://svc.test/", "svc.test", 80),
        ("wss://svc.test/", {}, "wss://svc.test/", "svc.test", 443),
    ],
)
def test_the_url_and_its_server(
    spans: CapturedSpans, url: str, headers: dict[str, str], full: str, address: str, port: int
) -> None:
    """`url.full` has no secrets; address and port are Host's, else the URL's, default ports included."""
    send(url, request={"headers": headers})
    found = attributes_of(spans.client)
    assert (found["url.full"], found["server.address"], found["server.port"]) == (full, address, port)


def test_a_request_without_a_host_has_no_server(spans: CapturedSpans) -> None:
    """A relative URL, as some transports in the same process take it, leaves the server out."""
    send("/path")
    assert attributes_of(spans.client) == {
        "http.request.method": "GET",
        "url.full": "/path",
        "http.response.status_code": 200,
    }


def test_what_is_kept_of_a_server_is_no_other_servers(spans: CapturedSpans) -> None:
    """A second request to a server is described as the first, whatever else the same transport has called before."""
    calls = [
        (method, f"{scheme}://{host}/{path}", headers)
        for method in ("GET", "POST", "BREW", "STIR")
        for scheme in ("http", "https", "unix")
        for host in ("svc.test", "SVC.test:81", "bücher.test", "[::1]")
        for path, headers in (("a", {}), ("b?sig=1", {"host": "other.test"}), ("c", {"HOST": "xn--bcher-kva.test"}))
    ]

    def described(transports: Iterator[TraceTransport]) -> list[dict[str, Any]]:
        spans.clear()
        for transport, (method, url, headers) in zip(transports, calls, strict=False):
            transport.handle_request(httpx.Request(method, url, headers=headers))
        return [attributes_of(span) for span in spans]

    fresh = described(TraceTransport(Answer()) for _ in calls)
    shared = TraceTransport(Answer())
    assert described(repeat(shared)) == fresh
    assert described(repeat(shared)) == fresh
    assert len({str(found) for found in fresh}) == len(calls)


def test_many_servers_do_not_fill_the_memory(spans: CapturedSpans) -> None:
    """What is kept of servers has an end, and attributes are right beyond it."""
    transport = TraceTransport(httpx.MockTransport(lambda request: httpx.Response(200)))
    tracemalloc.start()
    try:
        sizes = []
        for part in range(3):
            for number in range(400):
                transport.handle_request(httpx.Request("GET", f"http://s{part}-{number}.test/"))
            assert attributes_of(spans[-1])["server.address"] == f"s{part}-399.test"
            spans.clear()
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[2] - sizes[0] < 200_000


@pytest.mark.parametrize(
    ("known", "method", "name", "expected"),
    [
        (None, "PATCH", "PATCH", {"http.request.method": "PATCH"}),
        (None, "QUERY", "QUERY", {"http.request.method": "QUERY"}),
        (None, "brew", "HTTP", {"http.request.method": "_OTHER", "http.request.method_original": "BREW"}),
        ("GET,BREW", "BREW", "BREW", {"http.request.method": "BREW"}),
        ("GET,BREW", "POST", "HTTP", {"http.request.method": "_OTHER", "http.request.method_original": "POST"}),
    ],
)
def test_unknown_methods_are_other(
    spans: CapturedSpans,
    monkeypatch: pytest.MonkeyPatch,
    known: str | None,
    method: str,
    name: str,
    expected: dict[str, str],
) -> None:
    """Methods outside of the known set are `_OTHER`, named HTTP; the environment replaces the set."""
    if known:
        monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", known)
    send(method=method, request={"extensions": {"url_template": "/x"}})
    assert spans.client.name == f"{name} /x"
    assert {key: value for key, value in attributes_of(spans.client).items() if "method" in key} == expected


@pytest.mark.parametrize(
    ("template", "name"), [("/a/{b}", "GET /a/{b}"), ("", "GET"), (7, "GET"), (None, "GET"), ("/\udc80", "GET /?")]
)
def test_a_template_is_text(spans: CapturedSpans, template: Any, name: str) -> None:
    """A template that is not a string is left out; text that cannot be encoded is replaced."""
    send(request={"extensions": {"url_template": template}})
    assert spans.client.name == name


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (("10.0.0.1", 8080), ("10.0.0.1", 8080)),
        (("::1", 8080, 0, 0), ("::1", 8080)),
        (("fe80::1%eth0", 80, 0, 2), ("fe80::1%eth0", 80)),
        (["10.0.0.1", 1], ("10.0.0.1", 1)),
        ("/run/app.sock", ("/run/app.sock", None)),
        (("svc.test", 8080), (None, None)),
        (("10.0.0.1",), (None, None)),
        ("svc.test", (None, None)),
        (b"\x00abstract", (None, None)),
        (None, (None, None)),
        (OSError("closed"), (None, None)),
    ],
)
def test_the_peer_is_an_address_or_nothing(spans: CapturedSpans, peer: Any, expected: tuple[Any, Any]) -> None:
    """The peer is the other end of the socket: an address, never a host name; left out where it is not known."""
    send(inner=Answer(extensions={"network_stream": Peer(peer)}))
    found = attributes_of(spans.client)
    assert (found.get("network.peer.address"), found.get("network.peer.port")) == expected


@pytest.mark.parametrize(
    ("wire", "version"),
    [(b"HTTP/1.0", "1.0"), (b"HTTP/1.1", "1.1"), (b"HTTP/2", "2"), (b"HTTP/3", "3"), (b"SPDY", None)],
)
def test_the_protocol_version_is_the_negotiated_one(spans: CapturedSpans, wire: bytes, version: str | None) -> None:
    """The version is what the transport says was spoken, and left out when it says nothing that is known."""
    send(inner=Answer(extensions={"http_version": wire}))
    send(inner=Answer(extensions={"stream_id": 1}))
    assert [attributes_of(span).get("network.protocol.version") for span in spans] == [version, None]


def test_headers_are_captured_by_the_environment(spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's variables name headers to capture, as expressions that match the whole name."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST", "X-.*,cookie")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE", "server")
    inner = Answer(headers=[("server", "s"), ("server-id", "1")])
    send(request={"headers": {"x-id": "1", "not-x-id": "2", "cookie": "c"}}, inner=inner)
    found = {key: value for key, value in attributes_of(spans.client).items() if ".header." in key}
    assert found == {
        "http.request.header.x-id": ("1",),
        "http.request.header.cookie": ("REDACTED",),
        "http.response.header.server": ("s",),
    }


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
        found = {key: value for key, value in attributes_of(spans.client).items() if ".header." in key}
        assert found == {
            "http.request.header.x-id": ("1", "2"),
            "http.request.header.authorization": ("REDACTED",),
            "http.request.header.x-secret": ("REDACTED",),
            "http.response.header.x-served": ("a", "b"),
        }

    kit.run(scenario)


@pytest.mark.parametrize("status", [200, 404])
def test_a_response_says_the_same_to_all(
    spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader], status: int
) -> None:
    """A hook, captured headers, a meter or what else the transport says add to a span and change nothing in it."""
    provider, _ = meter
    inner = Answer(status, headers={"x-id": "1"})
    telling = Answer(status, headers={"x-id": "1"}, extensions={"stream_id": 1})
    send(inner=inner)
    send(inner=telling)
    send(inner=inner, on_response=lambda span, request, response: None)
    send(inner=inner, meter_provider=provider)
    send(inner=inner, capture_response_headers="x-id")
    *same, captured = [attributes_of(span) for span in spans]
    assert captured.pop("http.response.header.x-id") == ("1",)
    assert same == [captured] * 4
    assert captured["http.response.status_code"] == status


def test_the_kind_is_client_and_the_scope_is_ours(spans: CapturedSpans) -> None:
    """Spans are of kind CLIENT and name this package as their instrumentation."""
    send()
    assert spans[0].kind is SpanKind.CLIENT
    assert spans[0].instrumentation_scope is not None
    assert spans[0].instrumentation_scope.name == "asgi_trace"
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN


def test_a_name_that_does_not_decode_is_taken_as_it_is(spans: CapturedSpans) -> None:
    """A host that the library's own IDNA codec refuses is recorded in its encoded form."""
    send("http://xn--zzzz-zzzz-.test/", request={"stream": httpx.ByteStream(b"")})
    assert attributes_of(spans.client)["server.address"] == "xn--zzzz-zzzz-.test"
