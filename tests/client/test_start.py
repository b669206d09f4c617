"""What the client side decides: names, attributes, what is sent where, and that telemetry never gets in the way."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import subprocess
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Iterator
from contextlib import suppress
from contextvars import copy_context
from importlib import import_module
from itertools import repeat
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry import trace as otel_trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, set_span_in_context

from asgi_trace._client.proxies import environment_proxies
from asgi_trace._otel import exceptions
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.servers import uvicorn_serving

httpx = pytest.importorskip("httpx")
from asgi_trace.httpx import AsyncTraceTransport, TraceTransport  # noqa: E402


class Answer(httpx.BaseTransport):  # type: ignore[misc, name-defined]
    """Answers every request with what it was given."""

    def __init__(self, status: int = 200, **response: Any) -> None:
        self.status, self.response = status, response

    def handle_request(self, request: Any) -> Any:
        return httpx.Response(self.status, **self.response)


class Chunks(httpx.SyncByteStream):  # type: ignore[misc, name-defined]
    """A body that has not been read yet."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"a"


def send(
    url: str = "http://svc.test/", method: str = "GET", inner: Any = None, request: Any = None, **options: Any
) -> Any:
    """Send one request through a traced transport and return it as sent; `request` are arguments of the request."""
    sent = httpx.Request(method, url, **(request or {}))
    TraceTransport(inner or Answer(), **options).handle_request(sent)
    return sent


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent(flags: int) -> otel_context.Context:
    return set_span_in_context(NonRecordingSpan(SpanContext(0xA, 0xB, False, TraceFlags(flags))))


@pytest.fixture
def attached() -> Iterator[Any]:
    """A function that attaches a context until the test ends."""
    tokens: list[Any] = []
    yield lambda context: tokens.append(otel_context.attach(context))
    for token in reversed(tokens):
        otel_context.detach(token)


@pytest.mark.parametrize(
    ("url", "headers", "full", "address", "port"),
    [
        ("http://svc.test/a?b=1#c", {}, "http://svc.test/a?b=1#c", "svc.test", 80),
        ("https://SVC.test", {}, "https://svc.test", "svc.test", 443),
        ("https://svc.test:443/", {}, "https://svc.test/", "svc.test", 443),
        ("http://svc.test:8080/", {}, "http://svc.test:8080/", "svc.test", 8080),
        ("http://me:pw@svc.test/", {}, "http://REDACTED:REDACTED@svc.test/", "svc.test", 80),
        (
            "http://me@svc.test/?x-amz-signature=1&sig=2",
            {},
            "http://REDACTED:REDACTED@svc.test/?x-amz-signature=1&sig=REDACTED",
            "svc.test",
            80,
        ),
        ("http://[::1]:8080/", {}, "http://[::1]:8080/", "::1", 8080),
        ("http://10.0.0.1/", {}, "http://10.0.0.1/", "10.0.0.1", 80),
        ("http://bücher.test/", {}, "http://xn--bcher-kva.test/", "bücher.test", 80),
        ("http://xn--bcher-kva.test:81/", {}, "http://xn--bcher-kva.test:81/", "bücher.test", 81),
        ("http://127.0.0.1:8080/", {"Host": "svc.test"}, "http://127.0.0.1:8080/", "svc.test", 80),
        ("http://127.0.0.1:8080/", {"host": "svc.test:99"}, "http://127.0.0.1:8080/", "svc.test", 99),
        ("https://127.0.0.1/", {"HOST": "xn--bcher-kva.test"}, "https://127.0.0.1/", "xn--bcher-kva.test", 443),
        ("http://svc.test/", {"Host": "no host:x"}, "http://svc.test/", "svc.test", 80),
        ("http://svc.test/", {"Host": "a" * 5000}, "http://svc.test/", "svc.test", 80),
        ("ws://svc.test/", {}, "ws://svc.test/", "svc.test", 80),
        ("wss://svc.test/", {}, "wss://svc.test/", "svc.test", 443),
    ],
)
def test_the_url_and_its_server(
    spans: CapturedSpans, url: str, headers: dict[str, str], full: str, address: str, port: int
) -> None:
    """`url.full` has no secrets; address and port are Host's, else the URL's, default ports included."""
    send(url, request={"headers": headers})
    found = attributes(spans.client)
    assert (found["url.full"], found["server.address"], found["server.port"]) == (full, address, port)


def test_a_request_without_a_host_has_no_server(spans: CapturedSpans) -> None:
    """A relative URL, as some transports in the same process take it, leaves the server out."""
    send("/path")
    assert attributes(spans.client) == {
        "http.request.method": "GET",
        "url.full": "/path",
        "http.response.status_code": 200,
    }


def test_what_is_kept_of_a_server_is_no_other_servers(spans: CapturedSpans) -> None:
    """A second request to a server is described as the first, whatever else the same transport has called before."""
    calls = [
        (method, f"{scheme}://{host}/{path}", headers)
        for method in ("GET", "POST", "BREW", "STIR")
        for scheme in ("http", "https", "unix")
        for host in ("svc.test", "SVC.test:81", "bücher.test", "[::1]")
        for path, headers in (("a", {}), ("b?sig=1", {"host": "other.test"}), ("c", {"HOST": "xn--bcher-kva.test"}))
    ]

    def told(transports: Iterator[TraceTransport]) -> list[dict[str, Any]]:
        spans.clear()
        for transport, (method, url, headers) in zip(transports, calls, strict=False):
            transport.handle_request(httpx.Request(method, url, headers=headers))
        return [attributes(span) for span in spans]

    fresh = told(TraceTransport(Answer()) for _ in calls)
    shared = TraceTransport(Answer())
    assert told(repeat(shared)) == fresh
    assert told(repeat(shared)) == fresh
    assert len({str(found) for found in fresh}) == len(calls)


def test_many_servers_do_not_fill_the_memory(spans: CapturedSpans) -> None:
    """What is kept of servers has an end, and attributes are right beyond it."""
    transport = TraceTransport(Answer())
    tracemalloc.start()
    try:
        sizes = []
        for part in range(3):
            for number in range(400):
                transport.handle_request(httpx.Request("GET", f"http://s{part}-{number}.test/"))
            assert attributes(spans[-1])["server.address"] == f"s{part}-399.test"
            spans.clear()
            gc.collect()
            sizes.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    assert sizes[2] - sizes[0] < 200_000


@pytest.mark.parametrize(
    ("known", "method", "name", "expected"),
    [
        (None, "PATCH", "PATCH", {"http.request.method": "PATCH"}),
        (None, "QUERY", "QUERY", {"http.request.method": "QUERY"}),
        (None, "brew", "HTTP", {"http.request.method": "_OTHER", "http.request.method_original": "BREW"}),
        ("GET,BREW", "BREW", "BREW", {"http.request.method": "BREW"}),
        ("GET,BREW", "POST", "HTTP", {"http.request.method": "_OTHER", "http.request.method_original": "POST"}),
    ],
)
def test_unknown_methods_are_other(
    spans: CapturedSpans,
    monkeypatch: pytest.MonkeyPatch,
    known: str | None,
    method: str,
    name: str,
    expected: dict[str, str],
) -> None:
    """Methods outside of the known set are `_OTHER`, named HTTP; the environment replaces the set."""
    if known:
        monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS", known)
    send(method=method, request={"extensions": {"url_template": "/x"}})
    assert spans.client.name == f"{name} /x"
    assert {key: value for key, value in attributes(spans.client).items() if "method" in key} == expected


@pytest.mark.parametrize(
    ("template", "name"), [("/a/{b}", "GET /a/{b}"), ("", "GET"), (7, "GET"), (None, "GET"), ("/\udc80", "GET /?")]
)
def test_a_template_is_text(spans: CapturedSpans, template: Any, name: str) -> None:
    """What is no text is no template; what no exporter could encode is replaced."""
    send(request={"extensions": {"url_template": template}})
    assert spans.client.name == name


class Peer:
    """A network stream that says what it is told about its other end."""

    def __init__(self, address: Any) -> None:
        self.address = address

    def get_extra_info(self, name: str) -> Any:
        if isinstance(self.address, Exception):
            raise self.address
        return self.address if name == "server_addr" else None


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        (("10.0.0.1", 8080), ("10.0.0.1", 8080)),
        (("::1", 8080, 0, 0), ("::1", 8080)),
        (("fe80::1%eth0", 80, 0, 2), ("fe80::1%eth0", 80)),
        (["10.0.0.1", 1], ("10.0.0.1", 1)),
        ("/run/app.sock", ("/run/app.sock", None)),
        (("svc.test", 8080), (None, None)),
        (("10.0.0.1",), (None, None)),
        ("svc.test", (None, None)),
        (b"\x00abstract", (None, None)),
        (None, (None, None)),
        (OSError("closed"), (None, None)),
    ],
)
def test_the_peer_is_an_address_or_nothing(spans: CapturedSpans, peer: Any, expected: tuple[Any, Any]) -> None:
    """The peer is that of the socket; never a host name, and nothing where nobody knows."""
    send(inner=Answer(extensions={"network_stream": Peer(peer)}))
    found = attributes(spans.client)
    assert (found.get("network.peer.address"), found.get("network.peer.port")) == expected


@pytest.mark.parametrize(
    ("wire", "version"),
    [(b"HTTP/1.0", "1.0"), (b"HTTP/1.1", "1.1"), (b"HTTP/2", "2"), (b"HTTP/3", "3"), (b"SPDY", None)],
)
def test_the_protocol_version_is_the_negotiated_one(spans: CapturedSpans, wire: bytes, version: str | None) -> None:
    """The version is what the transport says was spoken, and left out when it says nothing that is known."""
    send(inner=Answer(extensions={"http_version": wire}))
    send(inner=Answer(extensions={"stream_id": 1}))
    assert [attributes(span).get("network.protocol.version") for span in spans] == [version, None]


class Watching(Sampler):
    """Notes what it is asked, and decides as it is told."""

    def __init__(self, decision: Decision, look: bool = True) -> None:
        self.decision, self.look = decision, look
        self.seen: list[dict[str, Any]] = []

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *rest: Any, **more: Any) -> SamplingResult:
        given: Any = more.get("attributes", rest[1] if len(rest) > 1 else None)
        if self.look:
            self.seen.append({**(given or {}), "len": len(given or ()), "name": name})
        return SamplingResult(self.decision, given)

    def get_description(self) -> str:
        return "watching"


@pytest.mark.parametrize("flags", [None, 0, 1])
@pytest.mark.parametrize("decision", list(Decision))
def test_a_sampler_sees_the_request(attached: Any, flags: int | None, decision: Decision) -> None:
    """Whatever the parent, a sampler sees method, URL, server, template and headers before the span is made."""
    sampler = Watching(decision)
    if flags is not None:
        attached(parent(flags))
    with capture_spans(sampler) as spans:
        send(
            "http://svc.test/a",
            request={"extensions": {"url_template": "/a"}, "headers": {"x-id": "1"}},
            capture_request_headers="x-id",
        )
    assert sampler.seen == [
        {
            "http.request.method": "GET",
            "url.full": "http://svc.test/a",
            "server.address": "svc.test",
            "server.port": 80,
            "url.template": "/a",
            "http.request.header.x-id": ["1"],
            "len": 6,
            "name": "GET /a",
        }
    ]
    if decision is Decision.RECORD_AND_SAMPLE:
        assert attributes(spans.client)["url.full"] == "http://svc.test/a"


def test_new_traces_that_are_dropped_cost_no_attributes(attached: Any) -> None:
    """After a new trace that was not recorded the next one's attributes are built only if somebody asks."""
    sampler = Watching(Decision.DROP, look=False)

    def redact(name: str, value: str) -> str:
        asked.append(name)
        return value

    asked: list[str] = []
    with capture_spans(sampler):
        transport = TraceTransport(Answer(), redact=redact)
        for _ in range(5):
            transport.handle_request(httpx.Request("GET", "http://svc.test/?a=1"))
    assert asked == ["a"]


@pytest.mark.parametrize("key", ["_SUPPRESS_INSTRUMENTATION_KEY", "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", None])
def test_the_exporters_own_calls_are_left_alone(spans: CapturedSpans, attached: Any, key: str | None) -> None:
    """In a context that asks for silence nothing is traced and nothing is sent; a key set to False asks for nothing."""
    name = getattr(otel_context, key) if key else "suppress_instrumentation"
    context = otel_context.set_value("other", 1, parent(1))
    attached(otel_context.set_value(name, True, context))
    assert "traceparent" not in send().headers
    attached(otel_context.set_value(name, False, context))
    assert "traceparent" in send().headers
    assert len(spans) == 1


def test_the_users_own_traceparent_stays_where_there_is_no_context(attached: Any) -> None:
    """Without a provider and a current span, trace headers that the caller wrote go out as they are."""
    ids = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "tracestate": "a=1"}
    sent = send(request={"headers": ids})
    assert {name: sent.headers[name] for name in ids} == ids


@pytest.mark.parametrize("spelling", ["tracestate", "TraceState"])
def test_a_stale_tracestate_is_removed(spans: CapturedSpans, spelling: str) -> None:
    """A `tracestate` that belongs to another `traceparent` does not go out with ours, however it is spelled."""
    sent = send(request={"headers": [("Traceparent", "old"), (spelling, "old=1"), ("x-id", "1"), (spelling, "old=2")]})
    assert [name.lower() for name, _ in sent.headers.raw] == [b"host", b"traceparent", b"x-id"]


def test_a_state_that_a_hook_adds_is_stale_as_well(spans: CapturedSpans) -> None:
    """Headers are looked at after the hook: its `tracestate` belongs to no `traceparent` of ours."""

    def hook(span: Any, request: Any) -> None:
        request.headers["TraceState"] = "hook=1"

    assert "tracestate" not in send(on_request=hook).headers


def test_the_current_tracestate_and_baggage_are_sent(spans: CapturedSpans, attached: Any) -> None:
    """State and baggage of the current context go out; baggage that the caller wrote is kept beside it."""
    from opentelemetry.baggage import set_baggage
    from opentelemetry.trace import TraceState

    state = TraceState([("vendor", "1")])
    current = NonRecordingSpan(SpanContext(0xA, 0xB, False, TraceFlags(1), state))
    attached(set_baggage("mine", "1", set_span_in_context(current)))
    sent = send(request={"headers": {"baggage": "yours=2"}})
    assert sent.headers["tracestate"] == "vendor=1"
    assert set(sent.headers["baggage"].split(",")) == {"mine=1", "yours=2"}


@pytest.mark.parametrize(
    ("propagate_to", "url", "allowed"),
    [
        ("svc.test", "http://svc.test/", True),
        ("SVC.TEST", "http://svc.test:81/", True),
        ("svc.test:80", "http://svc.test/", True),
        ("svc.test:80", "http://svc.test:81/", False),
        ("svc.test:443", "https://svc.test/", True),
        (("a.test", "*.svc.test"), "http://b.svc.test/", True),
        ("*.svc.test", "http://svc.test/", False),
        ("svc.test", "http://svc.test.evil.test/", False),
        ("svc.test", "http://svc.test@evil.test/", False),
        ("::1", "http://[::1]:8080/", True),
        ("bücher.test", "http://bücher.test/", True),
        ("xn--bcher-kva.test", "http://bücher.test/", True),
        ((), "http://svc.test/", False),
        (lambda url: url.scheme == "https", "https://svc.test/", True),
        (lambda url: url.scheme == "https", "http://svc.test/", False),
        (lambda url: 1 / 0, "http://svc.test/", False),
    ],
)
def test_context_goes_only_where_it_may(spans: CapturedSpans, propagate_to: Any, url: str, allowed: bool) -> None:
    """`propagate_to` decides by the URL's own host and port, never by a Host header; the span is made in any case."""
    headers = {"host": "svc.test", "traceparent": "mine", "Baggage": "a=1", "tracestate": "b=1", "x-id": "7"}
    sent = send(url, request={"headers": headers}, propagate_to=propagate_to)
    assert (sent.headers.get("traceparent", "").startswith("00-")) is allowed
    if not allowed:
        assert set(sent.headers) == {"host", "x-id"}
    assert len(spans) == 1


def test_an_unsampled_or_silent_call_obeys_the_same_limits(spans: CapturedSpans, attached: Any) -> None:
    """Where nothing may be sent nothing is, also for calls that are unsampled, excluded or silenced."""
    attached(parent(0))
    for options, extensions in (({}, {}), ({"exclude": "svc"}, {}), ({}, {"asgi_trace": False})):
        request = {"headers": {"traceparent": "mine"}, "extensions": extensions}
        assert "traceparent" not in send(request=request, propagate_to="a.test", **options).headers
        assert send(request=request, propagate_to="svc.test", **options).headers["traceparent"].endswith("-00")


def test_without_a_provider_the_same_limits_hold() -> None:
    """Also where nobody records, trace headers that the caller wrote go only where they may."""
    headers = {"headers": {"traceparent": "mine", "baggage": "a=1"}}
    assert send(request=headers, propagate_to="svc.test").headers["traceparent"] == "mine"
    assert not {"traceparent", "baggage"} & set(send(request=headers, propagate_to="a.test").headers)


def test_another_propagator_is_used_as_it_is(spans: CapturedSpans) -> None:
    """A propagator that is not W3C's writes its own headers, and they too stay away from where they may not go."""
    b3 = pytest.importorskip("opentelemetry.propagators.b3")
    sent = send(propagator=b3.B3MultiFormat())
    assert "traceparent" not in sent.headers
    assert sent.headers["x-b3-spanid"] == f"{spans.client.context.span_id:016x}"
    again = send(request={"headers": dict(sent.headers)}, propagator=b3.B3MultiFormat(), propagate_to="a.test")
    assert not [name for name in again.headers if name.startswith("x-b3")]


def test_extensions_that_calls_share_are_not_written_to(spans: CapturedSpans) -> None:
    """A dict of extensions that several requests share counts the sends of each of them, and is left as it is."""
    shared = {"url_template": "/x", "timeout": {}}
    transport = TraceTransport(Answer())
    for _ in range(3):
        request = httpx.Request("GET", "http://svc.test/")
        request.extensions = shared
        transport.handle_request(request)
    assert shared == {"url_template": "/x", "timeout": {}}
    assert [attributes(span).get("http.request.resend_count") for span in spans] == [None, None, None]


def test_headers_are_captured_by_the_environment(spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry's variables name headers to capture, as expressions that match the whole name."""
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST", "X-.*,cookie")
    monkeypatch.setenv("OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE", "server")
    inner = Answer(headers=[("server", "s"), ("server-id", "1")])
    send(request={"headers": {"x-id": "1", "not-x-id": "2", "cookie": "c"}}, inner=inner)
    found = {key: value for key, value in attributes(spans.client).items() if ".header." in key}
    assert found == {
        "http.request.header.x-id": ("1",),
        "http.request.header.cookie": ("REDACTED",),
        "http.response.header.server": ("s",),
    }


def failing(request: Any) -> Any:
    raise httpx.ConnectError("no route")


@pytest.mark.parametrize(("words", "events", "records"), [("", 1, 0), ("logs", 0, 1), ("logs/dup", 1, 1)])
def test_an_exception_is_an_event_or_a_log_record(
    spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch, words: str, events: int, records: int
) -> None:
    """OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN chooses span events, log records or both; a record belongs to its span."""
    exporter: Any = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(exceptions, "get_logger", lambda name, version, schema_url: provider.get_logger(name, version))
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", words)
    with pytest.raises(httpx.ConnectError):
        send(inner=httpx.MockTransport(failing))
    span = spans.client
    assert len(span.events) == events
    emitted = [record.log_record for record in exporter.get_finished_logs()]
    assert len(emitted) == records
    for record in emitted:
        assert record.event_name == "http.client.request.exception"
        assert record.severity_text == "WARN"
        assert record.span_id == span.context.span_id
        assert dict(record.attributes or {})["exception.message"] == "no route"


class Unspeakable(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_exception_without_words_is_still_raised(spans: CapturedSpans) -> None:
    """An exception whose text fails is raised unchanged, and the span has its type and an error status."""

    def handler(request: Any) -> Any:
        raise Unspeakable

    with pytest.raises(Unspeakable):
        send(inner=httpx.MockTransport(handler))
    assert attributes(spans.client)["error.type"].endswith(".Unspeakable")
    assert spans.client.status.status_code is StatusCode.ERROR


class Broken(SpanProcessor):
    """Fails where it is told to."""

    def __init__(self, where: str) -> None:
        self.where = where

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        if self.where == "start":
            raise RuntimeError("on_start")

    def on_end(self, span: ReadableSpan) -> None:
        if self.where == "end":
            raise RuntimeError("on_end")


class BrokenSampler(Watching):
    """Fails when it is asked."""

    def should_sample(self, *arguments: Any, **named: Any) -> SamplingResult:
        raise RuntimeError("sampler")


@pytest.mark.parametrize("where", ["start", "end", "sampler"])
def test_an_sdk_that_fails_does_not_disturb_a_call(caplog: pytest.LogCaptureFixture, attached: Any, where: str) -> None:
    """Processors and samplers that raise are reported, once as ERROR; the call goes on and can be repeated."""
    provider = TracerProvider(
        sampler=BrokenSampler(Decision.DROP) if where == "sampler" else ALWAYS_ON, shutdown_on_exit=False
    )
    provider.add_span_processor(Broken(where))
    attached(parent(1))
    transport = TraceTransport(Answer(stream=Chunks()), tracer_provider=provider)
    request = httpx.Request("GET", "http://svc.test/")
    before = otel_context.get_current()
    with caplog.at_level(logging.ERROR, logger="asgi_trace"):
        for _ in range(2):
            response = transport.handle_request(request)
            assert response.read() == b"a"
    assert request.headers["traceparent"].startswith(f"00-{0xA:032x}-")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert otel_context.get_current() == before


def test_a_response_that_is_none_is_the_clients_affair(spans: CapturedSpans, caplog: pytest.LogCaptureFixture) -> None:
    """A transport that returns no response gets reported, its span ends, and the caller gets what it returned."""
    transport = TraceTransport(httpx.MockTransport(lambda request: None))
    with caplog.at_level(logging.CRITICAL, logger="asgi_trace"), pytest.raises(TypeError):
        transport.handle_request(httpx.Request("GET", "http://svc.test/"))

    class Nothing(httpx.BaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            return None

    assert TraceTransport(Nothing()).handle_request(httpx.Request("GET", "http://svc.test/")) is None
    assert len(spans) == 2


def test_a_hook_may_stop_the_program(spans: CapturedSpans) -> None:
    """A KeyboardInterrupt inside of a hook is passed on; span and context are put away."""

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    before = otel_context.get_current()
    for option in ("on_request", "on_response"):
        hooks: dict[str, Any] = {option: interrupt}
        with pytest.raises(KeyboardInterrupt):
            send(**hooks)
        assert otel_context.get_current() == before
    assert [attributes(span)["error.type"] for span in spans] == ["KeyboardInterrupt", "KeyboardInterrupt"]


@pytest.mark.parametrize("status", [200, 404])
def test_a_response_says_the_same_to_all(spans: CapturedSpans, status: int) -> None:
    """A hook, captured headers, a meter or what else the transport says add to a span and change nothing in it."""
    provider, _ = measured()
    inner = Answer(status, headers={"x-id": "1"})
    telling = Answer(status, headers={"x-id": "1"}, extensions={"stream_id": 1})
    send(inner=inner)
    send(inner=telling)
    send(inner=inner, on_response=lambda span, request, response: None)
    send(inner=inner, meter_provider=provider)
    send(inner=inner, capture_response_headers="x-id")
    *same, captured = [attributes(span) for span in spans]
    assert captured.pop("http.response.header.x-id") == ("1",)
    assert same == [captured] * 4
    assert captured["http.response.status_code"] == status


class Interrupting:
    """A response that is looked at when Ctrl-C arrives."""

    @property
    def status_code(self) -> int:
        raise KeyboardInterrupt


def test_an_interrupt_leaves_nothing_open(spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C amid our own work, before the send or after it, reaches the caller; span and context are put away."""

    class Inner(httpx.BaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            return Interrupting()

    def interrupt(*arguments: Any) -> Any:
        raise KeyboardInterrupt

    before = otel_context.get_current()
    with pytest.raises(KeyboardInterrupt):
        send(inner=Inner())
    monkeypatch.setattr("asgi_trace._propagation.propagator.write_traceparent", interrupt)
    with pytest.raises(KeyboardInterrupt):
        send()
    assert otel_context.get_current() == before
    assert [attributes(span)["error.type"] for span in spans] == ["KeyboardInterrupt", "KeyboardInterrupt"]


def test_hooks_are_not_called_for_what_is_not_recorded(spans: CapturedSpans, attached: Any) -> None:
    """Below an unsampled parent no hook is called."""
    attached(parent(0))
    called: list[Any] = []
    send(on_request=lambda *given: called.append(given), on_response=lambda *given: called.append(given))
    assert called == []


async def coroutine(*arguments: Any) -> None:
    """No hook."""


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"on_request": coroutine}, TypeError, "on_request"),
        ({"on_response": coroutine}, TypeError, "on_response"),
        ({"on_request": 7}, TypeError, "on_request"),
        ({"exclude": "("}, ValueError, "exclude"),
        ({"exclude": 7}, TypeError, "exclude"),
        ({"exclude": coroutine}, TypeError, "exclude"),
        ({"propagate_to": coroutine}, TypeError, "propagate_to"),
        ({"propagate_to": 7}, TypeError, "propagate_to"),
        ({"tracer_provider": 7}, TypeError, "tracer_provider"),
        ({"meter_provider": 7}, TypeError, "meter_provider"),
        ({"capture_request_headers": 7}, TypeError, "capture_request_headers"),
        ({"metrics": 7}, TypeError, "metrics"),
        ({"propagate_to": "http://svc.test"}, ValueError, "propagate_to"),
        ({"metrics": "http.server.request.duration"}, ValueError, "metrics"),
        ({"redact": 7}, TypeError, "redact"),
        ({"propagator": "b3"}, TypeError, "propagator"),
        ({"transport": httpx.HTTPTransport}, TypeError, "transport.*TraceTransport"),
        ({"transport": "http://svc.test"}, TypeError, "transport.*TraceTransport"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
def test_a_wrong_argument_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """Wrong arguments raise at construction, and the message names the option."""
    with pytest.raises(error, match=message):
        TraceTransport(**{"transport": Answer(), **options})


def test_a_transport_of_the_other_kind_is_refused() -> None:
    """A sync transport around an async one raises at construction, and the other way round."""
    with pytest.raises(TypeError, match="handle_request"):
        TraceTransport(httpx.ASGITransport(lambda scope, receive, send: None))
    with pytest.raises(TypeError, match="handle_async_request"):
        AsyncTraceTransport(Answer())


def test_the_provider_may_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A global provider that is set after the transport was built is used from then on."""
    transport = TraceTransport(Answer())
    transport.handle_request(httpx.Request("GET", "http://svc.test/"))
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with capture_spans() as spans:
        transport.handle_request(httpx.Request("GET", "http://svc.test/"))
        assert len(spans) == 1
    other = TraceTransport(Answer(), tracer_provider=provider)
    other.handle_request(httpx.Request("GET", "http://svc.test/"))
    assert len(exporter.get_finished_spans()) == 1


def _fail(entered: bool) -> None:
    assert entered
    raise ConnectionError


def test_a_transport_passes_its_life_on(spans: CapturedSpans) -> None:
    """Entering, leaving and closing reach the transport further in, with the exception that ends the block."""
    told: list[Any] = []

    class Inner(Answer):
        def __enter__(self) -> Any:
            told.append("enter")
            return self

        def __exit__(self, *reason: Any) -> None:
            told.append(reason[0])

        def close(self) -> None:
            told.append("close")

    transport = TraceTransport(Inner())
    with pytest.raises(ConnectionError), transport as entered:
        _fail(entered is transport)
    transport.close()
    assert told == ["enter", ConnectionError, "close"]


def test_the_default_is_the_librarys_own_transport() -> None:
    """Without a transport the library's default does the work; both shells are transports of their library."""
    for kind, base in ((TraceTransport, httpx.BaseTransport), (AsyncTraceTransport, httpx.AsyncBaseTransport)):
        assert isinstance(kind(), base)


class Held(SpanProcessor):
    """A processor with a plain lock, in whose hold garbage is collected: what happens to any SDK sooner or later."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ended: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        assert self.lock.acquire(timeout=2), "a deadlock"
        try:
            gc.collect()
            self.ended.append(span.name)
        finally:
            self.lock.release()


@pytest.mark.parametrize("later", ["close", "call"])
def test_a_dropped_response_never_deadlocks_the_sdk(later: str) -> None:
    """A response that is collected while the SDK holds a lock has its span ended at the next call, or the close."""
    held = Held()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(held)
    transport = TraceTransport(Answer(stream=Chunks()), tracer_provider=provider)
    gc.collect()
    gc.disable()
    try:
        response: Any = transport.handle_request(httpx.Request("GET", "http://svc.test/"))
        response.itself = response  # only the collector finds it
        del response
        provider.get_tracer("other").start_span("other").end()
        assert held.ended == ["other"]
        if later == "close":
            transport.close()
        else:
            transport.handle_request(httpx.Request("POST", "http://svc.test/")).close()
        assert held.ended[:2] == ["other", "GET"]
    finally:
        gc.enable()


def test_nothing_is_left_of_calls_that_ended_badly(spans: CapturedSpans) -> None:
    """Unread, failed and dropped calls leave no object of ours behind."""
    from asgi_trace._client.call import Call, Sends

    def count() -> int:
        gc.collect()
        return sum(type(thing) in (Call, Sends) for thing in gc.get_objects())  # a proxy lies to isinstance()

    before = count()
    transport = TraceTransport(Answer(stream=Chunks()))
    for _ in range(50):
        transport.handle_request(httpx.Request("GET", "http://svc.test/"))
        transport.handle_request(httpx.Request("GET", "http://svc.test/")).close()
        with suppress(httpx.ConnectError):
            send(inner=httpx.MockTransport(failing))
    assert count() <= before
    assert len(spans) == 150


def test_a_call_that_is_closed_elsewhere_leaves_that_context_alone(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """A coroutine that is closed from another context is a cancelled call, and detaches nothing there."""

    class Waiting(httpx.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            await asyncio.sleep(3600)

    call = AsyncTraceTransport(Waiting()).handle_async_request(httpx.Request("GET", "http://svc.test/"))
    loop = asyncio.new_event_loop()
    try:
        copy_context().run(_first_step, call, loop)
        call.close()
    finally:
        loop.close()
    assert attributes(spans.client)["asgi_trace.cancelled"] is True
    assert spans.client.status.status_code is StatusCode.UNSET
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def _first_step(call: Any, loop: asyncio.AbstractEventLoop) -> None:
    async def step() -> None:
        call.send(None)

    loop.run_until_complete(step())


CONTRIB = "opentelemetry.instrumentation.httpx"


@pytest.fixture
def contrib() -> Iterator[Any]:
    """contrib's instrumentation of httpx, switched off again at the end."""
    module = pytest.importorskip(CONTRIB)
    instrumentor = module.HTTPXClientInstrumentor()
    yield instrumentor
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()
    del sys.modules[CONTRIB]


@pytest.mark.parametrize("flags", [0, 1, None])
def test_contribs_patch_of_the_network_keeps_still(
    spans: CapturedSpans, contrib: Any, attached: Any, flags: int | None
) -> None:
    """Around the library's own transport, which contrib patches, a request is one span, ours, and its ids are sent."""
    contrib.instrument(tracer_provider=spans.tracer_provider)
    if flags is not None:
        attached(parent(flags))
    transport = TraceTransport(httpx.HTTPTransport())
    request = httpx.Request("GET", "http://127.0.0.1:9/")
    with pytest.raises(httpx.ConnectError):
        transport.handle_request(request)
    assert len(spans) == (0 if flags == 0 else 1)
    if flags != 0:
        assert spans.client.instrumentation_scope.name == "asgi_trace"  # type: ignore[union-attr]
        assert f"{spans.client.context.span_id:016x}" in request.headers["traceparent"]


def test_beside_contrib_around_our_transport_we_step_aside(
    spans: CapturedSpans, contrib: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A client that contrib instruments by name has one span, contrib's, and one warning says so."""
    client = httpx.Client(transport=TraceTransport(Answer()))
    contrib.instrument_client(client, tracer_provider=spans.tracer_provider)
    client.get("http://svc.test/a")
    client.get("http://svc.test/b")
    assert [span.instrumentation_scope.name for span in spans] == [CONTRIB, CONTRIB]  # type: ignore[union-attr]
    assert [CONTRIB in record.getMessage() for record in caplog.records if record.name == "asgi_trace"] == [True]


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
@pytest.mark.parametrize("secret", ["/a?sig=s", "/a?x=1&sig=s#f", "me:pw@/a", ""])
def test_contribs_span_is_known_though_its_url_is_redacted(
    spans: CapturedSpans, contrib: Any, library: str, secret: str
) -> None:
    """Beside contrib a call is one span, also where the URL holds what contrib redacts."""
    module = pytest.importorskip(library)
    if library == "httpx2":
        instrument = import_module(CONTRIB).HTTPX2ClientInstrumentor.instrument_client
    else:
        instrument = contrib.instrument_client
    credentials, _, path = secret.rpartition("@")
    transport = getattr(import_module(f"asgi_trace.{library}"), "TraceTransport")  # noqa: B009
    client = module.Client(transport=transport(module.MockTransport(lambda request: module.Response(200))))
    instrument(client, tracer_provider=spans.tracer_provider)
    client.get(f"http://{credentials}{'@' if credentials else ''}svc.test{path}")
    assert [span.instrumentation_scope.name for span in spans] == [CONTRIB]  # type: ignore[union-attr]


def test_another_call_below_contribs_span_is_ours(spans: CapturedSpans, contrib: Any) -> None:
    """A call to another path below a span of contrib's is traced."""
    inner = httpx.Client(transport=TraceTransport(Answer()))

    def handler(request: Any) -> Any:
        return inner.get("http://svc.test/b?sig=1")

    outer = httpx.Client(transport=httpx.MockTransport(handler))
    contrib.instrument_client(outer, tracer_provider=spans.tracer_provider)
    outer.get("http://svc.test/a?sig=1")
    assert [span.instrumentation_scope.name for span in spans] == ["asgi_trace", CONTRIB]  # type: ignore[union-attr]


def test_what_quotes_a_secret_is_masked_to_its_last_cause() -> None:
    """Of a chain of exceptions that quote a credential, each is masked; others stay."""
    from asgi_trace._client.exceptions import masked
    from asgi_trace._options.redact import Redaction

    lines = [(b"Authorization", b" S\xc3\n1 "), (b"x-id", b"7"), (b"cookie", b"")]
    cause = ValueError("illegal: " + repr(lines[0][1]))
    try:
        raise httpx.LocalProtocolError("no: S\xc3\n1 in 7") from cause
    except httpx.LocalProtocolError as exc:
        error = exc
    like = masked(error, lines, Redaction())
    assert (type(like), str(like), str(like.__cause__)) == (type(error), "no: REDACTED in 7", "illegal: b' REDACTED '")
    assert like.__traceback__ is error.__traceback__
    assert "S\xc3" in str(error)
    assert error.__cause__ is cause
    assert masked(error, lines[1:], Redaction()) is error
    assert masked(cause, lines, Redaction()) is cause
    assert "7" not in str(masked(error, lines, Redaction("x-id")))


def test_a_request_that_cannot_be_copied_is_sent_all_the_same(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where two sends of one request cannot be told apart both are sent, and it is reported."""

    def broken(request: Any) -> Any:
        raise LookupError

    class Again(Answer):
        def handle_request(self, request: Any) -> Any:
            self.status += 1
            return super().handle_request(request) if self.status > 201 else transport.handle_request(request)

    monkeypatch.setattr("asgi_trace._client.start.twin", broken)
    transport = TraceTransport(Again())
    with caplog.at_level(logging.ERROR, logger="asgi_trace"):
        assert transport.handle_request(httpx.Request("GET", "http://svc.test/")).status_code == 202
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert len(spans) == 1


def test_another_propagators_headers_are_taken_back(spans: CapturedSpans, attached: Any) -> None:
    """What a propagator that is not W3C's has written does not go out with a later send that writes nothing."""
    b3 = pytest.importorskip("opentelemetry.propagators.b3")
    transport = TraceTransport(Answer(), propagator=b3.B3MultiFormat(), exclude=lambda request: bool(len(spans)))
    request = httpx.Request("GET", "http://svc.test/", headers={"x-b3-sampled": "0"})
    transport.handle_request(request)
    assert request.headers["x-b3-spanid"] == f"{spans.client.context.span_id:016x}"
    transport.handle_request(request)
    assert {name: value for name, value in request.headers.items() if "b3" in name} == {"x-b3-sampled": "0"}


def test_what_is_kept_for_a_second_send_is_no_burden(spans: CapturedSpans) -> None:
    """A request and its response can be pickled after a send, and are freed without the garbage collector."""
    request = send()
    copied = pickle.loads(pickle.dumps(request))
    assert copied.headers.raw == request.headers.raw
    freed = weakref.ref(request)
    gc.disable()
    try:
        del request
        assert freed() is None
    finally:
        gc.enable()


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library the import says what to install."""
    for library in ("httpx", "httpx2"):
        monkeypatch.setitem(sys.modules, library, None)
        monkeypatch.delitem(sys.modules, f"asgi_trace.{library}", raising=False)
        with pytest.raises(ImportError, match=rf"pip install 'asgi-trace\[{library}\]'"):
            import_module(f"asgi_trace.{library}")


ALIASED = """
import httpx2
httpx2.alias_httpx()
import httpx
from asgi_trace.httpx import TraceTransport
from asgi_trace.httpx2 import TraceTransport as TraceTransport2
from asgi_trace.testing import capture_spans
with capture_spans() as spans:
    for kind in (TraceTransport, TraceTransport2):
        for library in (httpx, httpx2):
            client = library.Client(transport=kind(library.MockTransport(lambda request: library.Response(200))))
            client.get("http://svc.test/")
print(httpx is httpx2, len(spans))
"""


def test_an_alias_of_the_library_does_no_harm() -> None:
    """After `httpx2.alias_httpx()` both modules work, with one library behind them."""
    pytest.importorskip("httpx2")
    done = subprocess.run([sys.executable, "-W", "error", "-c", ALIASED], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["True", "4"], "")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {}),
        ({"HTTP_PROXY": "http://p:1", "HTTPS_PROXY": "p:2"}, {"http://": "http://p:1", "https://": "http://p:2"}),
        ({"all_proxy": "socks5://p"}, {"all://": "socks5://p"}),
        ({"ALL_PROXY": "p", "NO_PROXY": "a.test, *"}, {}),
        (
            {"ALL_PROXY": "p", "NO_PROXY": "a.test,.b.test,*.c.test,10.0.0.1,10.0.0.0/8,::1,[::2],localhost,d.test:81"},
            {
                "all://": "http://p",
                "all://*a.test": None,
                "all://*.b.test": None,
                "all://*.c.test": None,
                "all://10.0.0.1": None,
                "all://10.0.0.0/8": None,
                "all://[::1]": None,
                "all://[::2]": None,
                "all://localhost": None,
                "all://*d.test:81": None,
            },
        ),
        ({"NO_PROXY": "http://e.test,fe80::/10,not a host,,f/g"}, {"http://e.test": None, "all://[fe80::]/10": None}),
    ],
)
def test_the_environment_names_proxies(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: dict[str, str | None]
) -> None:
    """HTTP_PROXY and its relatives become patterns as the library's own; names in NO_PROXY cover those below them."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert environment_proxies() == expected


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_the_environment_is_read_as_the_library_reads_it(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """A client of `for_client()` takes the way through the proxies that the library's own client takes."""
    module = pytest.importorskip(library)
    transport: Any = getattr(import_module(f"asgi_trace.{library}"), "TraceTransport")  # noqa: B009
    for name, value in {
        "HTTP_PROXY": "http://p.test:1",
        "ALL_PROXY": "http://q.test:2",
        "NO_PROXY": "localhost,.a.test,b.test,10.0.0.1,::1",
    }.items():
        monkeypatch.setenv(name, value)

    def ways(client: Any) -> list[str]:
        urls = ["http://localhost", "https://x.a.test", "http://a.test", "http://b.test", "https://c.b.test"]
        urls += ["http://10.0.0.1", "http://[::1]:8", "http://far.test", "https://far.test", "http://cb.test"]
        found = []
        for url in urls:
            chosen = client._transport_for_url(module.URL(url))
            chosen = getattr(chosen, "_transport", chosen)
            proxy = getattr(chosen._pool, "_proxy_url", None)
            found.append("direct" if proxy is None else f"{proxy.host!r}:{proxy.port}")
        return found

    with module.Client() as plain, module.Client(**transport.for_client()) as traced:
        assert ways(plain) == ways(traced)
        assert len(set(ways(traced))) == 3


def test_for_client_means_what_the_client_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of one's own replaces those of the environment, which count only when the environment is trusted."""
    monkeypatch.setenv("HTTP_PROXY", "http://p.test")
    assert list(TraceTransport.for_client()["mounts"]) == ["http://"]
    assert list(TraceTransport.for_client(proxy="http://q.test")["mounts"]) == ["all://"]
    assert TraceTransport.for_client(trust_env=False)["mounts"] == {}
    own = Answer()
    arguments = TraceTransport.for_client(mounts={"all://": own}, limits=httpx.Limits(max_connections=1))
    assert arguments["mounts"]["all://"]._transport is own
    with pytest.raises(TypeError, match="colour"):
        TraceTransport.for_client(colour="red")


def test_an_unsampled_root_is_remembered_for_its_redirects() -> None:
    """Below no parent each send decides anew, so sends that were not recorded count, too."""
    decisions = iter([Decision.DROP, Decision.DROP, Decision.RECORD_AND_SAMPLE])

    class Third(Watching):
        def should_sample(self, *arguments: Any, **named: Any) -> SamplingResult:
            self.decision = next(decisions)
            return super().should_sample(*arguments, **named)

    with capture_spans(Third(Decision.DROP, look=False)) as spans:
        transport = TraceTransport(Answer())
        request = httpx.Request("GET", "http://svc.test/")
        for _ in range(3):
            transport.handle_request(request)
    assert attributes(spans.client)["http.request.resend_count"] == 2


def test_a_ratio_of_none_is_one_decision_for_nested_transports() -> None:
    """A new trace that is not recorded is not decided upon again by one of our transports further in."""
    sampler = Watching(Decision.DROP)
    with capture_spans(sampler):
        send(inner=TraceTransport(Answer()))
    assert len(sampler.seen) == 1


def test_a_failure_below_an_unsampled_parent_passes_through(attached: Any) -> None:
    """Errors of calls that nobody records reach the caller unchanged, below a parent and as roots."""
    with capture_spans(ParentBased(ALWAYS_OFF)) as spans:
        for context in (parent(0), otel_context.Context()):
            attached(context)
            request = httpx.Request("GET", "http://svc.test/")
            transport = TraceTransport(httpx.MockTransport(failing))
            for _ in range(2):
                with pytest.raises(httpx.ConnectError):
                    transport.handle_request(request)
            assert request.headers["traceparent"].endswith(("-00", "-02"))
    assert len(spans) == 0


def test_the_kind_is_client_and_the_scope_is_ours(spans: CapturedSpans) -> None:
    """Spans are of kind CLIENT and name this package as their instrumentation."""
    send()
    assert spans[0].kind is SpanKind.CLIENT
    assert spans[0].instrumentation_scope is not None
    assert spans[0].instrumentation_scope.name == "asgi_trace"
    assert otel_trace.get_current_span() is otel_trace.INVALID_SPAN


def measured() -> tuple[Any, Any]:
    """A meter provider and what it has measured."""
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    reader = InMemoryMetricReader()
    return MeterProvider([reader], shutdown_on_exit=False), reader


def values(reader: Any) -> dict[str, Any]:
    """The sum of each metric."""
    data = reader.get_metrics_data()
    found = {}
    for scope in data.resource_metrics[0].scope_metrics if data else ():
        for metric in scope.metrics:
            found[metric.name] = sum(point.sum for point in metric.data.data_points)
    return found


def test_a_meter_works_without_a_tracer(attached: Any) -> None:
    """Where only a MeterProvider is set, calls are measured, and the caller's own context is sent."""
    provider, reader = measured()
    attached(parent(1))
    sent = send(meter_provider=provider)
    assert list(values(reader)) == ["http.client.request.duration"]
    assert sent.headers["traceparent"] == f"00-{0xA:032x}-{0xB:016x}-01"


def test_bodies_in_memory_are_counted(spans: CapturedSpans) -> None:
    """The opt-in sizes count bodies that were there from the start, by their length or by what is announced."""
    provider, reader = measured()
    options: dict[str, Any] = {
        "meter_provider": provider,
        "metrics": ("http.client.request.body.size", "http.client.response.body.size"),
    }
    send(method="POST", request={"content": b"12345"}, inner=Answer(content=b"123"), **options)
    send(inner=Answer(stream=httpx.ByteStream(b"1234567"), headers={"content-length": "7"}), **options)
    found = {name.rpartition("http.client.")[2]: value for name, value in values(reader).items()}
    assert found == {"request.body.size": 5, "response.body.size": 10}


def test_an_upload_that_fails_is_the_calls_failure(spans: CapturedSpans) -> None:
    """A body of the request that fails while it is sent, counted or not, fails the call with its own exception."""

    class Reading(httpx.BaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            return httpx.Response(200, content=request.read())

    def upload() -> Iterator[bytes]:
        yield b"a"
        raise LookupError("no more")

    provider, _ = measured()
    request = {"content": upload()}
    with pytest.raises(LookupError, match="no more"):
        send(
            method="POST",
            request=request,
            inner=Reading(),
            meter_provider=provider,
            metrics="http.client.request.body.size",
        )
    assert attributes(spans.client)["error.type"] == "LookupError"


def test_a_callable_that_fails_excludes_nothing(spans: CapturedSpans, caplog: pytest.LogCaptureFixture) -> None:
    """An `exclude` that raises is reported, and the call is traced."""
    with caplog.at_level(logging.ERROR, logger="asgi_trace"):
        send(exclude=lambda request: 1 / 0)
    assert len(spans) == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_name_that_does_not_decode_is_taken_as_it_is(spans: CapturedSpans) -> None:
    """A host that the library's own IDNA codec refuses is recorded in its encoded form."""
    send("http://xn--zzzz-zzzz-.test/", request={"stream": httpx.ByteStream(b"")})
    assert attributes(spans.client)["server.address"] == "xn--zzzz-zzzz-.test"


STEPS = [
    "asgi_trace._client.start.ClientAttributes.of",
    "asgi_trace._client.start.HeaderCapture.attributes",
    "asgi_trace._client.start.Propagation.inject",
    "asgi_trace._propagation.propagator.write_traceparent",
    "asgi_trace._client.start._template",
    "asgi_trace._client.start.Sends.__init__",
    "asgi_trace._client.start.Measured.__init__",
    "asgi_trace._client.start.Metrics.live",
    "asgi_trace._client.call.client_protocol",
    "asgi_trace._client.call.client_peer",
    "asgi_trace._client.call.Call._watch",
    "asgi_trace._client.call.error_type",
    "asgi_trace._otel.metrics.Metrics.started",
    "asgi_trace._otel.metrics.Metrics.finished",
    "opentelemetry.sdk.trace.Span.set_attributes",
    "opentelemetry.sdk.trace.Span.set_status",
    "opentelemetry.sdk.trace.Span.record_exception",
    "opentelemetry.sdk.trace.Span.end",
    "opentelemetry.sdk.trace.Tracer.start_span",
]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("flags", [0, 1])
def test_no_step_of_ours_can_break_a_call(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    attached: Any,
    step: str,
    fails: bool,
    flags: int,
) -> None:
    """Whatever fails inside: the caller gets its response or its error, twice, and the context is as before."""
    provider, _ = measured()
    attached(parent(flags))

    def handler(request: Any) -> Any:
        if fails:
            raise httpx.ReadTimeout("late")
        return httpx.Response(404, stream=Chunks(), extensions={"network_stream": Peer(("10.0.0.1", 1))})

    def boom(*arguments: Any, **named: Any) -> Any:
        raise ZeroDivisionError(step)

    with capture_spans() as spans, caplog.at_level(logging.CRITICAL, logger="asgi_trace"):
        transport = TraceTransport(
            httpx.MockTransport(handler),
            meter_provider=provider,
            capture_request_headers="x-id",
            capture_response_headers="x-id",
            tracer_provider=spans.tracer_provider,
        )
        request = httpx.Request("GET", "http://svc.test/", extensions={"url_template": "/x"}, headers={"x-id": "1"})
        before = otel_context.get_current()
        module, _, name = step.rpartition(".")
        monkeypatch.setattr(_find(module), name, boom)
        for _ in range(2):
            if fails:
                with pytest.raises(httpx.ReadTimeout, match="late"):
                    transport.handle_request(request)
            else:
                response = transport.handle_request(request)
                assert (response.status_code, response.read()) == (404, b"a")
            assert otel_context.get_current() == before
        monkeypatch.undo()


def _find(path: str) -> Any:
    """A module, or a class in it."""
    try:
        return import_module(path)
    except ImportError:
        module, _, name = path.rpartition(".")
        return getattr(import_module(module), name)


def test_a_socket_is_one_span_as_long_as_its_connection(spans: CapturedSpans) -> None:
    """A WebSocket of httpx2's client is one span with status 101 that ends when the socket is closed."""
    library: Any = pytest.importorskip("httpx2")
    pytest.importorskip("wsproto")
    from asgi_trace.httpx2 import TraceTransport as TraceTransport2

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": (await receive())["text"]})
        await receive()

    with uvicorn_serving(echo, ws="wsproto") as server, library.Client(transport=TraceTransport2()) as client:
        with client.websocket(f"{server.url.replace('http', 'ws')}/chat") as session:
            session.send_text("hello")
            assert session.receive_text() == "hello"
            assert len(spans) == 0
        found = attributes(spans.client)
    assert found["http.response.status_code"] == 101
    assert found["server.port"] == server.port
    assert spans.client.status.status_code is StatusCode.UNSET
