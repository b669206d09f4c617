"""OTLP over gRPC: spans and metrics, sent to one collector.

Follows the OTLP specification: which failures are tried again, the collector's own delay, partial success. The channel
belongs to the process that first sends something, so a server may fork after `configure()`. `shutdown()` cuts off what
is under way, so nothing here outlasts a stop. An outage is one ERROR, its end one INFO; nothing logged holds a header.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.metrics.export import MetricExporter, MetricExportResult, MetricsData
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from .._guard import logger
from .collector import Collector

_STATUS_DETAILS = "grpc-status-details-bin"
_HINTS = {
    grpc.StatusCode.UNAVAILABLE: "is it running? OTLP/gRPC usually listens on port 4317, OTLP/HTTP on 4318",
    grpc.StatusCode.UNIMPLEMENTED: "does it speak OTLP/gRPC on this port?",
    grpc.StatusCode.UNAUTHENTICATED: "check the headers",
    grpc.StatusCode.PERMISSION_DENIED: "check the headers",
}
_TLS_HINT = "does it speak TLS on this port, with a certificate of an authority that is trusted here?"


class Sender:
    """Sends encoded batches of one signal to one method of a collector, one at a time."""

    def __init__(self, collector: Collector, *, method: str, things: str, response: Any) -> None:
        self._collector = collector
        self._method = method
        self._things = things
        self._response = response
        self._channel: Any = None
        self._pid = 0
        self._hurry = threading.Event()
        self._closed = threading.Event()
        self._reached = False
        self._failing = False
        self.lost = 0
        """How many spans or data points never arrived."""

    def send(self, payload: bytes, count: int) -> bool:
        """Deliver one batch of `count` things within the collector's timeout, retries included."""
        deadline = time.monotonic() + self._collector.timeout
        attempt = 0
        reason = "no answer yet"
        while not self._closed.is_set():
            try:
                response = self._export()(
                    payload, timeout=deadline - time.monotonic(), metadata=self._collector.headers
                )
            except grpc.RpcError as exc:
                hurried = self._hurry.is_set()  # who comes later than this ends the pause
                if not self._closed.is_set():
                    reason = _reason(exc)
                delay = _retry_delay(exc, attempt, self._collector.retryable)
                self._reconnect(exc)
                if delay is None or time.monotonic() + delay > deadline or (hurried and self._hopeless()):
                    break
                logger.debug("sending %s failed: %s; again in %.1f seconds", self._things, reason, delay)
            except ValueError as exc:  # the channel was closed by shutdown(), or its settings cannot work
                reason = str(exc)
                break
            else:
                self._delivered(response.partial_success)
                return True
            attempt += 1
            (self._closed if hurried else self._hurry).wait(delay)
        self._failed(count, f"the exporter was shut down ({reason})" if self._closed.is_set() else reason)
        return False

    def hurry(self) -> None:
        """Somebody waits: a collector that does not answer now, and has not before, gets no second attempt.

        So a service without a collector, as on a developer's machine, stops and reloads without a delay.
        """
        self._hurry.set()

    def relax(self) -> None:
        """Nobody waits any more."""
        if not self._closed.is_set():
            self._hurry.clear()

    def renew(self) -> None:
        """This process was forked off: whoever waited did not come along, and no lock of the parent's may stay."""
        closed = self._closed.is_set()
        self._hurry, self._closed = threading.Event(), threading.Event()
        if closed:
            self.close()

    def close(self) -> None:
        """Give up what is under way, at once, and send nothing any more."""
        self._closed.set()
        self._hurry.set()
        channel = self._channel
        if channel is not None and self._pid == os.getpid():
            channel.close()

    def _hopeless(self) -> bool:
        return self._failing or not self._reached

    def _export(self) -> Callable[..., Any]:
        if self._channel is None or self._pid != os.getpid():  # a channel does not survive a fork
            self._channel, self._pid = self._collector.channel(), os.getpid()
        channel = self._channel
        if self._closed.is_set():  # while it was opened
            channel.close()
        export: Callable[..., Any] = channel.unary_unary(self._method, response_deserializer=self._response.FromString)
        return export

    def _reconnect(self, exc: Any) -> None:
        if exc.code() is grpc.StatusCode.UNAVAILABLE and not self._closed.is_set():
            # A channel waits longer and longer before it connects again, and keeps to the address it once found.
            channel, self._channel = self._channel, None
            channel.close()

    def _delivered(self, partial: Any) -> None:
        self._reached = True
        rejected = partial.rejected_spans if hasattr(partial, "rejected_spans") else partial.rejected_data_points
        if rejected:
            self.lost += rejected
            self._say("%s rejected %d %s: %s", self._collector.target, rejected, self._things, partial.error_message)
        elif self._failing:
            self._failing = False
            logger.info("%s reach %s again; %d were lost so far", self._things, self._collector.target, self.lost)

    def _failed(self, count: int, reason: str) -> None:
        self.lost += count
        self._say("%d %s did not reach %s: %s", count, self._things, self._collector.target, reason)

    def _say(self, message: str, *values: object) -> None:
        if self._failing:
            logger.debug(message, *values)
        else:
            logger.error(message + "; this is said once, until it works again", *values)
        self._failing = True


def _reason(exc: Any) -> str:
    code = exc.code()
    details = str(exc.details())
    hint = _TLS_HINT if "handshake failed" in details else _HINTS.get(code)
    return f"{code.name}, {details[:300]}" + (f" ({hint})" if hint else "")


def _retry_delay(exc: Any, attempt: int, retryable: frozenset[Any]) -> float | None:
    """Seconds until the next attempt, or None where OTLP forbids one: the collector's word, else 1, 2, 4..."""
    for key, value in exc.trailing_metadata() or ():
        if key == _STATUS_DETAILS:
            for detail in Status.FromString(value).details:
                info = RetryInfo()
                if detail.Unpack(info):
                    return float(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
    if exc.code() not in retryable:
        return None
    return float(2**attempt) * random.uniform(0.8, 1.2)  # noqa: S311 - not a secret, only not all at once


class OTLPSpanExporter(SpanExporter):
    """Exports spans. `encode` turns a batch into the bytes of an `ExportTraceServiceRequest`."""

    def __init__(self, collector: Collector, encode: Callable[[Sequence[ReadableSpan]], bytes] | None = None) -> None:
        self.sender = Sender(
            collector,
            method="/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            things="spans",
            response=ExportTraceServiceResponse,
        )
        self._encode = encode or (lambda spans: encode_spans(spans).SerializeToString())

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch. One span that cannot be encoded does not take the others with it."""
        try:
            payload = self._encode(spans)
        except Exception:
            spans = [span for span in spans if self._encodes(span)]
            payload = self._encode(spans)
        return SpanExportResult.SUCCESS if self.sender.send(payload, len(spans)) else SpanExportResult.FAILURE

    def _encodes(self, span: ReadableSpan) -> bool:
        try:
            self._encode([span])
        except Exception:
            self.sender.lost += 1
            logger.warning("the span %r cannot be sent", span.name, exc_info=True)
            return False
        return True

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Stop at once; the batch processor has waited for what was under way."""
        self.sender.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits in here."""
        return True


class OTLPMetricExporter(MetricExporter):
    """Exports metrics."""

    def __init__(self, collector: Collector, **preferences: Any) -> None:
        super().__init__(**preferences)
        self.sender = Sender(
            collector,
            method="/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
            things="metrics",
            response=ExportMetricsServiceResponse,
        )

    def export(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> MetricExportResult:
        """Send one collection."""
        payload = encode_metrics(metrics_data).SerializeToString()
        count = sum(
            len(scope.metrics) for resource in metrics_data.resource_metrics for scope in resource.scope_metrics
        )
        return MetricExportResult.SUCCESS if self.sender.send(payload, count) else MetricExportResult.FAILURE

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Stop at once."""
        self.sender.close()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing waits in here."""
        return True
