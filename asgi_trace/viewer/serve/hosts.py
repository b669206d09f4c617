"""Which `Host` a request may name: the defence against a web page that makes its own name point to this machine."""

from __future__ import annotations

import ipaddress

_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))


def host_of(header: str) -> str:
    """The name in a `Host` header, in lower case, without port and brackets; empty when it cannot be read."""
    header = header.strip().lower()
    if header.startswith("["):
        name, closed, port = header[1:].partition("]")
        return name if closed and (not port or _is_port(port.removeprefix(":"))) else ""
    name, colon, port = header.partition(":")
    return name.removesuffix(".") if not colon or _is_port(port) else ""


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit()


def is_ip(name: str) -> bool:
    """Is it an IP literal? A browser resolves no name for it, so that no name can be pointed at another machine."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def page_allows(header: str, listening_on: str, *, is_open: bool) -> bool:
    """May a request for the page name this host? `is_open`: the page is reachable from other machines."""
    name = host_of(header)
    return name in _LOOPBACK or name == listening_on.lower() or (is_open and is_ip(name))


def ingest_allows(header: str, listening_on: str) -> bool:
    """May an export name this host? Containers reach their host as `host.docker.internal`, or by an address."""
    name = host_of(header)
    return name in _LOOPBACK or name in (listening_on.lower(), "host.docker.internal") or is_ip(name)
