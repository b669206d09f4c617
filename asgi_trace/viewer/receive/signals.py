"""The three signals of OTLP and their encodings: bytes of protobuf or JSON into export requests, and back.

OTLP/JSON is protobuf's JSON mapping but for two things: ids are hex instead of base64, and enums are numbers. Unknown
fields are ignored in both encodings, as the specification asks.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs_pb
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics_pb
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as trace_pb

MAX_BODY = 16 * 1024 * 1024
"""Bytes of one export, as sent and also unpacked."""


class Unreadable(Exception):
    """A body is not what its content type says. The message says what is wrong with it."""


class TooLarge(Exception):
    """A body is larger than `MAX_BODY`, as sent or unpacked."""

    def __init__(self) -> None:
        super().__init__(f"the body is larger than {MAX_BODY // (1024 * 1024)} MiB")


@dataclass(frozen=True)
class Signal:
    """One of the three: its name, the key of its JSON, its gRPC service, its messages."""

    name: str
    key: str
    service: str
    request: Callable[[], Any]
    response: Callable[[], Any]


TRACES = Signal(
    "traces",
    "resourceSpans",
    "trace.v1.TraceService",
    trace_pb.ExportTraceServiceRequest,
    trace_pb.ExportTraceServiceResponse,
)
LOGS = Signal(
    "logs",
    "resourceLogs",
    "logs.v1.LogsService",
    logs_pb.ExportLogsServiceRequest,
    logs_pb.ExportLogsServiceResponse,
)
METRICS = Signal(
    "metrics",
    "resourceMetrics",
    "metrics.v1.MetricsService",
    metrics_pb.ExportMetricsServiceRequest,
    metrics_pb.ExportMetricsServiceResponse,
)
SIGNALS = (TRACES, LOGS, METRICS)

_IDS = frozenset(("traceId", "spanId", "parentSpanId", "trace_id", "span_id", "parent_span_id"))


def gunzip(body: bytes) -> bytes:
    """A gzip body unpacked. Raises `TooLarge` before more than `MAX_BODY` is unpacked, and `Unreadable`."""
    unpacked = bytearray()
    try:
        while body:
            member = zlib.decompressobj(wbits=31)
            unpacked += member.decompress(body, MAX_BODY + 1 - len(unpacked))
            if len(unpacked) > MAX_BODY:
                raise TooLarge
            if not member.eof:
                raise Unreadable("the gzip body ends too early")
            body = member.unused_data
    except zlib.error as exc:
        raise Unreadable(f"the body is not gzip: {exc}") from exc
    return bytes(unpacked)


def from_protobuf(signal: Signal, body: bytes) -> Any:
    """An export request from protobuf. Raises `Unreadable`."""
    request = signal.request()
    try:
        request.ParseFromString(body)
    except (DecodeError, RuntimeError) as exc:
        raise Unreadable(f"the body is not an OTLP {signal.name} export in protobuf") from exc
    return request


def from_json(signal: Signal, body: bytes | str) -> Any:
    """An export request from JSON. Raises `Unreadable`."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as exc:
        raise Unreadable(f"the body is not JSON: {exc}") from exc
    return from_data(signal, data)


def from_data(signal: Signal, data: object) -> Any:
    """An export request from decoded JSON. Raises `Unreadable`."""
    if not isinstance(data, dict):
        raise Unreadable(f"OTLP/JSON is an object with {signal.key!r}, not a {type(data).__name__}")
    try:
        return ParseDict(_with_base64_ids(data), signal.request(), ignore_unknown_fields=True)
    except (ParseError, ValueError, TypeError, AttributeError, RecursionError) as exc:
        raise Unreadable(f"the body is not an OTLP {signal.name} export in JSON: {str(exc)[:300]}") from exc


def to_data(request: Any) -> dict[str, Any]:
    """An export request as the data of OTLP/JSON."""
    data: dict[str, Any] = _with_hex_ids(MessageToDict(request, use_integers_for_enums=True))
    return data


# protobuf reads bytes with the URL-safe alphabet, which Python 3.15 no longer lets the other one stand in for.
_URL_SAFE = str.maketrans("+/", "-_")


def _with_base64_ids(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _with_base64_ids(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_base64_ids(item) for item in value]
    if key in _IDS and isinstance(value, str):
        try:
            return base64.urlsafe_b64encode(bytes.fromhex(value)).decode("ascii")
        except ValueError:
            return ""  # an unusable id, which is counted as such
    if key == "bytesValue" and isinstance(value, str):
        return value.translate(_URL_SAFE)
    return value


def _with_hex_ids(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _with_hex_ids(item, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_hex_ids(item) for item in value]
    return base64.b64decode(value).hex() if key in _IDS else value
