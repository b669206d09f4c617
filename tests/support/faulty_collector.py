"""A collector with switches for every fault, as a program of its own: OTLP over gRPC and over HTTP.

Reads commands from standard input, one JSON object a line, and answers each with one on standard output:
`{"do": "set", ...}` changes the switches of `Faults`, `{"do": "report"}` tells what has arrived since the beginning.
"""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces


@dataclass
class Faults:
    """What the collector does wrong. The defaults are nothing."""

    delay: float = 0.0
    """Seconds before each answer."""
    hang: bool = False
    """Answer never."""
    refuse: list[str | int] = field(default_factory=list)
    """The status codes of the next answers."""
    always: str | int = ""
    """The status code of every answer."""
    message: str = "refused for the test"
    retry_after: str = ""
    """The header of HTTP."""
    retry_info: list[list[Any]] = field(default_factory=list)
    """The trailers of gRPC: each a name, and seconds or text to send as it is."""
    limit: int = 0
    """The largest request, in bytes, that is not refused as too large."""
    rejects: int = 0
    """The part of each request that is thrown away."""
    garbage: bool = False
    """The answers of success cannot be read."""
    drip: float = 0.0
    """Seconds between the bytes of an answer."""
    location: str = ""
    """Redirect there."""
    huge: int = 0
    """The size of the body of each answer."""


class Collector:
    """What has arrived, and what is to go wrong."""

    def __init__(self) -> None:
        self.faults = Faults()
        self.lock = threading.Lock()
        self.requests = 0
        self.times: list[float] = []
        self.sizes: list[int] = []
        self.paths: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.spans: list[str] = []
        self.resources: list[dict[str, str]] = []
        self.logs: list[str] = []
        self.points: list[list[Any]] = []

    def come(self, path: str, headers: dict[str, str], size: int) -> str | int:
        """A request comes in. Returns the code to refuse it with, or ""."""
        with self.lock:
            self.requests += 1
            self.times.append(time.monotonic())
            self.paths.append(path)
            self.headers.append(headers)
            self.sizes.append(size)
            refused = self.faults.refuse.pop(0) if self.faults.refuse else self.faults.always
        while self.faults.hang:
            time.sleep(0.05)
        time.sleep(self.faults.delay)
        return refused

    def take(self, path: str, payload: bytes) -> bytes:
        """Keep what a request carries. Returns the answer."""
        with self.lock:
            answer = {"trace": self._spans, "metri": self._points, "logs": self._logs}
            kind = next(name for name in answer if name in path.lower())
            return answer[kind](payload)

    def _spans(self, payload: bytes) -> bytes:
        for group in traces.ExportTraceServiceRequest.FromString(payload).resource_spans:
            self.resources.append({pair.key: pair.value.string_value for pair in group.resource.attributes})
            self.spans += [span.name for scope in group.scope_spans for span in scope.spans]
        response = traces.ExportTraceServiceResponse()
        response.partial_success.rejected_spans = self.faults.rejects
        response.partial_success.error_message = "too\nold" if self.faults.rejects else ""
        return bytes(response.SerializeToString())

    def _points(self, payload: bytes) -> bytes:
        for group in metrics.ExportMetricsServiceRequest.FromString(payload).resource_metrics:
            self.resources.append({pair.key: pair.value.string_value for pair in group.resource.attributes})
            for scope in group.scope_metrics:
                for metric in scope.metrics:
                    data = getattr(metric, metric.WhichOneof("data"))
                    for point in data.data_points:
                        value = point.count if hasattr(point, "count") else point.as_int or point.as_double
                        attributes = {
                            pair.key: pair.value.string_value or pair.value.int_value for pair in point.attributes
                        }
                        self.points.append([metric.name, metric.unit, metric.description, value, attributes])
        response = metrics.ExportMetricsServiceResponse()
        response.partial_success.rejected_data_points = self.faults.rejects
        return bytes(response.SerializeToString())

    def _logs(self, payload: bytes) -> bytes:
        for group in logs.ExportLogsServiceRequest.FromString(payload).resource_logs:
            self.logs += [record.body.string_value for scope in group.scope_logs for record in scope.log_records]
        response = logs.ExportLogsServiceResponse()
        response.partial_success.rejected_log_records = self.faults.rejects
        return bytes(response.SerializeToString())

    def report(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        with self.lock:
            kept = {name: value for name, value in vars(self).items() if name not in {"lock", "faults"}}
            return json.loads(json.dumps({**kept, "faults": asdict(self.faults)}))  # type: ignore[no-any-return]


# --- gRPC ---


class _Service(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Every method there is, on bytes."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def service(self, details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda payload, context: self._answer(details, payload, context))

    def _answer(self, details: Any, payload: bytes, context: Any) -> bytes:
        found = self._collector
        refused = found.come(details.method, _readable(context.invocation_metadata()), len(payload))
        faults = found.faults
        context.set_trailing_metadata(tuple((name, _detail(name, value)) for name, value in faults.retry_info))
        if refused:
            context.abort(grpc.StatusCode[str(refused)], faults.message)
        if faults.limit and len(payload) > faults.limit:
            said = f"Received message larger than max ({len(payload)} vs. {faults.limit})"
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, said)
        answer = found.take(details.method, payload)
        return b"\xff\xff\xff" if faults.garbage else answer


def _readable(metadata: Any) -> dict[str, str]:
    return {key: value if isinstance(value, str) else value.hex() for key, value in metadata}


def _detail(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    info = RetryInfo()
    info.retry_delay.seconds, nanos = int(value), round((value - int(value)) * 1e9)
    info.retry_delay.nanos = nanos
    if name == "google.rpc.retryinfo-bin":
        return bytes(info.SerializeToString())
    status = Status()
    status.details.add().Pack(info)
    return bytes(status.SerializeToString())


def _serve_grpc(collector: Collector, port: int, key: bytes | None, chain: bytes | None, clients: bytes | None) -> int:
    server = grpc.server(
        ThreadPoolExecutor(32),
        options=(("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 64 << 20)),
    )
    server.add_generic_rpc_handlers((_Service(collector),))
    where = f"127.0.0.1:{port}"
    if key and chain:
        pair = grpc.ssl_server_credentials([(key, chain)], clients, require_client_auth=bool(clients))
        found = server.add_secure_port(where, pair)
    else:
        found = server.add_insecure_port(where)
    server.start()
    _ALIVE.append(server)
    return int(found)


_ALIVE: list[Any] = []


# --- HTTP ---


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    collector: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        found = self.collector
        refused = found.come(self.path, {key.lower(): value for key, value in self.headers.items()}, len(body))
        faults = found.faults
        if faults.location:
            self._send(int(refused or 307), b"", {"location": faults.location})
        elif refused == "drop":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
        elif refused:
            self._send(int(refused), faults.message.encode(), {"retry-after": faults.retry_after})
        elif faults.limit and len(body) > faults.limit:
            self._send(413, b"", {})
        else:
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            answer = found.take(self.path, body)
            self._send(200, b"\xff\xff\xff" if faults.garbage else answer, {"content-type": "application/x-protobuf"})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        faults = self.collector.faults
        body += b"\x00" * faults.huge
        with suppress(OSError):
            self.send_response(status)
            for name, value in headers.items():
                if value:
                    self.send_header(name, value)
            self.send_header("content-length", str(len(body)))
            if faults.drip:
                for byte in b"".join(self._headers_buffer) + b"\r\n" + body:  # type: ignore[attr-defined]
                    self.connection.sendall(bytes([byte]))
                    time.sleep(faults.drip)
                return
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


def _serve_http(collector: Collector, port: int, context: ssl.SSLContext | None) -> int:
    handler = type("Handler", (_Handler,), {"collector": collector})
    server = _Server(("127.0.0.1", port), handler)
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_port)


def main() -> None:
    """Serve until standard input closes. The first line says how."""
    options = json.loads(sys.stdin.readline())
    collector = Collector()
    collector.faults = Faults(**options["faults"])
    key, chain, clients = (options.get(name) for name in ("key", "chain", "clients"))
    if options["protocol"] == "grpc":
        files = [open(path, "rb").read() if path else None for path in (key, chain, clients)]  # noqa: SIM115
        port = _serve_grpc(collector, options["port"], *files)
    else:
        context = None
        if key:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(chain, key)
            if clients:
                context.verify_mode = ssl.CERT_REQUIRED
                context.load_verify_locations(clients)
        port = _serve_http(collector, options["port"], context)
    print(json.dumps({"port": port}), flush=True)
    for text in sys.stdin:
        command = json.loads(text)
        if command.pop("do") == "set":
            for name, value in command.items():
                setattr(collector.faults, name, value)
            print("{}", flush=True)
        else:
            print(json.dumps(collector.report()), flush=True)


if __name__ == "__main__":
    main()
