"""What a sender must know of a collector: where it listens, what it wants to be sent, and how to connect to it.

Built by `asgi_trace._configuration` from arguments and variables. Opens no connection before `channel()` is called.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import grpc

from .._version import VERSION

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
"""The status codes after which OTLP allows another attempt."""


@dataclass(frozen=True)
class Collector:
    """How to reach a collector. Certificates are PEM, `timeout` is seconds for one batch with all its retries."""

    target: str
    plaintext: bool
    headers: tuple[tuple[str, str | bytes], ...] = field(default=(), repr=False)
    timeout: float = 10.0
    gzip: bool = False
    certificate: bytes | None = None
    client_key: bytes | None = field(default=None, repr=False)
    client_certificate: bytes | None = None
    credentials: Any = field(default=None, repr=False)
    """`grpc.ChannelCredentials` that replace the certificates."""
    retryable: frozenset[Any] = RETRYABLE

    def channel(self) -> Any:
        """A new gRPC channel to it."""
        options = (("grpc.primary_user_agent", f"asgi-trace/{VERSION}"), ("grpc.use_local_subchannel_pool", 1))
        compression = grpc.Compression.Gzip if self.gzip else grpc.Compression.NoCompression
        if self.plaintext:
            return grpc.insecure_channel(self.target, options, compression)
        credentials = self.credentials or grpc.ssl_channel_credentials(
            self.certificate, self.client_key, self.client_certificate
        )
        return grpc.secure_channel(self.target, credentials, options, compression)
