"""The OTLP/gRPC exporter against a real collector, one that comes and goes, and none at all."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from asgi_trace._collector import Collector
from asgi_trace._exporter import OTLPMetricExporter, OTLPSpanExporter
from asgi_trace.testing import capture_spans

from ._otlp import Receiver, closed_port, hanging_port

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


def spans(*names: str) -> Sequence[ReadableSpan]:
    with capture_spans() as captured:
        for name in names or ("GET",):
            captured.tracer_provider.get_tracer("test").start_span(name).end()
        return captured.finished


def exporter(receiver: Receiver | int, timeout: float = 10.0) -> OTLPSpanExporter:
    port = receiver if isinstance(receiver, int) else receiver.port
    return OTLPSpanExporter(Collector(f"127.0.0.1:{port}", plaintext=True, timeout=timeout))


def test_spans_arrive_with_the_headers() -> None:
    """A batch arrives whole, compressed too, with the configured headers, and names this library as the sender."""
    with Receiver() as receiver:
        collector = Collector(
            receiver.target, plaintext=True, headers=(("api-key", "a"), ("k-bin", b"\x00")), gzip=True
        )
        assert OTLPSpanExporter(collector).export(spans("a", "b")) is SUCCESS
        assert [span.name for span in receiver.spans] == ["a", "b"]
        assert receiver.metadata[0]["api-key"] == "a"
        assert receiver.metadata[0]["k-bin"] == b"\x00"
        assert str(receiver.metadata[0]["user-agent"]).startswith("asgi-trace/")


def test_a_retryable_answer_is_tried_again() -> None:
    """UNAVAILABLE means again, after a second; the collector's own delay beats that and makes more codes retryable."""
    with Receiver(refuse=(grpc.StatusCode.UNAVAILABLE,)) as receiver:
        assert exporter(receiver).export(spans()) is SUCCESS
        assert (receiver.batches, len(receiver.spans)) == (2, 1)
    with Receiver(refuse=(grpc.StatusCode.RESOURCE_EXHAUSTED,), retry_after=0.01) as receiver:
        began = time.monotonic()
        assert exporter(receiver).export(spans()) is SUCCESS
        assert (receiver.batches, len(receiver.spans)) == (2, 1)
        assert time.monotonic() - began < 0.5


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_final_answer_is_not(code: grpc.StatusCode, caplog: pytest.LogCaptureFixture) -> None:
    """Any other refusal loses the batch at once; that is counted and said."""
    with Receiver(refuse=(code, code, code)) as receiver:
        sending = exporter(receiver)
        assert sending.export(spans("a", "b")) is FAILURE
        assert receiver.batches == 1
        assert sending.sender.lost == 2
    (record,) = caplog.records
    assert record.getMessage().startswith(f"2 spans did not reach {receiver.target}: {code.name}, refused for the test")


def test_an_outage_is_one_error_and_one_info(caplog: pytest.LogCaptureFixture) -> None:
    """However long a collector is away, there is one ERROR; once it is back, spans flow and one INFO says so."""
    port = closed_port()
    sending = exporter(port, timeout=0.2)
    with caplog.at_level(logging.INFO, "asgi_trace"):
        for _ in range(5):
            assert sending.export(spans()) is FAILURE
        with Receiver(port=port) as receiver:
            assert sending.export(spans("back")) is SUCCESS
            assert sending.export(spans("still there")) is SUCCESS
            assert [span.name for span in receiver.spans] == ["back", "still there"]
        assert sending.export(spans()) is FAILURE
        with Receiver(port=port):
            assert sending.export(spans()) is SUCCESS
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO", "ERROR", "INFO"]
    assert caplog.messages[1] == f"spans reach 127.0.0.1:{port} again; 5 were lost so far"


def test_rejected_spans_are_said(caplog: pytest.LogCaptureFixture) -> None:
    """A collector that takes only a part says why; the part that it rejected is counted."""
    with Receiver() as receiver:
        receiver.rejects = 1
        sending = exporter(receiver)
        assert sending.export(spans("a", "b")) is SUCCESS
    assert sending.sender.lost == 1
    assert caplog.messages[0].startswith(f"{receiver.target} rejected 1 spans: too old")


def test_a_span_that_cannot_be_encoded_goes_alone() -> None:
    """Text that is no UTF-8 costs its own span and not the batch."""
    with Receiver() as receiver:
        sending = exporter(receiver)
        assert sending.export(spans("good", "b\ud800d", "better")) is SUCCESS
        assert [span.name for span in receiver.spans] == ["good", "better"]
        assert sending.sender.lost == 1


def test_whoever_waits_gets_no_second_attempt() -> None:
    """In a hurry, a collector that has never answered is asked once; one that has answered is asked again."""
    sending = exporter(closed_port())
    sending.sender.hurry()
    began = time.monotonic()
    assert sending.export(spans()) is FAILURE
    assert time.monotonic() - began < 0.7
    with Receiver() as receiver:
        sending = exporter(receiver)
        assert sending.export(spans()) is SUCCESS
        receiver.refuse(grpc.StatusCode.UNAVAILABLE)
        sending.sender.hurry()
        assert sending.export(spans()) is SUCCESS
        assert receiver.batches == 3


def test_a_hurry_ends_the_pause_between_attempts() -> None:
    """An export that is waiting for its next attempt makes it at once when somebody begins to wait for it."""
    with Receiver(refuse=(grpc.StatusCode.UNAVAILABLE,), retry_after=30.0) as receiver:
        sending = exporter(receiver, timeout=60.0)
        outcome: list[SpanExportResult] = []
        thread = threading.Thread(target=lambda: outcome.append(sending.export(spans())))
        thread.start()
        receiver.wait_for(lambda: receiver.batches == 1)
        time.sleep(0.2)  # until it has heard that
        sending.sender.hurry()
        thread.join(5)
        assert outcome == [SUCCESS]


@pytest.mark.parametrize("hanging", [True, False])
def test_shutdown_cuts_off_what_is_under_way(hanging: bool, caplog: pytest.LogCaptureFixture) -> None:
    """An export that waits for an answer, or for its next attempt, ends at once; later ones send nothing."""
    with hanging_port() as port:
        sending = exporter(port if hanging else closed_port())
        thread = threading.Thread(target=sending.export, args=(spans(),))
        thread.start()
        time.sleep(0.3)
        began = time.monotonic()
        sending.shutdown()
        thread.join(5)
        assert time.monotonic() - began < 0.5
        assert sending.export(spans()) is FAILURE
    assert sending.sender.lost == 2
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_timeout_is_kept() -> None:
    """A collector that accepts and never answers costs one timeout, not more."""
    with hanging_port() as port:
        began = time.monotonic()
        assert exporter(port, timeout=0.3).export(spans()) is FAILURE
        assert time.monotonic() - began < 1.5


def test_tls(tmp_path: Path) -> None:
    """With its authority's certificate a collector is reached over TLS, with our own where it asks for one."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1")
    chain = b"".join(blob.bytes() for blob in certificate.cert_chain_pems)
    credentials = grpc.ssl_server_credentials(
        [(certificate.private_key_pem.bytes(), chain)], authority.cert_pem.bytes(), require_client_auth=True
    )
    with Receiver(credentials=credentials) as receiver:
        collector = Collector(
            receiver.target,
            plaintext=False,
            certificate=authority.cert_pem.bytes(),
            client_key=certificate.private_key_pem.bytes(),
            client_certificate=chain,
        )
        assert OTLPSpanExporter(collector).export(spans()) is SUCCESS
        stranger = OTLPSpanExporter(replace(collector, client_key=None, client_certificate=None, timeout=0.3))
        assert stranger.export(spans()) is FAILURE
        assert len(receiver.spans) == 1


def test_a_unix_socket(tmp_path: Path) -> None:
    """A collector on a Unix socket is reached."""
    with Receiver(address=f"unix:{tmp_path}/otel.sock") as receiver:
        assert OTLPSpanExporter(Collector(f"unix:{tmp_path}/otel.sock", plaintext=True)).export(spans()) is SUCCESS
        assert len(receiver.spans) == 1


def test_metrics_arrive() -> None:
    """Metrics go to the same collector with the same manners."""
    with Receiver() as receiver:
        exporting = OTLPMetricExporter(Collector(receiver.target, plaintext=True))
        provider = MeterProvider([PeriodicExportingMetricReader(exporting)], shutdown_on_exit=False)
        provider.get_meter("test").create_counter("orders").add(3)
        provider.force_flush()
        assert [(metric.name, metric.sum.data_points[0].as_int) for metric in receiver.metrics] == [("orders", 3)]
        provider.shutdown()
