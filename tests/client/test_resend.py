"""One request that is sent more than once: redirects, auth flows, retries, and several sends at the same time."""

from __future__ import annotations

import asyncio
import gc
import logging
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import Decision, SamplingResult
from opentelemetry.trace import (
    SpanKind,
)

from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import attributes_of
from ..support.http_clients import Kit
from ..support.transports import (
    Answer,
    Watching,
    carrying,
    parent,
    points,
    received,
    send,
    send_through,
    trace_headers,
    traced,
    traceparent_of,
    within,
)

httpx = pytest.importorskip("httpx")
from asgi_trace.httpx import TraceTransport  # noqa: E402


def test_extensions_that_calls_share_are_not_written_to(spans: CapturedSpans) -> None:
    """A dict of extensions that several requests share counts the sends of each of them, and is left as it is."""
    shared = {"url_template": "/x", "timeout": {}}
    transport = TraceTransport(Answer())
    for _ in range(3):
        request = httpx.Request("GET", "http://svc.test/")
        request.extensions = shared
        transport.handle_request(request)
    assert shared == {"url_template": "/x", "timeout": {}}
    assert [attributes_of(span).get("http.request.resend_count") for span in spans] == [None, None, None]


class InTurn(Watching):
    """Samples the sends that it is told to, one after the other."""

    def __init__(self, *decisions: bool) -> None:
        super().__init__(Decision.DROP)
        self.left = [Decision.RECORD_AND_SAMPLE if each else Decision.DROP for each in decisions]

    def should_sample(self, *arguments: Any, **named: Any) -> SamplingResult:
        self.decision = self.left.pop(0)
        return super().should_sample(*arguments, **named)


@pytest.mark.parametrize(
    ("decisions", "counts"),
    [
        ((True, True, True), [None, 1, 2]),
        ((False, True, True), [1, 2]),
        ((False, False, True), [2]),
        ((True, False, True), [None, 2]),
        ((True, True, False), [None, 1]),
    ],
)
def test_a_send_that_is_not_recorded_counts_as_well(decisions: tuple[bool, ...], counts: list[int | None]) -> None:
    """`http.request.resend_count` is the number of sends before, whichever of them the sampler has kept."""
    with capture_spans(InTurn(*decisions)) as spans:
        transport = TraceTransport(Answer())
        request = httpx.Request("GET", "http://svc.test/")
        for _ in decisions:
            transport.handle_request(request)
    assert [attributes_of(span).get("http.request.resend_count") for span in spans] == counts


def test_each_redirect_is_a_span_of_its_own(kit: Kit, spans: CapturedSpans) -> None:
    """Every hop is one span with its number, its own ids in one `traceparent`, and no template of another URL."""

    async def scenario(kit: Kit) -> None:
        url = f"{kit.base}/redirect?to=/redirect%3Fto%3D/headers"
        extensions = {"url_template": "/redirect"}
        async with traced(kit) as client:
            response = await kit.call(client.get(url, follow_redirects=True, extensions=extensions))
        hops = spans.of_kind(SpanKind.CLIENT)
        assert [span.name for span in hops] == ["GET /redirect", "GET", "GET"]
        assert ["url.template" in attributes_of(span) for span in hops] == [True, False, False]
        assert [attributes_of(span).get("http.request.resend_count") for span in hops] == [None, 1, 2]
        assert [attributes_of(span)["http.response.status_code"] for span in hops] == [302, 302, 200]
        assert len({span.context.span_id for span in hops}) == 3
        assert received(response.content, "traceparent") == [traceparent_of(hops[2])]
        assert extensions == {"url_template": "/redirect"}

    kit.run(scenario)


def test_an_auth_challenge_is_two_spans(kit: Kit, spans: CapturedSpans) -> None:
    """A digest round trip is two sends of one request: the second counts as a resend and keeps the template."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            auth = kit.library.DigestAuth("user", "secret")
            await kit.call(client.get(f"{kit.base}/auth", auth=auth, extensions={"url_template": "/auth"}))
        first, second = spans
        assert (first.name, second.name) == ("GET /auth", "GET /auth")
        assert attributes_of(first)["error.type"] == "401"
        assert "http.request.resend_count" not in attributes_of(first)
        assert attributes_of(second)["http.request.resend_count"] == 1
        assert attributes_of(second)["http.response.status_code"] == 200

    kit.run(scenario)


def test_one_request_object_sent_many_times_stays_as_small(kit: Kit, spans: CapturedSpans) -> None:
    """A request that is sent 100 times has one `traceparent`, that of its last send, and grows no further."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            request = client.build_request("GET", f"{kit.base}/headers")
            sizes = set()
            for _ in range(100):
                response = await kit.call(client.send(request))
                sizes.add(len(request.headers))
        assert len(sizes) == 1
        assert received(response.content, "traceparent") == [traceparent_of(spans[99])]
        assert attributes_of(spans[99])["http.request.resend_count"] == 99

    kit.run(scenario)


class Slow:
    """Answers only when every one of `number` requests is on its way, and says what each carried then."""

    def __init__(self, kit: Kit, number: int) -> None:
        self.seen: list[str] = []
        self.meet = threading.Barrier(number)
        self.kit, self.number, self.waiting = kit, number, 0
        base = kit.Base

        class Inner(base):  # type: ignore[misc, valid-type]
            def handle_request(inner, request: Any) -> Any:
                self.meet.wait(5)
                return self.answer(request)

            async def handle_async_request(inner, request: Any) -> Any:
                self.waiting += 1
                while self.waiting < self.number:
                    await asyncio.sleep(0)
                return self.answer(request)

        self.inner = Inner()

    def answer(self, request: Any) -> Any:
        self.seen.append(request.headers["traceparent"])
        return self.kit.library.Response(200, content=request.content)


def test_one_request_on_its_way_many_times_is_as_many_spans(
    local: Kit, spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader]
) -> None:
    """Each of ten sends at once of one request object has its span, its count and its own ids on the wire."""
    provider, reader = meter

    async def scenario(kit: Kit) -> None:
        slow = Slow(kit, 10)
        async with traced(kit, kit.Transport(slow.inner), meter_provider=provider) as client:
            request = client.build_request("POST", kit.base, content=b"abc")
            if kit.is_async:
                responses = await asyncio.gather(*[client.send(request) for _ in range(10)])
            else:
                with ThreadPoolExecutor(10) as pool:
                    responses = list(pool.map(client.send, [request] * 10))
            assert {(response.content, response.request is request) for response in responses} == {(b"abc", True)}
        assert sorted(slow.seen) == sorted(map(traceparent_of, spans))
        assert len(set(slow.seen)) == 10
        assert {attributes_of(span).get("http.request.resend_count", 0) for span in spans} == set(range(10))
        assert sum(point.count for point in points(reader, "http.client.request.duration")) == 10

    local.run(scenario)


@pytest.mark.parametrize("kind", ["sampled", "unsampled", "no-provider", "excluded"])
def test_a_request_that_is_sent_again_carries_nothing_of_an_earlier_context(local: Kit, kind: str) -> None:
    """Below another context, or none, only the caller's own headers and what is current now go out."""

    async def scenario(kit: Kit) -> None:
        sent: list[dict[str, str]] = []

        def handler(request: Any) -> Any:
            sent.append(trace_headers(request))
            return kit.library.Response(200)

        transport = kit.Transport(kit.transport_of(handler), exclude="svc" if kind == "excluded" else ())
        request = kit.library.Request("GET", kit.base, headers=[("Baggage", "mine=1"), ("baggage", "too=2")])
        own = list(request.headers.raw)
        for user in range(20):
            around = parent(0 if kind == "unsampled" else 1)
            async with within(otel_context.Context({**around, **carrying(**{f"user{user}": "x"})})):
                await send_through(kit, transport, request)
        assert {len(headers["baggage"].split(",")) for headers in sent} == {3}
        assert "user19=x" in sent[-1]["baggage"]
        async with within(otel_context.Context()):
            await send_through(kit, transport, request)
        assert sent[-1]["baggage"] == "mine=1, too=2"
        if kind in ("no-provider", "excluded"):
            assert sent[-1] == {"baggage": "mine=1, too=2"}
            assert sorted(request.headers.raw) == sorted(own)

    if kind == "no-provider":
        local.run(scenario)
    else:
        with capture_spans():
            local.run(scenario)


def test_what_the_caller_writes_between_two_sends_stays(local: Kit) -> None:
    """Trace headers that the caller has changed since the last send are the caller's own."""

    async def scenario(kit: Kit) -> None:
        transport = kit.Transport(kit.transport_of(lambda request: kit.library.Response(200)))
        request = kit.library.Request("GET", kit.base, headers={"baggage": "a=1"})
        async with within(otel_context.Context({**parent(1), **carrying(user="1")})):
            await send_through(kit, transport, request)
        mine = {"traceparent": "00-" + "1" * 32 + "-" + "2" * 16 + "-01", "baggage": "b=2"}
        request.headers.update(mine)
        await send_through(kit, transport, request)
        assert trace_headers(request) == mine

    local.run(scenario)


def test_a_redirect_takes_no_ids_of_another_hop_along(local: Kit, spans: CapturedSpans) -> None:
    """A redirect to what is excluded leaves the first hop's ids behind; the caller's headers go on, where allowed."""
    sent: list[dict[str, str]] = []

    async def scenario(kit: Kit) -> None:
        def handler(request: Any) -> Any:
            sent.append(trace_headers(request))
            hops = {"http://a.test/": "http://b.test/", "http://b.test/": "http://a.test/silent"}
            to = hops.get(str(request.url))
            return kit.library.Response(302, headers={"location": to}) if to else kit.library.Response(200)

        for inner in (kit.transport_of(handler), kit.library.MockTransport(handler)):
            sent.clear()
            async with traced(kit, inner, exclude="silent", propagate_to="a.test") as client:
                headers = {"baggage": "mine=1"}
                await kit.call(client.get("http://a.test/", follow_redirects=True, headers=headers))
            assert sent[0].keys() == {"traceparent", "baggage"}
            assert sent[1:] == [{}, {"baggage": "mine=1"}]

    local.run(scenario)


def test_a_request_that_cannot_be_copied_is_sent_all_the_same(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where two sends of one request cannot be told apart both are sent, and it is reported."""

    def broken(*arguments: Any) -> Any:
        raise LookupError

    class Again(Answer):
        def handle_request(self, request: Any) -> Any:
            self.status += 1
            return super().handle_request(request) if self.status > 201 else transport.handle_request(request)

    monkeypatch.setattr("asgi_trace._client.call.copy_of", broken)
    transport = TraceTransport(Again())
    with caplog.at_level(logging.ERROR, logger="asgi_trace"):
        assert transport.handle_request(httpx.Request("GET", "http://svc.test/")).status_code == 202
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert len(spans) == 1


class Looked(httpx.Request):  # type: ignore[misc, name-defined]
    """A request that does something when its headers are looked at the next time."""

    meanwhile: Any = None

    @property
    def headers(self) -> Any:
        meanwhile, self.meanwhile = self.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return self.__dict__["headers"]

    @headers.setter
    def headers(self, value: Any) -> None:
        self.__dict__["headers"] = value


def test_a_send_that_begins_while_another_one_takes_the_request(spans: CapturedSpans) -> None:
    """As from another thread, between the two steps by which a send takes a request: each has its span and its ids."""
    answer = Answer()
    transport = TraceTransport(answer)
    request = Looked("GET", "http://svc.test/", headers={"x-id": "1"})
    before = list(request.headers.raw)
    request.meanwhile = lambda: transport.handle_request(request)
    transport.handle_request(request)
    assert [headers["traceparent"] for headers in answer.sent] == list(map(traceparent_of, spans))
    assert len(spans) == 2
    assert request.headers.raw == before


def test_what_is_kept_for_a_second_send_is_no_burden(spans: CapturedSpans) -> None:
    """A request and its response can be pickled after a send, and are freed without the garbage collector."""
    request = send().request
    copied = pickle.loads(pickle.dumps(request))
    assert copied.headers.raw == request.headers.raw
    freed = weakref.ref(request)
    gc.disable()
    try:
        del request
        assert freed() is None
    finally:
        gc.enable()
