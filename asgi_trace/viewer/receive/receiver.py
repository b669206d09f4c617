"""An OTLP/gRPC receiver for traces, logs and metrics: protobuf in, records out into a `Store`.

It follows the OTLP protocol of version 1: unary `Export` calls, gzip allowed, each one answered, whatever is in it. The
only module of the viewer that knows grpc; what the messages mean is known to `otlp`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import grpc  # type: ignore[import-untyped, unused-ignore]
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb

from .otlp import histograms_of, logs_of, spans_of
from .store import Store

_LOGGER = logging.getLogger("asgi_trace")

_MAX_MESSAGE = 16 * 1024 * 1024


class PortInUse(Exception):
    """The receiver cannot listen where it was asked to."""


class Receiver:
    """Listens on `host:port` (0 = any free port) and fills `store` until it is closed. A context manager.

    `forward` is called with the protobuf request of every trace export after it was stored, in a thread of the
    server; it must neither raise nor take long. Raises `PortInUse` when the address cannot be bound.
    """

    def __init__(
        self,
        store: Store,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        forward: Callable[[Any], None] | None = None,
    ) -> None:
        self._store = store
        self._forward = forward
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="otlp-receiver")
        self._server = grpc.server(
            self._threads,
            options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", _MAX_MESSAGE)],
        )
        self._server.add_generic_rpc_handlers(
            (
                _service("trace.v1.TraceService", trace_pb, "Trace", self._traces),
                _service("logs.v1.LogsService", logs_pb, "Logs", self._logs),
                _service("metrics.v1.MetricsService", metrics_pb, "Metrics", self._metrics),
            )
        )
        bracketed = f"[{host}]" if ":" in host else host
        try:
            self.port: int = self._server.add_insecure_port(f"{bracketed}:{port}")
        except RuntimeError:
            self.port = 0
        if self.port == 0:
            self._threads.shutdown(wait=False)
            raise PortInUse(f"cannot listen on {bracketed}:{port}: is another collector running there?")
        self.endpoint = f"http://{bracketed}:{self.port}"
        self._server.start()

    def close(self) -> None:
        """Answer the calls that are under way (at most 2 seconds) and stop listening. Idempotent."""
        self._server.stop(2.0).wait()
        self._threads.shutdown(wait=True)

    def __enter__(self) -> Receiver:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _traces(self, request: Any) -> None:
        spans, unusable = spans_of(request)
        self._store.add_spans(spans)
        if unusable:
            self._store.count_unusable(unusable)
        if self._forward is not None:
            self._forward(request)

    def _logs(self, request: Any) -> None:
        for log in logs_of(request):
            self._store.add_log(log)

    def _metrics(self, request: Any) -> None:
        for point, delta in histograms_of(request):
            self._store.set_histogram(point, delta=delta)


def _service(name: str, messages: Any, signal: str, consume: Callable[[Any], None]) -> Any:
    """The generic gRPC handler of one OTLP service; a request that we fail to understand is still answered."""
    answer = getattr(messages, f"Export{signal}ServiceResponse")

    def export(request: Any, context: Any) -> Any:
        try:
            consume(request)
        except Exception:
            _LOGGER.exception("asgi_trace.viewer: a %s export could not be read", signal.lower())
        return answer()

    handler = grpc.unary_unary_rpc_method_handler(
        export,
        request_deserializer=getattr(messages, f"Export{signal}ServiceRequest").FromString,
        response_serializer=answer.SerializeToString,
    )
    return grpc.method_handlers_generic_handler(f"opentelemetry.proto.collector.{name}", {"Export": handler})
