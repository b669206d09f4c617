"""HTTP semantic conventions that server and client share: methods, span names, error types, hosts.

Like `server.py` and `client.py`, these are pure functions that follow the conventions of version 1.44 for HTTP spans.
They never raise for any content of a request, and leave an attribute out rather than record a wrong one.
"""

from __future__ import annotations

import os
import re
from ipaddress import IPv6Address

from .names import OTHER_METHOD

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_DEEPEST_GROUP = 32  # a class of its own may name itself as its member
_DEFAULT_METHODS = "GET,HEAD,POST,PUT,DELETE,CONNECT,OPTIONS,TRACE,PATCH,QUERY"


def known_methods() -> frozenset[str]:
    """The methods that keep their name: RFC 9110's, PATCH and QUERY, or all of OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS.

    The variable is a comma-separated, case-sensitive list that replaces the default; empty means unset.
    """
    text = os.environ.get("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS") or _DEFAULT_METHODS
    return frozenset(method.strip() for method in text.split(",") if method.strip())


def span_name(method: str, target: str | None) -> str:
    """`{method} {target}`, or `{method}` alone; an unknown method is called `HTTP`."""
    if method == OTHER_METHOD:
        method = "HTTP"
    return f"{method} {target}" if target else method


def error_type(exc: BaseException) -> str:
    """The exception's fully qualified class name, without a module for Python's own.

    A group with one member counts as that member, and one of cancellations as its first.
    """
    cls = type(_first(exc) if is_cancellation(exc) else sole_member(exc))
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def is_cancellation(exc: BaseException) -> bool:
    """Was the task told to stop? True for asyncio's and trio's cancellation, without importing either."""
    if isinstance(exc, Exception):
        return False
    parts = getattr(exc, "exceptions", None)
    if isinstance(parts, tuple) and parts:  # what a nursery makes of the cancellations of its tasks
        return all(map(is_cancellation, parts))
    return isinstance(exc, GeneratorExit) or type(exc).__name__ in ("CancelledError", "Cancelled")


def sole_member(exc: BaseException) -> BaseException:
    """The member of a group that has one, and so on inwards; any other exception itself.

    A task group makes a group of every failure: what has failed is its member. The stack trace stays the group's.
    """
    for _ in range(_DEEPEST_GROUP):
        parts: tuple[BaseException, ...] = getattr(exc, "exceptions", ()) if is_group(exc) else ()
        if len(parts) != 1:
            break
        exc = parts[0]
    return exc


def is_group(exc: BaseException) -> bool:
    """Is it an ExceptionGroup or BaseExceptionGroup?

    By the name of the base class: it is built in from Python 3.11 on, and comes from the package `exceptiongroup`
    (which anyio needs) before.
    """
    return any(base.__name__ == "BaseExceptionGroup" for base in type(exc).__mro__)


def _first(exc: BaseException) -> BaseException:
    parts = getattr(exc, "exceptions", None)
    return _first(parts[0]) if parts else exc


LONGEST_HOST = 256  # RFC 1035 2.3.4 allows 255: what is longer is none, and must not fill the cache
_AUTHORITY = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%[\w.%-]+)?)\]|(?P<name>(?:[\w~-]+\.)*[\w~-]+\.?))(?::(?P<port>[0-9]{0,5}))?",
    re.ASCII,
)


def parse_authority(authority: str, scheme: str) -> tuple[str, int | None] | None:
    """Host and port of a Host header (RFC 9110 7.2); the scheme's default port when none is given.

    IPv6 comes without its brackets. None for anything that is no `host[:port]`: user information, an address or a port
    that does not exist, a name that no resolver takes. Underscores are kept, as in the names of containers.
    """
    match = _AUTHORITY.fullmatch(authority) if len(authority) < LONGEST_HOST else None
    if match is None:
        return None
    port = int(match["port"]) if match["port"] else DEFAULT_PORTS.get(scheme)
    if port is not None and not 0 < port < 65536:
        return None
    address: str | None = match["ipv6"]
    if address is not None:
        try:
            IPv6Address(address)
        except ValueError:
            return None
    return address or match["name"], port
