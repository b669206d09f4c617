"""Forwarding headers at their limits: how far they are read, what a node and a quoted string may look like."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from asgi_trace._server.forwarded import (
    NOTHING_FORWARDED,
    Forwarded,
    forwarded_attributes,
    read_forwarded,
    vouched_address,
)
from asgi_trace._server.networks import TrustedProxies

from ..support.asgi import http_scope

Headers = list[tuple[bytes, bytes]]
PROXIES = TrustedProxies("10.0.0.0/8")
SCOPE = http_scope(client=("10.0.0.9", 4000))
CLIENT, PROXY = "192.0.2.7", "10.0.0.1"


def forwarded(value: bytes | str) -> Headers:
    """One line of `Forwarded`."""
    return [(b"forwarded", value if isinstance(value, bytes) else value.encode("latin-1"))]


def written(nodes: list[str], how: str) -> Headers:
    """A chain of nodes in one of the ways of writing it."""
    if how == "Forwarded":
        return forwarded(", ".join(f"for={node}" for node in nodes))
    if how == "Forwarded lines":
        return [line for node in nodes for line in forwarded(f"for={node}")]
    if how == "X-Forwarded-For":
        return [(b"x-forwarded-for", ", ".join(nodes).encode())]
    return [(b"x-forwarded-for", node.encode()) for node in nodes]


@pytest.mark.parametrize("how", ["Forwarded", "Forwarded lines", "X-Forwarded-For", "X-Forwarded-For lines"])
@pytest.mark.parametrize("proxies", [0, 1, 30, 31, 32, 33, 100])
def test_32_hops_are_walked(how: str, proxies: int) -> None:
    """A client behind 31 proxies is found; of a longer chain the address is that of a proxy, and nothing vouches."""
    headers = written([CLIENT, *[PROXY] * proxies], how)
    is_found = proxies < 32
    assert read_forwarded(SCOPE, headers, PROXIES) == Forwarded(CLIENT if is_found else PROXY)
    assert vouched_address(SCOPE, headers, PROXIES) == (CLIENT if is_found else None)


@pytest.mark.parametrize("how", ["Forwarded", "X-Forwarded-For"])
@pytest.mark.parametrize(("proxies", "vouched"), [(1, PROXY), (31, PROXY), (32, None), (33, None)])
def test_a_chain_of_nothing_but_proxies_ends_at_the_last(how: str, proxies: int, vouched: str | None) -> None:
    """The caller is a proxy of ours then, unless the chain is longer than is walked."""
    headers = written([PROXY] * proxies, how)
    assert read_forwarded(SCOPE, headers, PROXIES) == Forwarded(PROXY)
    assert vouched_address(SCOPE, headers, PROXIES) == vouched


@pytest.mark.parametrize(("size", "client"), [(2047, CLIENT), (2048, CLIENT), (2049, None), (5000, None)])
def test_2048_bytes_of_forwarded_are_read_from_the_right(size: int, client: str | None) -> None:
    """What begins further left is cut, and says nothing."""
    begin = f"for={CLIENT};secret="
    headers = forwarded(begin + "x" * (size - len(begin)))
    assert read_forwarded(SCOPE, headers, PROXIES) == Forwarded(client)
    assert vouched_address(SCOPE, headers, PROXIES) == client


NODES: list[tuple[str, str | None]] = [
    (CLIENT, CLIENT),
    (f" {CLIENT}\t", CLIENT),
    (f"{CLIENT}:1", CLIENT),
    (f"{CLIENT}:12345", CLIENT),
    (f"{CLIENT}:123456", None),
    (f"{CLIENT}:", None),
    (f"{CLIENT}:_port.of-x", CLIENT),
    (f"{CLIENT}:_", None),
    (f"{CLIENT}:x", None),
    ("2001:db8::7", "2001:db8::7"),
    ("2001:DB8::7", "2001:DB8::7"),
    ("[2001:db8::7]", "2001:db8::7"),
    ("[2001:db8::7]:443", "2001:db8::7"),
    ("[2001:db8::7]:_x", "2001:db8::7"),
    ("[2001:db8::7]443", None),
    ("::ffff:192.0.2.7", "::ffff:192.0.2.7"),
    (f"[{CLIENT}]", None),
    ("192.0.2.256", None),
    ("192.0.2", None),
    ("unknown", None),
    ("_hidden", None),
    ("", None),
    ("::1%eth0", None),
]


@pytest.mark.parametrize(("node", "address"), NODES)
def test_a_node_is_an_address_with_or_without_a_port(node: str, address: str | None) -> None:
    """RFC 7239 6: IPv6 in brackets or, as many write it, without; `unknown` and names that hide are no address."""
    assert read_forwarded(SCOPE, forwarded(f'for="{node}"'), PROXIES) == Forwarded(address)
    canonical = None if address is None else ip_address(address).compressed
    assert vouched_address(SCOPE, forwarded(f'for="{node}"'), PROXIES) == canonical
    if node.strip():
        line = [(b"x-forwarded-for", node.encode())]
        assert read_forwarded(SCOPE, line, PROXIES) == Forwarded(address)
        assert vouched_address(SCOPE, line, PROXIES) == canonical


STRINGS: list[tuple[str, Forwarded]] = [
    ('for="192.0.2.7"', Forwarded(CLIENT)),
    ('"', NOTHING_FORWARDED),
    ('",for=192.0.2.7', Forwarded(CLIENT)),
    ('"a,for=192.0.2.7', Forwarded(CLIENT)),
    ('"for=6.6.6.6,",for=192.0.2.7', Forwarded(CLIENT)),
    ('for=192.0.2.7,secret="a,b"', NOTHING_FORWARDED),
    ('for=192.0.2.7;secret="a,b"', Forwarded(CLIENT)),
    ('for=192.0.2.7;secret="a,\\",b"', Forwarded(CLIENT)),
    ('for=192.0.2.7;secret="a,\\\\"', Forwarded(CLIENT)),
    ('for=192.0.2.7;secret="a,\\\\\\",b"', Forwarded(CLIENT)),
    ('secret="a,b";for=192.0.2.7', Forwarded(CLIENT)),
    ('"x,y";for=192.0.2.7', Forwarded(CLIENT)),
    ('secret=";for=6.6.6.6;";for=192.0.2.7', Forwarded(CLIENT)),
    ('secret="\\";for=6.6.6.6;";for=192.0.2.7', Forwarded(CLIENT)),
    (" for=192.0.2.7 ; proto=https ; host=shop.example ", Forwarded(CLIENT, "https", "shop.example")),
    ("FOR=192.0.2.7;Proto=HTTPS;hOsT=Shop.Example", Forwarded(CLIENT, "https", "Shop.Example")),
    ("for = 192.0.2.7;proto=https", Forwarded(None, "https")),
    ("for=192.0.2.7;for=192.0.2.8", Forwarded("192.0.2.8")),
    ("for=192.0.2.7;proto=ftp", Forwarded(CLIENT)),
    ("for=192.0.2.7;proto=wss", Forwarded(CLIENT, "wss")),
    ("for=192.0.2.7,,", Forwarded(CLIENT)),
    (",", NOTHING_FORWARDED),
    ("", NOTHING_FORWARDED),
]


@pytest.mark.parametrize(("value", "expected"), STRINGS)
def test_an_element_ends_at_a_comma_outside_of_quotes(value: str, expected: Forwarded) -> None:
    """Read from the right: what a stranger has left open further left changes nothing; malformed parts are left out."""
    assert read_forwarded(SCOPE, forwarded(value), PROXIES) == expected
    behind = [*forwarded(value), *forwarded(f"for={PROXY}")]  # an element that a proxy of ours has added
    assert read_forwarded(SCOPE, behind, PROXIES) == expected._replace(client=expected.client or PROXY)


FAMILY: list[tuple[Headers, Forwarded]] = [
    ([(b"x-forwarded-proto", b"https")], Forwarded(None, "https")),
    ([(b"x-forwarded-host", b"shop.example")], Forwarded(None, None, "shop.example")),
    ([(b"x-forwarded-proto", b"http, https")], Forwarded(None, "https")),
    (
        [(b"x-forwarded-for", b"192.0.2.7, 10.0.0.1"), (b"x-forwarded-proto", b"https, http")],
        Forwarded(CLIENT, "https"),
    ),
    (
        [(b"x-forwarded-for", b"192.0.2.7, 10.0.0.1"), (b"x-forwarded-proto", b"wss, https, http")],
        Forwarded(CLIENT, "http"),
    ),
    (
        [(b"x-forwarded-for", b"192.0.2.7, 10.0.0.1"), (b"x-forwarded-host", b"a.test, b.test")],
        Forwarded(CLIENT, None, "a.test"),
    ),
    (
        [(b"x-forwarded-for", b"192.0.2.7, 10.0.0.1"), (b"x-forwarded-host", b"b.test")],
        Forwarded(CLIENT, None, "b.test"),
    ),
    (
        [(b"x-forwarded-for", b"192.0.2.7"), (b"x-forwarded-host", b"a.test, b.test")],
        Forwarded(CLIENT, None, "b.test"),
    ),
    ([(b"x-forwarded-for", b" , 192.0.2.7 , ")], Forwarded(CLIENT)),
    ([(b"x-forwarded-for", b"")], NOTHING_FORWARDED),
    ([(b"x-forwarded-server", b"a.test")], NOTHING_FORWARDED),
]


@pytest.mark.parametrize(("headers", "expected"), FAMILY)
def test_a_list_as_long_as_that_of_the_clients_belongs_to_it_item_by_item(
    headers: Headers, expected: Forwarded
) -> None:
    """Of any other list the last item counts, which the nearest proxy has written."""
    assert read_forwarded(SCOPE, headers, PROXIES) == expected


@pytest.mark.parametrize(
    ("words", "scheme", "host", "expected"),
    [
        (
            Forwarded(CLIENT),
            "http",
            b"in.test",
            {"client.address": CLIENT, "server.address": "in.test", "server.port": 80},
        ),
        (
            Forwarded(None, "https"),
            "http",
            b"in.test",
            {"url.scheme": "https", "server.address": "in.test", "server.port": 443},
        ),
        (
            Forwarded(None, "https"),
            "ws",
            b"in.test:81",
            {"url.scheme": "wss", "server.address": "in.test", "server.port": 81},
        ),
        (
            Forwarded(None, "http"),
            "wss",
            b"in.test",
            {"url.scheme": "ws", "server.address": "in.test", "server.port": 80},
        ),
        (Forwarded(None, "wss"), "ws", None, {"url.scheme": "wss"}),
        (Forwarded(None, None, "out.test"), "https", b"in.test", {"server.address": "out.test", "server.port": 443}),
        (Forwarded(None, None, "out.test:x"), "http", b" in.test ", {"server.address": "in.test", "server.port": 80}),
        (Forwarded(None, None, "out.test"), "gopher", b"in.test", {"server.address": "out.test"}),
        (Forwarded(None, None, "no host"), "http", b"", {}),
    ],
)
def test_a_proxys_words_replace_its_own_request(
    words: Forwarded, scheme: str, host: bytes | None, expected: dict[str, Any]
) -> None:
    """The default port is that of the scheme which the caller used, and a WebSocket stays one."""
    assert forwarded_attributes(words, scheme, host) == expected
