"""What a sampler sees of a request before the application runs, and what an unsampled request costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from asgi_trace import TraceMiddleware
from asgi_trace.testing import capture_spans

from ..support.asgi import OK, TRACEPARENT, attributes_of, drive, http_scope


class Recording(Sampler):
    """Samples everything, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, SpanKind | None, dict[str, Any]]] = []

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        self.asked.append((name, kind, dict(attributes or {})))
        return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

    def get_description(self) -> str:
        return "recording"


@pytest.mark.parametrize("flag", [None, b"00", b"01"], ids=["no parent", "unsampled parent", "sampled parent"])
def test_a_sampler_sees_what_is_known_at_the_start(flag: bytes | None) -> None:
    """Method, path, redacted query, scheme, server, client, user agent and captured headers are there for a sampler."""
    headers = [(b"host", b"shop.test"), (b"user-agent", b"probe"), (b"x-tenant", b"acme")]
    if flag is not None:
        headers.append((b"traceparent", TRACEPARENT[:-2] + flag))
    scope = http_scope("/orders/7", query_string=b"sig=secret", headers=headers)
    sampler = Recording()
    with capture_spans(sampler) as spans:
        for _ in range(2):  # the second time, whatever was learned from the first
            drive(TraceMiddleware(OK, capture_request_headers="x-tenant"), dict(scope))

    for name, kind, attributes in sampler.asked:
        assert (name, kind) == ("GET", SpanKind.SERVER)
        assert attributes == {
            "http.request.method": "GET",
            "url.path": "/orders/7",
            "url.query": "sig=REDACTED",
            "url.scheme": "http",
            "server.address": "shop.test",
            "server.port": 80,
            "client.address": "127.0.0.1",
            "network.peer.address": "127.0.0.1",
            "network.peer.port": 51234,
            "network.protocol.version": "1.1",
            "user_agent.original": "probe",
            "http.request.header.x-tenant": ["acme"],
        }
    assert len(spans) == 2


class ByPath(Recording):
    """Drops health checks by their path, as a service may do."""

    def should_sample(self, *arguments: Any, **keywords: Any) -> SamplingResult:
        result = super().should_sample(*arguments, **keywords)
        if self.asked[-1][2]["url.path"] == "/health":
            return SamplingResult(Decision.DROP)
        return result


def test_a_sampler_decides_by_path_request_by_request() -> None:
    """After any run of dropped or recorded requests the next one is judged, and recorded, by its own attributes."""
    paths = ["/a", "/health", "/health", "/b", "/health", "/c", "/d"]
    with capture_spans(ByPath()) as spans:
        traced = TraceMiddleware(OK)
        for path in paths:
            drive(traced, http_scope(path))

    assert [attributes_of(span)["url.path"] for span in spans] == ["/a", "/b", "/c", "/d"]
    assert all(attributes_of(span)["server.address"] == "shop.test" for span in spans)


def test_an_unsampled_request_is_asked_for_nothing() -> None:
    """The header lines of a request that is not sampled are not decoded, parsed or redacted."""
    calls: list[str] = []

    def redact(name: str, value: str) -> str:
        calls.append(name)
        return value

    scope = http_scope(query_string=b"a=1", headers=[(b"traceparent", TRACEPARENT[:-2] + b"00"), (b"x-id", b"1")])
    with capture_spans():
        traced = TraceMiddleware(OK, redact=redact, capture_request_headers="x-id")
        drive(traced, dict(scope))
        calls.clear()
        drive(traced, dict(scope))

    assert calls == []
