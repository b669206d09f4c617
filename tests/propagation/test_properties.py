"""Whatever a client sends, in whatever order an application answers, with whatever options: nobody sees a difference.

Scopes, message orders and options are drawn by hypothesis.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.trace import SpanKind
from starlette.requests import ClientDisconnect

from asgi_trace import TraceMiddleware
from asgi_trace._types import Message

from ..support.actions import App, listening
from ..support.asgi import GONE, RECEIVE, REQUEST, TRACEPARENT, body, drive, http_scope, start

RARE = st.one_of(st.none(), st.integers(), st.text(max_size=3), st.binary(max_size=3), st.just(()), st.just(("a",)))
"""What no server puts into a scope."""

# --- the parts of a scope ---

TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=12)  # lone surrogates too
BYTES = st.one_of(st.binary(max_size=24), st.binary(min_size=300, max_size=300))
KNOWN_NAMES = [b"host", b"traceparent", b"tracestate", b"baggage", b"user-agent", b"forwarded", b"x-forwarded-for"]
KNOWN_VALUES = [
    TRACEPARENT,
    b"[::1]:8000",
    b"user@shop.test",
    b"shop.test:99999999999999",
    b'for=10.0.0.1;proto=https, for="[::1]"',
    b"1.2.3.4, unknown",
    b"a=1,b=2;p",
    b"\xff\xfe",
    b"",
]
NAMES = st.one_of(st.sampled_from([*KNOWN_NAMES, b"x-forwarded-proto", b"x-forwarded-host", b"x-id", b"cookie"]), BYTES)
HEADERS = st.lists(st.tuples(NAMES, st.one_of(st.sampled_from(KNOWN_VALUES), BYTES)), max_size=6)
ADDRESSES = st.one_of(
    st.none(),
    st.tuples(
        st.sampled_from(["127.0.0.1", "::1", "", "/run/shop.sock", "\ud800", "testclient"]), st.integers(0, 70000)
    ),
    st.tuples(st.just("/run/shop.sock"), st.none()),
    st.just(["10.0.0.1", 80]),
)
OPTIONAL = {
    "asgi": st.just({"version": "3.0"}),
    "http_version": st.sampled_from(["1.0", "1.1", "2", "2.0", "3", "", "x"]),
    "scheme": st.one_of(st.sampled_from(["http", "https", "ws", "wss", ""]), TEXT),
    "raw_path": st.one_of(st.none(), BYTES),
    "query_string": st.one_of(st.sampled_from([b"q=1&sig=2", b"&&=&=%", b"%zz&token=%FF"]), BYTES),
    "root_path": st.one_of(st.just(""), TEXT),
    "headers": HEADERS,
    "client": ADDRESSES,
    "server": ADDRESSES,
    "state": st.just({}),
    "extensions": st.just({}),
    "route": st.one_of(st.none(), st.integers(), st.builds(object)),
    "endpoint": st.one_of(st.none(), st.builds(object)),
    "path_params": st.just({}),
}
METHODS = st.one_of(st.sampled_from(["GET", "HEAD", "POST", "QUERY", "GeT", "", "FOOBAR"]), TEXT)
HTTP_SCOPES = st.fixed_dictionaries({"type": st.just("http"), "method": METHODS, "path": TEXT}, optional=OPTIONAL)
WEBSOCKET_SCOPES = st.fixed_dictionaries({"type": st.just("websocket"), "path": TEXT}, optional=OPTIONAL)
OTHER_SCOPES = st.fixed_dictionaries(
    {"type": st.text(max_size=7).filter(lambda kind: kind != "http")}, optional=OPTIONAL
)
WRONG_SCOPES = st.dictionaries(st.sampled_from(["method", "path", *OPTIONAL]), RARE, max_size=4).map(
    lambda wrong: {**http_scope(), **wrong}
)

# --- what applications do ---

STATUSES = st.sampled_from([200, 204, 404, 500, 503, 99, 999])
RESPONSE_HEADERS = st.lists(st.tuples(st.sampled_from([b"x-id", b"set-cookie", b"\xff"]), BYTES), max_size=2)
HTTP_MESSAGES = st.one_of(
    st.builds(start, STATUSES, RESPONSE_HEADERS),
    st.builds(lambda: start(200, trailers=True)),
    st.builds(body, BYTES, st.booleans()),
    st.just({"type": "http.response.body"}),
    st.sampled_from(
        [
            {"type": "http.response.trailers", "headers": [], "more_trailers": True},
            {"type": "http.response.trailers", "headers": []},
            {"type": "http.response.pathsend", "path": __file__},
            {"type": "http.response.zerocopysend", "file": 3, "count": 5, "more_body": True},
            {"type": "http.response.early_hint", "links": []},
            {"type": "http.response.start"},
            {"type": "nobody.knows"},
            {},
        ]
    ),
)
WEBSOCKET_MESSAGES = st.one_of(
    st.sampled_from(
        [
            {"type": "websocket.accept"},
            {"type": "websocket.accept", "subprotocol": "x", "headers": [(b"x-id", b"1")]},
            {"type": "websocket.send", "text": "x"},
            {"type": "websocket.close"},
            {"type": "websocket.close", "code": 1011, "reason": "x"},
            {"type": "websocket.http.response.start", "status": 403, "headers": []},
            {"type": "websocket.http.response.body", "body": b"x", "more_body": True},
            {"type": "websocket.http.response.body", "body": b"x"},
            {"type": "websocket.send"},
            {},
        ]
    ),
    HTTP_MESSAGES,
)


FAILURES = st.sampled_from([ValueError, OSError, ClientDisconnect, asyncio.CancelledError, SystemExit, GeneratorExit])


def actions(messages: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """What an application does, one after another: send a message, ask for one, raise."""
    return st.lists(st.one_of(messages, messages, st.just(RECEIVE), FAILURES), max_size=8)


REQUESTS = st.lists(
    st.sampled_from([REQUEST, {"type": "http.request", "body": b"x", "more_body": True}, GONE, {}]), max_size=3
)
SOCKETS = st.lists(
    st.sampled_from(
        [
            {"type": "websocket.connect"},
            {"type": "websocket.receive", "text": "x"},
            {"type": "websocket.disconnect", "code": 1001},
            {"type": "websocket.disconnect"},
        ]
    ),
    max_size=4,
)

# --- options ---


def failing(*arguments: object) -> Any:
    raise RuntimeError("a hook of the developer's")


OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "exclude": st.sampled_from(["^/health", (), failing, lambda scope: True, [".", "x"]]),
    "trust": st.sampled_from([True, False, "10.0.0.0/8", ["127.0.0.1", "::/0"], failing, lambda scope: False]),
    "trusted_proxies": st.sampled_from([(), "127.0.0.1", ["0.0.0.0/0", "::/0"]]),
    "capture_request_headers": st.sampled_from([(), "x-id", ["cookie", "HOST"]]),
    "capture_response_headers": st.sampled_from([(), "x-id", ["set-cookie"]]),
    "redact": st.sampled_from([(), "token", failing, lambda name, value: None]),
    "on_request": st.sampled_from([None, failing, lambda span, scope: span.update_name("x")]),
    "on_response": st.sampled_from([None, failing, lambda span, scope, message: span.set_attribute("a", "b")]),
    "websocket": st.sampled_from(["connection", "handshake"]),
    "metrics": st.sampled_from(
        [
            (),
            ("http.server.request.duration",),
            ("http.server.active_requests", "http.server.request.body.size", "http.server.response.body.size"),
        ]
    ),
    "measured": st.booleans(),
    "sampled": st.booleans(),
}
OPTION_SETS = st.fixed_dictionaries({}, optional=OPTIONS)


class Counting(SpanProcessor):
    """Counts what starts, keeps what ends."""

    def __init__(self) -> None:
        self.started = 0
        self.ended: list[ReadableSpan] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.started += 1

    def on_end(self, span: ReadableSpan) -> None:
        self.ended.append(span)

    def of_kind(self, kind: SpanKind) -> list[ReadableSpan]:
        return [span for span in self.ended if span.kind is kind]


class Case(NamedTuple):
    """One scope, what the application does with it, what the server has for it, and the options of the middleware."""

    scope: dict[str, Any]
    actions: list[Any]
    script: list[Message]
    options: dict[str, Any]

    @property
    def well_formed(self) -> bool:
        """Is every message what ASGI calls one?"""
        messages = [*filter(lambda action: isinstance(action, dict), self.actions), *self.script]
        return all("type" in m and ("status" in m or not m["type"].endswith("start")) for m in messages)

    @property
    def peaceful(self) -> bool:
        """Is there no option that fails?"""
        return failing not in self.options.values() and "redact" not in self.options


def cases(
    scopes: st.SearchStrategy[dict[str, Any]],
    messages: st.SearchStrategy[Any] = HTTP_MESSAGES,
    script: st.SearchStrategy[Any] = REQUESTS,
) -> st.SearchStrategy[Case]:
    return st.builds(Case, scopes, actions(messages), script, OPTION_SETS)


def compared(case: Case) -> Counting:
    """Serve it with and without the middleware, and see that neither side can tell the difference."""
    counting = Counting()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(counting)
    options = dict(case.options)
    if options.pop("measured", False):
        options["meter_provider"] = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    scope = case.scope
    if not options.pop("sampled", True):
        scope = {**scope, "headers": [(b"traceparent", TRACEPARENT[:-1] + b"0")]}
    app, traced_app = App(case.actions), App(case.actions)
    script = [*case.script, *[GONE] * 8]
    bare = drive(app, dict(scope), script)
    served = drive(TraceMiddleware(traced_app, tracer_provider=provider, **options), dict(scope), script)
    assert traced_app.calls == app.calls == 1
    assert (served.messages, traced_app.received, served.result) == (bare.messages, app.received, bare.result)
    assert type(served.exception) is type(bare.exception)
    assert served.scope.keys() == bare.scope.keys()
    assert counting.started == len(counting.ended)
    assert sum(span.kind is SpanKind.SERVER for span in counting.ended) <= 1
    encode_spans(counting.ended).SerializeToString()
    return counting


def check(case: Case) -> None:
    """The same, for a scope as servers make them: it is traced, and nothing in here has failed."""
    with listening() as complaints:
        counting = compared(case)
    if case.options.keys().isdisjoint({"exclude", "sampled"}):
        assert len(counting.of_kind(SpanKind.SERVER)) == 1
    if case.well_formed and case.peaceful:
        assert [record.getMessage() for record in complaints.records] == []


some = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
many = settings(max_examples=20_000, deadline=None, derandomize=False, suppress_health_check=list(HealthCheck))
http_requests = given(cases(HTTP_SCOPES))
sockets = given(cases(WEBSOCKET_SCOPES, WEBSOCKET_MESSAGES, SOCKETS))
malformed_requests = given(cases(WRONG_SCOPES))


@some
@http_requests
def test_no_request_is_changed(case: Case) -> None:
    """Any bytes, any order of messages, any options: one call, the same transcript, one span, no complaint."""
    check(case)


@some
@sockets
def test_no_socket_is_changed(case: Case) -> None:
    """The same holds for WebSockets."""
    check(case)


@some
@malformed_requests
def test_no_malformed_scope_is_changed(case: Case) -> None:
    """A scope with values of the wrong types is served as it would be without us, traced or not."""
    with listening():
        compared(case)


@some
@given(cases(OTHER_SCOPES))
def test_no_other_scope_is_touched(case: Case) -> None:
    """Scope types that nobody knows pass through, and make no span."""
    with listening():
        assert compared(case).started == 0


@pytest.mark.campaign
@many
@http_requests
def test_no_request_is_changed_in_a_campaign(case: Case) -> None:
    """Twenty thousand requests."""
    check(case)


@pytest.mark.campaign
@many
@sockets
def test_no_socket_is_changed_in_a_campaign(case: Case) -> None:
    """Twenty thousand sockets."""
    check(case)


@pytest.mark.campaign
@many
@malformed_requests
def test_no_malformed_scope_is_changed_in_a_campaign(case: Case) -> None:
    """Twenty thousand malformed scopes."""
    with listening():
        compared(case)
