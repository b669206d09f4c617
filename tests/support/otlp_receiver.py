"""A real OTLP/gRPC collector for tests, on an ephemeral loopback port, that can also be slow, refuse or keep silent."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2, logs_service_pb2_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2, metrics_service_pb2_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span


def plain(attributes: Any) -> dict[str, Any]:
    """Attributes off the wire as a dictionary of str, int, float and bool."""
    return {pair.key: _value(pair) for pair in attributes}


def _value(pair: KeyValue) -> Any:
    kind = pair.value.WhichOneof("value")
    return getattr(pair.value, kind) if kind else None


class Receiver:
    """Keeps what it is sent. Starts at once, stops with its `with` block.

    `delay`: seconds before each answer. `refuse`: the status codes of the next answers, one after the other, before it
    begins to accept; `retry_after`: the seconds that those tell the sender to wait. `credentials`: serve TLS. `port`: 0
    for any free one; `address`: another place, like `unix:/tmp/otel.sock`.
    """

    def __init__(
        self,
        *,
        delay: float = 0.0,
        refuse: tuple[grpc.StatusCode, ...] = (),
        retry_after: float | None = None,
        credentials: grpc.ServerCredentials | None = None,
        address: str | None = None,
        port: int = 0,
    ) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.metrics: list[Any] = []
        self.logs: list[Any] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.batches = 0
        self.rejects = 0
        self._delay = delay
        self._refuse = list(refuse)
        self._retry_after = retry_after
        self._arrived = threading.Condition()
        self._server = grpc.server(ThreadPoolExecutor(max_workers=4), options=(("grpc.so_reuseport", 0),))
        trace_service_pb2_grpc.add_TraceServiceServicer_to_server(_Traces(self), self._server)  # type: ignore[no-untyped-call]
        metrics_service_pb2_grpc.add_MetricsServiceServicer_to_server(_Metrics(self), self._server)  # type: ignore[no-untyped-call]
        logs_service_pb2_grpc.add_LogsServiceServicer_to_server(_Logs(self), self._server)  # type: ignore[no-untyped-call]
        where = address or f"127.0.0.1:{port}"
        if credentials is None:
            self.port = self._server.add_insecure_port(where)
        else:
            self.port = self._server.add_secure_port(where, credentials)
        self._server.start()

    @property
    def target(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> str:
        """For OTEL_EXPORTER_OTLP_ENDPOINT, plain text."""
        return f"http://{self.target}"

    def named(self, name: str) -> list[Span]:
        """The spans of one name."""
        return [span for span in self.spans if span.name == name]

    @property
    def metric_names(self) -> list[str]:
        """The names of the metrics, without those that some SDKs keep of themselves."""
        return [metric.name for metric in self.metrics if not metric.name.startswith("otel.sdk.")]

    def wait_for(self, enough: Callable[[], object], seconds: float = 10.0) -> None:
        """Wait until `enough()` is true, as it may become with each arrival. Raises AssertionError after `seconds`."""
        with self._arrived:
            if not self._arrived.wait_for(enough, seconds):
                raise AssertionError(f"only {len(self.spans)} spans and {len(self.metrics)} metrics after {seconds} s")

    def refuse(self, *codes: grpc.StatusCode) -> None:
        """Refuse the next exports with these codes."""
        self._refuse.extend(codes)

    def stop(self) -> None:
        """Stop at once; the port is free afterwards."""
        self._server.stop(None).wait()

    def take(self, context: Any, keep: Callable[[], None]) -> None:
        """Answer one export."""
        time.sleep(self._delay)
        with self._arrived:
            self.metadata.append(dict(context.invocation_metadata()))
            self.batches += 1
            self._arrived.notify_all()
            if self._refuse:
                if self._retry_after is not None:
                    context.set_trailing_metadata((("grpc-status-details-bin", _retry_info(self._retry_after)),))
                context.abort(self._refuse.pop(0), "refused for the test")
            keep()
            self._arrived.notify_all()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _retry_info(seconds: float) -> bytes:
    status = Status()
    detail = RetryInfo()
    detail.retry_delay.FromMilliseconds(int(seconds * 1000))
    status.details.add().Pack(detail)
    return bytes(status.SerializeToString())


class _Traces(trace_service_pb2_grpc.TraceServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:
        def keep() -> None:
            for group in request.resource_spans:
                self._receiver.resources.append(plain(group.resource.attributes))
                for scope in group.scope_spans:
                    self._receiver.spans.extend(scope.spans)

        self._receiver.take(context, keep)
        response = trace_service_pb2.ExportTraceServiceResponse()
        if self._receiver.rejects:
            response.partial_success.rejected_spans = self._receiver.rejects
            response.partial_success.error_message = "too old"
        return response


class _Metrics(metrics_service_pb2_grpc.MetricsServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:
        def keep() -> None:
            for group in request.resource_metrics:
                for scope in group.scope_metrics:
                    self._receiver.metrics.extend(scope.metrics)

        self._receiver.take(context, keep)
        return metrics_service_pb2.ExportMetricsServiceResponse()


class _Logs(logs_service_pb2_grpc.LogsServiceServicer):
    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:
        def keep() -> None:
            for group in request.resource_logs:
                for scope in group.scope_logs:
                    self._receiver.logs.extend(scope.log_records)

        self._receiver.take(context, keep)
        return logs_service_pb2.ExportLogsServiceResponse()


@contextmanager
def closed_port() -> Iterator[int]:
    """A loopback port where nobody listens, and where nobody can as long as the block lasts."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


@contextmanager
def hanging_port() -> Iterator[int]:
    """A loopback port that accepts connections and never says a word."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(16)
        yield listener.getsockname()[1]
