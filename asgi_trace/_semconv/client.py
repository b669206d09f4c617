"""HTTP semantic conventions of the client: a request and a response in; attributes, peer and destination out. Pure."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import Any, TypeAlias

from .._options.redact import Redaction
from .._options.text import MOST_TEXT, recordable
from .._types import Attributes, Headers
from .http import DEFAULT_PORTS, LONGEST_HOST, parse_authority
from .names import METHOD, METHOD_ORIGINAL, OTHER_METHOD, RESEND_COUNT, SERVER_ADDRESS, SERVER_PORT, URL_FULL

_WIRE_VERSIONS = {b"HTTP/1.1": "1.1", b"HTTP/2": "2", b"HTTP/1.0": "1.0", b"HTTP/3": "3"}


class ClientDescription:
    """How the facts of a client's request become attributes, with the options of one transport.

    Facts are a tuple: this object, the method, the URL, the Host header, how many sends of the request came before, and
    the original method where it is not a known one. A span may keep them when `may_keep` says so, and be described when
    something reads its attributes. `_sdk.facts_encoding` writes the same attributes straight as bytes.
    """

    __slots__ = ("_deferrable", "_methods", "_url_class", "redaction")

    keys = frozenset({METHOD, SERVER_ADDRESS, SERVER_PORT, METHOD_ORIGINAL, URL_FULL, RESEND_COUNT})
    """All keys that facts can become."""

    def __init__(self, methods: frozenset[str], redaction: Redaction, url_class: type[Any]) -> None:
        """`methods` are the known ones, and `url_class` is the HTTP library's own class of URLs, which never change."""
        self.redaction = redaction
        self._methods = methods
        self._url_class = url_class
        self._deferrable = redaction.is_standard  # a function of the application is called at the request's start

    def facts(self, request: Any, headers: Headers, earlier: int) -> ClientFacts:
        """The facts of a request. `headers` are its lines, `earlier` is how many sends of it came before this one."""
        method = request.method
        host = b""
        for name, value in headers:
            if name == b"Host" or name.lower() == b"host":
                host = value if len(value) < LONGEST_HOST else b""
                break
        if method in self._methods:
            return self, method, request.url, host, earlier, None
        return self, OTHER_METHOD, request.url, host, earlier, recordable(method)

    def may_keep(self, facts: ClientFacts) -> bool:
        """Whether facts may be described later: they stay as they are, and hold no more than what is recorded."""
        url = facts[2]
        return self._deferrable and type(url) is self._url_class and len(url.raw_path) <= MOST_TEXT

    def attributes(self, facts: ClientFacts) -> Attributes:
        """The attributes that a span starts with."""
        attributes = self.server(facts).copy()
        full = self.redaction.url(str(facts[2]))
        attributes[URL_FULL] = full if len(full) <= MOST_TEXT else full[:MOST_TEXT]
        if facts[4]:
            attributes[RESEND_COUNT] = facts[4]
        return attributes

    def server(self, facts: ClientFacts) -> Attributes:
        """Method, address and port, which are the labels of metrics as well. Not to be changed.

        The server is the one that Host names, else the URL's: without brackets, with the scheme's default port.
        """
        _, method, url, host, _, original = facts
        known = known_server(method, url.scheme, host)
        if known is not None and original is None:
            return known
        attributes = {METHOD: method, **_server_of(url, host)} if known is None else known.copy()
        if original is not None:
            attributes[METHOD_ORIGINAL] = original
        return attributes


ClientFacts: TypeAlias = tuple[ClientDescription, str, Any, bytes, int, "str | None"]


@lru_cache(maxsize=256)
def known_server(method: str, scheme: str, host: bytes) -> Attributes | None:
    """The attributes that all requests to one server share. None where Host alone does not say which one that is."""
    origin = parse_authority(host.decode("latin-1").strip(), scheme)
    return None if origin is None or "xn--" in origin[0] else {METHOD: method, **_address(*origin)}


def _server_of(url: Any, host: bytes) -> Attributes:
    """Address and port: those of Host, which may be an internationalised name, or else the URL's."""
    encoded: str = url.raw_host.decode("ascii")
    origin = parse_authority(host.decode("latin-1").strip(), url.scheme)
    address, port = origin or (encoded, url.port or DEFAULT_PORTS.get(url.scheme))
    if not address:  # the URL is relative
        return {}
    return _address(_decoded_host(url) if address == encoded else address, port)


def _address(address: str, port: int | None) -> Attributes:
    return {SERVER_ADDRESS: address} if port is None else {SERVER_ADDRESS: address, SERVER_PORT: port}


def _decoded_host(url: Any) -> str:
    """The URL's internationalised name as people write it, or as it is sent when it does not decode."""
    try:
        return str(url.host)
    except Exception:  # the library's IDNA codec refuses some names that can be sent
        return str(url.raw_host, "ascii")


def client_protocol(extensions: Any) -> str | None:
    """`network.protocol.version` as negotiated; None when the transport does not say."""
    version = extensions.get("http_version")
    return _WIRE_VERSIONS.get(version) if version else None


def client_peer(extensions: Any) -> tuple[str, int | None] | None:
    """`network.peer.address` and `.port`: the other end of the real socket, an IP address or a unix socket's path."""
    try:
        peer = extensions["network_stream"].get_extra_info("server_addr")
    except Exception:  # the socket is closed already, or the transport has put something else there
        return None
    if isinstance(peer, (tuple, list)) and len(peer) >= 2 and isinstance(peer[0], str) and _is_ip_address(peer[0]):
        return peer[0], peer[1] if isinstance(peer[1], int) else None
    return (recordable(peer), None) if isinstance(peer, str) and peer.startswith("/") else None


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
