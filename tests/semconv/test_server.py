"""Scopes at the limits: what of them is recorded, what is cut, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_trace import TraceMiddleware
from asgi_trace._semconv.http import DEFAULT_PORTS, parse_authority, span_name
from asgi_trace._semconv.server import _parsed_host, shared_attributes
from asgi_trace.testing import CapturedSpans

from ..support.asgi import OK, attributes_of, drive, http_scope, responding, websocket_scope

MOST = 4096  # characters of one value
ODD: list[dict[str, Any]] = [{}, {"client": ["127.0.0.1", 51234]}]
"""A usual scope, and one that is described the careful way and means the same."""


def recorded(spans: CapturedSpans, scope: dict[str, Any]) -> dict[str, Any]:
    """The attributes of the span of one request or refused WebSocket."""
    spans.clear()
    app = responding({"type": "websocket.close"}) if scope["type"] == "websocket" else OK
    drive(TraceMiddleware(app), scope)
    return attributes_of(spans.server)


AUTHORITIES: list[tuple[str, str, tuple[str, int | None] | None]] = [
    ("shop.test", "http", ("shop.test", 80)),
    ("shop.test", "https", ("shop.test", 443)),
    ("shop.test", "ws", ("shop.test", 80)),
    ("shop.test", "wss", ("shop.test", 443)),
    ("shop.test", "gopher", ("shop.test", None)),
    ("shop.test:", "http", ("shop.test", 80)),
    ("shop.test:0", "http", None),
    ("shop.test:1", "http", ("shop.test", 1)),
    ("shop.test:65535", "http", ("shop.test", 65535)),
    ("shop.test:65536", "http", None),
    ("shop.test:00080", "http", ("shop.test", 80)),
    ("shop.test:000080", "http", None),
    ("shop.test.", "http", ("shop.test.", 80)),
    ("my_container-1~a:8000", "http", ("my_container-1~a", 8000)),
    ("[::1]", "http", ("::1", 80)),
    ("[::1]:8080", "http", ("::1", 8080)),
    ("[fe80::1%eth0.1]:8080", "http", ("fe80::1%eth0.1", 8080)),
    ("[fe80::1%]", "http", None),
    ("[1:2]", "http", None),
    ("[ABCD::EF]", "http", ("ABCD::EF", 80)),
    ("::1", "http", None),
    ("", "http", None),
    (".", "http", None),
    ("a..b", "http", None),
    ("user@shop.test", "http", None),
    ("shop.test:80x", "http", None),
    ("shop.test/", "http", None),
    ("s\u00e9op.test", "http", None),
    ("shop.test:\u0661", "http", None),
    ("h" * 255, "http", ("h" * 255, 80)),
    ("h" * 256, "http", None),
]


@pytest.mark.parametrize(("authority", "scheme", "expected"), AUTHORITIES)
def test_an_authority_is_a_host_and_a_port_that_exist(
    authority: str, scheme: str, expected: tuple[str, int | None] | None
) -> None:
    """Ports are 1 to 65535 in at most five digits, names at most 255 characters, addresses real ones."""
    assert parse_authority(authority, scheme) == expected


@pytest.mark.parametrize(("host", "scheme", "expected"), [case for case in AUTHORITIES if case[0].isascii()])
@pytest.mark.parametrize("odd", ODD)
def test_a_host_header_is_recorded_as_it_is_parsed(
    spans: CapturedSpans, host: str, scheme: str, expected: tuple[str, int | None] | None, odd: dict[str, Any]
) -> None:
    """`server.address` and `server.port`, the short and the careful way; the listening socket where no Host is sent."""
    attributes = recorded(spans, http_scope(scheme=scheme, headers=[(b"host", host.encode())], **odd))
    found = attributes.get("server.address"), attributes.get("server.port")
    assert found == ((expected or (None, None)) if host else ("127.0.0.1", 8000))


@pytest.mark.parametrize(
    ("version", "written"),
    [("1.0", "1.0"), ("1.1", "1.1"), ("2", "2"), ("2.0", "2"), ("3", "3"), ("3.0", "3"), ("4", "4"), ("", None)],
)
@pytest.mark.parametrize("odd", ODD)
def test_a_version_is_written_as_the_conventions_write_it(
    spans: CapturedSpans, version: str, written: str | None, odd: dict[str, Any]
) -> None:
    """HTTP/2 and HTTP/3 without a zero, and one that nothing knows as the server has written it."""
    attributes = recorded(spans, http_scope(http_version=version, **odd))
    assert attributes.get("network.protocol.version") == written


@pytest.mark.parametrize("version", [None, 2, 1.1, b"1.1"])
def test_a_version_that_is_not_a_string_is_left_out(spans: CapturedSpans, version: Any) -> None:
    """The rest of the span is there."""
    attributes = recorded(spans, http_scope(http_version=version))
    assert "network.protocol.version" not in attributes
    assert attributes["url.path"] == "/"


MISSING = object()


@pytest.mark.parametrize(
    ("scheme", "http", "websocket"),
    [
        *((scheme, scheme, scheme) for scheme in DEFAULT_PORTS),
        (MISSING, "http", "ws"),
        ("", "http", "ws"),
        (None, "http", "ws"),
        (b"https", "http", "ws"),
        ("coap", "coap", "coap"),
        ("s" * 5000, "s" * MOST, "s" * MOST),
    ],
)
def test_a_scheme_is_the_servers_or_asgis_default(spans: CapturedSpans, scheme: Any, http: str, websocket: str) -> None:
    """Without one it is `http`, and `ws` for a WebSocket; the default port follows it."""
    for scope, expected in ((http_scope(), http), (websocket_scope(), websocket)):
        scope["headers"] = [(b"host", b"shop.test")]
        if scheme is MISSING:
            del scope["scheme"]
        else:
            scope["scheme"] = scheme
        attributes = recorded(spans, scope)
        assert attributes["url.scheme"] == expected
        assert attributes.get("server.port") == DEFAULT_PORTS.get(expected)


@pytest.mark.parametrize("more", [-10, -1, 0, 1, 10, 5000])
@pytest.mark.parametrize("part", ["path", "query", "address", "user agent", "scheme", "method"])
def test_every_value_of_a_caller_is_cut_at_4096_characters(spans: CapturedSpans, part: str, more: int) -> None:
    """A shorter one is recorded whole, whatever the others are, and one of 4,096 too."""
    value = "/" + "p" * (MOST + more - 1)
    scope = http_scope("/a?b")
    if part == "path":
        scope["raw_path"] = value.encode()
    elif part == "query":
        scope["query_string"] = value.encode()
    elif part == "address":
        scope["client"] = (value, 1)
    elif part == "user agent":
        scope["headers"] = [*scope["headers"], (b"user-agent", value.encode())]
    else:
        scope[part] = value
    key = {
        "path": "url.path",
        "query": "url.query",
        "address": "client.address",
        "user agent": "user_agent.original",
        "scheme": "url.scheme",
        "method": "http.request.method_original",
    }[part]
    attributes = recorded(spans, scope)
    assert attributes[key] == value[:MOST]
    if part == "address":
        assert attributes["network.peer.address"] == value[:MOST]


@pytest.mark.parametrize("name", ["sig", "token", "password"])
def test_a_query_that_grows_by_masking_is_cut_again(spans: CapturedSpans, name: str) -> None:
    """4,096 characters is what is recorded, not what was looked at."""
    query = "&".join([f"{name}=x"] * 1000)[:MOST]
    for odd in ODD:
        written = recorded(spans, http_scope(query_string=query.encode(), **odd))["url.query"]
        assert len(written) == MOST
        assert written.startswith(f"{name}=REDACTED&{name}=REDACTED&")
        assert "=x" not in written


@pytest.mark.parametrize(
    ("method", "target", "name"),
    [
        ("GET", None, "GET"),
        ("GET", "", "GET"),
        ("GET", "/a/{b}", "GET /a/{b}"),
        ("_OTHER", None, "HTTP"),
        ("_OTHER", "/a/{b}", "HTTP /a/{b}"),
        ("HTTP", None, "HTTP"),
        ("other", "/a", "other /a"),
    ],
)
def test_a_span_is_called_by_its_method_and_its_target(method: str, target: str | None, name: str) -> None:
    """`{method} {target}` of the conventions, where a method that is not known is `HTTP`."""
    assert span_name(method, target) == name


@pytest.mark.parametrize(
    ("server", "expected"),
    [
        (("10.0.0.1", 8000), ("10.0.0.1", 8000)),
        (["10.0.0.1", 8000], ("10.0.0.1", 8000)),
        (("/run/app.sock", None), ("/run/app.sock", None)),
        (("10.0.0.1",), ("10.0.0.1", None)),
        (("10.0.0.1", "8000"), ("10.0.0.1", None)),
        (("h" * 5000, 1), ("h" * MOST, 1)),
        (("", 8000), (None, None)),
        ((None, 8000), (None, None)),
        ((), (None, None)),
        (None, (None, None)),
    ],
)
def test_the_listening_socket_stands_in_for_a_missing_host(
    spans: CapturedSpans, server: Any, expected: tuple[str | None, int | None]
) -> None:
    """Its address and its port, as far as they are an address and a port."""
    attributes = recorded(spans, http_scope(server=server, headers=[]))
    assert (attributes.get("server.address"), attributes.get("server.port")) == expected


@pytest.mark.parametrize(
    ("client", "address", "peer"),
    [
        (("10.0.0.1", 1), "10.0.0.1", ("10.0.0.1", 1)),
        (["10.0.0.1", 65535], "10.0.0.1", ("10.0.0.1", 65535)),
        (("10.0.0.1",), "10.0.0.1", ("10.0.0.1", None)),
        (("10.0.0.1", None), "10.0.0.1", ("10.0.0.1", None)),
        (("10.0.0.1", "80"), "10.0.0.1", ("10.0.0.1", None)),
        (("10.0.0.1", 0), "10.0.0.1", (None, None)),
        (("10.0.0.1", "0"), "10.0.0.1", (None, None)),
        (("h\u00f6st", 5), "h\u00f6st", ("h\u00f6st", 5)),
    ],
)
def test_the_peer_is_the_client_unless_its_port_is_0(
    spans: CapturedSpans, client: Any, address: str, peer: tuple[str | None, int | None]
) -> None:
    """Port 0 is what a server leaves that took the address from a header."""
    attributes = recorded(spans, http_scope(client=client))
    assert attributes["client.address"] == address
    assert (attributes.get("network.peer.address"), attributes.get("network.peer.port")) == peer


@pytest.mark.parametrize(
    ("raw_path", "path"),
    [
        (b"/a", "/a"),
        (b"http://shop.test/a/b", "/a/b"),
        (b"http://user:pw@shop.test/a://b", "/a://b"),
        (b"https://shop.test", "/"),
        (b"/a://b", "/a://b"),
        (b"*", "*"),
        (b"shop.test:443", "shop.test:443"),
        (b"", "/from/path"),
        (None, "/from/path"),
    ],
)
def test_a_target_in_absolute_form_is_recorded_as_its_path(
    spans: CapturedSpans, raw_path: bytes | None, path: str
) -> None:
    """It may carry credentials before the host (RFC 9112 3.2.2), which are no part of `url.path`."""
    assert recorded(spans, http_scope("/from/path", raw_path=raw_path))["url.path"] == path


def test_what_is_kept_of_hosts_has_an_end(spans: CapturedSpans) -> None:
    """A caller chooses the Host header: a thousand of them do not fill the memory, and each is recorded right."""
    middleware = TraceMiddleware(OK)
    for number in range(1000):
        host = f"h{number}.test".encode()
        for odd in ODD:
            drive(middleware, http_scope(headers=[(b"host", host)], **odd))
            assert attributes_of(spans[-1])["server.address"] == host.decode()
        spans.clear()
    for cache in (shared_attributes, _parsed_host):
        assert 0 < cache.cache_info().currsize <= 256
