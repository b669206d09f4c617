"""Where a collector listens and the headers it wants, read out of text.

Every form that people write works: a URL, `host:port`, whatever gRPC itself takes. Endpoints and headers hold secrets,
so no complaint repeats a value of a header or what stands before the `@`. Pure; knows neither the SDK nor gRPC.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from urllib.parse import unquote

_LIKE = "must be like 'http://collector:4317', 'https://collector:4317' or 'collector:4317'"
_AUTHORITY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(?P<port>[0-9]{1,5}))?")
_GRPC_SCHEMES = ("dns:", "ipv4:", "ipv6:", "unix:", "unix-abstract:", "vsock:", "xds:")
_HEADER_NAME = re.compile(r"[0-9a-z_.-]+")  # what gRPC takes as a metadata key
_HEADER_VALUE = re.compile(r"[ -~]*")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a collector listens, taken apart. `plaintext` is None where the endpoint itself does not say."""

    host: str
    port: str | None = None
    plaintext: bool | None = None
    authorization: str | None = None
    path: str = ""

    @property
    def local(self) -> bool:
        """A Unix socket: nobody encrypts these."""
        return self.host.lower().startswith("unix")

    def __str__(self) -> str:
        scheme = "" if self.plaintext is None else "http://" if self.plaintext else "https://"
        return scheme + self.target(self.plaintext is True)

    def target(self, plaintext: bool) -> str:
        """The same for gRPC. Without a port, 4317 is OTLP's and 443 the one of TLS."""
        if self.host.lower().startswith(_GRPC_SCHEMES):
            return self.host
        return f"{self.host}:{self.port or ('4317' if plaintext else '443')}"


def endpoint(text: str) -> Endpoint:
    """Take an endpoint apart: a URL, `host:port`, or any target that gRPC knows (`unix:`, `dns:`...).

    gRPC has no use for a path. Credentials become the header that a browser would send.
    """
    text = text.strip()
    if text.lower().startswith(_GRPC_SCHEMES):
        return Endpoint(text)
    scheme, has_scheme, rest = text.partition("://") if "://" in text else ("", "", text)
    authority, path = _split_path(rest)
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
    return Endpoint(host, port, plaintext, _basic(credentials), re.split(r"[?#]", path)[0].rstrip("/"))


def _split_path(text: str) -> tuple[str, str]:
    match = re.search(r"[/?#]", text)
    return (text[: match.start()], text[match.start() :]) if match else (text, "")


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
    """One header that gRPC will send: the name in lower case, both stripped."""
    key = name.strip().lower()
    if not _HEADER_NAME.fullmatch(key) or key.startswith("grpc-"):
        raise ValueError("has a name that gRPC cannot send: it must consist of letters, digits and '-', '_', '.'")
    if not _HEADER_VALUE.fullmatch(value.strip()):
        raise ValueError(f"{key!r} has a value that gRPC cannot send: it must be printable ASCII")
    return key, value.strip()
