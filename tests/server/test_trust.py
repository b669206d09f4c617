"""May a caller's trace be continued? An untrusted one costs it nothing to ask, and us nothing to refuse."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry.propagate import inject
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import get_current_span

from asgi_trace import TraceMiddleware
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import (
    OK,
    PARENT_ID,
    TRACE_ID,
    TRACEPARENT,
    attributes_of,
    body,
    drive,
    http_scope,
    responding,
    start,
    websocket_scope,
)

HEADERS = [(b"traceparent", TRACEPARENT), (b"tracestate", b"vendor=1"), (b"baggage", b"tenant=acme,plan=free")]
UNSAMPLED = [(b"traceparent", TRACEPARENT[:-2] + b"00")]


def scope_from(client: Any = ("10.1.2.3", 1), headers: Any = HEADERS, **keys: Any) -> dict[str, Any]:
    return http_scope(client=client, headers=headers, **keys)


def continued(spans: CapturedSpans) -> bool:
    """Was the caller's trace continued? If not, it must be linked to, and nothing of it be kept."""
    span = spans.server
    if span.parent is not None:
        assert (span.context.trace_id, span.parent.span_id) == (TRACE_ID, PARENT_ID)
        assert not span.links
        return True
    assert span.context.trace_id != TRACE_ID
    assert [(link.context.trace_id, link.context.span_id) for link in span.links] == [(TRACE_ID, PARENT_ID)]
    return False


POLICIES: list[tuple[Any, Any, bool]] = [
    (True, ("203.0.113.9", 1), True),
    (True, None, True),
    (False, ("127.0.0.1", 1), False),
    ("10.0.0.0/8", ("10.1.2.3", 1), True),
    ("10.0.0.0/8", ("11.1.2.3", 1), False),
    ("10.0.0.0/8", ("::ffff:10.1.2.3", 1), True),
    ("::ffff:10.0.0.0/104", ("10.1.2.3", 1), True),
    ("::ffff:10.0.0.0/104", ("::ffff:10.1.2.3", 1), True),
    ("::ffff:10.0.0.0/104", ("11.1.2.3", 1), False),
    ("::ffff:10.1.2.3", ("10.1.2.3", 1), True),
    ("10.1.2.3", ("10.1.2.3", 1), True),
    (["10.0.0.0/8", "::1"], ("::1", 1), True),
    (["10.0.0.0/8", "2001:db8::/32"], ("2001:db8::5", 1), True),
    ("10.0.0.0/8", None, False),
    ("10.0.0.0/8", ("", 0), False),
    ("10.0.0.0/8", ("testclient", 50000), False),
    ("0.0.0.0/0", ("/run/shop.sock", None), False),
    ((), ("10.1.2.3", 1), False),
    (lambda scope: scope["path"].startswith("/internal"), ("203.0.113.9", 1), False),
    (lambda scope: scope["path"] == "/", ("203.0.113.9", 1), True),
    (lambda scope: "yes", None, True),
]


@pytest.mark.parametrize(("trust", "client", "expected"), POLICIES)
def test_a_policy_says_who_is_continued(spans: CapturedSpans, trust: Any, client: Any, expected: bool) -> None:
    """True and False, networks and callables; a peer without an address is in no network, not even in all of them."""
    drive(TraceMiddleware(OK, trust=trust), scope_from(client))

    assert continued(spans) is expected


@pytest.mark.parametrize(("trust", "client", "expected"), POLICIES)
def test_the_policy_holds_for_sockets(spans: CapturedSpans, trust: Any, client: Any, expected: bool) -> None:
    """A WebSocket's handshake is judged like any other request."""
    scope = websocket_scope("/", client=client, headers=HEADERS)
    drive(TraceMiddleware(responding({"type": "websocket.close"}), trust=trust), scope)

    assert continued(spans) is expected


@pytest.mark.parametrize(("trust", "kept"), [(True, "acme"), (False, None)])
def test_an_untrusted_callers_baggage_is_dropped(spans: CapturedSpans, trust: bool, kept: str | None) -> None:
    """Neither the application nor what it calls sees the baggage or the tracestate of an untrusted caller."""
    seen: dict[str, Any] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen["baggage"] = baggage.get_baggage("tenant")
        inject(seen.setdefault("outgoing", {}))

    drive(TraceMiddleware(app, trust=trust), scope_from())

    assert seen["baggage"] == kept
    assert ("baggage" in seen["outgoing"], "tracestate" in seen["outgoing"]) == (trust, trust)
    assert seen["outgoing"]["traceparent"].split("-")[1] == f"{spans.server.context.trace_id:032x}"


def test_all_baggage_of_several_lines_is_read_from_a_trusted_caller(spans: CapturedSpans) -> None:
    """Two `baggage` headers are one list."""
    seen: dict[str, object] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.update(baggage.get_all())

    headers = [(b"baggage", b"a=1"), (b"traceparent", TRACEPARENT), (b"baggage", b"b=2")]
    drive(TraceMiddleware(app), scope_from(headers=headers))

    assert seen == {"a": "1", "b": "2"}


def test_a_forged_sampled_flag_cannot_raise_our_cost() -> None:
    """With a sampler that drops roots, a hundred untrusted requests that say "sampled" record nothing."""
    with capture_spans(ParentBased(ALWAYS_OFF)) as spans:
        for _ in range(100):
            drive(TraceMiddleware(OK, trust="10.0.0.0/8"), scope_from(("203.0.113.9", 1)))
        assert len(spans) == 0
        drive(TraceMiddleware(OK, trust="10.0.0.0/8"), scope_from())
        assert len(spans) == 1


def test_a_forged_unsampled_flag_cannot_hide_a_request() -> None:
    """An untrusted caller that says "not sampled" is sampled by our own decision."""
    with capture_spans(ParentBased(ALWAYS_ON)) as spans:
        drive(TraceMiddleware(OK, trust=False), scope_from(headers=UNSAMPLED))

        assert not continued(spans)


def test_the_decision_for_untrusted_callers_is_by_our_own_trace_id() -> None:
    """A ratio sampler judges the new trace id, so a chosen id of the caller's does not help it through."""
    chosen = b"00-0000000000000000ffffffffffffffff-b7ad6b7169203331-01"
    with capture_spans(ParentBased(TraceIdRatioBased(0.5))) as spans:
        for _ in range(200):
            drive(TraceMiddleware(OK, trust=False), scope_from(headers=[(b"traceparent", chosen)]))

    assert 50 < len(spans) < 150


def test_without_a_caller_there_is_no_link(spans: CapturedSpans) -> None:
    """A refusal needs something to refuse: no header, or an invalid one, leaves a plain root."""
    for headers in ([], [(b"traceparent", b"00-junk")], [(b"baggage", b"a=1")]):
        spans.clear()
        drive(TraceMiddleware(OK, trust=False), scope_from(headers=headers))
        assert spans.server.parent is None
        assert not spans.server.links


def test_a_policy_that_fails_means_no(spans: CapturedSpans, caplog: pytest.LogCaptureFixture) -> None:
    """A callable that raises refuses the caller, is logged as an error once, and does not touch the request."""

    def trust(scope: Scope) -> bool:
        raise LookupError("no table")

    traced = TraceMiddleware(OK, trust=trust)
    for _ in range(3):
        spans.clear()
        assert drive(traced, scope_from()).status == 200
        assert not continued(spans)

    assert [record.levelno for record in caplog.records if record.name == "asgi_trace"] == [logging.ERROR]
    assert "no table" in caplog.text


def test_the_policy_is_not_asked_without_need(spans: CapturedSpans) -> None:
    """It is asked once for a request with a caller, and not at all for one without."""
    asked: list[str] = []

    def trust(scope: Scope) -> bool:
        asked.append(scope["path"])
        return True

    traced = TraceMiddleware(OK, trust=trust)
    drive(traced, scope_from(path="/with"))
    drive(traced, scope_from(path="/without", headers=[]))

    assert asked == ["/with"]


@pytest.mark.parametrize("trust", [True, False])
def test_an_untrusted_trace_is_not_told_back(spans: CapturedSpans, trust: bool) -> None:
    """The response header names the trace that the request is in: the caller's when trusted, else our own."""
    served = drive(TraceMiddleware(OK, trust=trust, response_header="x-trace-id"), scope_from())

    value = dict(served.headers)[b"x-trace-id"].decode()
    assert int(value, 16) == spans.server.context.trace_id
    assert (int(value, 16) == TRACE_ID) is trust


@pytest.mark.parametrize(("trust", "same"), [(True, True), (False, False)])
def test_an_excluded_request_of_an_untrusted_caller_is_in_no_trace_of_its(
    spans: CapturedSpans, trust: bool, same: bool
) -> None:
    """Silence is kept in the caller's trace only where the caller is trusted, and its baggage with it."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([get_current_span().get_span_context(), dict(baggage.get_all())])
        await send(start())
        await send(body())

    drive(TraceMiddleware(app, trust=trust, exclude="."), scope_from())

    context, carried = seen
    assert (context.trace_id == TRACE_ID) is same
    assert context.trace_flags.sampled is False
    assert carried == ({"tenant": "acme", "plan": "free"} if same else {})


@pytest.mark.parametrize("provider", [None, "unsampled"])
def test_without_a_span_an_untrusted_context_is_dropped_too(provider: str | None) -> None:
    """Also where nothing is recorded, the application does not pass an untrusted trace on."""
    seen: dict[str, str] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        inject(seen)

    if provider is None:
        drive(TraceMiddleware(app, trust=False), scope_from())
        assert seen == {}
    else:
        with capture_spans(ALWAYS_OFF):
            drive(TraceMiddleware(app, trust=False), scope_from())
        assert seen.keys() == {"traceparent"}
        assert f"{TRACE_ID:032x}" not in seen["traceparent"]


def test_two_policies_do_not_mix(spans: CapturedSpans) -> None:
    """Each middleware has its own policy."""
    inner: Callable[..., Any] = TraceMiddleware(OK, trust=False)
    drive(TraceMiddleware(OK), scope_from())
    assert continued(spans)
    spans.clear()
    drive(inner, scope_from())
    assert not continued(spans)
    assert attributes_of(spans.server)["client.address"] == "10.1.2.3"
