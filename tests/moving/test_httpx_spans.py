"""The spans and metrics of contrib's httpx instrumentation beside ours: each row of the page is what a run shows."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.httpx import AsyncOpenTelemetryTransport

from asgi_trace.httpx import AsyncTraceTransport
from asgi_trace.testing import CapturedSpans
from tests.support.asgi import OK, attributes_of
from tests.support.moving import Cases, Pair, names
from tests.support.moving_httpx import DURATION, Side, both, environment
from tests.support.servers import uvicorn_serving
from tests.support.transports import traceparent_of

SPANS = Cases("Spans and metrics of contrib's httpx instrumentation")
URL = "http://orders.test/orders/7"


def name(side: Side) -> str:
    side.get()
    return side.span.name


@SPANS("span name")
def span_name() -> Pair:
    assert both(name) == ("GET", "GET")
    return both(name)


@SPANS("span name of an unknown method")
def span_name_of_unknown_method() -> Pair:
    def look(side: Side) -> str:
        side.get(method="BREW")
        return side.span.name

    assert both(look) == ("HTTP", "HTTP")
    return both(look)


TEMPLATE = {"url_template": "/orders/{id}"}


@SPANS("span name with a template")
def span_name_with_template() -> Pair:
    def look(side: Side) -> str:
        side.get(extensions=TEMPLATE)
        return side.span.name

    assert both(look) == ("GET", "GET /orders/{id}")
    return both(look)


@SPANS("kind")
def kind() -> Pair:
    def look(side: Side) -> object:
        side.get()
        return side.span.kind

    there, here = both(look)
    assert here is trace.SpanKind.CLIENT
    return there, here


@SPANS("scope")
def scope() -> Pair:
    def look(side: Side) -> str:
        side.get()
        assert side.span.instrumentation_scope is not None
        return side.span.instrumentation_scope.name

    assert both(look) == ("opentelemetry.instrumentation.httpx", "asgi_trace")
    return both(look)


@SPANS("parent, and `traceparent` on the wire")
def parent() -> Pair:
    def look(side: Side) -> object:
        with side.spans.tracer_provider.get_tracer("shop").start_as_current_span("work") as work:
            side.get()
        assert side.span.parent == work.get_span_context()
        return side.sent[0]["traceparent"] == traceparent_of(side.span)

    assert both(look) == (True, True)
    return both(look)


@SPANS("`http.request.method`, `http.request.method_original`")
def unknown_method() -> Pair:
    def look(side: Side) -> object:
        side.get(method="BREW")
        return side.attribute("http.request.method", "http.request.method_original")

    there, here = both(look)
    assert here == ("_OTHER", "BREW")
    return there, here


@SPANS("`server.address`")
def server_address() -> Pair:
    def look(side: Side) -> object:
        side.get()
        side.get(headers={"host": "shop.test"})
        return [attributes_of(span)["server.address"] for span in side.spans]

    there, here = both(look)
    assert there == ["orders.test", "orders.test"]
    assert here == ["orders.test", "shop.test"]
    return there, here


@SPANS("`server.port`")
def server_port() -> Pair:
    def look(side: Side) -> object:
        for origin in ("http://orders.test", "https://orders.test", "http://orders.test:8000"):
            side.get(origin)
        return [attributes_of(span).get("server.port") for span in side.spans]

    there, here = both(look)
    assert there == [None, None, 8000]
    assert here == [80, 443, 8000]
    return there, here


@SPANS("`network.peer.address`, `network.peer.port`")
def peer_address() -> Pair:
    def look(side: Side) -> object:
        side.get(url)
        return side.attribute("network.peer.address", "network.peer.port")

    with uvicorn_serving(OK) as server:
        url = f"http://localhost:{server.port}/"
        there, here = both(look, network=httpx.HTTPTransport(local_address="127.0.0.1"))
    assert (there, here) == (("localhost", server.port), ("127.0.0.1", server.port))

    def without_socket(side: Side) -> object:
        side.get()
        return side.attribute("network.peer.address")[0]

    assert both(without_socket) == ("orders.test", None)
    return there, here


@SPANS("`network.protocol.version`")
def protocol_version() -> Pair:
    def look(side: Side) -> object:
        side.get()
        return side.attribute("network.protocol.version")

    there, here = both(look)
    assert here == ("1.1",)
    return there, here


@SPANS("`network.protocol.version` where the transport does not say")
def unknown_protocol_version() -> Pair:
    def look(side: Side) -> object:
        side.get("http://orders.test/204")
        return side.attribute("network.protocol.version")

    there, here = both(look)
    assert (there, here) == (("1.1",), (None,))
    return there, here


def url_full(url: str) -> Pair:
    def look(side: Side) -> object:
        side.get(url)
        return side.attribute("url.full")[0]

    return both(look)


@SPANS("`url.full`: user and password")
def credentials() -> Pair:
    there, here = url_full("http://user:hunter2@orders.test/orders/7?page=2#end")
    assert here == "http://REDACTED:REDACTED@orders.test/orders/7?page=2#end"
    return there, here


@SPANS("`url.full`: signatures of AWS, Azure and Google")
def signatures() -> Pair:
    keys = ("AWSAccessKeyId", "Signature", "sig", "X-Goog-Signature")
    there, here = url_full(f"{URL}?{'&'.join(f'{key}=hunter2' for key in keys)}")
    assert here == f"{URL}?{'&'.join(f'{key}=REDACTED' for key in keys)}"
    return there, here


@SPANS("`url.full`: passwords and tokens")
def passwords() -> Pair:
    there, here = url_full(f"{URL}?password=hunter2&access_token=hunter2")
    assert there == f"{URL}?password=hunter2&access_token=hunter2"
    assert here == f"{URL}?password=REDACTED&access_token=REDACTED"
    return there, here


@SPANS("redirects")
def redirects() -> Pair:
    def look(side: Side) -> object:
        side.get("http://orders.test/302")
        return [attributes_of(span).get("http.request.resend_count") for span in side.spans]

    there, here = both(look)
    assert there == [None, None]
    assert here == [None, 1]
    return there, here


class AsksAgain(httpx.Auth):
    """Sends the request once more when it is refused."""

    def auth_flow(self, request: httpx.Request) -> Any:
        response = yield request
        if response.status_code == 401:
            yield request


@SPANS("an auth flow that asks again after 401")
def auth_flow() -> Pair:
    def look(side: Side) -> object:
        side.get("http://orders.test/401", auth=AsksAgain())
        return [attributes_of(span).get("http.request.resend_count") for span in side.spans]

    there, here = both(look)
    assert there == [None, None]
    assert here == [None, 1]
    return there, here


@SPANS("connections that are tried again: `HTTPTransport(retries=1)`")
def connection_retries() -> Pair:
    def look(side: Side) -> object:
        assert isinstance(side.get(f"http://127.0.0.1:{port}/"), httpx.ConnectError)
        return [span.name for span in side.spans]

    with socket.socket() as unused:  # bound, and it does not listen
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        there, here = both(look, network=httpx.HTTPTransport(retries=1))
    assert here == ["GET"]
    return there, here


@SPANS("`http.response.status_code`")
def response_status() -> Pair:
    def look(side: Side) -> object:
        side.get("http://orders.test/204")
        return side.attribute("http.response.status_code")

    there, here = both(look)
    assert here == (204,)
    return there, here


def outcome(path: str) -> tuple[Any, Any]:
    def look(side: Side) -> object:
        side.client.follow_redirects = False
        side.get(f"http://orders.test/{path}")
        return side.outcome

    return both(look)


@SPANS("status 302")
def status_302() -> Pair:
    there, here = outcome("302")
    assert here == ("UNSET", None, None)
    return there, here


@SPANS("status 404")
def status_404() -> Pair:
    there, here = outcome("404")
    assert here == ("ERROR", None, "404")
    return there, here


@SPANS("status 500")
def status_500() -> Pair:
    there, here = outcome("500")
    assert here == ("ERROR", None, "500")
    return there, here


@SPANS("`error.type` of an exception")
def error_type() -> Pair:
    (there, _, kind_there), (here, _, kind_here) = outcome("failing")
    assert there == here == "ERROR"
    assert (kind_there, kind_here) == ("ConnectError", "httpx.ConnectError")
    return kind_there, kind_here


@SPANS("description of an exception")
def description() -> Pair:
    (_, there, _), (_, here, _) = outcome("failing")
    assert (there, here) == ("ConnectError: no route", "no route")
    return there, here


@SPANS("event of an exception")
def exception_event() -> Pair:
    def look(side: Side) -> object:
        side.get("http://orders.test/failing")
        [event] = side.span.events
        facts = dict(event.attributes or {})
        assert "answer" in str(facts.pop("exception.stacktrace"))
        return event.name, facts

    there, here = both(look)
    assert here == (
        "exception",
        {"exception.type": "httpx.ConnectError", "exception.message": "no route", "exception.escaped": "False"},
    )
    return there, here


def cancelled_send(transport: Any) -> tuple[object, ...]:
    """What the span of a call says that its caller gives up."""
    spans = CapturedSpans()

    async def slow(request: Any) -> Any:
        await asyncio.Event().wait()

    async def main() -> None:
        traced = transport(httpx.MockTransport(slow), tracer_provider=spans.tracer_provider)
        async with httpx.AsyncClient(transport=traced) as client:
            send = asyncio.create_task(client.get(URL))
            await asyncio.sleep(0)
            send.cancel()
            await asyncio.wait([send])

    with environment():
        asyncio.run(main())
    return spans.client.status.status_code.name, attributes_of(spans.client).get("asgi_trace.cancelled")


@SPANS("cancelled by the caller")
def cancelled() -> Pair:
    there, here = cancelled_send(AsyncOpenTelemetryTransport), cancelled_send(AsyncTraceTransport)
    assert (there, here) == (("UNSET", None), ("UNSET", True))
    return there, here


class BreaksOff(httpx.SyncByteStream):
    """A body whose connection is lost after the first chunk."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"half"
        raise httpx.ReadError("lost")


@SPANS("end of the span")
def end_of_the_span() -> Pair:
    def look(side: Side) -> object:
        with side.client.stream("GET", URL) as response:
            ended = len(side.spans)
            with pytest.raises(httpx.ReadError):
                response.read()
        return ended, side.outcome[2]

    there, here = both(look, lambda request: httpx.Response(200, stream=BreaksOff()))
    assert (there, here) == ((1, None), (0, "httpx.ReadError"))
    return there, here


@SPANS("`request.headers` after the send")
def headers_after_the_send() -> Pair:
    def look(side: Side) -> object:
        return "traceparent" in side.get().request.headers

    there, here = both(look)
    assert (there, here) == (True, False)
    return there, here


@SPANS("excluded request")
def excluded_request() -> Pair:
    def look(side: Side) -> object:
        with side.spans.tracer_provider.get_tracer("shop").start_as_current_span("work") as work:
            side.get()
        [only] = side.spans
        assert only.get_span_context() == work.get_span_context()
        return side.sent[0].get("traceparent") == traceparent_of(only)

    there, here = both(look, variables={"OTEL_PYTHON_HTTPX_EXCLUDED_URLS": "orders"})
    assert (there, here) == (False, True)
    return there, here


@SPANS("metric")
def metric() -> Pair:
    def look(side: Side) -> object:
        side.get()
        return [(metric.name, metric.unit) for metric in side.meters.collected().values()]

    there, here = both(look)
    assert here == [(DURATION, "s")]
    return there, here


@SPANS("bounds of the metric")
def bounds() -> Pair:
    def look(side: Side) -> object:
        side.get()
        return side.meters.point(DURATION).explicit_bounds

    there, here = both(look)
    assert here[:3] == (0.005, 0.01, 0.025)
    return there, here


@SPANS("attributes of the metric")
def metric_attributes() -> Pair:
    def look(side: Side) -> object:
        side.get()
        return side.labels()[0]

    there, here = both(look)
    assert there == {
        "http.request.method": "GET",
        "server.address": "orders.test",
        "http.response.status_code": 200,
        "network.protocol.version": "1.1",
    }
    assert here == there | {"server.port": 80}
    return there, here


@SPANS("metric of a request that failed")
def metric_of_a_failure() -> Pair:
    def look(side: Side) -> object:
        side.get("http://orders.test/failing")
        return [labels["error.type"] for labels in side.labels()]

    there, here = both(look)
    assert (there, here) == ([], ["httpx.ConnectError"])
    return there, here


@SPANS("`url.template` in the metric")
def template_in_the_metric() -> Pair:
    def look(side: Side) -> object:
        side.get()
        without = side.labels()
        side.get(extensions=TEMPLATE)
        return "url.template" in without[0], [labels.get("url.template") for labels in side.labels()]

    there, here = both(look)
    assert there == (False, [None])
    assert here == (False, [None, "/orders/{id}"])
    return there, here


@pytest.mark.parametrize("row", SPANS.titles())
def test_spans_and_metrics(row: str) -> None:
    """A row of the spans and metrics says what a run of both transports shows."""
    SPANS.check(row)


def test_every_attribute_has_a_row() -> None:
    """Each attribute that either side writes on a span or a data point stands in the table."""

    def look(side: Side) -> set[str]:
        for path in ("302", "404", "failing"):
            side.get(f"http://orders.test/{path}")
        written = {key for span in side.spans for key in attributes_of(span)}
        return written.union(*side.labels())

    def on_the_wire(side: Side) -> set[str]:
        side.get(url)
        return set(attributes_of(side.span))

    with uvicorn_serving(OK) as server:
        url = server.url
        written: set[str] = set().union(*both(look), *both(on_the_wire, network=httpx.HTTPTransport()))
    assert len(written) >= 10
    named = {name for row, cells in SPANS.rows.items() for text in (row, *cells.values()) for name in names(text)}
    assert written - named == set()
