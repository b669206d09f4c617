"""Addresses to listen on: one port, at a loopback address in both families."""

from __future__ import annotations

import contextlib
import errno
import os
import socket


class PortInUse(Exception):
    """An address cannot be listened on."""

    def __init__(self, host: str, port: int, reason: str = "is another collector running there?") -> None:
        super().__init__(f"cannot listen on {bracketed(host)}:{port}: {reason}")


def bracketed(host: str) -> str:
    """The host as a URL has it: an IPv6 address stands in brackets."""
    return f"[{host}]" if ":" in host else host


def is_loopback(host: str) -> bool:
    """Does only this machine reach the address?"""
    return host in ("localhost", "::1") or (host.startswith("127.") and host.replace(".", "").isdigit())


def loopback_twin(host: str) -> str:
    """The loopback address of the other family, empty when there is none."""
    return {"127.0.0.1": "::1", "localhost": "::1", "::1": "127.0.0.1"}.get(host, "")


def listeners(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to `host:port` (0 = any free port), the second at the other family's loopback where it is free.

    Raises `PortInUse`.
    """
    host = "127.0.0.1" if host == "localhost" else host
    try:
        first = _bound(host, port)
    except OSError as exc:
        raise PortInUse(host, port, _reason(exc)) from exc
    found = [first]
    if twin := loopback_twin(host):
        with contextlib.suppress(OSError):
            found.append(_bound(twin, first.getsockname()[1]))
    return found


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "is another collector running there?"
    return os.strerror(error.errno) if isinstance(error.errno, int) and error.errno > 0 else str(error)


def _bound(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    try:
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(256)
    except OSError:
        listener.close()
        raise
    return listener
