"""The exporters of each signal, over gRPC and over HTTP, with TLS and through a proxy."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, LogRecordExportResult, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from asgi_trace._export.exporters import OTLPMetricExporter, OTLPSpanExporter
from asgi_trace._export.log_exporter import OTLPLogRecordExporter
from asgi_trace._export.signals import LOGS, METRICS

from ..support.collectors import GRPC, HTTP, PROTOCOLS, FaultyCollector
from ..support.configuration import read
from ..support.otlp_receiver import Receiver
from ..support.spans import spans
from ..support.subprocess import ROOT, environment
from .test_delivery import exporter

both = pytest.mark.parametrize("protocol", PROTOCOLS)


@both
def test_metrics_arrive(protocol: str) -> None:
    """Metrics go to the same collector, by the path of their own."""
    with FaultyCollector(protocol) as receiver:
        found, _ = read({}, METRICS, endpoint=receiver.endpoint, protocol=protocol)
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(found))
        provider = MeterProvider([reader], shutdown_on_exit=False)
        provider.get_meter("test").create_counter("orders", "1").add(3, {"a": "b"})
        provider.force_flush()
        report = receiver.report()
        provider.shutdown()
    assert report["points"] == [["orders", "1", "", 3, {"a": "b"}]]
    if protocol == HTTP:
        assert report["paths"] == ["/v1/metrics"]


@both
def test_lost_data_points_are_counted(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """A collection that does not arrive is counted by its data points."""
    with FaultyCollector(protocol, always="INTERNAL" if protocol == GRPC else "500") as receiver:
        found, _ = read({}, METRICS, endpoint=receiver.endpoint, protocol=protocol)
        exporting = OTLPMetricExporter(found)
        provider = MeterProvider([PeriodicExportingMetricReader(exporting)], shutdown_on_exit=False)
        for number in range(3):
            provider.get_meter("test").create_counter("orders").add(1, {"number": number})
        provider.force_flush()
        assert exporting.losses.count == 3
        provider.shutdown()
    assert caplog.messages[0].startswith("3 data points did not reach")


def log_records(*bodies: str) -> list[Any]:
    """Log records as an exporter gets them."""
    memory: Any = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    provider = LoggerProvider(Resource({}), shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(memory))
    for body in bodies:
        record = LogRecord(body=body, severity_number=SeverityNumber.INFO, timestamp=1)
        provider.get_logger("test").emit(record)
    return list(memory.get_finished_logs())


@both
def test_logs_arrive(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """Log records go the same way; one that cannot be encoded is named and goes alone."""
    with FaultyCollector(protocol) as receiver:
        found, _ = read({}, LOGS, endpoint=receiver.endpoint, protocol=protocol)
        exporting = OTLPLogRecordExporter(found)
        assert exporting.export(log_records("a", "b")) is LogRecordExportResult.SUCCESS
        assert exporting.export(log_records("c", "bad \ud800", "d")) is LogRecordExportResult.FAILURE
        report = receiver.report()
    assert report["logs"] == ["a", "b", "c", "d"]
    assert "the log record 'bad \\ud800' of 'test' cannot be encoded" in caplog.text
    if protocol == HTTP:
        assert set(report["paths"]) == {"/v1/logs"}


def test_a_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector on a Unix socket is reached over gRPC."""
    monkeypatch.chdir(tmp_path)  # the whole path may be too long for a socket
    with Receiver(address="unix:otel.sock") as receiver:
        found, _ = read({}, endpoint="unix:otel.sock")
        assert OTLPSpanExporter(found).ship(spans()) == 0
        assert len(receiver.spans) == 1


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority's certificate (`clients`), a pair of it (`key`, `chain`) and another authority."""
    trustme = pytest.importorskip("trustme")
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    pair = authority.issue_cert("localhost", "127.0.0.1")
    (folder / "clients").write_bytes(authority.cert_pem.bytes())
    (folder / "key").write_bytes(pair.private_key_pem.bytes())
    (folder / "chain").write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))
    (folder / "another").write_bytes(trustme.CA().cert_pem.bytes())
    return folder


@both
def test_tls(protocol: str, tls: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With its authority's certificate a collector is reached over TLS, with our own where it asks for one."""
    files = {"certificate": tls / "clients", "client_key": tls / "key", "client_certificate": tls / "chain"}
    with FaultyCollector(protocol, tls=tls) as receiver:
        assert exporter(protocol, receiver, **files).ship(spans("a")) == 0
        assert exporter(protocol, receiver, certificate=tls / "clients", timeout=0.5).ship(spans()) == 1
        assert exporter(protocol, receiver, **{**files, "certificate": tls / "another"}, timeout=0.5).ship(spans()) == 1
        assert receiver.spans == ["a"]
    assert "with a certificate of an authority that is trusted here?" in caplog.messages[-1]


PROXY = """
import http.server, select, socket, sys, threading

class Proxy(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        print(self.requestline, self.headers.get("proxy-authorization", "-"), flush=True)

    def do_CONNECT(self):
        host, port = self.path.split(":")
        with socket.create_connection((host, int(port))) as far:
            self.send_response(200)
            self.end_headers()
            while True:
                for one in select.select([self.connection, far], [], [], 10)[0]:
                    content = one.recv(65536)
                    if not content:
                        return
                    (far if one is self.connection else self.connection).sendall(content)

    def do_POST(self):
        import urllib.request
        body = self.rfile.read(int(self.headers["content-length"]))
        request = urllib.request.Request(self.path, body, {"content-type": self.headers["content-type"]})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request) as response:
            content = response.read()
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
print(server.server_port, flush=True)
server.serve_forever()
"""


@pytest.fixture
def proxy() -> Iterator[subprocess.Popen[str]]:
    """An HTTP proxy in another process, which prints its port and then a line for each request."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROXY], cwd=ROOT, env=environment(), stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize("secure", [False, True])
@pytest.mark.parametrize("variable", ["scheme", "ALL_PROXY", "lower case"])
def test_a_proxy(secure: bool, variable: str, tls: Path, proxy: subprocess.Popen[str]) -> None:
    """OTLP over HTTP goes through the proxy that the environment names: with credentials, and in a tunnel for TLS."""
    scheme = "https" if secure else "http"
    name = {"scheme": f"{scheme.upper()}_PROXY", "ALL_PROXY": "ALL_PROXY", "lower case": f"{scheme}_proxy"}[variable]
    where = f"http://me:hunter2@127.0.0.1:{line(proxy)}"
    files: dict[str, Any] = {
        "certificate": tls / "clients",
        "client_key": tls / "key",
        "client_certificate": tls / "chain",
    }
    with FaultyCollector(HTTP, tls=tls if secure else None) as receiver:
        found, problems = read({name: where}, endpoint=receiver.endpoint, protocol=HTTP, **(files if secure else {}))
        assert problems == {}
        assert "hunter2" not in repr(found)
        assert OTLPSpanExporter(found).ship(spans("a")) == 0
        assert receiver.spans == ["a"]
    method = f"CONNECT 127.0.0.1:{receiver.port}" if secure else f"POST http://127.0.0.1:{receiver.port}/v1/traces"
    assert line(proxy).startswith(method)


def test_a_proxy_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    """Without its proxy nothing is sent past it: the loss is said with the variables to look at."""
    with FaultyCollector(HTTP) as receiver:
        found, _ = read({"HTTP_PROXY": "127.0.0.1:9"}, endpoint=receiver.endpoint, protocol=HTTP, timeout=0.5)
        assert OTLPSpanExporter(found).ship(spans()) == 1
        assert receiver.requests == 0
    assert "HTTP_PROXY" in caplog.text


def test_a_proxy_that_needs_a_library(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SOCKS proxy without PySocks is no reason to go past it: the loss is said with what is missing."""
    monkeypatch.setitem(sys.modules, "socks", None)
    monkeypatch.delitem(sys.modules, "urllib3.contrib.socks", raising=False)
    with FaultyCollector(HTTP) as receiver:
        found, _ = read({"ALL_PROXY": "socks5://127.0.0.1:9"}, endpoint=receiver.endpoint, protocol=HTTP)
        assert OTLPSpanExporter(found).ship(spans()) == 1
        assert receiver.requests == 0
    assert "a SOCKS proxy needs PySocks: pip install 'urllib3[socks]'" in caplog.messages[0]


@pytest.mark.parametrize(
    ("exceptions", "used"),
    [
        ("", True),
        ("*", False),
        ("127.0.0.1", False),
        ("127.0.0.0/8", False),
        ("10.0.0.0/8,other.test", True),
        ("127.0.0.1:4318", False),
    ],
)
def test_no_proxy(exceptions: str, used: bool) -> None:
    """NO_PROXY leaves hosts out: by name, by address, by network, or all."""
    variables = {"ALL_PROXY": "http://proxy:1", "NO_PROXY": exceptions}
    found, _ = read(variables, endpoint="http://127.0.0.1:4318", protocol=HTTP)
    assert (found.proxy is not None) is used


def test_the_proxy_of_a_cgi_request_is_none() -> None:
    """Under CGI the variable HTTP_PROXY is a header of the client's request, and does not count."""
    variables = {"HTTP_PROXY": "http://evil:1", "REQUEST_METHOD": "GET"}
    assert read(variables, endpoint="http://collector:4318", protocol=HTTP)[0].proxy is None
    assert read(variables, endpoint="https://collector:4318", protocol=HTTP)[0].proxy is None
