"""What samplers see of a send, and what a send costs and carries that is not recorded."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Decision, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from asgi_trace._client.coexistence import CONTRIB
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import attributes_of
from ..support.http_clients import Kit
from ..support.transports import Answer, Watching, parent, send, send_through, trace_headers, traceparent_of

httpx = pytest.importorskip("httpx")
from asgi_trace.httpx import TraceTransport  # noqa: E402


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
        assert attributes_of(spans.client)["url.full"] == "http://svc.test/a"


def test_new_traces_that_are_dropped_cost_no_attributes(attached: Any) -> None:
    """After a new trace that was not recorded the next one's attributes are built only if the sampler looks at them."""
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


def test_hooks_are_not_called_for_what_is_not_recorded(spans: CapturedSpans, attached: Any) -> None:
    """Below an unsampled parent no hook is called."""
    attached(parent(0))
    called: list[Any] = []
    send(on_request=lambda *given: called.append(given), on_response=lambda *given: called.append(given))
    assert called == []


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
    assert attributes_of(spans.client)["http.request.resend_count"] == 2


def test_a_ratio_of_none_is_one_decision_for_nested_transports() -> None:
    """A new trace that is not recorded is not decided upon again by one of our transports further in."""
    sampler = Watching(Decision.DROP)
    with capture_spans(sampler):
        send(inner=TraceTransport(Answer()))
    assert len(sampler.seen) == 1


def test_a_failure_below_an_unsampled_parent_passes_through(attached: Any) -> None:
    """Errors of calls that are not recorded reach the caller unchanged, below a parent and as roots."""
    with capture_spans(ParentBased(ALWAYS_OFF)) as spans:
        for context in (parent(0), otel_context.Context()):
            attached(context)
            request = httpx.Request("GET", "http://svc.test/")
            sent: list[str] = []

            def handler(request: Any, sent: list[str] = sent) -> Any:
                sent.append(request.headers["traceparent"])
                raise httpx.ConnectError("no route")

            transport = TraceTransport(httpx.MockTransport(handler))
            for _ in range(2):
                with pytest.raises(httpx.ConnectError):
                    transport.handle_request(request)
            assert [traceparent.endswith(("-00", "-02")) for traceparent in sent] == [True, True]
            assert "traceparent" not in request.headers
    assert len(spans) == 0


@pytest.mark.parametrize("is_remote", [False, True])
@pytest.mark.parametrize(
    ("sampler", "count"),
    [
        (None, 0),
        (ParentBased(ALWAYS_ON), 0),
        (ParentBased(ALWAYS_OFF), 0),
        (ParentBased(ALWAYS_OFF, local_parent_not_sampled=ALWAYS_ON, remote_parent_not_sampled=ALWAYS_ON), 3),
        (ALWAYS_ON, 3),
        (Watching(Decision.RECORD_AND_SAMPLE), 3),
    ],
)
def test_below_an_unsampled_parent_the_sampler_decides(
    monkeypatch: pytest.MonkeyPatch, attached: Any, sampler: Sampler | None, count: int, is_remote: bool
) -> None:
    """Where the sampler drops all below it, the parent's own context is sent; another sampler is asked each time."""
    monkeypatch.delitem(sys.modules, CONTRIB, raising=False)  # other tests import it; then a span is started to ask
    above = NonRecordingSpan(SpanContext(0xA, 0xB, is_remote, TraceFlags(0)))
    attached(set_span_in_context(above))
    with capture_spans(sampler) as spans:
        transport = TraceTransport(answer := Answer())
        request = httpx.Request("GET", "http://svc.test/")
        for _ in range(3):
            transport.handle_request(request)
    assert len(spans) == count
    traceparents = [headers["traceparent"] for headers in answer.sent]
    if count:
        assert traceparents == list(map(traceparent_of, spans))
        assert [attributes_of(span).get("http.request.resend_count") for span in spans] == [None, 1, 2]
    else:
        assert traceparents == [f"00-{0xA:032x}-{0xB:016x}-00"] * 3


def test_an_unsampled_call_is_not_recorded_but_known(local: Kit, spans: CapturedSpans) -> None:
    """Below an unsampled parent no span is recorded, the body is the library's own, and the flag is handed on."""

    async def scenario(kit: Kit) -> None:
        stream = kit.body_of(lambda: iter([b"a"]))
        sent: list[dict[str, str]] = []

        def handler(request: Any) -> Any:
            sent.append(trace_headers(request))
            return kit.library.Response(200, stream=stream)

        transport = kit.Transport(kit.transport_of(handler))
        request = kit.library.Request("GET", kit.base, headers={"Tracestate": "stale=1"})
        token = otel_context.attach(parent(0))
        try:
            response = await send_through(kit, transport, request)
        finally:
            otel_context.detach(token)
        assert response.stream is stream
        assert sent[0].keys() == {"traceparent"}
        assert sent[0]["traceparent"].startswith(f"00-{0xA:032x}-")
        assert sent[0]["traceparent"].endswith("-00")
        assert len(spans) == 0

    local.run(scenario)
