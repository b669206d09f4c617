"""What is written into a request's headers, and where it may be sent."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    set_span_in_context,
)

from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of
from ..support.http_clients import Kit
from ..support.transports import parent, received, send, send_through, trace_headers, traced, traceparent_of

httpx = pytest.importorskip("httpx")


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
    """Also where nothing is recorded, trace headers that the caller wrote go only where they may."""
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


def test_nothing_is_sent_where_it_may_not_go(kit: Kit, spans: CapturedSpans) -> None:
    """A redirect that leaves `propagate_to` carries no trace context and no baggage; its span is made all the same."""
    port = int(kit.base.rpartition(":")[2])

    async def scenario(kit: Kit) -> None:
        foreign = f"http://localhost:{port}/headers"
        token = otel_context.attach(_with_baggage())
        try:
            async with traced(kit, propagate_to="127.0.0.1") as client:
                inside = await kit.call(client.get(f"{kit.base}/headers"))
                headers = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "tracestate": "a=1", "x-id": "7"}
                away = await kit.call(
                    client.get(f"{kit.base}/redirect?to={foreign}", follow_redirects=True, headers=headers)
                )
        finally:
            otel_context.detach(token)
        assert received(inside.content, "baggage") == ["user=7"]
        assert received(inside.content, "traceparent") == [traceparent_of(spans[0])]
        for name in ("traceparent", "tracestate", "baggage"):
            assert received(away.content, name) == []
        assert received(away.content, "x-id") == ["7"]
        assert [attributes_of(span)["server.address"] for span in spans] == ["127.0.0.1", "127.0.0.1", "localhost"]

    kit.run(scenario)


def _with_baggage() -> otel_context.Context:
    from opentelemetry.baggage import set_baggage

    return set_baggage("user", "7", otel_context.get_current())


def test_without_a_provider_the_current_context_is_sent(local: Kit) -> None:
    """Without a provider the caller's own context goes out as it is; where there is none, nothing is touched."""

    async def scenario(kit: Kit) -> None:
        sent: list[dict[str, str]] = []

        def handler(request: Any) -> Any:
            sent.append(trace_headers(request))
            return kit.library.Response(200)

        transport = kit.Transport(kit.library.MockTransport(handler))
        alone = kit.library.Request("GET", kit.base)
        extensions, before = alone.extensions, list(alone.headers.raw)
        await send_through(kit, transport, alone)
        assert (alone.headers.raw, alone.extensions) == (before, extensions)
        request = kit.library.Request("GET", kit.base)
        token = otel_context.attach(parent(1))
        try:
            await send_through(kit, transport, request)
        finally:
            otel_context.detach(token)
        assert sent == [{}, {"traceparent": f"00-{0xA:032x}-{0xB:016x}-01"}]

    local.run(scenario)
