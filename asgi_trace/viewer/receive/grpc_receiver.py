"""An OTLP/gRPC receiver for traces, logs and metrics: protobuf in, records out into a store.

It follows the OTLP protocol of version 1: unary `Export` calls, gzip allowed, each one answered. A message that cannot
be read is INVALID_ARGUMENT, one that is too large RESOURCE_EXHAUSTED. The only module of the viewer that knows grpc.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import grpc  # type: ignore[import-untyped, unused-ignore]

from .intake import Intake
from .ports import PortInUse, bracketed, loopback_twin
from .signals import MAX_BODY, SIGNALS, Signal, TooLarge, Unreadable, from_protobuf

_LARGEST_SEEN = 2 * MAX_BODY
"""Beyond this, gRPC itself refuses a message with RESOURCE_EXHAUSTED; below it, this module can say so."""


class GrpcReceiver:
    """Listens on `host:port` (0 = any free port) and feeds `intake` until it is closed. A context manager.

    Raises `PortInUse` when the address cannot be bound. Of a loopback address, the other family's is taken as well
    where it is free: `localhost` may mean either.
    """

    def __init__(self, intake: Intake, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self._intake = intake
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="otlp-receiver")
        self._server = grpc.server(
            self._threads,
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", _LARGEST_SEEN)],
        )
        self._server.add_generic_rpc_handlers(tuple(_service(signal, intake) for signal in SIGNALS))
        self.port: int = self._bind(host, port)
        if self.port == 0:
            self._threads.shutdown(wait=False)
            raise PortInUse(host, port)
        if twin := loopback_twin(host):
            self._bind(twin, self.port)
        self.endpoint: str = f"http://{bracketed(host)}:{self.port}"
        self._server.start()

    def _bind(self, host: str, port: int) -> int:
        try:
            bound: int = self._server.add_insecure_port(f"{bracketed(host)}:{port}")
        except RuntimeError:
            return 0
        return bound

    def close(self) -> None:
        """Answer the calls that are under way (at most 2 seconds) and stop listening. Idempotent."""
        self._server.stop(2.0).wait()
        self._threads.shutdown(wait=True)

    def __enter__(self) -> GrpcReceiver:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _serialize(response: Any) -> bytes:
    message: bytes = response.SerializeToString()
    return message


def _service(signal: Signal, intake: Intake) -> Any:
    """The generic gRPC handler of one OTLP service."""
    handler: Any = grpc.unary_unary_rpc_method_handler(
        _export(signal, intake),
        request_deserializer=None,  # bytes: gRPC's own answer to a message that it cannot read is UNKNOWN
        response_serializer=_serialize,
    )
    return grpc.method_handlers_generic_handler(f"opentelemetry.proto.collector.{signal.service}", {"Export": handler})


def _export(signal: Signal, intake: Intake) -> Callable[[bytes, Any], Any]:
    def export(body: bytes, context: Any) -> Any:
        try:
            if len(body) > MAX_BODY:
                raise TooLarge
            request = from_protobuf(signal, body)
        except (Unreadable, TooLarge) as exc:
            intake.say_once(f"grpc {signal.name} {type(exc).__name__}", f"an export over gRPC was refused: {exc}")
            code = "INVALID_ARGUMENT" if isinstance(exc, Unreadable) else "RESOURCE_EXHAUSTED"
            return context.abort(getattr(grpc.StatusCode, code), str(exc))
        return intake.take(signal, request)

    return export
