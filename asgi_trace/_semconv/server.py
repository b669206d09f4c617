"""HTTP semantic conventions of the server: a scope in, the attributes of its span's start out. Pure."""

from __future__ import annotations

from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeAlias

from .._options.redact import Redaction
from .._options.text import MOST_TEXT, recordable
from .._types import Attributes, Scope
from .http import DEFAULT_PORTS, LONGEST_HOST, parse_authority
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
    ROUTE,
    SCHEME,
    SERVER_ADDRESS,
    SERVER_PORT,
    STATUS_CODE,
    USER_AGENT,
)

_VERSIONS = {"1.0": "1.0", "1.1": "1.1", "2": "2", "2.0": "2", "3": "3", "3.0": "3"}
_SLASH = ord("/")
_USUAL = ("type", "scheme", "raw_path", "query_string", "http_version", "client")
_usual = itemgetter(*_USUAL)


def server_scheme(scope: Scope) -> str:
    """`url.scheme` as the server gave it, or ASGI's default."""
    scheme = scope.get("scheme")
    if isinstance(scheme, str) and scheme:
        return recordable(scheme)
    return "ws" if scope["type"] == "websocket" else "http"


def server_protocol(scope: Scope) -> str | None:
    """`network.protocol.version`: `2`, never `2.0`."""
    version = scope.get("http_version")
    return (_VERSIONS.get(version) or recordable(version) or None) if isinstance(version, str) else None


class ServerDescription:
    """How the facts of a request become attributes, with one `redact=` option.

    Facts are a tuple: this object, what `_usual` reads from the scope, the method, the Host header and the user agent
    (or None). Everything in it is immutable, so that a span may keep them and be described when something reads
    its attributes. `_sdk.facts_encoding` writes the same attributes straight as bytes where `is_usual()` is true.
    """

    __slots__ = ("deferrable", "redaction")

    keys = frozenset({METHOD, SCHEME, PROTOCOL_VERSION, PROTOCOL_NAME, SERVER_ADDRESS, SERVER_PORT, PATH, QUERY})
    keys |= {CLIENT_ADDRESS, PEER_ADDRESS, PEER_PORT, USER_AGENT}
    """All keys that facts can become."""

    def __init__(self, redaction: Redaction) -> None:
        self.redaction = redaction
        self.deferrable = redaction.is_standard
        """Whether facts may be described later: a function of the application is called at the request's start."""

    def attributes(self, facts: ServerFacts) -> Attributes:
        """The attributes that a span starts with."""
        _, usual, method, host, user_agent = facts
        if not self.is_usual(facts):
            fields = {b"host": host} if type(host) is bytes else {}
            if type(user_agent) is bytes:
                fields[b"user-agent"] = user_agent
            return _careful_attributes(dict(zip(_USUAL, usual)), fields, method, self.redaction)  # noqa: B905
        kind, scheme, _, _, version, (address, port) = usual
        attributes = shared_attributes(kind, method, scheme, version, host).copy()
        attributes[PATH] = path_of(facts)
        query = self.query_of(facts)
        if query:
            attributes[QUERY] = query
        attributes[CLIENT_ADDRESS] = attributes[PEER_ADDRESS] = address
        attributes[PEER_PORT] = port
        if user_agent is not None:
            attributes[USER_AGENT] = user_agent.decode("latin-1")
        return attributes

    @staticmethod
    def is_usual(facts: ServerFacts) -> bool:
        """Are the values of the facts such as servers write them, so that they are attributes as they are?

        It is asked when they are read, and not of every request: what most requests share is then known already.
        """
        _, (_, scheme, raw_path, _, version, (address, port)), _, host, user_agent = facts
        try:
            return bool(
                raw_path[0] == _SLASH
                and type(address) is str
                and address
                and address.isascii()
                and type(port) is int
                and port
                and type(host) is bytes
                and len(host) < LONGEST_HOST
                and (user_agent is None or type(user_agent) is bytes)
                and scheme in DEFAULT_PORTS
                and version in _VERSIONS
            )
        except TypeError:  # what cannot be a key of a dict
            return False

    @staticmethod
    def last_attributes(last: ServerAnswer) -> Attributes:
        """The attributes of a success that are known at its end."""
        status, route = last
        attributes: Attributes = {STATUS_CODE: status} if status else {}
        if route:
            attributes[ROUTE] = route
        return attributes

    def query_of(self, facts: ServerFacts) -> str:
        """`url.query`; empty for none."""
        query = facts[1][3]
        return self.redaction.query(query.decode("utf-8", "replace"))[:MOST_TEXT] if query else ""


ServerAnswer: TypeAlias = tuple[int, "str | None"]
"""The status, 0 where no response has started, and the route."""
ServerFacts: TypeAlias = tuple[ServerDescription, tuple[Any, ...], str, bytes, "bytes | None"]


def path_of(facts: ServerFacts) -> str:
    """`url.path`."""
    path: str = facts[1][2].decode("utf-8", "replace")
    return path.partition("?")[0] if "?" in path else path


def server_facts(
    scope: Scope, fields: dict[bytes, bytes], method: str, description: ServerDescription
) -> ServerFacts | None:
    """The facts of a request. None: something is missing, may change later, or is very long.

    `fields` maps lower-case header names to values, `method` is already normalised.
    """
    try:
        usual = _usual(scope)
        _, _, raw_path, query, _, client = usual
        address, _ = client
        host = fields[b"host"]
        user_agent = fields.get(b"user-agent")
        if (
            raw_path
            and host
            and type(raw_path) is bytes
            and type(query) is bytes
            and type(client) is tuple
            and len(raw_path) + len(query) + len(host) + len(address) + len(user_agent or b"") <= MOST_TEXT
            and method is not OTHER_METHOD
        ):
            return description, usual, method, host, user_agent
    except (LookupError, TypeError, ValueError):
        pass
    return None


def server_attributes(
    scope: Scope, fields: dict[bytes, bytes], method: str, description: ServerDescription
) -> Attributes:
    """What is known of a request before the application runs, in one dict for the span's start."""
    facts = server_facts(scope, fields, method, description)
    if facts is None:
        return _careful_attributes(scope, fields, method, description.redaction)
    return description.attributes(facts)


def _careful_attributes(scope: Scope, fields: dict[bytes, bytes], method: str, redaction: Redaction) -> Attributes:
    """The same for any scope: all these keys are optional, or were in an earlier version of ASGI."""
    attributes: Attributes = {METHOD: method, SCHEME: (scheme := server_scheme(scope))}
    version = server_protocol(scope)
    if version is not None:
        attributes[PROTOCOL_VERSION] = version
    host = fields.get(b"host")
    attributes.update(_host_address(host[:LONGEST_HOST], scheme) if host else _socket_address(scope))
    raw_path, query = scope.get("raw_path"), scope.get("query_string")
    if raw_path:
        path = raw_path[:MOST_TEXT].decode("utf-8", "replace").partition("?")[0]
    else:
        path = recordable(scope.get("path") or "/")
    attributes[PATH] = _without_origin(path)
    if query:
        # Cut before it is masked, which takes time, and again afterwards: masking may have made it longer.
        attributes[QUERY] = redaction.query(query[:MOST_TEXT].decode("utf-8", "replace"))[:MOST_TEXT]
    attributes.update(_client_address(scope))
    user_agent = fields.get(b"user-agent")
    if user_agent is not None:
        attributes[USER_AGENT] = user_agent[:MOST_TEXT].decode("latin-1")
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
    return {METHOD_ORIGINAL: recordable(original)} if isinstance(original, str) else {}


def _client_address(scope: Scope) -> Attributes:
    """The socket's peer. A server that took the address from a header leaves port 0: then it is not the peer's."""
    client: Any = scope.get("client")
    if not isinstance(client, (tuple, list)) or not client or not isinstance(client[0], str) or not client[0]:
        return {}
    address, port = recordable(client[0]), client[1] if len(client) > 1 else None
    attributes: Attributes = {CLIENT_ADDRESS: address}
    if port not in (0, "0"):
        attributes[PEER_ADDRESS] = address
        if isinstance(port, int):
            attributes[PEER_PORT] = port
    return attributes


@lru_cache(maxsize=256)
def _parsed_host(host: bytes, scheme: str) -> tuple[str, int | None] | None:
    return parse_authority(host.decode("latin-1").strip(), scheme)


@lru_cache(maxsize=256)
def shared_attributes(kind: str, method: str, scheme: str, version: str, host: bytes) -> Attributes:
    """The attributes that most requests of a service share."""
    attributes: Attributes = {METHOD: method, SCHEME: scheme, PROTOCOL_VERSION: _VERSIONS[version]}
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
    attributes: Attributes = {SERVER_ADDRESS: recordable(server[0])}
    if len(server) > 1 and isinstance(server[1], int):
        attributes[SERVER_PORT] = server[1]
    return attributes
