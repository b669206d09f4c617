"""What trusted proxies say of a request: client, scheme and host, and nobody else's word."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from asgi_trace import TraceMiddleware
from asgi_trace._server.forwarded import Forwarded, read_forwarded
from asgi_trace._server.networks import TrustedProxies
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of, drive, http_scope, responding, websocket_scope
from ..support.server_spans import seen

Headers = list[tuple[bytes, bytes]]


PROXY = ("10.0.0.9", 4000)
FORWARDING: list[tuple[str, Headers, dict[str, Any]]] = [
    ("nothing", [], {"client.address": "10.0.0.9"}),
    ("one address", [(b"x-forwarded-for", b"192.0.2.7")], {"client.address": "192.0.2.7"}),
    ("with a port", [(b"x-forwarded-for", b"192.0.2.7:4711")], {"client.address": "192.0.2.7"}),
    ("IPv6", [(b"x-forwarded-for", b"2001:db8::7")], {"client.address": "2001:db8::7"}),
    ("IPv6 in brackets", [(b"x-forwarded-for", b"[2001:db8::7]:4711")], {"client.address": "2001:db8::7"}),
    ("a forged first entry", [(b"x-forwarded-for", b"6.6.6.6, 192.0.2.7")], {"client.address": "192.0.2.7"}),
    ("two proxies of ours", [(b"x-forwarded-for", b"6.6.6.6, 192.0.2.7, 10.0.0.8")], {"client.address": "192.0.2.7"}),
    (
        "several lines",
        [(b"x-forwarded-for", b"6.6.6.6"), (b"x-forwarded-for", b"192.0.2.7")],
        {"client.address": "192.0.2.7"},
    ),
    ("only proxies", [(b"x-forwarded-for", b"10.0.0.7, 10.0.0.8")], {"client.address": "10.0.0.7"}),
    ("garbage", [(b"x-forwarded-for", b"<script>")], {"client.address": "10.0.0.9"}),
    ("unknown", [(b"forwarded", b"for=unknown")], {"client.address": "10.0.0.9"}),
    ("a hidden client", [(b"forwarded", b'for="_mdn"')], {"client.address": "10.0.0.9"}),
    ("garbage before a client", [(b"x-forwarded-for", b"\xff\xff, 192.0.2.7")], {"client.address": "192.0.2.7"}),
    (
        "scheme and host",
        [
            (b"x-forwarded-for", b"192.0.2.7"),
            (b"x-forwarded-proto", b"https"),
            (b"x-forwarded-host", b"shop.example"),
        ],
        {"client.address": "192.0.2.7", "url.scheme": "https", "server.address": "shop.example", "server.port": 443},
    ),
    (
        "only the scheme",
        [(b"x-forwarded-proto", b"HTTPS")],
        {"client.address": "10.0.0.9", "url.scheme": "https", "server.port": 443},
    ),
    ("a scheme that is none", [(b"x-forwarded-proto", b"gopher")], {"client.address": "10.0.0.9"}),
    (
        "a host with a port",
        [(b"x-forwarded-host", b"shop.example:8443")],
        {"client.address": "10.0.0.9", "server.address": "shop.example", "server.port": 8443},
    ),
    ("a host that is none", [(b"x-forwarded-host", b"a b/c")], {"client.address": "10.0.0.9"}),
    (
        "RFC 7239",
        [(b"forwarded", b'For="[2001:db8::7]:4711";Proto=https;host="shop.example:8443";by=203.0.113.60')],
        {
            "client.address": "2001:db8::7",
            "url.scheme": "https",
            "server.address": "shop.example",
            "server.port": 8443,
        },
    ),
    (
        "RFC 7239, two hops and a forged one",
        [(b"forwarded", b"for=6.6.6.6;host=evil.test, for=192.0.2.7;host=shop.example;proto=https, for=10.0.0.8")],
        {"client.address": "192.0.2.7", "url.scheme": "https", "server.address": "shop.example", "server.port": 443},
    ),
    (
        "RFC 7239 wins over the family",
        [(b"forwarded", b"for=192.0.2.7"), (b"x-forwarded-for", b"6.6.6.6")],
        {"client.address": "192.0.2.7"},
    ),
    ("RFC 7239, broken", [(b"forwarded", b'for="192.0.2.7; proto=https')], {"client.address": "10.0.0.9"}),
    (
        "RFC 7239, broken further left",
        [(b"forwarded", b'for="6.6.6.6, for=192.0.2.7;proto=https')],
        {"client.address": "192.0.2.7", "url.scheme": "https", "server.port": 443},
    ),
    (
        "RFC 7239, commas and quotes in strings",
        [
            (
                b"forwarded",
                rb'for=6.6.6.6, for=192.0.2.7;by="a\",b\\";proto=https , for="10.0.0.8:80";secret="x, for=6.6.6.6"',
            )
        ],
        {"client.address": "192.0.2.7", "url.scheme": "https", "server.port": 443},
    ),
    (
        "RFC 7239, several lines",
        [(b"forwarded", b"for=6.6.6.6"), (b"forwarded", b"for=192.0.2.7, "), (b"forwarded", b"for=10.0.0.8")],
        {"client.address": "192.0.2.7"},
    ),
    (
        "each hop its own scheme and host",
        [
            (b"x-forwarded-for", b"6.6.6.6, 192.0.2.7, 10.0.0.8"),
            (b"x-forwarded-proto", b"http, https, http"),
            (b"x-forwarded-host", b"evil.test, shop.example, inner.test"),
        ],
        {"client.address": "192.0.2.7", "url.scheme": "https", "server.address": "shop.example", "server.port": 443},
    ),
    (
        "a scheme beside a host that is none",
        [(b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"a b/c")],
        {"client.address": "10.0.0.9", "url.scheme": "https", "server.port": 443},
    ),
    *(
        (f"the address {node.decode()}", [(b"x-forwarded-for", node)], {"client.address": "10.0.0.9"})
        for node in (b"999.1.1.1", b"1.2.3.4.5", b"[:::::]", b"12345::1", b"[192.0.2.7]", b"192.0.2.7:x", b"1::2:" * 50)
    ),
]
BEHIND: dict[str, Any] = {"url.scheme": "http", "server.address": "shop.test", "server.port": 80}
SHOWN = ("client.address", "url.scheme", "server.address", "server.port")


@pytest.mark.parametrize(("headers", "expected"), [row[1:] for row in FORWARDING], ids=[row[0] for row in FORWARDING])
def test_a_trusted_proxy_speaks_for_the_client(
    spans: CapturedSpans, headers: Headers, expected: dict[str, Any]
) -> None:
    """The right-most hop that is no proxy of ours counts, for address, scheme and host; the peer stays the socket's."""
    scope = http_scope(client=PROXY, headers=[(b"host", b"shop.test"), *headers])
    attributes = seen(spans, scope, trusted_proxies="10.0.0.0/8")

    assert {key: attributes[key] for key in SHOWN} == {**BEHIND, **expected}
    assert (attributes["network.peer.address"], attributes["network.peer.port"]) == PROXY


@pytest.mark.parametrize("headers", [row[1] for row in FORWARDING], ids=[row[0] for row in FORWARDING])
@pytest.mark.parametrize(
    ("client", "proxies"),
    [(PROXY, ()), (PROXY, "192.168.0.0/16"), (("192.0.2.66", 1), "10.0.0.0/8"), (None, "10.0.0.0/8")],
    ids=["none are trusted", "others are trusted", "a stranger", "a unix socket"],
)
def test_nobody_else_does(spans: CapturedSpans, headers: Headers, client: Any, proxies: Any) -> None:
    """From anyone who is no trusted proxy, and by default from everyone, the forwarding headers mean nothing."""
    scope = http_scope(client=client, headers=[(b"host", b"shop.test"), *headers])
    attributes = seen(spans, scope, trusted_proxies=proxies)

    assert {key: attributes.get(key) for key in SHOWN} == {**BEHIND, "client.address": client and client[0]}


def test_an_ipv4_proxy_on_an_ipv6_socket_is_trusted(spans: CapturedSpans) -> None:
    """`::ffff:10.0.0.9` is 10.0.0.9."""
    scope = http_scope(client=("::ffff:10.0.0.9", 1), headers=[(b"x-forwarded-for", b"192.0.2.7")])

    assert seen(spans, scope, trusted_proxies="10.0.0.0/8")["client.address"] == "192.0.2.7"


MANY: list[tuple[str, Headers]] = [
    ("X-Forwarded-For", [(b"x-forwarded-for", b"6.6.6.6," * 7500 + b"192.0.2.7")]),
    ("X-Forwarded-For of many lines", [(b"x-forwarded-for", b"6.6.6.6")] * 7500 + [(b"x-forwarded-for", b"192.0.2.7")]),
    ("Forwarded", [(b"forwarded", b"for=6.6.6.6," * 5000 + b"for=192.0.2.7")]),
    ("Forwarded with quotes", [(b"forwarded", b'for="6.6.6.6",' * 4000 + b'for="192.0.2.7"')]),
    ("Forwarded with an open quote", [(b"forwarded", b'"' + b"\\" * 60000 + b",for=192.0.2.7")]),
]


@pytest.mark.parametrize("headers", [row[1] for row in MANY], ids=[row[0] for row in MANY])
def test_what_a_stranger_has_written_is_not_read(headers: Headers) -> None:
    """Sixty thousand bytes to the left of the trusted proxy's own words are not gone through item by item."""
    steps = 0

    def count(*_: Any) -> Any:
        nonlocal steps
        steps += 1
        return count

    scope, proxies = http_scope(client=PROXY), TrustedProxies("10.0.0.0/8")
    before = sys.gettrace()
    sys.settrace(count)
    try:
        forwarded = read_forwarded(scope, headers, proxies)
    finally:
        sys.settrace(before)

    assert forwarded == Forwarded("192.0.2.7")
    assert steps < 1000 + 3 * len(headers)


@pytest.mark.parametrize("header", [b"forwarded", b"x-forwarded-for"])
def test_a_chain_of_trusted_addresses_is_not_followed_for_ever(header: bytes) -> None:
    """A header full of our proxies' addresses is read up to a limit that no chain of proxies reaches."""
    node = b"for=10.0.0.1" if header == b"forwarded" else b"10.0.0.1"
    asked: list[object] = []

    class Counting(TrustedProxies):
        def __contains__(self, address: object) -> bool:
            asked.append(address)
            return super().__contains__(address)

    proxies = Counting("10.0.0.0/8")
    for number in (1, 10, 5000):
        asked.clear()
        headers = [(header, b", ".join([b"for=192.0.2.7" if node[:1] == b"f" else b"192.0.2.7"] + [node] * number))]
        forwarded = read_forwarded(http_scope(client=PROXY), headers, proxies)
        assert forwarded.client == ("10.0.0.1" if number == 5000 else "192.0.2.7")
        assert len(asked) <= 40


def test_a_forwarded_scheme_of_a_socket_is_ws(spans: CapturedSpans) -> None:
    """A proxy that says https of a WebSocket means wss."""
    spans.clear()
    headers = [(b"host", b"shop.test"), (b"x-forwarded-proto", b"https")]
    app = responding({"type": "websocket.accept"}, {"type": "websocket.close"})
    drive(TraceMiddleware(app, trusted_proxies="127.0.0.1"), websocket_scope(headers=headers))

    attributes = attributes_of(spans.server)
    assert (attributes["url.scheme"], attributes["server.port"]) == ("wss", 443)
