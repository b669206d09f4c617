"""The demo's spans on their way to a collector of the caller's."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from asgi_trace.demo.forward import Forwarder
from asgi_trace.viewer.analysis.timeline import build
from asgi_trace.viewer.receive.grpc_receiver import GrpcReceiver
from asgi_trace.viewer.receive.intake import Intake
from asgi_trace.viewer.receive.signals import TRACES
from asgi_trace.viewer.receive.store import Store


@pytest.fixture
def deaf_collector() -> Iterator[str]:
    """Something that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def export_request() -> Any:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name = b"\x01" * 16, b"\x02" * 8, "x"
    return request


def test_without_an_endpoint_nothing_is_forwarded() -> None:
    """An empty variable is no endpoint; metrics' own endpoint is none for spans."""
    assert Forwarder.from_environment({}) is None
    assert Forwarder.from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}) is None
    assert Forwarder.from_environment({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://x:1"}) is None


def test_what_is_forwarded_arrives() -> None:
    """The same span, at the collector of the environment; a path in its address is a problem that is told."""
    store = Store()
    with GrpcReceiver(Intake(store)) as collector:
        forwarder = Forwarder.from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": f"{collector.endpoint}/v1/traces"})
        assert forwarder is not None
        forwarder.add(TRACES, export_request())
        forwarder.close()
    assert [row.span.name for trace in store.traces() for row in build(trace).rows] == ["x"]
    assert len(forwarder.problems) == 1
    assert forwarder.report() == f"1 span went to 127.0.0.1:{collector.port} as well"


def test_a_collector_that_hangs_holds_nothing_up(
    deaf_collector: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a last chance the forwarder gives up, and says how many spans did not arrive."""
    monkeypatch.setattr("asgi_trace.demo.forward._LAST_CHANCE", 0.3)
    forwarder = Forwarder.from_environment({"OTEL_EXPORTER_OTLP_ENDPOINT": deaf_collector})
    assert forwarder is not None
    forwarder.add(TRACES, export_request())
    begun = time.monotonic()
    forwarder.close()
    assert time.monotonic() - begun < 5
    assert forwarder.report() == f"1 span did not reach {forwarder.target}, 0 did"
