"""One request to a collector over OTLP/gRPC."""

from __future__ import annotations

import os
from typing import Any

import grpc

from .._version import VERSION
from .answer import Answer, Verdict, delivered, from_rpc_error
from .collector import Collector
from .signals import Signal


class GrpcSender:
    """Sends requests of one signal. See `Sender`.

    The channel belongs to the process that first sends something, so a server may fork after `configure()`.
    """

    def __init__(self, collector: Collector, signal: Signal) -> None:
        self._collector = collector
        self._signal = signal
        self._channel: Any = None
        self._pid = 0
        self._closed = False

    def send(self, payload: bytes, count: int, timeout: float) -> Answer:
        """Make one attempt, for at most `timeout` seconds."""
        try:
            response = self._export()(payload, timeout=timeout, metadata=self._collector.headers)
        except grpc.RpcError as exc:
            return from_rpc_error(exc, self._collector.retryable)
        except ValueError as exc:  # the channel was closed by close(), or its settings cannot work
            return Answer(Verdict.REFUSED, str(exc))
        return delivered(response, count, self._signal)

    def reconnect(self) -> None:
        """Open a new connection for the next attempt.

        A channel waits longer and longer before it connects again, keeps to the address that it once found, and goes on
        to use a connection from which nothing comes back any more.
        """
        channel, self._channel = self._channel, None
        if channel is not None and self._pid == os.getpid():
            channel.close()

    def close(self) -> None:
        """Cancel what is under way, and send nothing any more."""
        self._closed = True
        channel = self._channel
        if channel is not None and self._pid == os.getpid():
            channel.close()

    def _export(self) -> Any:
        if self._channel is None or self._pid != os.getpid():  # a channel does not survive a fork
            self._channel, self._pid = _channel(self._collector), os.getpid()
        channel = self._channel
        if self._closed:  # while it was opened
            channel.close()
        return channel.unary_unary(self._signal.method)  # no deserializer: an answer that cannot be read is no failure


def _channel(collector: Collector) -> Any:
    options = (("grpc.primary_user_agent", f"asgi-trace/{VERSION}"), ("grpc.use_local_subchannel_pool", 1))
    compression = grpc.Compression.Gzip if collector.gzip else grpc.Compression.NoCompression
    if collector.plaintext:
        return grpc.insecure_channel(collector.target, options, compression)
    credentials = collector.credentials or grpc.ssl_channel_credentials(
        collector.certificate, collector.client_key, collector.client_certificate
    )
    return grpc.secure_channel(collector.target, credentials, options, compression)
