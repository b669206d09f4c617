"""What a caller sends never makes our own calls too large: outbound `tracestate` and baggage have limits."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from opentelemetry import baggage, trace
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagate import inject as inject_with_the_api
from opentelemetry.propagators.b3 import B3MultiFormat
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.jaeger import JaegerPropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from asgi_trace import TraceMiddleware
from asgi_trace._propagation.propagator import Propagation
from asgi_trace._propagation.tracestate import Level2TraceState, format_tracestate, parse_tracestate
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.httpx import TraceTransport
from asgi_trace.testing import CapturedSpans

from ..support.asgi import OK, TRACEPARENT, drive, http_scope

MOST = 512


def member(key: str, length: int) -> str:
    """A member of that many characters."""
    return f"{key}={'v' * (length - len(key) - 1)}"


LISTS: list[tuple[str, list[str], list[str]]] = [
    ("one", ["a=1"], ["a=1"]),
    ("just fits", [member("a", 255), member("b", 256)], [member("a", 255), member("b", 256)]),
    ("one too many", [member("a", 128), member("b", 128), member("c", 128), member("d", 128)], ["a", "b", "c"]),
    ("long ones first", [member("a", 129), member("b", 128), member("c", 200), member("d", 128)], ["a", "b", "d"]),
    (
        "one of 129 before three of at most 128",
        [member("a", 129), member("b", 128), member("c", 128), member("d", 127)],
        ["b", "c", "d"],
    ),
    (
        "one of 128 before three that are shorter",
        [member("a", 128), member("b", 128), member("c", 128), member("d", 127), "e=1"],
        ["a", "b", "c"],
    ),
    (
        "no more than must go",
        [member("a", 128), member("b", 127), member("c", 127), member("d", 127), "e=1"],
        ["a", "b", "c", "d"],
    ),
    (
        "no more long ones than must go",
        [member("a", 255), "b=1", member("c", 252), member("d", 129)],
        ["a", "b", "c"],
    ),
    ("all long ones", [member("a", 250), *(member(f"b{n}", 100) for n in range(5))], [f"b{n}" for n in range(5)]),
    ("long ones, from the end", [member("a", 200), member("b", 200), member("c", 200)], ["a", "b"]),
    ("then from the end", [member(f"k{n}", 60) for n in range(12)], [f"k{n}" for n in range(8)]),
    ("longest key of the official suite", ["foo=1", "z" * 256 + "=1"], ["foo=1", "z" * 256 + "=1"]),
    ("longest tenant", ["foo=1", "t" * 241 + "@" + "v" * 14 + "=1"], ["foo=1", "t" * 241 + "@" + "v" * 14 + "=1"]),
    ("32 members", [f"bar{n:02}={n:02}" for n in range(32)], [f"bar{n:02}={n:02}" for n in range(32)]),
    ("alone too long", ["k" * 256 + "=" + "v" * 256], []),
    ("32 of the longest", [f"{n:02}{'k' * 254}={'v' * 256}" for n in range(15)], []),
]


def kept(members: list[str], wanted: list[str]) -> str:
    """Those of `members` that are wanted, whole or by their keys, as one header."""
    return ",".join(m for m in members if m in wanted or m.partition("=")[0] in wanted)


@pytest.mark.parametrize("forwarded", [False, True])
@pytest.mark.parametrize(
    ("members", "wanted"), [pytest.param(members, wanted, id=name) for name, members, wanted in LISTS]
)
def test_a_tracestate_is_shortened_by_whole_members(members: list[str], wanted: list[str], forwarded: bool) -> None:
    """At most 512 characters: first those of more than 128 go, then the others, each time from the end."""
    expected = kept(members, wanted)
    assert len(expected) <= MOST
    state = parse_tracestate([",".join(members).encode()])
    assert format_tracestate(state, forwarded=forwarded) == expected
    assert state.to_header() == expected
    assert len(state) == len(members)  # what reads it in this process sees all of it
    assert format_tracestate(Level2TraceState.from_header([",".join(members)])) == expected


def test_a_list_with_repeated_keys_is_shortened_too() -> None:
    """It goes out as it came, repeated keys and all, but no longer than any other."""
    members = [member("a", 100) for _ in range(9)]
    state = parse_tracestate([",".join(members).encode()])
    assert format_tracestate(state, forwarded=True) == ",".join(members[:5])


def test_the_apis_own_trace_state_is_shortened_too() -> None:
    """A sampler may have made it, of any length."""
    members = [(f"k{n}", "v" * 100) for n in range(30)]
    sent = format_tracestate(TraceState(members))
    assert sent == ",".join(f"{key}={value}" for key, value in members[:4])


PROPAGATORS: list[TextMapPropagator] = [
    CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()]),
    CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator(), B3MultiFormat()]),
    JaegerPropagator(),
    CompositePropagator([B3MultiFormat(), JaegerPropagator(), W3CBaggagePropagator()]),
]


def sent_by(propagator: TextMapPropagator, context: Context, **own: str) -> httpx.Headers:
    """The headers of a request with headers of its own."""
    headers = httpx.Headers(own)
    propagation = Propagation(propagator)
    for _ in range(2):  # what the first one has taught changes nothing
        headers = httpx.Headers(own)
        propagation.inject(headers, context)
    return headers


def heavy(entries: int, size: int, state: list[str]) -> Context:
    """A context with so much of everything."""
    span = SpanContext(1, 2, True, TraceFlags(1), parse_tracestate([",".join(state).encode()]))
    context = trace.set_span_in_context(NonRecordingSpan(span), Context())
    for number in range(entries):
        context = baggage.set_baggage(f"k{number}", "v" * size, context)
    return context


@pytest.mark.parametrize("propagator", PROPAGATORS, ids=["w3c", "w3c and b3", "jaeger", "b3, jaeger and baggage"])
@pytest.mark.parametrize(("entries", "size"), [(1000, 10), (100, 1000), (3, 8000), (1, 10_000), (180, 20)])
def test_no_propagator_sends_more_than_the_limits(propagator: TextMapPropagator, entries: int, size: int) -> None:
    """8,192 bytes and 180 members of baggage in each way of writing it, 512 characters of tracestate."""
    context = heavy(entries, size, [member(f"s{n}", 100) for n in range(30)])
    headers = sent_by(propagator, context, baggage="mine=1")
    assert len(headers.get("tracestate", "")) <= MOST
    written = headers.get("baggage", "")
    assert len(written) <= 8192
    assert written.count(",") < 180
    crossing = [(name, value) for name, value in headers.items() if name.startswith("uberctx-")]
    assert sum(len(name) + len(value) for name, value in crossing) <= 8192
    assert len(crossing) <= 180
    if size < 8000:
        assert "k0" in written or "uberctx-k0" in headers  # what fits is sent


def test_a_state_that_is_all_too_long_leaves_no_header() -> None:
    """Nor does a stale one stay, which belonged to another traceparent."""
    context = heavy(0, 0, ["k" * 256 + "=" + "v" * 256])
    for propagator in PROPAGATORS[:2]:
        assert "tracestate" not in sent_by(propagator, context, tracestate="old=1")


def test_a_callers_headers_never_cost_a_service_its_own_call(spans: CapturedSpans) -> None:
    """16 KB of tracestate and baggage come in; the call upstream carries at most a server's smallest limit."""
    seen: list[httpx.Headers] = []

    def upstream(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200)

    other: dict[str, str] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with httpx.Client(transport=TraceTransport(httpx.MockTransport(upstream))) as client:
            client.get("http://upstream.test/")
        inject_with_the_api(other)  # as another library's instrumentation does
        await OK(scope, receive, send)

    state = ",".join(member(f"s{n:02}", 250) for n in range(32))
    entries = ",".join(member(f"b{n:03}", 40) for n in range(400))
    lines: Any = [(b"traceparent", TRACEPARENT), (b"tracestate", state.encode()), (b"baggage", entries.encode())]
    drive(TraceMiddleware(app), http_scope(headers=[(b"host", b"shop.test"), *lines]))

    (headers,) = seen
    assert 0 < len(headers["tracestate"]) <= MOST
    assert 0 < len(headers["baggage"]) <= 8192
    assert headers["baggage"].count(",") == 179
    assert len(other["tracestate"]) <= MOST
