"""The options of contrib's ASGI middleware: each row of the page is what a run of both sides shows."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult

from asgi_trace import set_route
from asgi_trace._types import Message, Receive, Scope, Send
from tests.support.asgi import OK, body, http_scope, responding, start
from tests.support.metrics import DURATION
from tests.support.moving import Cases, Pair, without_row
from tests.support.moving_server import contrib, environment, ours, shown

HEADING = "Options of `OpenTelemetryMiddleware`"
OPTIONS = Cases(HEADING)
FEW: Any = {"exclude_spans": ["receive", "send"]}


@OPTIONS("`app`")
def app() -> Pair:
    asked: list[str] = []

    async def noting(scope: Scope, receive: Receive, send: Send) -> None:
        asked.append(scope["path"])
        await OK(scope, receive, send)

    answers = [shown(build(noting)).served[0].messages for build in (contrib, ours)]
    assert asked == ["/", "/"]
    return answers[0], answers[1]


@OPTIONS("`tracer_provider`, `meter_provider`")
def providers() -> Pair:
    with environment(OTEL_SEMCONV_STABILITY_OPT_IN="http"):
        sides = [shown(contrib(**FEW)), shown(ours())]
    there, here = ((len(side.spans), side.metrics[DURATION].data.data_points[0].count) for side in sides)
    assert here == (1, 1)
    return there, here


@OPTIONS("`tracer`, `meter`")
def tracer_and_meter() -> Pair:
    def own(spans: Any, meters: Any) -> Any:
        return OpenTelemetryMiddleware(OK, tracer=spans.get_tracer("shop"), meter=meters.get_meter("shop"), **FEW)

    scopes = [side.server.instrumentation_scope for side in (shown(own), shown(ours()))]
    there, here = (scope.name for scope in scopes if scope is not None)
    assert (there, here) == ("shop", "asgi_trace")
    return there, here


def traced(build: Any, *scopes: Scope) -> list[bool]:
    """Whether each request has a span."""
    return [len(shown(build, scope).spans) > 0 for scope in scopes]


@OPTIONS('`excluded_urls="a,b"`')
def excluded_urls() -> Pair:
    requests = [http_scope("/health"), http_scope("/a/metrics/b"), http_scope("/orders")]
    assert traced(contrib(excluded_urls="health,metrics"), *requests) == [False, False, True]
    assert traced(ours(exclude=["health", "metrics"]), *requests) == [False, False, True]

    def by_host(scope: Scope) -> bool:
        return (b"host", b"shop.test:8000") in scope["headers"]

    assert traced(ours(exclude=by_host), http_scope("/orders")) == [False]
    there = traced(contrib(excluded_urls="shop.test"), *requests) + traced(
        contrib(excluded_urls="^/health$"), *requests
    )
    here = traced(ours(exclude=["shop.test"]), *requests) + traced(ours(exclude=["^/health$"]), *requests)
    assert there == [False, False, False, True, True, True]
    assert here == [True, True, True, False, True, True]
    return there, here


class Names(Sampler):
    """Notes the names that it is asked about."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def should_sample(self, parent_context: Any, trace_id: int, name: str, *rest: Any, **more: Any) -> SamplingResult:
        self.seen.append(name)
        return SamplingResult(Decision.RECORD_AND_SAMPLE)

    def get_description(self) -> str:
        return "Names"


async def routed(scope: Scope, receive: Receive, send: Send) -> None:
    """Has a route, which would name the span."""
    set_route("/orders/{order}")
    await OK(scope, receive, send)


@OPTIONS("`default_span_details`")
def default_span_details() -> Pair:
    there, here = Names(), Names()
    named = contrib(default_span_details=lambda scope: ("mine", {"a": 1}), **FEW)
    assert shown(named, sampler=there).names == ["mine"]
    assert shown(ours(on_request=lambda span, scope: span.update_name("mine")), sampler=here).names == ["mine"]
    assert shown(ours(routed, on_request=lambda span, scope: span.update_name("mine"))).names == ["mine"]
    assert there.seen == ["mine"]
    assert here.seen == ["GET"]
    return there.seen, here.seen


@OPTIONS("`server_request_hook(span, scope)`")
def server_request_hook() -> Pair:
    calls: list[tuple[str, str]] = []

    def hook(span: Any, scope: Scope) -> None:
        calls.append((type(span).__name__, scope["path"]))
        span.set_attribute("tenant", "blue")

    there, here = shown(contrib(server_request_hook=hook)), shown(ours(on_request=hook))
    assert len(calls) == 2
    assert there.attributes["tenant"] == here.attributes["tenant"] == "blue"
    calls.clear()
    shown(contrib(server_request_hook=hook), sampler=ALWAYS_OFF)
    unsampled_there = len(calls)
    shown(ours(on_request=hook), sampler=ALWAYS_OFF)
    unsampled_here = len(calls) - unsampled_there
    assert (unsampled_there, unsampled_here) == (1, 0)

    def broken(span: Any, scope: Scope) -> None:
        raise LookupError("no tenant")

    events = [len(shown(side).server.events) for side in (contrib(server_request_hook=broken), ours(on_request=broken))]
    assert events == [1, 0]
    return (unsampled_there, events[0]), (unsampled_here, events[1])


@OPTIONS("`client_request_hook(span, scope, message)`")
def client_request_hook() -> Pair:
    async def reading(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await OK(scope, receive, send)

    calls: list[Message] = []
    there = shown(contrib(reading, client_request_hook=lambda span, scope, message: calls.append(message)))
    assert [message["type"] for message in calls] == ["http.request"]
    here = shown(ours(reading))
    received = [[name for name in side.names if name.endswith(" receive")] for side in (there, here)]
    assert received == [["GET / http receive"], []]
    return received[0], received[1]


@OPTIONS("`client_response_hook(span, scope, message)`")
def client_response_hook() -> Pair:
    seen: list[tuple[str, str]] = []

    def hook(span: Any, scope: Scope, message: Message) -> None:
        seen.append((span.kind.name, message["type"]))

    shown(contrib(client_response_hook=hook))
    there = seen.copy()
    seen.clear()
    shown(ours(on_response=hook))
    assert there == [("INTERNAL", "http.response.start"), ("INTERNAL", "http.response.body")]
    assert seen == [("SERVER", "http.response.start")]
    return there, seen


ANSWER = responding(start(200, [(b"x-till", b"9"), (b"set-cookie", b"id=1"), (b"content-length", b"0")]), body())
ASKING: Any = {"headers": [(b"x-door", b"a"), (b"x-door", b"b"), (b"authorization", b"Bearer 1")]}


def headers(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if ".header." in name}


@OPTIONS("`http_capture_headers_server_request`, `http_capture_headers_server_response`")
def captured_headers() -> Pair:
    there = shown(
        contrib(
            ANSWER,
            http_capture_headers_server_request=["x-.*", "Authorization"],
            http_capture_headers_server_response=["x-till", "set-cookie"],
        ),
        http_scope(**ASKING),
    )
    here = shown(
        ours(
            ANSWER,
            capture_request_headers=["x-.*", "Authorization"],
            capture_response_headers=["x-till", "set-cookie"],
        ),
        http_scope(**ASKING),
    )
    assert headers(there.attributes) == {
        "http.request.header.x_door": ("a", "b"),
        "http.request.header.authorization": ("Bearer 1",),
        "http.response.header.x_till": ("9",),
        "http.response.header.set_cookie": ("id=1",),
    }
    assert headers(here.attributes) == {
        "http.request.header.x-door": ("a", "b"),
        "http.request.header.authorization": ("REDACTED",),
        "http.response.header.x-till": ("9",),
        "http.response.header.set-cookie": ("REDACTED",),
    }
    return headers(there.attributes), headers(here.attributes)


@OPTIONS("`http_capture_headers_sanitize_fields`")
def sanitize_fields() -> Pair:
    masked: list[Any] = []
    for names in (["x-door"], ["x-do"]):
        there = contrib(http_capture_headers_server_request=["x-door"], http_capture_headers_sanitize_fields=names)
        here = ours(capture_request_headers=["x-door"], redact=names)
        masked += [next(iter(headers(shown(side, http_scope(**ASKING)).attributes).values())) for side in (there, here)]
    assert masked == [("[REDACTED]", "[REDACTED]"), ("REDACTED", "REDACTED"), ("[REDACTED]", "[REDACTED]"), ("a", "b")]
    query = shown(ours(redact=["x-door"]), http_scope(query_string=b"x-door=1&b=2")).attributes["url.query"]
    assert query == "x-door=REDACTED&b=2"
    return masked[0::2], masked[1::2]


@OPTIONS("`exclude_spans`")
def exclude_spans() -> Pair:
    there, here = shown(contrib()).names, shown(ours()).names
    assert there == ["GET / http send", "GET / http send", "GET /"]
    assert shown(contrib(**FEW)).names == ["GET /"]
    assert here == ["GET"]
    return len(there), len(here)


@pytest.mark.parametrize("row", OPTIONS.titles())
def test_a_row_says_what_a_run_shows(row: str) -> None:
    """An option that the page calls the same shows the same with both libraries, and any other one does not."""
    OPTIONS.check(row)


def test_every_option_has_a_row() -> None:
    """Each parameter of contrib's middleware stands in the table."""
    assert without_row(HEADING, inspect.signature(OpenTelemetryMiddleware).parameters) == set()
