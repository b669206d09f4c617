"""HTTP semantic conventions of the client: a URL and a response in; attributes, peer and destination out. Pure."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from .._options.redact import Redaction
from .._options.text import MOST_TEXT, recordable
from .._types import Attributes, Headers
from .http import DEFAULT_PORTS, LONGEST_HOST, parse_authority
from .names import METHOD, METHOD_ORIGINAL, OTHER_METHOD, SERVER_ADDRESS, SERVER_PORT, URL_FULL

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
        full = self._redaction.url(str(url))
        attributes[URL_FULL] = full if len(full) <= MOST_TEXT else full[:MOST_TEXT]
        return attributes

    def _of_server(self, method: str, url: Any, host: bytes) -> Attributes:
        """All but the URL. What Host alone decides, for a method that is known, is kept for the next request."""
        known = method in self._methods
        attributes: Attributes = {METHOD: method if known else OTHER_METHOD}
        origin = parse_authority(host[:LONGEST_HOST].decode("latin-1").strip(), url.scheme)
        attributes.update(_server_of(url, origin))
        if not known:
            attributes[METHOD_ORIGINAL] = recordable(method)
        elif origin is not None and "xn--" not in origin[0] and len(host) < LONGEST_HOST:
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
