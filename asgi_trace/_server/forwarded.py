"""What trusted proxies say of the original request: client address, scheme and host.

Reads `Forwarded` (RFC 7239), else the `X-Forwarded-*` family, from the right: each proxy appends what it saw, so an
entry counts only when the proxy that wrote it is trusted. A forged entry further to the left is never reached, and is
not read at all. Lengths and numbers of entries are bounded, so that no caller can make these headers expensive.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from itertools import islice
from typing import NamedTuple

from .._semconv.http import parse_authority
from .._semconv.names import CLIENT_ADDRESS, SCHEME, SERVER_ADDRESS, SERVER_PORT
from .._types import Attributes, Headers, Scope
from .networks import Networks, TrustedProxies, peer_address

_MOST_HOPS = 32
_MOST_BYTES = 2048
_LONGEST_NODE = 64
FORWARDING_HEADERS = frozenset({b"forwarded", b"x-forwarded-for"})
"""The headers that name a caller."""
_HEADERS = FORWARDING_HEADERS | {b"x-forwarded-proto", b"x-forwarded-host"}
_SCHEMES = frozenset({"http", "https", "ws", "wss"})
_BACKSLASH = 0x5C

_PART = re.compile(r'(?:"(?:[^"\\]|\\.|\\$)*(?:"|$)|[^";])+')
_PAIR = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s";,]*))\s*')
_PORT = r"(?::(?:[0-9]{1,5}|_[\w.-]+))?"
_NODE = re.compile(
    rf"\[([0-9A-Fa-f:.]+)\]{_PORT}|([0-9]+\.[0-9]+\.[0-9]+\.[0-9]+){_PORT}|([0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)", re.ASCII
)


class Forwarded(NamedTuple):
    """One hop: the client of a trusted proxy, and how it asked. None where the proxy does not say."""

    client: str | None = None
    scheme: str | None = None
    host: str | None = None


NOTHING_FORWARDED = Forwarded()


def forwarded_attributes(forwarded: Forwarded, scheme: str, host: bytes | None) -> Attributes:
    """The attributes that a trusted proxy's words replace; `scheme` and `host` are those of its own request."""
    attributes: Attributes = {}
    if forwarded.client is not None:
        attributes[CLIENT_ADDRESS] = forwarded.client
    if forwarded.scheme is not None:
        # A WebSocket's scheme says so, also where a proxy speaks of http.
        attributes[SCHEME] = scheme = forwarded.scheme.replace("http", "ws") if scheme[:2] == "ws" else forwarded.scheme
    # The default port is that of the new scheme, whichever of the two names the host.
    authority = parse_authority(forwarded.host, scheme) if forwarded.host else None
    if authority is None:
        authority = parse_authority((host or b"").decode("latin-1").strip(), scheme)
    if authority is not None:
        attributes[SERVER_ADDRESS], port = authority
        if port is not None:
            attributes[SERVER_PORT] = port
    return attributes


def read_forwarded(scope: Scope, headers: Headers, proxies: TrustedProxies) -> Forwarded:
    """The right-most hop that is not a trusted proxy; nothing when the peer is not trusted."""
    if not proxies.include_peer(scope):
        return NOTHING_FORWARDED
    lines = _lines(headers)
    if not lines:
        return NOTHING_FORWARDED
    chosen = _furthest(_forwarded_hops(lines.get(b"forwarded", ())), proxies)
    return chosen or _furthest(_x_forwarded_hops(lines), proxies) or NOTHING_FORWARDED


def vouched_address(scope: Scope, headers: Headers, proxies: TrustedProxies) -> str | None:
    """The furthest address that trusted proxies vouch for: the caller's, as far as that can be known.

    For a request whose peer is one of the proxies. It is the peer's own where the peer names no caller. None when a
    proxy's word cannot be read (`unknown`, an obfuscated name, garbage), when `Forwarded` and `X-Forwarded-For`
    disagree, and for a chain longer than is walked.
    """
    lines = _lines(headers)
    chains: list[Iterator[str | None]] = []
    if b"forwarded" in lines:
        chains.append(hop.client for hop in _forwarded_hops(lines[b"forwarded"]))
    if b"x-forwarded-for" in lines:
        chains.append(_node_address(item) for item in _items(lines, b"x-forwarded-for"))
    if not chains:
        return peer_address(scope)
    first, *others = [_end_of_trust(chain, proxies) for chain in chains]
    return first if all(other == first for other in others) else None


def _end_of_trust(chain: Iterator[str | None], proxies: Networks) -> str | None:
    """The first address of a chain that is not a trusted proxy, or the last one; None when it cannot be read."""
    address = None
    for number, named in enumerate(chain, start=1):
        address = named and ip_address(named).compressed
        if address is None or address not in proxies:
            return address
        if number == _MOST_HOPS:
            return None
    return address


def _lines(headers: Headers) -> dict[bytes, list[bytes]]:
    lines: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        if name in _HEADERS:
            lines.setdefault(name, []).append(value)
    return lines


def _furthest(hops: Iterator[Forwarded], proxies: Networks) -> Forwarded | None:
    """Walk away from us for as long as proxies are trusted; what a hop does not say, the one before it does."""
    chosen: Forwarded | None = None
    for hop in hops:
        before = chosen or NOTHING_FORWARDED
        chosen = Forwarded(hop.client or before.client, hop.scheme or before.scheme, hop.host or before.host)
        if hop.client is None or hop.client not in proxies:
            break
    return chosen


def _forwarded_hops(lines: Sequence[bytes]) -> Iterator[Forwarded]:
    """The elements of `Forwarded` headers, the last one first; a malformed one says nothing but keeps its place."""
    for element in islice(_elements(b",".join(lines)), _MOST_HOPS):
        if element.strip():
            pairs = _pairs(element.decode("latin-1"))
            yield Forwarded(_node_address(pairs.get("for", "")), _scheme(pairs.get("proto")), pairs.get("host"))


def _elements(value: bytes) -> Iterator[bytes]:
    """Split at the commas outside of quoted strings, from the right; all that is malformed is one element."""
    value = value[-_MOST_BYTES:]
    end = len(value)
    while end >= 0:
        start = _start_of_element(value, end)
        yield value[start:end]
        end = start - 1


def _start_of_element(value: bytes, end: int) -> int:
    """Where the element before `end` starts: 0 where a quoted string does not, so that nothing further left counts."""
    position = end
    while position >= 0:
        comma = value.rfind(b",", 0, position)
        closing = value.rfind(b'"', comma + 1, position)
        if closing < 0:
            return comma + 1
        position = value.rfind(b'"', 0, closing)
        while position >= 0 and _is_escaped(value, position):
            position = value.rfind(b'"', 0, position)
    return 0


def _is_escaped(value: bytes, position: int) -> bool:
    before = position
    while before and value[before - 1] == _BACKSLASH:
        before -= 1
    return (position - before) % 2 == 1


def _pairs(element: str) -> dict[str, str]:
    """The parameters of one element; those that are malformed are left out."""
    pairs: dict[str, str] = {}
    for part in _PART.findall(element) if '"' in element else element.split(";"):
        match = _PAIR.fullmatch(part)
        if match:
            quoted = match[2]
            pairs[match[1].lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match[3]
    return pairs


def _x_forwarded_hops(lines: dict[bytes, list[bytes]]) -> Iterator[Forwarded]:
    """The hops of the `X-Forwarded-*` family, the last one first."""
    clients = _items(lines, b"x-forwarded-for")
    schemes = _items(lines, b"x-forwarded-proto")
    hosts = _items(lines, b"x-forwarded-host")
    if not clients and (schemes or hosts):
        clients = [""]
    for index, client in enumerate(clients):
        yield Forwarded(
            _node_address(client),
            _scheme(schemes[index if len(schemes) == len(clients) else 0] if schemes else None),
            hosts[index if len(hosts) == len(clients) else 0] if hosts else None,
        )


def _items(lines: dict[bytes, list[bytes]], name: bytes) -> list[str]:
    """The items of all lines of one header, which are one list (RFC 9110 5.3), the last one first."""
    items: list[str] = []
    for line in reversed(lines.get(name, ())):
        parts = line.rsplit(b",", _MOST_HOPS)[-_MOST_HOPS:]
        items.extend(item for part in reversed(parts) if (item := part.decode("latin-1").strip()))
        if len(items) >= _MOST_HOPS:
            break
    return items[:_MOST_HOPS]


def _node_address(node: str) -> str | None:
    """The address of a node identifier (RFC 7239 6); None for `unknown`, an obfuscated name or garbage."""
    match = _NODE.fullmatch(node.strip()) if len(node) <= _LONGEST_NODE else None
    if match is None:
        return None
    address: str = match[1] or match[2] or match[3]
    try:
        version = ip_address(address).version
    except ValueError:
        return None
    return address if version == 6 or not match[1] else None


def _scheme(value: str | None) -> str | None:
    scheme = (value or "").lower()
    return scheme if scheme in _SCHEMES else None
