"""Requests of a client at the limits: its server, its peer, its version, and where a URL leads."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from asgi_trace._semconv.client import _is_ip_address, client_destination, client_peer, client_protocol, known_server
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of
from ..support.transports import Answer, Peer, send


@pytest.mark.parametrize(
    ("extensions", "version"),
    [
        ({"http_version": b"HTTP/1.0"}, "1.0"),
        ({"http_version": b"HTTP/1.1"}, "1.1"),
        ({"http_version": b"HTTP/2"}, "2"),
        ({"http_version": b"HTTP/3"}, "3"),
        ({"http_version": b"HTTP/4"}, None),
        ({"http_version": b""}, None),
        ({"http_version": "HTTP/2"}, None),
        ({}, None),
    ],
)
def test_the_version_is_that_of_the_wire(spans: CapturedSpans, extensions: dict[str, Any], version: str | None) -> None:
    """Written as the conventions do, and left out where the transport says nothing that is known."""
    assert client_protocol(extensions) == version
    send(inner=Answer(extensions=extensions))
    assert attributes_of(spans.client).get("network.protocol.version") == version


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (("10.0.0.1", 443), ("10.0.0.1", 443)),
        (["10.0.0.1", 443], ("10.0.0.1", 443)),
        (("10.0.0.1", "443"), ("10.0.0.1", None)),
        (("::1", 443, 0, 0), ("::1", 443)),
        (("fe80::1%eth0", 443), ("fe80::1%eth0", 443)),
        (("10.0.0.1",), None),
        (("proxy.test", 443), None),
        ((b"10.0.0.1", 443), None),
        ((167772161, 443), None),
        ("/run/app.sock", ("/run/app.sock", None)),
        ("/" + "s" * 5000, ("/" + "s" * 4095, None)),
        ("app.sock", None),
        ("", None),
        (b"/run/app.sock", None),
        (None, None),
        (OSError("closed"), None),
    ],
)
def test_the_peer_is_a_real_socket(peer: Any, expected: tuple[str, int | None] | None) -> None:
    """An IP address with its port, or a unix socket's path: never a name, and nothing of a socket that is closed."""
    assert client_peer({"network_stream": Peer(peer)}) == expected


def test_without_a_socket_there_is_no_peer() -> None:
    """A transport in this process has none."""
    assert client_peer({}) is None
    assert client_peer({"network_stream": None}) is None


@pytest.mark.parametrize(
    ("url", "hosts", "port"),
    [
        ("http://svc.test/", {"svc.test"}, 80),
        ("https://svc.test/", {"svc.test"}, 443),
        ("ws://svc.test/", {"svc.test"}, 80),
        ("wss://svc.test/", {"svc.test"}, 443),
        ("http://svc.test:8080/", {"svc.test"}, 8080),
        ("gopher://svc.test/", {"svc.test"}, 0),
        ("http://[::1]:1/", {"::1"}, 1),
        ("http://b\u00fccher.test/", {"xn--bcher-kva.test", "b\u00fccher.test"}, 80),
    ],
)
def test_a_url_leads_to_a_host_in_each_of_its_spellings(url: str, hosts: set[str], port: int) -> None:
    """The port is the URL's, else its scheme's; 0 stands for one that nothing knows."""
    assert client_destination(httpx.URL(url)) == (hosts, port)


@pytest.mark.parametrize(
    ("url", "host", "address", "port"),
    [
        ("http://svc.test/", None, "svc.test", 80),
        ("http://svc.test/", "shop.test", "shop.test", 80),
        ("https://svc.test/", "shop.test", "shop.test", 443),
        ("http://svc.test/", " shop.test:1 ", "shop.test", 1),
        ("http://svc.test/", "shop.test:65536", "svc.test", 80),
        ("http://svc.test:8080/", "shop.test:x", "svc.test", 8080),
        ("http://svc.test/", "", "svc.test", 80),
        ("http://svc.test/", "h" * 255, "h" * 255, 80),
        ("http://svc.test/", "h" * 256, "svc.test", 80),
        ("gopher://svc.test/", None, "svc.test", None),
        ("http://b\u00fccher.test/", None, "b\u00fccher.test", 80),
        ("http://b\u00fccher.test:81/", None, "b\u00fccher.test", 81),
        ("http://svc.test/", "xn--bcher-kva.test", "xn--bcher-kva.test", 80),
        ("http://[::1]:8080/", None, "::1", 8080),
    ],
)
@pytest.mark.parametrize("method", ["GET", "BREW"])
def test_the_server_is_the_one_that_host_names(
    spans: CapturedSpans, url: str, host: str | None, address: str, port: int | None, method: str
) -> None:
    """Else the URL's, as people write it; a method that is not known changes neither."""
    for _ in range(2):  # what is kept of a server gives the same
        spans.clear()
        send(url, method, request={} if host is None else {"headers": {"host": host}})
        attributes = attributes_of(spans.client)
        assert (attributes.get("server.address"), attributes.get("server.port")) == (address, port)
        assert attributes["http.request.method"] == ("GET" if method == "GET" else "_OTHER")
        assert attributes.get("http.request.method_original") == (None if method == "GET" else "BREW")
        assert spans.client.name == ("GET" if method == "GET" else "HTTP")


@pytest.mark.parametrize("name", [b"Host", b"host", b"HOST", b"hOsT"])
@pytest.mark.parametrize("before", [[], [(b"x-host", b"other.test")], [(b"accept", b"*/*")]])
def test_the_first_host_line_counts_however_it_is_spelt(
    spans: CapturedSpans, name: bytes, before: list[tuple[bytes, bytes]]
) -> None:
    """Header names are compared without regard to case, and what comes after it changes nothing."""
    send(request={"headers": [*before, (name, b"shop.test:81"), (b"y-host", b"x.test")]})
    attributes = attributes_of(spans.client)
    assert (attributes["server.address"], attributes["server.port"]) == ("shop.test", 81)


def test_what_is_kept_of_servers_and_peers_has_an_end() -> None:
    """However many a service calls."""
    for number in range(1000):
        client_peer({"network_stream": Peer((f"10.0.{number // 256}.{number % 256}", 1))})
        known_server("GET", "http", f"h{number}.test".encode())
    for cache in (_is_ip_address, known_server):
        assert 0 < cache.cache_info().currsize <= 256
