"""The options and hooks of contrib's httpx instrumentation: each row of the page is what a run shows."""

from __future__ import annotations

import asyncio
import inspect
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation import httpx as contrib
from opentelemetry.instrumentation.httpx import (
    AsyncOpenTelemetryTransport,
    HTTPXClientInstrumentor,
    RequestInfo,
    ResponseInfo,
    SyncOpenTelemetryTransport,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from asgi_trace._types import Receive, Scope, Send
from asgi_trace.httpx import AsyncTraceTransport, TraceTransport
from asgi_trace.testing import CapturedSpans, capture_spans
from tests.support.asgi import OK, attributes_of, body, responding, start
from tests.support.log_capture import kept_by
from tests.support.moving import Cases, Pair, without_row
from tests.support.moving_httpx import Side, both, environment
from tests.support.servers import uvicorn_serving

OPTIONS_OF = "Options of contrib's httpx instrumentation"
OPTIONS = Cases(OPTIONS_OF)
INSTRUMENTOR = next(each for each in HTTPXClientInstrumentor.__mro__ if each.__name__ == "BaseInstrumentor")


URL = "http://orders.test/orders/7"


@contextmanager
def instrumented(spans: CapturedSpans) -> Iterator[HTTPXClientInstrumentor]:
    """contrib's patch of httpx, for a block."""
    instrumentor = HTTPXClientInstrumentor()
    with environment():
        instrumentor.instrument(tracer_provider=spans.tracer_provider)
    try:
        yield instrumentor
    finally:
        if instrumentor.is_instrumented_by_opentelemetry:
            instrumentor.uninstrument()


@OPTIONS("`instrument()`")
def instrument() -> Pair:
    there, here = CapturedSpans(), CapturedSpans()
    with uvicorn_serving(OK) as server:
        with instrumented(there), httpx.Client() as client:
            client.get(server.url)
        with (
            httpx.Client(**TraceTransport.for_client(tracer_provider=here.tracer_provider)) as client,
            httpx.Client() as another,
        ):
            client.get(server.url)
            assert [span.name for span in here] == [span.name for span in there] == ["GET"]
            another.get(server.url)
    assert len(here) == 1
    return "a client without our transport", f"{len(here)} span"


@OPTIONS("`instrument_client(client)`")
def instrument_client() -> Pair:
    there, here = CapturedSpans(), CapturedSpans()
    with uvicorn_serving(OK) as server, environment():
        with httpx.Client() as client:
            HTTPXClientInstrumentor.instrument_client(client, tracer_provider=there.tracer_provider)
            client.get(server.url)
        with httpx.Client(**TraceTransport.for_client(tracer_provider=here.tracer_provider)) as client:
            client.get(server.url)
    assert here.client.name == "GET"
    return tuple((span.name, span.kind) for span in there), tuple((span.name, span.kind) for span in here)


@OPTIONS("`uninstrument()`, `uninstrument_client(client)`")
def uninstrument() -> Pair:
    there, here = CapturedSpans(), Side(TraceTransport)
    with uvicorn_serving(noting_headers) as server:
        with instrumented(there) as instrumentor, httpx.Client() as client:
            instrumentor.uninstrument()
            seen_there = client.get(server.url).json()
        with environment(), httpx.Client() as client:
            HTTPXClientInstrumentor.instrument_client(client, tracer_provider=there.tracer_provider)
            HTTPXClientInstrumentor.uninstrument_client(client)
            seen_there += client.get(server.url).json()
    with trace.use_span(a_parent()):
        here.get(extensions={"asgi_trace": False})
    assert len(there) == len(here.spans) == 0
    assert "traceparent" not in seen_there
    assert here.sent[0]["traceparent"] == PARENT
    return seen_there, list(here.sent[0])


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def a_parent() -> trace.Span:
    """A sampled span of the caller's."""
    ids = PARENT.split("-")
    context = trace.SpanContext(int(ids[1], 16), int(ids[2], 16), False, trace.TraceFlags(1))
    return trace.NonRecordingSpan(context)


async def noting_headers(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the names of the request's headers."""
    names = json.dumps([name.decode() for name, _ in scope["headers"]]).encode()
    await responding(start(200), body(names))(scope, receive, send)


@OPTIONS("`SyncOpenTelemetryTransport`")
def sync_transport() -> Pair:
    def look(side: Side) -> object:
        return side.get().status_code, side.span.name, side.span.kind, side.attribute("http.response.status_code")

    assert isinstance(TraceTransport(), httpx.BaseTransport)
    return both(look)


def awaited(transport: Any, library: Any, **options: Any) -> tuple[object, ...]:
    """Send one request through an async transport; what its span says."""
    spans = CapturedSpans()

    async def send() -> None:
        inner = library.MockTransport(lambda request: library.Response(204))
        traced = transport(inner, tracer_provider=spans.tracer_provider, **options)
        async with library.AsyncClient(transport=traced) as client:
            assert (await client.get(URL)).status_code == 204

    with environment():
        asyncio.run(send())
    attributes = attributes_of(spans.client)
    return spans.client.name, spans.client.kind, attributes["http.response.status_code"], attributes["url.full"]


@OPTIONS("`AsyncOpenTelemetryTransport`")
def async_transport() -> Pair:
    there, here = awaited(AsyncOpenTelemetryTransport, httpx), awaited(AsyncTraceTransport, httpx)
    assert here == ("GET", trace.SpanKind.CLIENT, 204, URL)
    return there, here


@OPTIONS("`SyncOpenTelemetryTransportHttpx2`, `AsyncOpenTelemetryTransportHttpx2`, `HTTPX2ClientInstrumentor`")
def httpx2_transports() -> Pair:
    httpx2 = pytest.importorskip("httpx2")
    if not hasattr(contrib, "AsyncOpenTelemetryTransportHttpx2"):
        pytest.skip("this contrib does not know httpx2")
    from asgi_trace import httpx2 as ours

    there = awaited(contrib.AsyncOpenTelemetryTransportHttpx2, httpx2)
    here = awaited(ours.AsyncTraceTransport, httpx2)
    assert here == ("GET", trace.SpanKind.CLIENT, 204, URL)
    assert issubclass(ours.TraceTransport, httpx2.BaseTransport)
    return there, here


@OPTIONS("`transport`")
def transport() -> Pair:
    there = inspect.signature(SyncOpenTelemetryTransport).parameters["transport"].default
    here = inspect.signature(TraceTransport).parameters["transport"].default
    with uvicorn_serving(OK) as server, capture_spans() as spans, httpx.Client(transport=TraceTransport()) as client:
        client.get(server.url)
    assert spans.client.name == "GET"
    return there, here


@OPTIONS("`tracer_provider`")
def tracer_provider() -> Pair:
    there, here = both(lambda side: (side.get().status_code, len(side.spans)))
    assert here == (200, 1)
    return there, here


@OPTIONS("`meter_provider`")
def meter_provider() -> Pair:
    there, here = both(lambda side: (side.get().status_code, [point.count for point in side.points()]))
    assert here == (200, [1])
    return there, here


def failing_hook(*arguments: Any) -> None:
    raise LookupError("no tenant")


def tagging(span: trace.Span, *arguments: Any) -> None:
    span.set_attribute("tenant", arguments[0].headers["x-tenant"])


@OPTIONS("`request_hook`")
def request_hook() -> Pair:
    def tenant(side: Side) -> object:
        side.get(headers={"x-tenant": "blue"})
        return side.attribute("tenant")

    there, here = both(tenant, there={"request_hook": tagging}, here={"on_request": tagging})
    assert there == here == ("blue",)
    return raised("request_hook", "on_request")


def raised(theirs: str, ours: str) -> Pair:
    """What the caller gets where a hook raises."""
    with kept_by("asgi_trace") as log:
        there, here = both(lambda side: repr(side.get()), there={theirs: failing_hook}, here={ours: failing_hook})
    assert (there, here) == ("LookupError('no tenant')", "<Response [200 OK]>")
    assert ours in log.records[0].getMessage()
    return there, here


@OPTIONS("`request_hook` that adds a header")
def hook_adds_a_header() -> Pair:
    def hook(span: trace.Span, request: Any) -> None:
        request.headers["x-shop"] = "tea"

    def look(side: Side) -> object:
        response = side.get()
        assert side.sent[0]["x-shop"] == "tea"
        return response.request.headers.get("x-shop")

    there, here = both(look, there={"request_hook": hook}, here={"on_request": hook})
    assert (there, here) == ("tea", None)
    return there, here


@OPTIONS("`request_hook` of an unsampled request")
def unsampled_hooks() -> Pair:
    calls: list[object] = []
    hook = calls_to(calls)

    def look(side: Side) -> int:
        before = len(calls)
        side.get()
        return len(calls) - before

    there, here = both(look, sampler=ALWAYS_OFF, there={"request_hook": hook}, here={"on_request": hook})
    assert (there, here) == (1, 0)
    return there, here


def calls_to(calls: list[Any]) -> Any:
    """A hook that notes its arguments after the span."""
    return lambda span, *arguments: calls.append(arguments)


@OPTIONS("`response_hook`")
def response_hook() -> Pair:
    def cache(side: Side) -> object:
        side.get()
        return side.attribute("cache")

    def hook(span: trace.Span, request: Any, response: Any) -> None:
        span.set_attribute("cache", response.headers["x-cache"])

    there, here = both(cache, there={"response_hook": hook}, here={"on_response": hook})
    assert there == here == ("HIT, stale, MISS",)
    return raised("response_hook", "on_response")


@OPTIONS("`async_request_hook`, `async_response_hook`")
def async_hooks() -> Pair:
    calls: list[Any] = []

    async def hook(*arguments: Any) -> None:
        calls.append(arguments)

    awaited(AsyncOpenTelemetryTransport, httpx, request_hook=hook, response_hook=hook)
    assert [len(arguments) for arguments in calls] == [2, 3]
    for option in ("on_request", "on_response"):
        with pytest.raises(TypeError, match=option):
            AsyncTraceTransport(**not_checked(option, hook))
    plain = calls_to(calls)
    awaited(AsyncTraceTransport, httpx, on_request=plain, on_response=plain)
    assert [len(arguments) for arguments in calls[2:]] == [1, 2]
    return "a coroutine function", "a plain function"


@OPTIONS("`skip_dep_check`, `raise_exception_on_conflict`")
def dependency_checks() -> Pair:
    source = inspect.getsource(INSTRUMENTOR.instrument)
    for option in ("skip_dep_check", "raise_exception_on_conflict"):
        assert option in source
        with pytest.raises(TypeError, match=option):
            TraceTransport(**not_checked(option, True))
    return "options", "a TypeError"


def not_checked(option: str, value: Any) -> Any:
    """Keyword arguments that a type checker would refuse."""
    return {option: value}


def hooked() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """The request and the response that each side's hooks are given, for the same request."""
    calls: list[tuple[Any, Any]] = []
    hook = calls_to(calls)

    def look(side: Side) -> None:
        side.get("http://orders.test/orders/7?page=2", "POST", headers={"x-tenant": "blue"}, extensions={"note": 1})

    both(look, there={"response_hook": hook}, here={"on_response": hook})
    (info, response_info), (request, response) = calls
    assert isinstance(info, RequestInfo)
    assert isinstance(response_info, ResponseInfo)
    assert isinstance(request, httpx.Request)
    assert isinstance(response, httpx.Response)
    return (info, response_info), (request, response)


@OPTIONS("`RequestInfo.method`")
def info_method() -> Pair:
    (there, _), (here, _) = hooked()
    assert (there.method, here.method) == (b"POST", "POST")
    return there.method, here.method


@OPTIONS("`RequestInfo.url`")
def info_url() -> Pair:
    (there, _), (here, _) = hooked()
    assert here.url == httpx.URL("http://orders.test/orders/7?page=2")
    return there.url, here.url


@OPTIONS("`RequestInfo.headers`")
def info_headers() -> Pair:
    (there, _), (here, _) = hooked()
    assert here.headers["x-tenant"] == "blue"
    return without_context(there.headers), without_context(here.headers)


def without_context(headers: httpx.Headers) -> list[tuple[str, str]]:
    return [(name, value) for name, value in headers.items() if name != "traceparent"]


@OPTIONS("`RequestInfo.stream`")
def info_stream() -> Pair:
    (there, _), (here, _) = hooked()
    return b"".join(there.stream), b"".join(here.stream)


@OPTIONS("`RequestInfo.extensions`")
def info_extensions() -> Pair:
    (there, _), (here, _) = hooked()
    assert here.extensions["note"] == 1
    return there.extensions["note"], here.extensions["note"]


@OPTIONS("`ResponseInfo.status_code`")
def info_status() -> Pair:
    (_, there), (_, here) = hooked()
    assert here.status_code == 200
    return there.status_code, here.status_code


@OPTIONS("`ResponseInfo.headers`")
def info_response_headers() -> Pair:
    (_, there), (_, here) = hooked()
    assert here.headers.get_list("x-cache") == ["HIT, stale", "MISS"]
    return there.headers, here.headers


@OPTIONS("`ResponseInfo.stream`")
def info_response_stream() -> Pair:
    (_, there), (_, here) = hooked()
    return b"".join(there.stream), b"".join(here.stream)


@OPTIONS("`ResponseInfo.extensions`")
def info_response_extensions() -> Pair:
    (_, there), (_, here) = hooked()
    assert here.extensions["http_version"] == b"HTTP/1.1"
    return there.extensions, here.extensions


@pytest.mark.parametrize("row", OPTIONS.titles())
def test_options(row: str) -> None:
    """A row of the options says what a run of both transports shows."""
    OPTIONS.check(row)


def test_every_option_has_a_row() -> None:
    """Each argument of contrib's transports and instrumentors, and each field that its hooks are given, has a row."""
    signatures = (SyncOpenTelemetryTransport, AsyncOpenTelemetryTransport, HTTPXClientInstrumentor.instrument_client)
    options = {name for each in signatures for name in inspect.signature(each).parameters} - {"client"}
    source = inspect.getsource(HTTPXClientInstrumentor._instrument) + inspect.getsource(INSTRUMENTOR.instrument)
    options |= set(re.findall(r"kwargs\.(?:get|pop)\(\s*\"(\w+)\"", source))
    assert {"async_request_hook", "skip_dep_check"} <= options
    public = {
        name for name in vars(contrib) if re.match(r"(Sync|Async)OpenTelemetryTransport|HTTPX\w*Instrumentor", name)
    }
    methods = {name for name in dir(HTTPXClientInstrumentor) if re.match(r"(un)?instrument_client$", name)}
    fields = {f"{info.__name__}.{field}" for info in (RequestInfo, ResponseInfo) for field in info._fields}
    missing = without_row(OPTIONS_OF, options | public | methods | fields | {"instrument", "uninstrument"})
    assert missing == {"HTTPXClientInstrumentor"}  # the title of the section
