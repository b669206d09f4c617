"""The OTLP/gRPC receiver, with real exporters and with messages that no exporter sends."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import grpc  # type: ignore[import-untyped, unused-ignore]
import pytest
from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from opentelemetry.util.types import AttributeValue

from asgi_trace.viewer.analysis.summary import from_histograms
from asgi_trace.viewer.receive.grpc_receiver import GrpcReceiver
from asgi_trace.viewer.receive.intake import Intake
from asgi_trace.viewer.receive.otlp import histograms_of, logs_of, spans_of
from asgi_trace.viewer.receive.ports import PortInUse
from asgi_trace.viewer.receive.store import Store

RESOURCE = Resource({"service.name": "shop", "service.instance.id": "i-1"})


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def receiver(store: Store) -> Iterator[GrpcReceiver]:
    with GrpcReceiver(Intake(store)) as running:
        yield running


@pytest.fixture
def provider(receiver: GrpcReceiver) -> Iterator[TracerProvider]:
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=receiver.endpoint, insecure=True, compression=grpc.Compression.Gzip)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider
    provider.shutdown()


@pytest.fixture
def call(receiver: GrpcReceiver) -> Iterator[Callable[[str, Any, Any], Any]]:
    """One unary call of the running receiver."""
    with grpc.insecure_channel(f"127.0.0.1:{receiver.port}") as channel:

        def export(service: str, request: Any, response: Any) -> Any:
            method = channel.unary_unary(
                f"/opentelemetry.proto.collector.{service}/Export",
                request_serializer=lambda message: message.SerializeToString(),
                response_deserializer=response.FromString,
            )
            return method(request, timeout=60)

        yield export


def test_the_real_exporters_spans_arrive_whole(store: Store, provider: TracerProvider) -> None:
    """Ids, parent, kind, times, status, attributes of every type, events, links and the source come through."""
    tracer = provider.get_tracer("the-scope")
    elsewhere = SpanContext(0xF, 0xE, True, TraceFlags(1))
    attributes: dict[str, AttributeValue] = {"s": "text", "i": 7, "f": 0.5, "b": True, "l": ["x", "y"]}
    links = [Link(elsewhere, {"why": "untrusted"})]
    with (
        pytest.raises(ValueError, match="broken"),
        tracer.start_as_current_span("GET /", kind=SpanKind.SERVER, attributes=attributes, links=links) as parent,
        tracer.start_as_current_span("inner") as child,
    ):
        raise ValueError("broken")
    trace = store.traces()[0]
    spans = {span.name: span for span in trace.spans.values()}
    root, inner = spans["GET /"], spans["inner"]
    assert (root.trace_id, root.span_id) == (
        format(parent.get_span_context().trace_id, "032x"),
        format(parent.get_span_context().span_id, "016x"),
    )
    assert (inner.span_id, inner.parent_id) == (format(child.get_span_context().span_id, "016x"), root.span_id)
    assert (root.parent_id, root.kind, inner.kind) == ("", "SERVER", "INTERNAL")
    assert (root.service, root.instance, root.scope) == ("shop", "i-1", "the-scope")
    assert root.attributes == attributes
    assert root.status == "ERROR"
    assert root.message == "ValueError: broken"
    assert root.start <= inner.start <= inner.end <= root.end
    assert [event.attributes["exception.message"] for event in inner.events] == ["broken"]
    assert [(link.trace_id, link.span_id, link.attributes) for link in root.links] == [
        ("f".rjust(32, "0"), "e".rjust(16, "0"), {"why": "untrusted"})
    ]


def test_the_real_exporters_histograms_arrive(store: Store, receiver: GrpcReceiver) -> None:
    """Durations by route reach the summary with count, errors, median and maximum."""
    exporter = OTLPMetricExporter(endpoint=receiver.endpoint, insecure=True)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider([reader], resource=RESOURCE, shutdown_on_exit=False)
    histogram = provider.get_meter("m").create_histogram(
        "http.server.request.duration", "s", explicit_bucket_boundaries_advisory=[0.1, 0.2, 0.4]
    )
    route = {"http.request.method": "GET", "http.route": "/a"}
    for seconds in (0.11, 0.12, 0.13):
        histogram.record(seconds, {**route, "http.response.status_code": 200})
    histogram.record(0.39, {**route, "http.response.status_code": 500, "error.type": "500"})
    provider.shutdown()
    (stats,) = from_histograms(store.histograms())
    assert (stats.service, stats.method, stats.route, stats.requests, stats.errors) == ("shop", "GET", "/a", 4, 1)
    assert stats.p50 is not None
    assert 0.11e9 <= stats.p50 <= 0.2e9
    assert stats.maximum == 0.39e9


def test_log_records_arrive_with_their_trace(store: Store, call: Callable[[str, Any, Any], Any]) -> None:
    """OTLP log records join their trace; those without one are kept apart."""
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add()
    group.resource.attributes.add(key="service.name").value.string_value = "shop"
    records = group.scope_logs.add().log_records
    first = records.add(time_unix_nano=5, severity_number=13, trace_id=b"\x01" * 16, span_id=b"\x02" * 8)
    first.body.string_value = "with a trace"
    second = records.add(observed_time_unix_nano=6, severity_text="INFO")
    second.body.kvlist_value.values.add(key="a").value.int_value = 1
    call("logs.v1.LogsService", request, ExportLogsServiceResponse)
    (trace,) = store.traces()
    (log,) = trace.logs
    assert (log.body, log.severity, log.service, log.time) == ("with a trace", "WARN", "shop", 5)
    assert (log.trace_id, log.span_id) == ("01" * 16, "02" * 8)
    (stray,) = store.stray_logs()
    assert (stray.body, stray.severity, stray.time) == ("{'a': 1}", "INFO", 6)


def span_request() -> tuple[ExportTraceServiceRequest, Any]:
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.name = b"\x01" * 16, b"\x02" * 8, "x"
    return request, span


@pytest.mark.parametrize(
    ("trace_id", "span_id"),
    [(b"", b"\x02" * 8), (b"\x00" * 16, b"\x02" * 8), (b"\x01" * 16, b"\x02"), (b"\x01" * 17, b"")],
)
def test_spans_without_valid_ids_are_dropped(trace_id: bytes, span_id: bytes) -> None:
    """An id of the wrong length, or of zeros, belongs to no trace."""
    request, span = span_request()
    span.trace_id, span.span_id = trace_id, span_id
    assert spans_of(request) == ([], 1)


def test_a_span_with_nothing_but_ids_is_kept() -> None:
    """Missing service, kind and parent get what can be shown; an end before the start is no duration."""
    request, span = span_request()
    span.start_time_unix_nano, span.end_time_unix_nano, span.kind, span.parent_span_id = 9, 3, 99, b"\x00" * 8
    (record,), _ = spans_of(request)
    assert (record.service, record.instance, record.kind, record.parent_id) == ("unknown_service", "", "INTERNAL", "")
    assert (record.start, record.end, record.duration) == (9, 3, None)


def test_huge_attributes_are_cut() -> None:
    """Text, lists and nesting are bounded, and the cut is visible."""
    request, span = span_request()
    span.name = "n" * 10_000
    span.attributes.add(key="k" * 10_000).value.string_value = "v" * 1_000_000
    span.attributes.add(key="bytes").value.bytes_value = b"\xff" * 5_000
    deep = span.attributes.add(key="deep").value
    for _ in range(20):
        deep = deep.array_value.values.add()
    many = span.attributes.add(key="many").value.array_value
    for _ in range(500):
        many.values.add().int_value = 1
    for number in range(500):
        span.attributes.add(key=f"a{number}").value.bool_value = True
    (record,), _ = spans_of(request)
    assert len(record.name) == 512
    assert len(record.attributes) == 128
    long = record.attributes["k" * 512]
    assert isinstance(long, str)
    assert len(long) < 4_200
    assert long.endswith("… (995,904 more characters)")
    assert record.attributes["bytes"] == "ff" * 64 + " (5,000 bytes)"
    assert str(record.attributes["deep"]).count("[") < 8
    assert record.attributes["many"] == [1] * 128
    assert record.size < 20_000


def test_one_record_has_a_budget() -> None:
    """However its attributes, events and nested values add up, a span keeps a quarter of a megabyte at most."""
    request, span = span_request()
    for number in range(128):
        event = span.events.add(name="e")
        for key in range(100):
            event.attributes.add(key=f"k{number}-{key}").value.string_value = "v" * 4_000
    wide = span.attributes.add(key="wide").value.array_value
    for _ in range(128):
        inner = wide.values.add().array_value
        for _ in range(128):
            inner.values.add().string_value = "w" * 100
    (record,), _ = spans_of(request)
    assert record.size < 280_000
    assert sum(len(str(event.attributes)) for event in record.events) + len(str(record.attributes)) < 400_000


def test_an_empty_request_of_every_signal_is_fine() -> None:
    """Nothing in, nothing out."""
    assert spans_of(ExportTraceServiceRequest()) == ([], 0)
    assert list(logs_of(ExportLogsServiceRequest())) == []
    assert list(histograms_of(ExportMetricsServiceRequest())) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x0a" * 1_000, grpc.StatusCode.INVALID_ARGUMENT),
        (b"\x00" * (17 * 1024 * 1024), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (b"\x00" * (200 * 1024 * 1024), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=["garbage", "nested", "large", "bomb"],
)
def test_what_cannot_be_read_is_answered_by_the_protocol(store: Store, body: bytes, code: grpc.StatusCode) -> None:
    """INVALID_ARGUMENT or RESOURCE_EXHAUSTED, with gzip too, said once; the next export is taken."""
    complaints: list[str] = []
    with GrpcReceiver(Intake(store, complain=complaints.append)) as receiver:
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(f"127.0.0.1:{receiver.port}", options) as channel:
            export = channel.unary_unary("/opentelemetry.proto.collector.trace.v1.TraceService/Export")
            for _ in range(2):
                with pytest.raises(grpc.RpcError) as raised:
                    export(body, timeout=60, compression=grpc.Compression.Gzip)
                assert raised.value.code() == code
            request, _ = span_request()
            export(request.SerializeToString(), timeout=60)
    assert len(store.traces()) == 1
    assert len(complaints) == (1 if len(body) < 32 * 1024 * 1024 else 0)


def test_what_cannot_be_stored_is_still_answered(
    receiver: GrpcReceiver, call: Callable[[str, Any, Any], Any], caplog: pytest.LogCaptureFixture, store: Store
) -> None:
    """A failure of ours is logged and never becomes the sender's."""

    def broken(span: object) -> None:
        raise RuntimeError("no room")

    store.add_spans = broken  # type: ignore[method-assign, assignment]
    request, _ = span_request()
    assert call("trace.v1.TraceService", request, ExportTraceServiceResponse) == ExportTraceServiceResponse()
    assert [record.exc_info[1].args for record in caplog.records if record.exc_info and record.exc_info[1]] == [
        ("no room",)
    ]


def test_a_port_in_use_is_a_clear_error(store: Store) -> None:
    """Neither shared nor ignored: the second listener is refused."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PortInUse, match=rf"cannot listen on 127\.0\.0\.1:{port}"):
            GrpcReceiver(Intake(store), port=port)
    with GrpcReceiver(Intake(store)) as first, pytest.raises(PortInUse):
        GrpcReceiver(Intake(store), port=first.port)


def test_closing_twice_is_harmless(store: Store) -> None:
    """The second close finds nothing to do."""
    receiver = GrpcReceiver(Intake(store))
    receiver.close()
    receiver.close()


def test_ipv6_addresses_are_written_as_urls_have_them(store: Store) -> None:
    """An IPv6 host stands in brackets."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        with pytest.raises(PortInUse, match=r"\[::1\]:0"):
            GrpcReceiver(Intake(store), host="::1")
        return
    with GrpcReceiver(Intake(store), host="::1") as receiver:
        assert receiver.endpoint == f"http://[::1]:{receiver.port}"
