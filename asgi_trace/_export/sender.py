"""One request to a collector: what gRPC and HTTP have in common."""

from __future__ import annotations

from typing import Protocol

from .answer import Answer
from .collector import GRPC, Collector
from .signals import Signal


class Sender(Protocol):
    """Sends requests of one signal to one collector, one at a time. Decides nothing: `Delivery` does."""

    def send(self, payload: bytes, count: int, timeout: float) -> Answer:
        """Make one attempt to send a request that carries `count` things, for at most `timeout` seconds."""
        ...

    def reconnect(self) -> None:
        """Open a new connection for the next attempt."""

    def close(self) -> None:
        """Cut off what is under way, at once, and send nothing any more. A signal handler may call it."""


def sender_for(collector: Collector, signal: Signal) -> Sender:
    """The sender of a collector's protocol. Only that protocol's library is imported."""
    if collector.protocol == GRPC:
        from .grpc_sender import GrpcSender

        return GrpcSender(collector, signal)
    from .http_sender import HttpSender

    return HttpSender(collector, signal)
