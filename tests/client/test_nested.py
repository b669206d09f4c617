"""One of our transports inside of another, and contrib's instrumentation around or inside of ours."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.context import get_current
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, ParentBased
from opentelemetry.trace import (
    NoOpTracerProvider,
)

from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import attributes_of
from ..support.http_clients import Kit
from ..support.transports import (
    Answer,
    Watching,
    parent,
    received,
    send_through,
    trace_headers,
    traced,
    within,
)

httpx = pytest.importorskip("httpx")
from asgi_trace.httpx import TraceTransport  # noqa: E402


def test_one_transport_inside_another_is_one_span(local: Kit, spans: CapturedSpans) -> None:
    """Two of our transports around each other make one span, and a second send of the request makes one more."""

    async def scenario(kit: Kit) -> None:
        inner = kit.transport_of(lambda request: kit.library.Response(200))
        async with traced(kit, kit.Transport(kit.Transport(inner))) as client:
            request = client.build_request("GET", kit.base)
            await kit.call(client.send(request))
            assert len(spans) == 1
            await kit.call(client.send(request))
            assert len(spans) == 2

    local.run(scenario)


NESTED: dict[str, dict[str, Any]] = {
    "forbidden": {"propagate_to": "*.good.test"},
    "excluded": {"exclude": "svc", "propagate_to": "*.good.test"},
    "silent": {"propagate_to": "*.good.test"},
}


@pytest.mark.parametrize("flags", [0, 1, None])
@pytest.mark.parametrize("sdk", [True, False])
@pytest.mark.parametrize("case", list(NESTED))
def test_the_outer_one_of_two_transports_decides(local: Kit, case: str, sdk: bool, flags: int | None) -> None:
    """What the outer transport excludes the inner one does not trace, and it sends nothing where the outer must not."""

    async def scenario(kit: Kit) -> None:
        sent: list[dict[str, str]] = []

        def handler(request: Any) -> Any:
            sent.append(trace_headers(request))
            if len(sent) == 2:
                raise kit.library.ConnectError("no route")
            return kit.library.Response(200)

        with capture_spans() as spans:
            options = {"tracer_provider": spans.tracer_provider}
            inner = kit.Transport(kit.library.MockTransport(handler), **options)
            outer = kit.Transport(
                inner, **NESTED[case], **(options if sdk else {"tracer_provider": NoOpTracerProvider()})
            )
            request = kit.library.Request("GET", kit.base, extensions={"asgi_trace": False} if case == "silent" else {})
            async with within(otel_context.Context() if flags is None else parent(flags)):
                await send_through(kit, outer, request)
                with pytest.raises(kit.library.ConnectError):
                    await send_through(kit, outer, request)
            traced = sdk and case == "forbidden" and flags != 0
            assert [attributes_of(span)["server.address"] for span in spans] == ["svc.test"] * (2 if traced else 0)
            assert sent == [{}, {}]
            if case != "silent":  # the inner one alone decides for itself, also about a request that was seen before
                await send_through(kit, inner, request)
                assert len(spans) == (3 if traced else 1)
                assert attributes_of(spans[-1]).get("http.request.resend_count") == (2 if traced else None)

    local.run(scenario)


def rebuilding(kit: Kit, inner: Any) -> Any:
    """A transport of the application's own between two of ours: it sends a new request of the same content."""

    def new(request: Any) -> Any:
        return kit.library.Request(
            request.method, request.url, headers=request.headers, extensions=dict(request.extensions)
        )

    async def handle_async_request(self: object, request: Any) -> Any:
        return await inner.handle_async_request(new(request))

    def handle_request(self: object, request: Any) -> Any:
        return inner.handle_request(new(request))

    base = kit.library.AsyncBaseTransport if kit.is_async else kit.library.BaseTransport
    methods = {"handle_request": handle_request, "handle_async_request": handle_async_request, "__module__": __name__}
    return type("Rebuilding", (base,), methods)()


@pytest.mark.parametrize("flags", [0, 1, None])
@pytest.mark.parametrize("case", ["forbidden", "excluded"])
def test_the_outer_one_decides_also_about_a_rebuilt_request(local: Kit, case: str, flags: int | None) -> None:
    """A retry or caching transport in between may make a request of its own: it carries on what the outer one says."""

    async def scenario(kit: Kit) -> None:
        sent: list[dict[str, str]] = []

        def handler(request: Any) -> Any:
            sent.append(trace_headers(request))
            return kit.library.Response(200)

        with capture_spans() as spans:
            inner = kit.Transport(kit.library.MockTransport(handler))
            outer = kit.Transport(rebuilding(kit, inner), **NESTED[case])
            async with within(otel_context.Context() if flags is None else parent(flags)):
                for _ in range(2):
                    await send_through(kit, outer, kit.library.Request("GET", kit.base))
            assert len(spans) == (2 if case == "forbidden" and flags != 0 else 0)
            assert sent == [{}, {}]

    local.run(scenario)


@pytest.mark.parametrize("flags", [0, 1, None])
def test_what_the_outer_one_does_not_sample_the_inner_one_does_not_trace(local: Kit, flags: int | None) -> None:
    """Its sampler has decided about the send, for a request that a transport in between has made anew as well."""

    async def scenario(kit: Kit) -> None:
        sent: list[dict[str, str]] = []

        def handler(request: Any) -> Any:
            sent.append(trace_headers(request))
            return kit.library.Response(200)

        with capture_spans() as spans, capture_spans(Watching(Decision.DROP)) as dropped:
            inner = kit.Transport(kit.library.MockTransport(handler), tracer_provider=spans.tracer_provider)
            outer = kit.Transport(
                rebuilding(kit, inner), tracer_provider=dropped.tracer_provider, propagate_to="*.good.test"
            )
            async with within(otel_context.Context() if flags is None else parent(flags)):
                await send_through(kit, outer, kit.library.Request("GET", kit.base))
            assert (len(spans), len(dropped)) == (0, 0)
            assert sent == [{}]

    local.run(scenario)


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
    servers: dict[str, str], spans: CapturedSpans, contrib: Any, attached: Any, flags: int | None
) -> None:
    """Around the library's own transport, which contrib patches, a request is one span, ours, and its ids are sent."""
    contrib.instrument(tracer_provider=spans.tracer_provider)
    if flags is not None:
        attached(parent(flags))
    with httpx.Client(transport=TraceTransport(httpx.HTTPTransport())) as client:
        answer = client.get(f"{servers['1.1']}/headers").content
    (traceparent,) = received(answer, "traceparent")
    assert len(spans) == (0 if flags == 0 else 1)
    if flags != 0:
        assert spans.client.instrumentation_scope.name == "asgi_trace"  # type: ignore[union-attr]
        assert f"{spans.client.context.span_id:016x}" in traceparent


@pytest.mark.parametrize("excluded", [False, True])
def test_contrib_keeps_still_below_a_span_that_is_not_sampled(
    servers: dict[str, str], contrib: Any, attached: Any, excluded: bool
) -> None:
    """A send that needs no span of ours gets none of contrib's either; what is current is as before, also if it fails.

    What is excluded here is contrib's business.
    """
    with capture_spans(ALWAYS_ON) as theirs, capture_spans(ParentBased(ALWAYS_ON)) as ours:
        contrib.instrument(tracer_provider=theirs.tracer_provider)
        attached(parent(0))
        before = get_current()
        transport = TraceTransport(httpx.HTTPTransport(), exclude="." if excluded else ())
        with httpx.Client(transport=transport) as client:
            (traceparent,) = received(client.get(f"{servers['1.1']}/headers").content, "traceparent")
            with pytest.raises(httpx.ConnectError):
                client.get("http://127.0.0.1:1/")
        assert get_current() is before
        assert len(ours) == 0
        assert len(theirs) == (2 if excluded else 0)
        assert ((f"{0xB:016x}" in traceparent) and traceparent.endswith("-00")) != excluded


def test_a_transport_that_contrib_does_not_patch_runs_in_the_callers_context(contrib: Any, attached: Any) -> None:
    """Only around the library's own transport is anything hidden from contrib."""
    seen: list[Any] = []

    def answer(request: Any) -> Any:
        seen.append(get_current())
        return httpx.Response(200)

    attached(parent(0))
    with (
        capture_spans(ParentBased(ALWAYS_ON)) as spans,
        httpx.Client(transport=TraceTransport(httpx.MockTransport(answer))) as client,
    ):
        client.get("http://stock.test/")
    assert seen == [get_current()]
    assert seen[0] is get_current()
    assert len(spans) == 0


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
        if not hasattr(import_module(CONTRIB), "HTTPX2ClientInstrumentor"):
            pytest.skip("newer than this version of contrib")
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
