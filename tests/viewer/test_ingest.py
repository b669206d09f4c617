"""OTLP over HTTP: both encodings, the protocol's own errors, limits, and who may send."""

from __future__ import annotations

import base64
import gzip
import json
import time
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from asgi_trace.viewer.receive.intake import Intake
from asgi_trace.viewer.receive.signals import MAX_BODY, TRACES, Unreadable, from_json, from_protobuf, gunzip, to_data
from asgi_trace.viewer.receive.store import Store
from asgi_trace.viewer.serve.background import HttpServer
from asgi_trace.viewer.serve.hosts import host_of, ingest_allows, page_allows
from asgi_trace.viewer.serve.ingest import ingest_app

from ..support.viewer import TRACE_ID, otlp_json

PROTOBUF, JSON = "application/x-protobuf", "application/json"


class Ingest:
    """A running receiver, what it stores, and what it complains about."""

    def __init__(self, **options: Any) -> None:
        self.store = Store()
        self.complaints: list[str] = []
        intake = Intake(self.store, complain=self.complaints.append)
        self.server = HttpServer(ingest_app(intake, host="127.0.0.1", **options), host="127.0.0.1", port=0, name="test")

    def post(
        self, content: bytes, content_type: str = JSON, path: str = "/v1/traces", **headers: str
    ) -> httpx.Response:
        """One export; `headers` with _ for -."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with httpx.Client(trust_env=False, timeout=60) as client:
            return client.post(
                self.server.endpoint + path, content=content, headers={"content-type": content_type, **named}
            )

    @property
    def names(self) -> list[str]:
        """The names of all spans."""
        return [span.name for trace in self.store.traces() for span in trace.spans.values()]


@pytest.fixture
def ingest() -> Iterator[Ingest]:
    running = Ingest()
    yield running
    running.server.close()


def request_of(**fields: Any) -> ExportTraceServiceRequest:
    request: ExportTraceServiceRequest = from_json(TRACES, json.dumps(otlp_json("GET /", **fields)))
    return request


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("content_type", [PROTOBUF, JSON, "application/json; charset=utf-8"])
def test_both_encodings_with_gzip_and_without(ingest: Ingest, content_type: str, compressed: bool) -> None:
    """The span arrives, and the answer is an empty response in the encoding of the request."""
    protobuf = content_type == PROTOBUF
    body = request_of().SerializeToString() if protobuf else json.dumps(otlp_json("GET /")).encode()
    headers = {"content_encoding": "gzip"} if compressed else {}
    answer = ingest.post(gzip.compress(body) if compressed else body, content_type, **headers)
    assert (answer.status_code, answer.headers["content-type"]) == (200, content_type.partition(";")[0])
    assert answer.content == (b"" if protobuf else b"{}")
    assert ingest.names == ["GET /"]
    assert ingest.store.traces()[0].trace_id == TRACE_ID


def test_a_span_that_comes_twice_counts_once(ingest: Ingest) -> None:
    """A retried export changes nothing, in the figures neither."""
    for _ in range(3):
        assert ingest.post(json.dumps(otlp_json("GET /")).encode()).status_code == 200
    assert ingest.names == ["GET /"]
    assert [route.requests for route in ingest.store.routes()] == [1]


@pytest.mark.parametrize("content_type", [PROTOBUF, JSON])
@pytest.mark.parametrize("ids", [{"traceId": "00" * 16}, {"traceId": "zz"}, {"traceId": ""}, {"spanId": "11"}])
def test_unusable_ids_are_a_partial_success(ingest: Ingest, content_type: str, ids: dict[str, str]) -> None:
    """The good span is stored, the other is counted and told to the sender and in the terminal."""
    data = otlp_json("good")
    data["resourceSpans"] += otlp_json("bad", **ids)["resourceSpans"]
    body = json.dumps(data).encode()
    if content_type == PROTOBUF:
        body = from_json(TRACES, body).SerializeToString()
    answer = ingest.post(body, content_type)
    assert answer.status_code == 200
    if content_type == PROTOBUF:
        partial = ExportTraceServiceResponse.FromString(answer.content).partial_success
        assert (partial.rejected_spans, "unusable" in partial.error_message) == (1, True)
    else:
        assert answer.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert ingest.names == ["good"]
    assert len(ingest.complaints) == 1


BOMB = gzip.compress(b"\x00" * (64 * 1024 * 1024))


@pytest.mark.parametrize(
    ("body", "content_type", "encoding", "status", "code"),
    [
        pytest.param(b"\xff\xff\xff", PROTOBUF, "", 400, 3, id="not protobuf"),
        pytest.param(b"{", JSON, "", 400, 3, id="not JSON"),
        pytest.param(b"[]", JSON, "", 400, 3, id="no object"),
        pytest.param(b'{"resourceSpans": 7}', JSON, "", 400, 3, id="a wrong type"),
        pytest.param(b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"startTimeUnixNano": -1}]}]}]}', JSON, "", 400, 3,
                     id="a negative time"),
        pytest.param(b"[" * 100_000, JSON, "", 400, 3, id="nested without end"),
        pytest.param(b"\xfe\xff", JSON, "", 400, 3, id="no UTF-8"),
        pytest.param(b"plain", JSON, "gzip", 400, 3, id="not gzip"),
        pytest.param(gzip.compress(b"{}")[:-9], JSON, "gzip", 400, 3, id="gzip that ends early"),
        pytest.param(b"x", "text/plain", "", 415, 3, id="another content type"),
        pytest.param(b"", "", "", 415, 3, id="no content type"),
        pytest.param(zlib.compress(b"{}"), JSON, "deflate", 415, 3, id="another encoding"),
        pytest.param(BOMB, PROTOBUF, "gzip", 413, 8, id="a gzip bomb"),
        pytest.param(b" " * (MAX_BODY + 1), JSON, "", 413, 8, id="a large body"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_answered_by_the_protocol(
    ingest: Ingest, body: bytes, content_type: str, encoding: str, status: int, code: int
) -> None:
    """An HTTP status and a google.rpc.Status in the request's encoding; said once; the next export is taken."""
    headers = {"content_encoding": encoding} if encoding else {}
    for _ in range(2):
        answer = ingest.post(body, content_type, **headers)
        assert answer.status_code == status
        if content_type == JSON:
            found = (answer.json()["code"], answer.json()["message"])
        else:
            told = Status.FromString(answer.content)
            found = (told.code, told.message)
        assert found[0] == code
        assert found[1]
    assert len(ingest.complaints) == 1
    assert ingest.post(json.dumps(otlp_json("GET /")).encode()).status_code == 200


def test_a_bomb_is_not_unpacked() -> None:
    """No more than the limit is ever in memory, however many members a body has."""
    bomb = zlib.compressobj(9, wbits=31)
    body = bomb.compress(b"\x00" * (256 * 1024 * 1024)) + bomb.flush()
    begun = time.process_time()
    with pytest.raises(Exception, match="larger than 16 MiB"):
        gunzip(body)
    assert time.process_time() - begun < 2
    assert gunzip(gzip.compress(b"a") + gzip.compress(b"b")) == b"ab"


def test_a_body_without_a_length_is_bounded_too(ingest: Ingest) -> None:
    """A chunked body is refused when it has grown too large."""

    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * (1024 * 1024)

    with httpx.Client(trust_env=False, timeout=60) as client:
        answer = client.post(ingest.server.endpoint + "/v1/traces", content=chunks(), headers={"content-type": JSON})
    assert answer.status_code == 413


@pytest.mark.parametrize("path", ["/", "/v1/traces/", "/v1/other", "/v1/../v1/traces/x", "/%2e%2e/etc/passwd"])
def test_other_paths_are_not_found(ingest: Ingest, path: str) -> None:
    """Only three addresses answer."""
    answer = ingest.post(b"{}", path=path)
    assert answer.status_code in (404, 307)


def test_only_post_is_answered(ingest: Ingest) -> None:
    """A GET is told what to do."""
    answer = httpx.get(f"{ingest.server.endpoint}/v1/traces", trust_env=False)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:4318", 200), ("127.0.0.1", 200), ("[::1]:4318", 200), ("host.docker.internal:4318", 200),
        ("192.168.7.9:4318", 200), ("evil.test", 403), ("localhost.evil.test", 403), ("127.0.0.1.evil.test:4318", 403),
        ("localhost@evil.test", 403), ("[::1", 403), ("a b", 403),
    ],
)  # fmt: skip
def test_a_name_that_was_made_to_point_here_is_refused(ingest: Ingest, host: str, status: int) -> None:
    """Loopback names, addresses and the host of containers are known; any other Host is 403."""
    assert ingest.post(json.dumps(otlp_json("GET /")).encode(), host=host).status_code == status


def test_a_foreign_page_may_not_send() -> None:
    """Without --allow-origin there is no CORS header and its export is refused; with it the origin may send."""
    closed, opened = Ingest(), Ingest(allow_origin=["https://shop.test"])
    try:
        body = json.dumps(otlp_json("GET /")).encode()
        answer = closed.post(body, origin="https://shop.test")
        assert answer.status_code == 403
        assert "--allow-origin https://shop.test" in answer.json()["message"]
        assert "access-control-allow-origin" not in answer.headers
        assert closed.names == []
        answer = opened.post(body, origin="https://shop.test")
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "https://shop.test")
        assert opened.post(body, origin="https://evil.test").status_code == 403
        preflight = httpx.options(
            f"{opened.server.endpoint}/v1/traces",
            headers={"origin": "https://shop.test", "access-control-request-method": "POST",
                     "access-control-request-headers": "content-type"},
            trust_env=False,
        )  # fmt: skip
        assert preflight.status_code == 200
    finally:
        closed.server.close()
        opened.server.close()


def test_logs_and_metrics_arrive_as_json(ingest: Ingest) -> None:
    """A log line joins its trace, a histogram of the older convention its service."""
    resource = otlp_json("x")["resourceSpans"][0]["resource"]
    log = {"timeUnixNano": "5", "severityNumber": 17, "body": {"stringValue": "no"}, "traceId": TRACE_ID}
    logs = {"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": [log]}]}]}
    point = {"count": "2", "sum": 30, "explicitBounds": [10, 20], "bucketCounts": ["0", "2", "0"]}
    histogram = {"dataPoints": [point], "aggregationTemporality": 2}
    metric = {"name": "http.server.duration", "unit": "ms", "histogram": histogram}
    metrics = {"resourceMetrics": [{"resource": resource, "scopeMetrics": [{"metrics": [metric]}]}]}
    assert ingest.post(json.dumps(logs).encode(), path="/v1/logs").json() == {}
    assert ingest.post(json.dumps(metrics).encode(), path="/v1/metrics").json() == {}
    (trace,) = ingest.store.traces()
    assert [(line.body, line.level, line.service) for line in trace.logs] == [("no", "ERROR", "shop")]
    assert [(point.name, point.count) for point in ingest.store.histograms()] == [("http.server.duration", 2)]


def test_json_goes_there_and_back() -> None:
    """An export written as OTLP/JSON has hex ids and numbers for enums, and is read as the same."""
    request = request_of(parentSpanId="22" * 8, links=[{"traceId": "33" * 16, "spanId": "44" * 8}])
    data = to_data(request)
    span = data["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert (span["traceId"], span["parentSpanId"], span["kind"]) == (TRACE_ID, "22" * 8, 2)
    assert span["links"] == [{"traceId": "33" * 16, "spanId": "44" * 8}]
    assert from_json(TRACES, json.dumps(data)) == request


@pytest.mark.parametrize("raw", [b"\xfb\xef\xbe", b"\xff\xff\xff", b"\xfb", b"plain", b""])
def test_bytes_are_read_in_protobufs_alphabet(raw: bytes) -> None:
    """Bytes come in base64 with `+` and `/`, and are read whole, without a warning of any Python."""
    value = {"bytesValue": base64.b64encode(raw).decode()}
    request = request_of(attributes=[{"key": "bytes", "value": value}])
    (attribute,) = request.resource_spans[0].scope_spans[0].spans[0].attributes
    assert attribute.value.bytes_value == raw


def test_unknown_fields_are_ignored_and_nesting_is_bounded() -> None:
    """A newer sender is understood; a value nested 30 levels deep is, one of 120 is refused."""
    assert from_json(TRACES, json.dumps({**otlp_json("x"), "new": [{"a": 1}]})) == from_json(
        TRACES, json.dumps(otlp_json("x"))
    )

    def nested(levels: int) -> str:
        value: dict[str, Any] = {"intValue": "1"}
        for _ in range(levels):
            value = {"arrayValue": {"values": [value]}}
        return json.dumps(otlp_json("x", attributes=[{"key": "deep", "value": value}]))

    assert from_json(TRACES, nested(30))
    with pytest.raises(Unreadable):
        from_json(TRACES, nested(120))
    with pytest.raises(Unreadable):
        from_protobuf(TRACES, b"\x0a" * 1_000)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("LOCALHOST:80", "localhost"), ("localhost.", "localhost"), ("[::1]", "::1"), ("[::1]:1", "::1"), ("a:b", ""),
        ("[::1]x", ""), ("", ""), ("::1", ""), ("a:1:2", ""),
    ],
)  # fmt: skip
def test_the_name_in_a_host_header(header: str, name: str) -> None:
    """Without port and brackets, in lower case; empty when it cannot be read."""
    assert host_of(header) == name


def test_a_page_that_others_reach_takes_addresses() -> None:
    """With a loopback --host only loopback names; else any address and the given name, and no other name."""
    assert not page_allows("192.168.7.9", "127.0.0.1", is_open=False)
    assert page_allows("192.168.7.9:1", "0.0.0.0", is_open=True)
    assert page_allows("box.local", "box.local", is_open=True)
    assert not page_allows("evil.test", "0.0.0.0", is_open=True)
    assert not ingest_allows("evil.test", "0.0.0.0")
