"""HTTP semantic conventions, stable ones only: a scope or a URL in; names, attributes, status and error type out.

Pure functions. They follow the conventions of version 1.44 for HTTP spans, never raise for anything that stands in a
scope, and leave an attribute out rather than record a wrong one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from operator import itemgetter
from typing import Any

from ._options import texts
from ._types import Attributes, Headers, Scope
from .redaction import Redaction

METHOD = "http.request.method"
METHOD_ORIGINAL = "http.request.method_original"
STATUS_CODE = "http.response.status_code"
ROUTE = "http.route"
ERROR_TYPE = "error.type"
PATH = "url.path"
QUERY = "url.query"
SCHEME = "url.scheme"
SERVER_ADDRESS = "server.address"
SERVER_PORT = "server.port"
CLIENT_ADDRESS = "client.address"
PEER_ADDRESS = "network.peer.address"
PEER_PORT = "network.peer.port"
PROTOCOL_NAME = "network.protocol.name"
PROTOCOL_VERSION = "network.protocol.version"
USER_AGENT = "user_agent.original"

CANCELLED = "asgi_trace.cancelled"
OTHER_METHOD = "_OTHER"
OTHER_ERROR = "_OTHER"
INCOMPLETE_RESPONSE = "incomplete_response"

DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_DEFAULT_METHODS = "GET,HEAD,POST,PUT,DELETE,CONNECT,OPTIONS,TRACE,PATCH,QUERY"
_VERSIONS = {"1.0": "1.0", "1.1": "1.1", "2": "2", "2.0": "2", "3": "3", "3.0": "3"}


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
    """The exception's fully qualified class name, without a module for Python's own."""
    if is_cancellation(exc):
        exc = _first(exc)
    cls = type(exc)
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def is_cancellation(exc: BaseException) -> bool:
    """Was the task told to stop? True for asyncio's and trio's cancellation, without importing either."""
    if isinstance(exc, Exception):
        return False
    parts = getattr(exc, "exceptions", None)
    if isinstance(parts, tuple) and parts:  # what a nursery makes of the cancellations of its tasks
        return all(map(is_cancellation, parts))
    return isinstance(exc, GeneratorExit) or type(exc).__name__ in ("CancelledError", "Cancelled")


def _first(exc: BaseException) -> BaseException:
    parts = getattr(exc, "exceptions", None)
    return _first(parts[0]) if parts else exc


def text(value: str) -> str:
    """`value` with every lone surrogate replaced: one of them would make the exporter lose its whole batch."""
    return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")


_LONGEST_HOST = 256  # RFC 1035 2.3.4 allows 255: what is longer is none, and must not fill the cache
_AUTHORITY = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+(?:%[\w.%-]+)?)\]|(?P<name>(?:[\w~-]+\.)*[\w~-]+\.?))(?::(?P<port>[0-9]{0,5}))?",
    re.ASCII,
)


def parse_authority(authority: str, scheme: str) -> tuple[str, int | None] | None:
    """Host and port of a Host header (RFC 9110 7.2); the scheme's default port when none is given.

    IPv6 comes without its brackets. None for anything that is no `host[:port]`: user information, an address or a port
    that does not exist, a name that no resolver takes. Underscores are kept, as in the names of containers.
    """
    match = _AUTHORITY.fullmatch(authority) if len(authority) < _LONGEST_HOST else None
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


@lru_cache(maxsize=256)
def _parsed_host(host: bytes, scheme: str) -> tuple[str, int | None] | None:
    return parse_authority(host.decode("latin-1").strip(), scheme)


class HeaderCapture:
    """The headers that the developer asked for, as span attributes: a list with one item per header line.

    `names` are exact, in any case. `variable` names an environment variable with a comma-separated list of regular
    expressions that must match a whole name, as elsewhere in OpenTelemetry. Credentials are masked.
    """

    def __init__(self, prefix: str, names: str | Iterable[str], variable: str, redaction: Redaction) -> None:
        option = f"capture_{prefix.split('.')[1]}_headers"
        exact = {name.lower() for name in texts(option, names, "header names like 'x-request-id'")}
        patterns = [re.escape(name) for name in exact] + _patterns(variable)
        sanitized = _patterns("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS")
        self._wanted = re.compile("|".join(f"(?:{p})" for p in patterns), re.IGNORECASE) if patterns else None
        self._masked = re.compile("|".join(f"(?:{p})" for p in sanitized), re.IGNORECASE) if sanitized else None
        self._prefix = prefix
        self._redaction = redaction

    def __bool__(self) -> bool:
        return self._wanted is not None

    def attributes(self, headers: Headers) -> Attributes:
        """One attribute for each wanted name that is there."""
        found: dict[str, list[str]] = {}
        if self._wanted is not None:
            for raw_name, raw_value in headers:
                name = raw_name.decode("latin-1").lower()
                if self._wanted.fullmatch(name):
                    value = raw_value.decode("latin-1")
                    found.setdefault(self._prefix + name, []).append(self._shown(name, value))
        return dict(found)

    def _shown(self, name: str, value: str) -> str:
        if self._masked is not None and self._masked.search(name):
            return "REDACTED"
        return self._redaction.header(name, value)


def _patterns(variable: str) -> list[str]:
    """The regular expressions of a list in the environment; one that does not compile matches its own text."""
    found = []
    for item in os.environ.get(variable, "").split(","):
        if pattern := item.strip():
            try:
                re.compile(pattern)
            except re.error:
                pattern = re.escape(pattern)
            found.append(pattern)
    return found


# --- server ---


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
            len(host) < _LONGEST_HOST and raw_path[0] == _SLASH and address.isascii() and type(port) is int and port
        ):
            return _careful_attributes(scope, fields, method, redaction)
        attributes = _addressed(kind, method, scheme, version, host).copy()
        attributes[PATH] = path = raw_path.decode()
        if "?" in path:
            attributes[PATH] = path.partition("?")[0]
    except (AttributeError, LookupError, TypeError, ValueError):
        return _careful_attributes(scope, fields, method, redaction)
    attributes[CLIENT_ADDRESS] = attributes[PEER_ADDRESS] = address
    attributes[PEER_PORT] = port
    if query:
        attributes[QUERY] = redaction.query(query.decode("utf-8", "replace"))
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
    attributes.update(_host_address(host[:_LONGEST_HOST], scheme) if host else _socket_address(scope))
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


# --- client ---

URL_FULL = "url.full"
URL_TEMPLATE = "url.template"
RESEND_COUNT = "http.request.resend_count"
_MOST_SERVERS = 256
_WIRE_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/2": "2", b"HTTP/1.0": "1.0", b"HTTP/3": "3"}


def _server_of(url: Any, origin: tuple[str, int | None] | None) -> Attributes:
    """Address and port: those of Host, which may be an internationalised name, or else the URL's."""
    encoded: str = url.raw_host.decode("ascii")
    address, port = origin or (encoded, url.port or DEFAULT_PORTS.get(url.scheme))
    if not address:  # the URL is relative
        return {}
    if address == encoded:
        address = _decoded_host(url)
    return {SERVER_ADDRESS: address} if port is None else {SERVER_ADDRESS: address, SERVER_PORT: port}


def _decoded_host(url: Any) -> str:
    """The URL's internationalised name as people write it, or as it is sent when it does not decode."""
    try:
        return str(url.host)
    except Exception:  # the library's IDNA codec refuses some names that can be sent
        return str(url.raw_host, "ascii")


class ClientAttributes:
    """What the conventions want at the start of a CLIENT span. `methods` are the known ones."""

    __slots__ = ("_methods", "_redaction", "_shared")

    def __init__(self, methods: frozenset[str], redaction: Redaction) -> None:
        self._methods = methods
        self._redaction = redaction
        self._shared: dict[tuple[str, str, bytes], Attributes] = {}

    def of(self, request: Any, headers: Headers) -> Attributes:
        """`headers` are the request's lines.

        The server is the one that Host names, else the URL's: without brackets, with the scheme's default port.
        """
        url, method = request.url, request.method
        host = b""
        for name, value in headers:
            if name == b"Host" or name.lower() == b"host":
                host = value
                break
        shared = self._shared.get((method, url.scheme, host))
        attributes = self._of_server(method, url, host) if shared is None else shared.copy()
        attributes[URL_FULL] = self._redaction.url(str(url))
        return attributes

    def _of_server(self, method: str, url: Any, host: bytes) -> Attributes:
        """All but the URL. What Host alone decides, for a method that is known, is kept for the next request."""
        known = method in self._methods
        attributes: Attributes = {METHOD: method if known else OTHER_METHOD}
        origin = parse_authority(host[:_LONGEST_HOST].decode("latin-1").strip(), url.scheme)
        attributes.update(_server_of(url, origin))
        if not known:
            attributes[METHOD_ORIGINAL] = text(method)
        elif origin is not None and "xn--" not in origin[0] and len(host) < _LONGEST_HOST:
            if len(self._shared) >= _MOST_SERVERS:
                self._shared.clear()
            self._shared[method, url.scheme, host] = attributes.copy()
        return attributes


def client_protocol(extensions: Any) -> str | None:
    """`network.protocol.version` as negotiated; None when the transport does not say."""
    version = extensions.get("http_version")
    return _WIRE_VERSIONS.get(version) if version else None


def client_peer(extensions: Any) -> tuple[str, int | None] | None:
    """`network.peer.address` and `.port`: the other end of the real socket, an IP address or a unix socket's path."""
    stream = extensions.get("network_stream")
    if stream is None:
        return None
    try:
        peer = stream.get_extra_info("server_addr")
    except Exception:  # the socket is closed already
        return None
    if isinstance(peer, (tuple, list)) and len(peer) >= 2 and isinstance(peer[0], str) and _is_ip_address(peer[0]):
        return peer[0], peer[1] if isinstance(peer[1], int) else None
    return (text(peer), None) if isinstance(peer, str) and peer.startswith("/") else None


@lru_cache(maxsize=256)
def _is_ip_address(address: str) -> bool:
    try:
        ip_address(address)
    except ValueError:
        return False
    return True


def client_destination(url: Any) -> tuple[set[str], int]:
    """Where a URL leads, whatever its Host header says: the name, in both spellings if it has two, and the port."""
    encoded = url.raw_host.decode("ascii")
    return {encoded, _decoded_host(url)}, url.port or DEFAULT_PORTS.get(url.scheme, 0)
