"""The OTLP/gRPC exporter against a real collector, one that comes and goes, and none at all."""

from __future__ import annotations

import logging
import random
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

from asgi_trace._export.collector import Collector
from asgi_trace._export.exporters import OTLPMetricExporter, OTLPSpanExporter
from asgi_trace._guard import logger
from asgi_trace.testing import capture_spans

from ..support.otlp_receiver import Receiver, closed_port, hanging_port
from ..support.servers import eventually

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE


def spans(*names: str) -> Sequence[ReadableSpan]:
    with capture_spans() as captured:
        for name in names or ("GET",):
            captured.tracer_provider.get_tracer("test").start_span(name).end()
        return captured.finished


def exporter(receiver: Receiver | int, timeout: float = 10.0) -> OTLPSpanExporter:
    port = receiver if isinstance(receiver, int) else receiver.port
    return OTLPSpanExporter(Collector(f"127.0.0.1:{port}", plaintext=True, timeout=timeout))


def pauses(caplog: pytest.LogCaptureFixture) -> list[float]:
    """How long the exporter said that it waits before each further attempt, in seconds."""
    said = [record.args for record in caplog.records if "again in" in record.msg]
    return [values[-1] for values in said if isinstance(values, tuple) and isinstance(values[-1], float)]


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


def test_a_retryable_answer_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """UNAVAILABLE means again, after a second; the collector's own delay beats that and makes more codes retryable."""
    with Receiver(refuse=(grpc.StatusCode.UNAVAILABLE,)) as receiver:
        assert exporter(receiver).export(spans()) is SUCCESS
        assert (receiver.batches, len(receiver.spans)) == (2, 1)
    with Receiver(refuse=(grpc.StatusCode.RESOURCE_EXHAUSTED,), retry_after=0.01) as receiver:
        with caplog.at_level(logging.DEBUG, "asgi_trace"):
            assert exporter(receiver).export(spans()) is SUCCESS
        assert (receiver.batches, len(receiver.spans)) == (2, 1)
        assert pauses(caplog) == [0.01]


@pytest.mark.parametrize("code", [grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED])
def test_a_final_answer_is_not(code: grpc.StatusCode, caplog: pytest.LogCaptureFixture) -> None:
    """Any other refusal loses the batch at once; that is counted and said."""
    with Receiver(refuse=(code, code, code)) as receiver:
        sending = exporter(receiver)
        assert sending.export(spans("a", "b")) is FAILURE
        assert receiver.batches == 1
        assert sending.delivery.lost == 2
    (record,) = caplog.records
    assert record.getMessage().startswith(f"2 spans did not reach {receiver.target}: {code.name}, refused for the test")


def test_an_outage_is_one_error_and_one_info(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a collector is away, there is one ERROR; once it is back, spans flow and one INFO says so."""
    monkeypatch.setattr(random, "uniform", lambda low, high: 300.0)  # no second attempt within the timeout
    with caplog.at_level(logging.INFO, "asgi_trace"):
        with closed_port() as port:
            sending = exporter(port)
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
        assert sending.ship(spans("a", "b")) == 1
    assert sending.delivery.lost == 1
    assert caplog.messages[0].startswith(f"{receiver.target} rejected 1 spans: too old")


def test_a_span_that_cannot_be_encoded_goes_alone() -> None:
    """Text that is no UTF-8 costs its own span and not the batch."""
    with Receiver() as receiver:
        sending = exporter(receiver)
        assert sending.ship(spans("good", "b\ud800d", "better")) == 1
        assert [span.name for span in receiver.spans] == ["good", "better"]


def test_whoever_waits_gets_no_second_attempt(caplog: pytest.LogCaptureFixture) -> None:
    """In a hurry, a collector that has never answered is asked once; one that has answered is asked again."""
    with closed_port() as port, caplog.at_level(logging.DEBUG, "asgi_trace"):
        sending = exporter(port)
        sending.delivery.hurry()
        assert sending.export(spans()) is FAILURE
    assert [record.levelname for record in caplog.records] == ["ERROR"]  # and no word of another attempt
    with Receiver() as receiver:
        sending = exporter(receiver)
        assert sending.export(spans()) is SUCCESS
        receiver.refuse(grpc.StatusCode.UNAVAILABLE)
        sending.delivery.hurry()
        assert sending.export(spans()) is SUCCESS
        assert receiver.batches == 3


def test_a_hurry_ends_the_pause_between_attempts(caplog: pytest.LogCaptureFixture) -> None:
    """An export that is waiting for its next attempt makes it at once when somebody begins to wait for it."""
    caplog.set_level(logging.DEBUG, "asgi_trace")
    with Receiver(refuse=(grpc.StatusCode.UNAVAILABLE,), retry_after=300.0) as receiver:
        sending = exporter(receiver, timeout=600.0)
        outcome: list[SpanExportResult] = []
        thread = threading.Thread(target=lambda: outcome.append(sending.export(spans())))
        thread.start()
        eventually(lambda: pauses(caplog) == [300.0], "the pause")
        sending.delivery.hurry()
        thread.join(30)
        assert outcome == [SUCCESS]


def test_a_hurry_just_before_the_pause_leaves_it_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hurry that comes after the next attempt was decided upon, and before the pause begins, is not lost."""
    with Receiver(refuse=(grpc.StatusCode.UNAVAILABLE,), retry_after=300.0) as receiver:
        sending = exporter(receiver, timeout=600.0)
        monkeypatch.setattr(logger, "debug", lambda *values: sending.delivery.hurry())
        thread = threading.Thread(target=sending.export, args=(spans(),), daemon=True)
        thread.start()
        thread.join(30)
        assert not thread.is_alive()
        assert len(receiver.spans) == 1


@pytest.mark.parametrize("hanging", [True, False])
def test_shutdown_cuts_off_what_is_under_way(
    hanging: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An export that waits for an answer, or for its next attempt, ends at once; later ones send nothing."""
    caplog.set_level(logging.DEBUG, "asgi_trace")
    monkeypatch.setattr(random, "uniform", lambda low, high: 300.0)
    with hanging_port() as port, closed_port() as closed:
        sending = exporter(port if hanging else closed, timeout=600.0)
        thread = threading.Thread(target=sending.export, args=(spans(),))
        thread.start()
        if hanging:
            time.sleep(0.3)  # nothing tells that it waits
        else:
            eventually(lambda: pauses(caplog) == [300.0], "the pause")
        sending.shutdown()
        thread.join(30)
        assert not thread.is_alive()
        assert sending.export(spans()) is FAILURE
    assert sending.delivery.lost == 2
    assert [record.levelname for record in caplog.records if record.levelno > logging.DEBUG] == ["ERROR"]


def test_a_timeout_is_kept(caplog: pytest.LogCaptureFixture) -> None:
    """A collector that accepts and never answers costs one timeout, not more."""
    with hanging_port() as port, caplog.at_level(logging.DEBUG, "asgi_trace"):
        began = time.monotonic()
        assert exporter(port, timeout=0.3).export(spans()) is FAILURE
        assert 0.3 <= time.monotonic() - began < 5
    assert [record.levelname for record in caplog.records] == ["ERROR"]  # and no word of another attempt


def test_tls(caplog: pytest.LogCaptureFixture) -> None:
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
        doubtful = OTLPSpanExporter(replace(collector, certificate=trustme.CA().cert_pem.bytes(), timeout=0.3))
        assert doubtful.export(spans()) is FAILURE
    assert "with a certificate of an authority that is trusted here?" in caplog.messages[-1]


def test_a_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collector on a Unix socket is reached."""
    monkeypatch.chdir(tmp_path)  # the whole path may be too long for a socket
    with Receiver(address="unix:otel.sock") as receiver:
        assert OTLPSpanExporter(Collector("unix:otel.sock", plaintext=True)).export(spans()) is SUCCESS
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
