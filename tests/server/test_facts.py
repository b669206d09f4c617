"""The facts of a request: the attributes that they become, and the bytes that are written straight from them."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import trace as api
from opentelemetry.context import Context
from opentelemetry.sdk import trace as official
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, TraceIdRatioBased

from asgi_trace import TraceMiddleware, server_span
from asgi_trace import _sdk as sdk
from asgi_trace._options.redact import Redaction
from asgi_trace._sdk.encoder import SpanEncoder, official_bytes
from asgi_trace._sdk.span import _Span
from asgi_trace._sdk.span_check import same_as_sdk
from asgi_trace._sdk.tracer import adopt
from asgi_trace._semconv.server import ServerDescription, _careful_attributes, server_attributes, server_facts

from ..support.sdk import Asking, OtherKind, TakingLive, facts, heard

pytestmark = pytest.mark.skipif(not same_as_sdk(adopt), reason="this SDK has other spans than ours")

ENCODER = SpanEncoder()
"""One for all examples, as a service has it: what it remembers must not change a byte."""

TEXT = st.one_of(st.text(max_size=8), st.sampled_from(["x" * size for size in (62, 63, 64, 65, 127, 128, 300)]))
TARGETS = st.one_of(
    TEXT.map(lambda text: b"/" + text.encode("utf-8", "replace")),
    st.sampled_from(
        [b"/items/42", b"/", b"", b"*", b"/a?b=c", b"/%ff", b"\xff", b"http://user:pw@host.test/path", None]
    ),
)
QUERIES = st.one_of(
    TEXT.map(lambda text: text.encode("utf-8", "replace")),
    st.sampled_from(
        [
            *(b"", b"page=2", b"sig=secret", b"a=1&Signature=x&b=%20", b"token=5&" + b"q=1&" * 40, b"\xff=1", None),
            *(
                b"sig=1&" * 600,
                b"q" * 3900,
                b"q" * 5000,
            ),  # masked, or alone, or with a path too long to be recorded whole
        ]
    ),
)
HOSTS = st.sampled_from(
    [b"api.example.com", b"api.example.com:8080", b"[::1]:80", b"", b"no host", b"h" * 300, b"h" * 255, b"\xff", None]
)
CLIENTS = st.one_of(
    st.tuples(TEXT, st.integers(-1, 70_000)),
    st.sampled_from(
        [("203.0.113.7", 51123), ("::1", 80), ("", 0), ["10.0.0.1", 5], ("a",), None, (None, 1), ("a", True)]
    ),
)
AGENTS = st.one_of(st.none(), st.just(b"u" * 5000), TEXT.map(lambda text: text.encode("latin-1", "replace")))
PARENTS = st.sampled_from(
    [
        None,
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
        b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        b"garbage",
    ]
)
SCOPES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["http", "http", "websocket"]),
        "http_version": st.sampled_from(["1.1", "2", "3", "1.0", "2.0", "9", "", None]),
        "method": st.sampled_from(["GET", "POST", "BREW", "get"]),
        "scheme": st.sampled_from(["http", "https", "ws", "wss", "gopher", "", None]),
        "path": TEXT.map(lambda text: "/" + text),
        "raw_path": TARGETS,
        "query_string": QUERIES,
        "client": CLIENTS,
        "server": st.sampled_from([("127.0.0.1", 8000), ("/run/socket", None), None]),
    }
)
HEADERS = st.fixed_dictionaries(
    {b"host": HOSTS, b"user-agent": AGENTS, b"traceparent": PARENTS, b"tracestate": st.sampled_from([None, b"a=1"])}
)
CAPTURES = st.sampled_from([(), "user-agent", ["host", "x-line"], ".*"])
MORE_HEADERS = [(b"x-line", b"1"), (b"x-line", b"\xe9"), *((b"x-%d" % number, b"v") for number in range(30))]
"""More than may be kept behind the facts without a look at the limits."""
ROOMS = st.sampled_from([None, 8, 32, 40])
"""How many attributes a span may have."""
ROUTES = st.sampled_from([None, "/items/{id}", "/ü/{x}", "", "/" + "r" * 200])


def scope_of(
    fields: dict[str, Any], headers: dict[bytes, Any], route: str | None = None, more: bool = False
) -> dict[str, Any]:
    """A scope with what is not None; the application finds its route in `state`."""
    scope = {key: value for key, value in fields.items() if value is not None}
    scope["headers"] = [(name, value) for name, value in headers.items() if value is not None]
    scope["headers"] += MORE_HEADERS if more else ()
    scope["state"] = {"route": route}
    return scope


class _Route:
    def __init__(self, template: str) -> None:
        self.path_format = template


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    if scope["state"]["route"] is not None:
        scope["route"], scope["endpoint"] = _Route(scope["state"]["route"]), _answer
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000})
        return
    status = scope.get("status", 200)
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def serve(app: Any, scope: Any) -> None:
    """Run one request that never waits."""

    async def receive() -> Any:
        return {"type": f"{scope['type']}.disconnect"}

    async def send(message: Any) -> None:
        return None

    coroutine = app(scope, receive, send)
    with pytest.raises(StopIteration):
        coroutine.send(None)


def traced(kind: Any = sdk.TracerProvider, sampler: Any = None, **options: Any) -> tuple[Any, TakingLive]:
    """An application on a provider of that kind, and the processor that holds what it records."""
    limits = official.SpanLimits(max_span_attributes=options.pop("room", None))
    sampler = sampler or ParentBased(ALWAYS_ON)
    provider, processor = kind(sampler=sampler, shutdown_on_exit=False, span_limits=limits), TakingLive()
    provider.add_span_processor(processor)
    return TraceMiddleware(options.pop("app", _answer), tracer_provider=provider, **options), processor


HOST = {b"host": b"api.test"}
USUAL = {
    "type": "http",
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/items/42",
    "raw_path": b"/items/42",
    "query_string": b"page=2",
    "client": ("203.0.113.7", 51123),
}


@settings(max_examples=300, deadline=None)
@given(
    scope=SCOPES,
    headers=HEADERS,
    route=ROUTES,
    status=st.sampled_from([200, 404, 500]),
    redact=st.booleans(),
    capture=CAPTURES,
)
def test_bytes_and_attributes_say_the_same(
    scope: Any, headers: Any, route: str | None, status: int, redact: bool, capture: Any
) -> None:
    """What is written straight from facts is what the official encoder writes of the attributes they become."""
    app, processor = traced(redact=["token"] if redact else (), capture_request_headers=capture)
    serve(app, {**scope_of(scope, headers, route, bool(capture)), "status": status})
    ended = processor.ended
    written = ENCODER.encode(ended)  # before anything has asked for an attribute
    assert written == official_bytes(ended)  # which asks for all of them
    assert ENCODER.encode(ended) == written  # and now they are there


@settings(max_examples=200, deadline=None)
@given(
    scope=SCOPES, headers=HEADERS, route=ROUTES, status=st.sampled_from([200, 404, 500]), capture=CAPTURES, room=ROOMS
)
def test_a_span_from_facts_is_the_one_from_attributes(
    scope: Any, headers: Any, route: str | None, status: int, capture: Any, room: int | None
) -> None:
    """Everything public of a span is the same on our provider and on the SDK's own without our spans."""
    seen = []
    for kind in (official.TracerProvider, sdk.TracerProvider):
        with pytest.MonkeyPatch.context() as patch:
            if kind is official.TracerProvider:
                patch.setenv("ASGI_TRACE_FAST_SPANS", "false")
            app, processor = traced(kind, capture_request_headers=capture, room=room)
        serve(app, {**scope_of(scope, headers, route, bool(capture)), "status": status})
        found = [facts(span) for span in processor.ended]
        for each in found:  # what is random, or the time
            for random in ("context", "times", "json"):
                del each[random]
        seen.append(found)
    assert seen[0] == seen[1]


@pytest.mark.parametrize("room", [32, 34, 40])
def test_many_captured_headers_stay_within_the_limit(room: int) -> None:
    """Facts and captured headers together are no more attributes than a span may have, and the latest are kept."""
    scope = {"type": "http", "http_version": "1.1", "method": "GET", "scheme": "http", "path": "/", "raw_path": b"/"}
    scope |= {"query_string": b"page=2", "client": ("203.0.113.7", 51123)}
    seen = []
    for kind in (official.TracerProvider, sdk.TracerProvider):
        with pytest.MonkeyPatch.context() as patch:
            if kind is official.TracerProvider:
                patch.setenv("ASGI_TRACE_FAST_SPANS", "false")
            app, processor = traced(kind, capture_request_headers="x-.*", room=room)
        serve(app, scope_of(scope, {b"host": b"api.example.com", b"user-agent": b"u"}, "/", more=True))
        seen.append([(list((span.attributes or {}).items()), span.dropped_attributes) for span in processor.ended])
    assert seen[0] == seen[1]
    assert len(seen[0][0][0]) <= room


@pytest.mark.parametrize(
    ("odd", "headers"),
    [
        ({"scheme": "gopher"}, {}),
        ({"scheme": ""}, {}),
        ({"scheme": ["http"]}, {}),
        ({"http_version": "7"}, {}),
        ({"http_version": None}, {}),
        ({"http_version": {}}, {}),
        ({"raw_path": b"http://user:pw@host.test/path?a=b"}, {}),
        ({"raw_path": b"*"}, {}),
        ({"client": ("", 51123)}, {}),
        ({"client": ("\xe9", 51123)}, {}),
        ({"client": (b"10.0.0.1", 51123)}, {}),
        ({"client": ("10.0.0.1", 0)}, {}),
        ({"client": ("10.0.0.1", "51123")}, {}),
        ({}, {b"host": b"h" * 300}),
        ({"type": "websocket", "scheme": "wss", "client": ("10.0.0.1", None)}, {}),
    ],
)
def test_odd_facts_are_described_later_as_they_would_be_at_once(odd: Any, headers: Any) -> None:
    """A value that servers do not write is kept as it is, and looked at with care when something reads the span."""
    scope, fields = {**USUAL, **odd}, {**HOST, b"user-agent": b"agent", **headers}
    description = ServerDescription(Redaction(()))
    facts = server_facts(scope, fields, "GET", description)
    assert facts is not None
    assert not description.is_usual(facts)
    assert description.attributes(facts) == _careful_attributes(scope, fields, "GET", description.redaction)
    app, processor = traced()
    serve(app, scope_of(scope, fields, "/items/{id}"))
    assert ENCODER(processor.live) == official_bytes(processor.ended)


@pytest.mark.parametrize(
    ("name", "key"), [(b"host", "server.address"), (b"user-agent", "user_agent.original")], ids=["host", "user agent"]
)
@pytest.mark.parametrize("value", ["text", bytearray(b"text")], ids=["text", "bytearray"])
def test_a_header_that_is_not_bytes_is_left_out(name: bytes, key: str, value: Any) -> None:
    """A server that breaks the specification costs the span that attribute, and no more."""
    app, processor = traced()
    serve(app, scope_of(USUAL, {**HOST, b"user-agent": b"agent", name: value}, "/items/{id}"))
    assert ENCODER(processor.live) == official_bytes(processor.ended)
    (span,) = processor.ended
    assert span.attributes is not None
    assert span.attributes["url.path"] == "/items/42"
    assert key not in span.attributes


@pytest.mark.parametrize("status", [200, 200.0, True, 204])
@pytest.mark.parametrize("route", ["/items/{id}", "/" + "r" * 300, "/\xe9", None])
def test_the_end_of_a_request_is_written_as_it_is(status: Any, route: str | None) -> None:
    """Status and route, which are remembered as bytes, are those of this very request."""
    app, processor = traced()
    serve(app, {**scope_of(USUAL, HOST, route), "status": status})
    (span,) = processor.live
    assert span._last == (status, route)
    assert ENCODER.encode(processor.live) == official_bytes(processor.ended)


@pytest.mark.parametrize("redact", [(), "page", lambda name, value: "rule"], ids=["standard", "names", "rule"])
def test_facts_become_the_attributes_of_a_careful_look(redact: Any) -> None:
    """A usual scope and one with a detail that is unusual and means the same have the same attributes."""
    scope: Any = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "http",
        "raw_path": b"/items/42",
        "query_string": b"page=2",
        "client": ("203.0.113.7", 51123),
    }
    fields, description = {b"host": b"api.test", b"user-agent": b"agent"}, ServerDescription(Redaction(redact))
    assert server_facts(scope, fields, "GET", description) is not None
    unusual = {**scope, "client": list(scope["client"])}
    assert server_facts(unusual, fields, "GET", description) is None
    usual = server_attributes(scope, fields, "GET", description)
    assert usual == server_attributes(unusual, fields, "GET", description)
    assert usual.keys() <= ServerDescription.keys


def test_an_ordinary_request_is_kept_as_facts() -> None:
    """Neither attributes nor contexts are made, unless something asks."""
    app, processor = traced()
    serve(app, scope_of(USUAL, {**HOST, b"traceparent": b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"}, "/items/{id}"))
    (span,) = processor.live
    assert type(span) is _Span
    assert (span._made_attributes, span._made_context, span._made_parent, vars(span)) == (None, None, None, {})
    assert (span._values, span._last) == ({}, (200, "/items/{id}"))
    assert span.name == "GET /items/{id}"
    asked: Any = span
    assert asked.attributes["url.path"] == "/items/42"
    assert list(asked.attributes.items())[-2:] == [("http.response.status_code", 200), ("http.route", "/items/{id}")]
    assert asked.parent.span_id == int("b" * 16, 16)
    assert span.context.trace_id == int("a" * 32, 16)


@pytest.mark.parametrize(
    ("calls", "last"),
    [
        ([("set_attribute", ("url.path", "/mine"))], ["url.path"]),
        ([("set_attribute", ("b", 1)), ("set_attribute", ("url.query", "mine"))], ["b", "url.query"]),
        ([("set_attributes", ({"b": 1, "client.address": "mine"},))], ["b", "client.address"]),
        ([("set_attribute", (f"a{number}", number)) for number in range(40)], ["a38", "a39"]),
        ([("set_attribute", ("list", ["a", "b"]))], ["list"]),
        ([("set_attribute", ("mixed", ["a", 1])), ("set_attribute", ("b", 1))], ["b"]),  # refused by older SDKs
        ([("set_attributes", ({f"a{number}": number for number in range(200)},))], ["a198", "a199"]),
    ],
)
@pytest.mark.parametrize("looking", [False, True])
def test_attributes_of_the_application_come_after_the_facts(calls: Any, last: list[str], looking: bool) -> None:
    """In the SDK's order, within its limits, also where one of them replaces a fact."""
    seen = []
    for fast in ("false", "true"):

        async def app(scope: Any, receive: Any, send: Any) -> None:
            span: Any = server_span()
            if looking:
                assert span.attributes["url.path"] == "/items/42"
            for name, arguments in calls:
                getattr(span, name)(*arguments)
            await _answer(scope, receive, send)

        with pytest.MonkeyPatch.context() as patch, heard() as messages:
            patch.setenv("ASGI_TRACE_FAST_SPANS", fast)
            traced_app, processor = traced(official.TracerProvider, app=app)
            serve(traced_app, scope_of(USUAL, HOST, "/items/{id}"))
        (ended,) = processor.ended
        assert ENCODER.encode([ended]) == official_bytes([ended])
        seen.append((list((ended.attributes or {}).items()), ended.dropped_attributes, messages))
    assert seen[0] == seen[1]
    keys = [key for key, _ in seen[1][0]]
    assert keys[-2 - len(last) : -2] == last
    assert keys[-2:] == ["http.response.status_code", "http.route"]


def test_threads_that_look_while_a_request_ends_see_one_truth() -> None:
    """Attributes that are read at any moment around the end are those of the facts, and stay what they were."""
    for _ in range(30):
        app, processor = traced()
        spans: list[Any] = []
        go = threading.Barrier(4)
        found: list[dict[str, Any]] = []

        async def keeping(
            scope: Any, receive: Any, send: Any, spans: list[Any] = spans, go: threading.Barrier = go
        ) -> None:
            spans.append(server_span())
            go.wait()
            await _answer(scope, receive, send)

        app.app = keeping

        def look(spans: list[Any] = spans, go: threading.Barrier = go, found: list[Any] = found) -> None:
            go.wait()
            found.append(dict(spans[0].attributes))

        threads = [threading.Thread(target=look) for _ in range(3)]
        for thread in threads:
            thread.start()
        serve(app, scope_of(USUAL, HOST, "/items/{id}"))
        for thread in threads:
            thread.join()
        whole = dict(processor.ended[0].attributes or {})
        assert whole["http.route"] == "/items/{id}"
        assert ENCODER.encode(processor.ended) == official_bytes(processor.ended)
        for each in found:
            assert each.items() <= whole.items()
            assert each["url.path"] == "/items/42"


# --- who is not asked, and who is ---


def test_a_sampler_of_its_own_kind_sees_all_attributes() -> None:
    """Facts become attributes at once where something looks at them before the application runs."""
    sampler = Asking()
    app, processor = traced(sampler=sampler)
    serve(app, scope_of(USUAL, HOST))
    assert sampler.asked[0]["url.path"] == "/items/42"
    assert dict(processor.ended[0].attributes or {}).items() >= sampler.asked[0].items()


def test_a_processor_sees_all_attributes_at_the_start() -> None:
    """One that is there before a request, or is added during one, sees what it sees on the SDK's spans."""
    seen: list[Any] = []

    class Seeing(official.SpanProcessor):
        def on_start(self, span: Any, parent_context: Context | None = None) -> None:
            parent = api.get_current_span(parent_context).get_span_context()
            seen.append((span.attributes["url.path"], parent.is_remote))

    app, processor = traced()
    caller = {**HOST, b"traceparent": b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01"}
    app._config.tracers.provider().add_span_processor(Seeing())
    serve(app, scope_of(USUAL, caller))
    assert seen == [("/items/42", True)]
    assert len(processor.ended) == 1


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_the_caller_and_the_ratio_decide(rate: float) -> None:
    """Which requests are recorded is what the SDK's sampler says, whether or not the caller has sampled."""
    recorded: list[list[bool]] = []
    for fast in ("false", "true"):
        ratio = TraceIdRatioBased(rate)
        sampler = ParentBased(ratio, remote_parent_sampled=ratio, remote_parent_not_sampled=ratio)
        seen: list[bool] = []

        async def app(scope: Any, receive: Any, send: Any, seen: list[bool] = seen) -> None:
            span = server_span()
            context = span.get_span_context()
            assert context is span.get_span_context()
            assert f"{context.trace_id:032x}" == scope["headers"][1][1].decode()[3:35]
            assert context.trace_flags.sampled is span.is_recording()
            assert not context.is_remote
            assert repr(context) in repr(span)
            seen.append(span.is_recording())
            await _answer(scope, receive, send)

        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ASGI_TRACE_FAST_SPANS", fast)
            traced_app, processor = traced(official.TracerProvider, sampler, app=app)
        for number in range(1, 40):
            trace = f"{number * 7919 << 53 | number:032x}"
            header = f"00-{trace}-{number:016x}-0{number % 4}".encode()
            serve(traced_app, scope_of(USUAL, {**HOST, b"traceparent": header}))
        assert len(processor.ended) == sum(seen)
        recorded.append(seen)
    assert recorded[0] == recorded[1]


def test_a_rule_of_the_application_is_asked_during_the_request() -> None:
    """A function for `redact=` is called where the request is served, never by a thread that exports."""
    threads: list[Any] = []

    def rule(name: str, value: str) -> str:
        threads.append(threading.current_thread())
        return "masked"

    app, processor = traced(redact=rule)
    serve(app, scope_of(USUAL, HOST))
    assert threads == [threading.main_thread()]
    assert dict(processor.ended[0].attributes or {})["url.query"] == "page=masked"


# --- a provider of the user's own ---


def test_the_sdks_own_provider_has_our_spans_for_our_scope() -> None:
    """A tracer of the scope `asgi_trace` makes them; every other tracer of that provider is left as it is."""
    exporter, provider = InMemorySpanExporter(), official.TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    spans: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        with provider.get_tracer("theirs").start_as_current_span("inner") as inner:
            spans.extend((server_span(), inner))
        await _answer(scope, receive, send)

    serve(TraceMiddleware(app, tracer_provider=provider), scope_of(USUAL, HOST, "/items/{id}"))
    assert [type(span) for span in spans] == [_Span, official._Span]
    inner, served = exporter.get_finished_spans()
    assert (inner.name, served.name) == ("inner", "GET /items/{id}")
    assert (inner.parent, type(served)) == (served.context, official.ReadableSpan)
    assert type(provider.get_tracer("theirs")) is official.Tracer


@pytest.mark.parametrize("value", ["false", "0", " No ", "off"])
def test_one_variable_switches_our_spans_off(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ASGI_TRACE_FAST_SPANS=false leaves the SDK's own spans to the SDK's own provider."""
    monkeypatch.setenv("ASGI_TRACE_FAST_SPANS", value)
    provider = official.TracerProvider(shutdown_on_exit=False)
    spans: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        spans.append(server_span())
        await _answer(scope, receive, send)

    serve(TraceMiddleware(app, tracer_provider=provider), scope_of(USUAL, HOST))
    assert [type(span) for span in spans] == [official._Span]


def test_a_provider_of_another_kind_gets_attributes() -> None:
    """A class of the user's own that only has the API's methods is asked in the API's way, with all attributes."""
    provider = OtherKind()
    serve(TraceMiddleware(_answer, tracer_provider=provider), scope_of(USUAL, HOST))
    assert [each["url.path"] for each in provider.started] == ["/items/42"]
