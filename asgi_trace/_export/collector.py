"""What a sender must know of a collector: where it listens, what it wants to be sent, and how to connect to it.

Built by `asgi_trace._configuration` from arguments and variables. Opens no connection.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any

import grpc

GRPC, HTTP = "grpc", "http/protobuf"
"""The protocols of OTLP."""

RETRYABLE = frozenset(
    (
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    )
)
"""The gRPC status codes after which OTLP allows another attempt."""


@dataclass(frozen=True)
class Collector:
    """How to reach a collector with one signal.

    `target` is a target of gRPC or an HTTP URL without its query, and is printed; nothing secret stands in it.
    `timeout` is seconds for one request with all its retries. The fields behind `protocol` count for that protocol
    only.
    """

    target: str
    plaintext: bool
    headers: tuple[tuple[str, str | bytes], ...] = field(default=(), repr=False)
    timeout: float = 10.0
    gzip: bool = False
    max_bytes: int = 4_000_000
    """The largest request, before compression."""
    protocol: str = GRPC

    # gRPC
    certificate: bytes | None = None
    client_key: bytes | None = field(default=None, repr=False)
    client_certificate: bytes | None = None
    credentials: Any = field(default=None, repr=False)
    """`grpc.ChannelCredentials` that replace the certificates."""
    retryable: frozenset[Any] = RETRYABLE

    # HTTP
    query: str = field(default="", repr=False)
    """What follows the `?` of the URL."""
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    """None for plain text, or for the authorities of this system."""
    proxy: str | None = field(default=None, repr=False)
    """The URL of the proxy to go through."""
