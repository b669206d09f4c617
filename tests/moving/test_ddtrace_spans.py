"""Spans, ids and headers of ddtrace: what ddtrace showed stands in `ddtrace.json`, what we show is run here."""

from __future__ import annotations

import pytest
from opentelemetry.trace import StatusCode

from tests.support.asgi import attributes_of
from tests.support.moving_recorded import RecordedCases

from .our_shop import PARENT, call, served, starlette_shop

SPANS = RecordedCases("Spans, ids and headers of ddtrace", "ddtrace")


@SPANS.ours("name of a SERVER span")
def server_name() -> object:
    name = served(starlette_shop()).server.name
    assert name == "GET /orders/{id}"
    return name


@SPANS.ours("the route")
def route() -> object:
    found = attributes_of(served(starlette_shop()).server)["http.route"]
    assert found == "/orders/{id}"
    return found


@SPANS.ours("kind")
def kind() -> object:
    return served(starlette_shop()).server.kind.name


@SPANS.ours("status code")
def status_code() -> object:
    found = attributes_of(served(starlette_shop()).server)
    return {"http.response.status_code": found["http.response.status_code"]}


@SPANS.ours("URL, method, user agent")
def http_attributes() -> object:
    found = attributes_of(served(starlette_shop(), "/orders/7?page=2", {"user-agent": "tea"}).server)
    names = ("http.request.method", "url.path", "url.query", "user_agent.original")
    shown = {name: found[name] for name in names}
    assert list(shown.values()) == ["GET", "/orders/7", "page=2", "tea"]
    return shown


def failed(path: str) -> bool:
    return served(starlette_shop(), path).server.status.status_code is StatusCode.ERROR


@SPANS.ours("a response of 500 is an error")
def status_500() -> object:
    return failed("/status/500")


@SPANS.ours("a response of 404 is an error")
def status_404() -> object:
    return failed("/status/404")


@SPANS.ours("an exception that leaves the application is an error")
def exception() -> object:
    return failed("/failing")


@SPANS.ours("where the exception stands")
def exception_event() -> object:
    span = served(starlette_shop(), "/failing").server
    [event] = span.events
    facts = dict(event.attributes or {})
    assert "no stock" in str(facts["exception.stacktrace"])
    shown = {"error.type": attributes_of(span)["error.type"], "exception.message": facts["exception.message"]}
    assert shown == {"error.type": "ValueError", "exception.message": "no stock"}
    return shown


@SPANS.ours("name of a CLIENT span")
def client_name() -> object:
    name = call()[0].name
    assert name == "GET"
    return name


@SPANS.ours("a client's response of 404 is an error")
def client_404() -> object:
    return call(404)[0].status.status_code is StatusCode.ERROR


@SPANS.ours("a client's URL")
def client_url() -> object:
    found = attributes_of(call(url="http://user:hunter2@orders.test/orders/7?page=2")[0])["url.full"]
    assert found == "http://REDACTED:REDACTED@orders.test/orders/7?page=2"
    return found


@SPANS.ours("trace ids have 128 bits")
def ids() -> object:
    return any(served(starlette_shop()).server.context.trace_id.bit_length() > 64 for _ in range(3))


@SPANS.ours("`traceparent` of the caller is followed")
def followed() -> object:
    span = served(starlette_shop(), headers={"traceparent": PARENT}).server
    assert span.parent is not None
    return [f"{span.context.trace_id:032x}" in PARENT, f"{span.parent.span_id:016x}" in PARENT]


@SPANS.ours("`x-datadog-trace-id` of the caller is followed")
def datadog_followed() -> object:
    headers = {"x-datadog-trace-id": "42", "x-datadog-parent-id": "43", "x-datadog-sampling-priority": "1"}
    return served(starlette_shop(), headers=headers).server.context.trace_id == 42


@SPANS.ours("headers to the next service")
def headers_out() -> object:
    names = sorted(name for name in call()[1] if name.startswith(("x-datadog", "trace")))
    assert names == ["traceparent"]
    return names


@pytest.mark.parametrize("row", SPANS.titles())
def test_spans_ids_and_headers(row: str) -> None:
    """A row about spans, ids or headers says what ddtrace showed and what we show."""
    SPANS.check(row)


def test_what_ddtrace_sends_goes_on_here() -> None:
    """A request with all the headers that ddtrace sends is a child of ddtrace's span, by its `traceparent`."""
    headers = {"traceparent": PARENT, "tracestate": "dd=p:b7ad6b7169203331;s:1;t.dm:-0", "x-datadog-trace-id": "42"}
    span = served(starlette_shop(), headers=headers).server
    assert f"{span.context.trace_id:032x}" in PARENT
    assert span.context.trace_state.get("dd") == "p:b7ad6b7169203331;s:1;t.dm:-0"
