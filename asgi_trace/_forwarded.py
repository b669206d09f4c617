"""What trusted proxies say of the original request: client address, scheme and host.

Reads `Forwarded` (RFC 7239), else the `X-Forwarded-*` family, from the right: each proxy appends what it saw, so an
entry counts only when the one who wrote it is trusted. A forged entry further to the left is never reached.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ._semconv import CLIENT_ADDRESS, SCHEME, SERVER_ADDRESS, SERVER_PORT, parse_authority
from ._types import Attributes, Headers, Scope
from .trust import Networks

_PAIR = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s";,]*))\s*')


class Forwarded(NamedTuple):
    """One hop: who asked the trusted proxy, and how. None where the proxy does not say."""

    client: str | None = None
    scheme: str | None = None
    host: str | None = None


NOTHING_FORWARDED = Forwarded()


def forwarded_attributes(forwarded: Forwarded, scheme: str, host: bytes | None) -> Attributes:
    """The attributes that a trusted proxy's words replace; `scheme` and `host` are those of its own request."""
    attributes: Attributes = {}
    if forwarded.scheme is not None:
        # A WebSocket's scheme says so, also where a proxy speaks of http.
        attributes[SCHEME] = scheme = forwarded.scheme.replace("http", "ws") if scheme[:2] == "ws" else forwarded.scheme
    if forwarded.client is not None:
        attributes[CLIENT_ADDRESS] = forwarded.client
    authority = parse_authority(forwarded.host or (host or b"").decode("latin-1"), scheme)
    if authority is not None:
        attributes[SERVER_ADDRESS], port = authority
        if port is not None:
            attributes[SERVER_PORT] = port
    return attributes


def read_forwarded(scope: Scope, headers: Headers, proxies: Networks) -> Forwarded:
    """The right-most hop that is no trusted proxy; nothing when the socket's peer is not trusted."""
    peer = scope.get("client")
    if not peer or peer[0] not in proxies:
        return NOTHING_FORWARDED
    hops = _forwarded_hops(_joined(headers, b"forwarded")) or _x_forwarded_hops(headers)
    chosen = NOTHING_FORWARDED
    for hop in reversed(hops):
        chosen = Forwarded(hop.client or chosen.client, hop.scheme or chosen.scheme, hop.host or chosen.host)
        if hop.client is None or hop.client not in proxies:
            break
    return chosen


def _joined(headers: Headers, name: bytes) -> str:
    """All lines of one header as one list, in order (RFC 9110 5.3)."""
    return ",".join(value.decode("latin-1") for key, value in headers if key == name)


def _forwarded_hops(value: str) -> list[Forwarded]:
    """The elements of a `Forwarded` header; a malformed one says nothing but keeps its place."""
    hops = []
    for element in _split(value, ","):
        pairs: dict[str, str] = {}
        for part in _split(element, ";"):
            match = _PAIR.fullmatch(part)
            if match:
                quoted = match[2]
                pairs[match[1].lower()] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else match[3]
        hops.append(Forwarded(_node_address(pairs.get("for", "")), _scheme(pairs.get("proto")), pairs.get("host")))
    return hops


def _split(value: str, separator: str) -> list[str]:
    """Split outside of quoted strings; empty parts are dropped."""
    parts, start, quoted, escaped = [], 0, False, False
    for index, character in enumerate(value):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == separator and not quoted:
            parts.append(value[start:index])
            start = index + 1
    parts.append(value[start:])
    return [part for part in parts if part.strip()]


def _x_forwarded_hops(headers: Headers) -> list[Forwarded]:
    clients = _items(headers, b"x-forwarded-for")
    schemes = _items(headers, b"x-forwarded-proto")
    hosts = _items(headers, b"x-forwarded-host")
    if not clients:
        return [Forwarded(None, _scheme(_last(schemes)), _last(hosts))] if schemes or hosts else []
    return [
        Forwarded(
            _node_address(client),
            _scheme(schemes[index] if len(schemes) == len(clients) else _last(schemes)),
            hosts[index] if len(hosts) == len(clients) else _last(hosts),
        )
        for index, client in enumerate(clients)
    ]


def _items(headers: Headers, name: bytes) -> list[str]:
    return [item.strip() for item in _joined(headers, name).split(",") if item.strip()]


def _last(items: list[str]) -> str | None:
    return items[-1] if items else None


_IPV6 = r"[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*"
_NODE = re.compile(rf"\[([0-9A-Fa-f:.]+)\](?::\w+)?|(\d+\.\d+\.\d+\.\d+)(?::\w+)?|({_IPV6})")


def _node_address(node: str) -> str | None:
    """The address of a node identifier (RFC 7239 6); None for `unknown`, an obfuscated name or garbage."""
    match = _NODE.fullmatch(node.strip())
    return (match[1] or match[2] or match[3]) if match else None


def _scheme(value: str | None) -> str | None:
    scheme = (value or "").lower()
    return scheme if scheme in {"http", "https", "ws", "wss"} else None
