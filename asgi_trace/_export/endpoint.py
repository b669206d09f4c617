"""Where a collector listens and the headers it wants, read out of text.

Every form that people write works: a URL, `host:port`, and for gRPC whatever gRPC itself takes. Endpoints and headers
hold secrets, so no complaint repeats a header's value, what stands before the `@`, or a query. Pure; imports neither
the SDK nor gRPC.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from urllib.parse import unquote

from .signals import SIGNALS, Signal

_LIKE = "must be like 'http://collector:4317', 'https://collector:4317' or 'collector:4317'"
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(?P<port>[0-9]{1,5}))?")
_GRPC_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")
_HEADER_NAME = re.compile(r"[0-9a-z_.-]+")  # what gRPC takes as a metadata key; HTTP takes these too
_HEADER_VALUE = re.compile(r"[ -~]*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a collector listens, taken apart. `plaintext` is None where the endpoint itself does not say."""

    host: str
    port: str | None = None
    plaintext: bool | None = None
    authorization: str | None = field(default=None, repr=False)
    path: str = ""
    query: str = field(default="", repr=False)

    @property
    def local(self) -> bool:
        """A Unix socket, which needs no TLS."""
        return self.host.lower().startswith("unix")

    @property
    def grpc_only(self) -> bool:
        """A target that gRPC knows and HTTP does not."""
        return self.host.lower().startswith(_GRPC_SCHEMES)

    def __str__(self) -> str:
        scheme = "" if self.plaintext is None else "http://" if self.plaintext else "https://"
        return scheme + self.target(self.plaintext is True)

    def target(self, plaintext: bool) -> str:
        """The target for gRPC. Without a port, 4317 is OTLP's and 443 the one of TLS."""
        if self.grpc_only:
            return self.host
        return f"{self.host}:{self.port or ('4317' if plaintext else '443')}"

    def url(self, plaintext: bool, path: str) -> str:
        """The URL for HTTP, without the query. Without a port it is that of the scheme, 80 or 443."""
        return f"http{'' if plaintext else 's'}://{self.host}{f':{self.port}' if self.port else ''}{path or '/'}"

    def path_for(self, signal: Signal, *, exchange: bool = False) -> str:
        """The path for one signal, where this endpoint is meant for all of them: the signal's own path is appended.

        With `exchange`, a path that names one signal already names this one instead.
        """
        base = self.path.rstrip("/")
        if exchange:
            base = next((base.removesuffix(each.path) for each in SIGNALS if base.endswith(each.path)), base)
        return base + signal.path


def endpoint(text: str) -> Endpoint:
    """Take an endpoint apart: a URL, `host:port`, or any target that gRPC knows (`unix:`, `dns:`...).

    Credentials become the header that a browser would send.
    """
    text = text.strip()
    if text.lower().startswith(_GRPC_SCHEMES):
        return Endpoint(text)
    scheme, has_scheme, rest = text.partition("://") if "://" in text else ("", "", text)
    authority, path, query = _split_path(rest)
    credentials, _, authority = authority.rpartition("@")
    host, port = _host_and_port(authority)
    wrong_port = port is not None and not 0 < int(port) < 65536
    if "@" in path:
        raise ValueError(f"{_LIKE}; a '/', '?' or '#' in a user's name or password is written %2F, %3F or %23")
    if (has_scheme and scheme.lower() not in {"http", "https"}) or not host or wrong_port:
        raise ValueError(f"{_LIKE}, not {text.rpartition('@')[2]!r}")
    if not has_scheme and port is None:
        raise ValueError(f"{_LIKE}, not {authority!r}")
    plaintext = scheme.lower() == "http" if has_scheme else None
    return Endpoint(host, port, plaintext, _basic(credentials), path, query)


def http_endpoint(text: str) -> Endpoint:
    """The same for HTTP, which knows none of gRPC's other targets."""
    found = endpoint(text)
    if found.grpc_only:
        raise ValueError(f"must be like 'http://collector:4318' for OTLP over HTTP, not {text.strip()!r}")
    return found


def _split_path(text: str) -> tuple[str, str, str]:
    """What stands before the path, the path, and the query."""
    match = re.search(r"[/?#]", text)
    authority, rest = (text[: match.start()], text[match.start() :]) if match else (text, "")
    path, _, query = rest.partition("#")[0].partition("?")
    if "@" in rest:  # a password with one of these characters in it: for the complaint
        path = rest
    return authority, path, query


def _host_and_port(authority: str) -> tuple[str, str | None]:
    try:
        return f"[{IPv6Address(authority)}]", None
    except ValueError:
        match = _AUTHORITY.fullmatch(authority)
        return (match["host"], match["port"]) if match else ("", None)


def _basic(credentials: str) -> str | None:
    if not credentials:
        return None
    return "Basic " + base64.b64encode(unquote(credentials).encode()).decode()


def headers(text: str) -> tuple[dict[str, str], list[str]]:
    """`name=value` pairs, percent-encoded and separated by commas; and what is wrong with the others.

    No complaint holds a value, and a pair without a name is called by its number: either may be a secret.
    """
    good: dict[str, str] = {}
    wrong: list[str] = []
    for number, pair in enumerate(text.split(","), start=1):
        name, separator, value = pair.partition("=")
        if separator:
            try:
                key, decoded = header(unquote(name), unquote(value))
                good[key] = decoded
            except ValueError as exc:
                wrong.append(f"pair {number} {exc}")
        elif pair.strip():
            wrong.append(f"pair {number} must be like 'name=value'")
    return good, wrong


def header(name: str, value: str) -> tuple[str, str]:
    """One header that can be sent: the name in lower case, both stripped."""
    key = name.strip().lower()
    if not _HEADER_NAME.fullmatch(key) or key.startswith("grpc-"):
        raise ValueError("has a name that cannot be sent: it must consist of letters, digits and '-', '_', '.'")
    if not _HEADER_VALUE.fullmatch(value.strip()):
        raise ValueError(f"{key!r} has a value that cannot be sent: it must be printable ASCII")
    return key, value.strip()
