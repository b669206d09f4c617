"""What a span says about its HTTP request, whichever conventions its sender follows.

Reads the stable HTTP semantic conventions (`http.request.method`, `url.path`, `server.address`) and those before them
(`http.method`, `http.target`, `http.url`, `http.status_code`, `net.peer.name`, `net.host.name`).
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from .records import SpanRecord, Value, Values

_STATUS = ("http.response.status_code", "http.status_code")


@dataclass(frozen=True, slots=True)
class Http:
    """A request as its span tells it; what the span does not tell is None. `path` is without the query."""

    method: str | None = None
    scheme: str | None = None
    host: str | None = None
    port: int | None = None
    path: str | None = None
    query: str | None = None
    route: str | None = None
    status: int | None = None


def status_of(attributes: Values) -> int | None:
    """The HTTP status code; a text of digits counts, as some senders write it."""
    for key in _STATUS:
        code = attributes.get(key)
        if isinstance(code, bool):
            continue
        if isinstance(code, int):
            return code
        if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
            return int(code)
    return None


def failed(span: SpanRecord) -> bool:
    """Did the span fail: status ERROR, or a server's answer of 500 or above?"""
    if span.status == "ERROR":
        return True
    return span.kind == "SERVER" and (status_of(span.attributes) or 0) >= 500


def read(span: SpanRecord) -> Http:
    """Everything that the span tells about its HTTP request."""
    values = span.attributes
    client = span.kind == "CLIENT"
    url = _split(_text(values, "url.full", "http.url"))
    target = _text(values, "http.target")
    target_path, _, target_query = (target or "").partition("?")
    host, port = _peer(values, client)
    return Http(
        method=_text(values, "http.request.method", "http.method"),
        scheme=_text(values, "url.scheme", "http.scheme") or url.scheme,
        host=host or url.host,
        port=port or (url.port if not host else None),
        path=_text(values, "url.path") or target_path or url.path,
        query=_text(values, "url.query") or target_query or url.query,
        route=_text(values, "http.route"),
        status=status_of(values),
    )


def method_and_route(span: SpanRecord) -> tuple[str | None, str | None]:
    """The two that figures are kept by, without the work for the others."""
    return _text(span.attributes, "http.request.method", "http.method"), _text(span.attributes, "http.route")


def _peer(values: Values, client: bool) -> tuple[str | None, int | None]:
    """The server's name and port: for a CLIENT span the peer, for a SERVER span the service itself."""
    old = ("net.peer.name", "http.host", "net.peer.ip") if client else ("http.host", "net.host.name", "net.host.ip")
    host = _text(values, "server.address", *old)
    port = values.get("server.port", values.get("net.peer.port" if client else "net.host.port"))
    number = port if isinstance(port, int) and not isinstance(port, bool) and 0 < port < 65_536 else None
    if host and "server.address" not in values and host.count(":") == 1:
        name, _, digits = host.partition(":")
        if digits.isascii() and digits.isdigit() and len(digits) <= 5:
            return name, number or int(digits)
    return host, number


def _split(url: str | None) -> Http:
    if not url:
        return Http()
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return Http()
    return Http(scheme=parts.scheme or None, host=parts.hostname, port=port, path=parts.path, query=parts.query)


def _text(values: Values, *keys: str) -> str | None:
    for key in keys:
        value: Value = values.get(key)
        if value is not None and value != "" and isinstance(value, str | int | float):
            return str(value)
    return None
