"""HTTP semantic conventions of the server: a scope in, the attributes of its span's start out. Pure."""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter
from typing import Any

from .._options.redact import Redaction
from .._types import Attributes, Scope
from .http import DEFAULT_PORTS, LONGEST_HOST, parse_authority, text
from .names import (
    CLIENT_ADDRESS,
    METHOD,
    METHOD_ORIGINAL,
    OTHER_METHOD,
    PATH,
    PEER_ADDRESS,
    PEER_PORT,
    PROTOCOL_NAME,
    PROTOCOL_VERSION,
    QUERY,
    SCHEME,
    SERVER_ADDRESS,
    SERVER_PORT,
    USER_AGENT,
)

_VERSIONS = {"1.0": "1.0", "1.1": "1.1", "2": "2", "2.0": "2", "3": "3", "3.0": "3"}
_SLASH = ord("/")
_usual = itemgetter("type", "scheme", "raw_path", "query_string", "http_version", "client")


def server_scheme(scope: Scope) -> str:
    """`url.scheme` as the server gave it, or ASGI's default."""
    scheme = scope.get("scheme")
    if scheme in DEFAULT_PORTS:
        return str(scheme)
    if isinstance(scheme, str) and scheme:
        return text(scheme)
    return "ws" if scope["type"] == "websocket" else "http"


def server_protocol(scope: Scope) -> str | None:
    """`network.protocol.version`: `2`, never `2.0`."""
    version = scope.get("http_version")
    return (_VERSIONS.get(version) or text(version) or None) if isinstance(version, str) else None


def server_attributes(scope: Scope, fields: dict[bytes, bytes], method: str, redaction: Redaction) -> Attributes:
    """What is known of a request before the application runs, in one dict for the span's start.

    `fields` maps lower-case header names to values, `method` is already normalised.
    """
    # Fast path: a scope as servers write it. Whatever is missing or odd raises, and is looked at with more care.
    try:
        kind, scheme, raw_path, query, version, (address, port) = _usual(scope)
        host = fields[b"host"]
        if not (
            len(host) < LONGEST_HOST and raw_path[0] == _SLASH and address.isascii() and type(port) is int and port
        ):
            return _careful_attributes(scope, fields, method, redaction)
        attributes = _addressed(kind, method, scheme, version, host).copy()
        attributes[PATH] = path = raw_path.decode()
        if "?" in path:
            attributes[PATH] = path.partition("?")[0]
        if query:
            attributes[QUERY] = redaction.query(query.decode())
    except (AttributeError, LookupError, TypeError, ValueError):
        return _careful_attributes(scope, fields, method, redaction)
    attributes[CLIENT_ADDRESS] = attributes[PEER_ADDRESS] = address
    attributes[PEER_PORT] = port
    if b"user-agent" in fields:
        attributes[USER_AGENT] = fields[b"user-agent"].decode("latin-1")
    if method is OTHER_METHOD:
        attributes.update(_original_method(scope))
    return attributes


def _careful_attributes(scope: Scope, fields: dict[bytes, bytes], method: str, redaction: Redaction) -> Attributes:
    """The same for any scope: all these keys are optional, or were in an earlier version of ASGI."""
    attributes: Attributes = {METHOD: method, SCHEME: (scheme := server_scheme(scope))}
    version = server_protocol(scope)
    if version is not None:
        attributes[PROTOCOL_VERSION] = version
    host = fields.get(b"host")
    attributes.update(_host_address(host[:LONGEST_HOST], scheme) if host else _socket_address(scope))
    raw_path, query = scope.get("raw_path"), scope.get("query_string")
    path = raw_path.decode("utf-8", "replace").partition("?")[0] if raw_path else text(scope.get("path") or "/")
    attributes[PATH] = _without_origin(path)
    if query:
        attributes[QUERY] = redaction.query(query.decode("utf-8", "replace"))
    attributes.update(_client_address(scope))
    user_agent = fields.get(b"user-agent")
    if user_agent is not None:
        attributes[USER_AGENT] = user_agent.decode("latin-1")
    if method is OTHER_METHOD:
        attributes.update(_original_method(scope))
    if scope["type"] == "websocket":
        attributes[PROTOCOL_NAME] = "websocket"
    return attributes


def _without_origin(path: str) -> str:
    """The path of a request target in absolute form (RFC 9112 3.2.2), which may carry credentials."""
    _, absolute, rest = path.partition("://")
    if path.startswith("/") or not absolute:
        return path
    return f"/{rest.partition('/')[2]}"


def _original_method(scope: Scope) -> Attributes:
    original = scope.get("method")
    return {METHOD_ORIGINAL: text(original)} if isinstance(original, str) else {}


def _client_address(scope: Scope) -> Attributes:
    """The socket's peer. Port 0 is what a proxy-headers middleware leaves: then the address is not the peer's."""
    client: Any = scope.get("client")
    if not isinstance(client, (tuple, list)) or not client or not isinstance(client[0], str) or not client[0]:
        return {}
    address, port = text(client[0]), client[1] if len(client) > 1 else None
    attributes: Attributes = {CLIENT_ADDRESS: address}
    if port != 0:
        attributes[PEER_ADDRESS] = address
        if isinstance(port, int):
            attributes[PEER_PORT] = port
    return attributes


@lru_cache(maxsize=256)
def _parsed_host(host: bytes, scheme: str) -> tuple[str, int | None] | None:
    return parse_authority(host.decode("latin-1").strip(), scheme)


@lru_cache(maxsize=256)
def _addressed(kind: str, method: str, scheme: str, version: str, host: bytes) -> Attributes:
    """The attributes that most requests of a service share. Raises KeyError where one of the values is unusual."""
    if not host:
        raise KeyError(host)
    attributes: Attributes = {METHOD: method, SCHEME: scheme, PROTOCOL_VERSION: _VERSIONS[version]}
    if scheme not in DEFAULT_PORTS:
        raise KeyError(scheme)
    if kind == "websocket":
        attributes[PROTOCOL_NAME] = "websocket"
    return {**attributes, **_host_address(host, scheme)}


def _host_address(host: bytes, scheme: str) -> Attributes:
    """Address and port of a Host header; nothing for garbage."""
    authority = _parsed_host(host, scheme)
    if authority is None:
        return {}
    address, port = authority
    return {SERVER_ADDRESS: address} if port is None else {SERVER_ADDRESS: address, SERVER_PORT: port}


def _socket_address(scope: Scope) -> Attributes:
    """The last resort where no Host was sent: the address that the server listens on, or its unix socket."""
    server: Any = scope.get("server")
    if not server or not isinstance(server[0], str) or not server[0]:
        return {}
    attributes: Attributes = {SERVER_ADDRESS: text(server[0])}
    if len(server) > 1 and isinstance(server[1], int):
        attributes[SERVER_PORT] = server[1]
    return attributes
