"""A batch that is too large, and members that cannot be sent: the others arrive, over gRPC and over HTTP."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult

from asgi_trace._export.exporters import OTLPMetricExporter
from asgi_trace._export.signals import METRICS

from ..support.collectors import GRPC, HTTP, PROTOCOLS, FaultyCollector
from ..support.configuration import read
from ..support.spans import spans
from .test_delivery import exporter

both = pytest.mark.parametrize("protocol", PROTOCOLS)
KB = 1000


@both
def test_a_large_batch_is_split_before_it_is_sent(protocol: str) -> None:
    """No request is larger than max_export_bytes, and nothing is lost or sent twice."""
    batch = spans(*map(str, range(100)), size=10 * KB)
    with FaultyCollector(protocol) as receiver:
        assert exporter(protocol, receiver, max_export_bytes=150 * KB).ship(batch) == 0
        report = receiver.report()
    assert report["spans"] == [str(number) for number in range(100)]
    assert max(report["sizes"]) <= 150 * KB
    assert 7 <= report["requests"] <= 16


@both
def test_a_span_that_is_too_large_alone_goes_alone(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """One giant among many is dropped before it is sent, counted, and named once; its neighbours arrive."""
    batch = [*spans("a", "b"), *spans("giant", size=200 * KB), *spans("c"), *spans("giant", size=300 * KB), *spans("d")]
    with FaultyCollector(protocol) as receiver:
        assert exporter(protocol, receiver, max_export_bytes=100 * KB).ship(batch) == 2
        report = receiver.report()
    assert report["spans"] == ["a", "b", "c", "d"]
    assert max(report["sizes"]) < 100 * KB
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert record.getMessage().startswith("the span 'giant' is lost: with 200")
    assert "max_export_bytes, 100000, allows" in record.getMessage()


@both
@pytest.mark.parametrize("size", [1, 700])
def test_what_is_refused_as_too_large_is_halved(protocol: str, size: int, caplog: pytest.LogCaptureFixture) -> None:
    """A collector that takes less than we send gets smaller parts, until all of it has arrived."""
    batch = spans(*map(str, range(64)), size=size)
    with FaultyCollector(protocol, limit=5 * KB) as receiver:
        sending = exporter(protocol, receiver)
        assert sending.ship(batch) == 0
        assert sorted(receiver.spans, key=int) == [str(number) for number in range(64)]
        assert sending.delivery.lost == 0
    assert caplog.messages == []


@both
def test_a_span_that_the_collector_finds_too_large_goes_alone(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """What is refused as too large alone is dropped, counted and named; its neighbours arrive."""
    batch = [*spans("a", "b"), *spans("giant", size=9 * KB), *spans("c")]
    with FaultyCollector(protocol, limit=5 * KB) as receiver:
        sending = exporter(protocol, receiver)
        assert sending.ship(batch) == 1
        assert sorted(receiver.spans) == ["a", "b", "c"]
    (message,) = caplog.messages
    assert message.startswith("the span 'giant' is lost: with 9")
    assert message.endswith(f"than {sending.delivery.collector.target} takes; this is said once")


TOO_LARGE = [
    (GRPC, "RESOURCE_EXHAUSTED", "grpc: received message larger than max (5 vs. 4)"),
    (GRPC, "RESOURCE_EXHAUSTED", "Received message larger than max (5000000 vs. 4194304)"),
    (GRPC, "RESOURCE_EXHAUSTED", "gRPC message exceeds maximum size 4194304: 5000000"),
    (GRPC, "RESOURCE_EXHAUSTED", "Received message exceeds the maximum configured message size."),
    (GRPC, "OUT_OF_RANGE", "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes"),
    (HTTP, "413", ""),
    (HTTP, "400", "http: request body too large"),
]


@pytest.mark.parametrize(("protocol", "code", "message"), TOO_LARGE)
def test_every_word_for_too_large(protocol: str, code: str, message: str) -> None:
    """gRPC's libraries have no code of their own for it, and the collector's HTTP receiver says 400: words decide."""
    with FaultyCollector(protocol, refuse=[code], message=message) as receiver:
        assert exporter(protocol, receiver).ship(spans("a", "b")) == 0
        assert receiver.requests == 3
        assert sorted(receiver.spans) == ["a", "b"]


@both
def test_a_collector_that_takes_nothing_is_not_asked_for_ever(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """Refused as too large again and again, a batch is given up after some requests; all of it is counted."""
    code, message = ("RESOURCE_EXHAUSTED", "larger than max") if protocol == GRPC else ("413", "")
    with FaultyCollector(protocol, always=code, message=message) as receiver:
        sending = exporter(protocol, receiver)
        assert sending.ship(spans(*map(str, range(1000)))) == 1000
        assert receiver.requests < 200
        before = receiver.requests
        assert sending.ship(spans("a")) == 1
        assert receiver.requests == before + 1
    assert [record.levelname for record in caplog.records if record.levelno > logging.DEBUG].count("ERROR") == 1


@both
def test_a_span_that_cannot_be_encoded_goes_alone(protocol: str, caplog: pytest.LogCaptureFixture) -> None:
    """Text that is no UTF-8 costs its own span and not the batch, and is said once."""
    with FaultyCollector(protocol) as receiver:
        sending = exporter(protocol, receiver)
        assert sending.ship(spans("good", "b\ud800d", "better")) == 1
        assert sending.ship(spans("b\ud800d", "b\ud801d")) == 2
        assert receiver.spans == ["good", "better"]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot be encoded" in caplog.messages[0]


@both
def test_metrics_are_split_by_data_points(protocol: str) -> None:
    """A collection that is too large is cut between data points, which keep their metric, scope and resource."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    for scope in ("one", "two"):
        for name in ("orders", "refunds"):
            counter = provider.get_meter(scope).create_counter(f"{scope}.{name}", "1", "How many.")
            for number in range(100):
                counter.add(1, {"customer": f"{number:050}"})
        provider.get_meter(scope).create_histogram(f"{scope}.seconds", "s").record(1)
    data: Any = reader.get_metrics_data()
    with FaultyCollector(protocol) as receiver:
        found, _ = read({}, METRICS, endpoint=receiver.endpoint, protocol=protocol, max_export_bytes=5 * KB)
        exporting = OTLPMetricExporter(found)
        assert exporting.export(data) is MetricExportResult.SUCCESS
        report = receiver.report()
    assert max(report["sizes"]) <= 5 * KB
    assert report["requests"] > 5
    names = [point[0] for point in report["points"]]
    assert {name: names.count(name) for name in names} == {
        "one.orders": 100, "one.refunds": 100, "one.seconds": 1,
        "two.orders": 100, "two.refunds": 100, "two.seconds": 1,
    }  # fmt: skip
    assert exporting.losses.count == 0
