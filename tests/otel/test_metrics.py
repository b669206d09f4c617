"""What the HTTP metrics say: the conventions' instruments and labels, and the same values as the span."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import time_ns
from typing import Any

import httpx
import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint

from asgi_trace import set_route
from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send
from asgi_trace.httpx import TraceTransport
from asgi_trace.testing import CapturedSpans

from ..support.asgi import (
    GONE,
    OK,
    REQUEST,
    body,
    drive,
    http_scope,
    responding,
    serve,
    start,
    websocket_scope,
)
from ..support.metrics import (
    ACTIVE,
    CLIENT,
    DURATION,
    REQUEST_SIZE,
    RESPONSE_SIZE,
    SECONDS,
    SERVER,
    Meters,
    answer_hello,
    labels,
    seconds,
    traced,
)


def test_the_servers_instruments_are_the_conventions(meters: Meters, spans: CapturedSpans) -> None:
    """Names, kinds, units, descriptions and buckets are those of the semantic conventions."""
    drive(traced(OK, meters, metrics=SERVER))
    collected = meters.collected()
    described = {name: (metric.unit, metric.description) for name, metric in collected.items()}
    assert described == {
        DURATION: ("s", "Duration of HTTP server requests."),
        ACTIVE: ("{request}", "Number of active HTTP server requests."),
        REQUEST_SIZE: ("By", "Size of HTTP server request bodies."),
        RESPONSE_SIZE: ("By", "Size of HTTP server response bodies."),
    }
    assert meters.point().explicit_bounds == SECONDS
    assert not collected[ACTIVE].data.is_monotonic
    assert isinstance(meters.point(REQUEST_SIZE), HistogramDataPoint)


def test_the_clients_instruments_are_the_conventions(meters: Meters, spans: CapturedSpans) -> None:
    """The client's mirror the server's, in the convention's own words."""
    transport = TraceTransport(httpx.MockTransport(answer_hello), meter_provider=meters.provider, metrics=CLIENT)
    with httpx.Client(transport=transport) as client:
        client.get("http://shop.test/")
    collected = meters.collected()
    described = {name: (metric.unit, metric.description) for name, metric in collected.items()}
    assert described == {
        "http.client.request.duration": ("s", "Duration of HTTP client requests."),
        "http.client.active_requests": ("{request}", "Number of active HTTP requests."),
        "http.client.request.body.size": ("By", "Size of HTTP client request bodies."),
        "http.client.response.body.size": ("By", "Size of HTTP client response bodies."),
    }
    assert meters.point("http.client.request.duration").explicit_bounds == SECONDS


def test_instruments_belong_to_the_scope_of_the_spans(meters: Meters, spans: CapturedSpans) -> None:
    """Meter and tracer carry one name, version and schema."""
    drive(traced(OK, meters))
    data: Any = meters._reader.get_metrics_data()
    scope, span_scope = data.resource_metrics[0].scope_metrics[0].scope, spans.server.instrumentation_scope
    assert span_scope is not None
    assert (scope.name, scope.version, scope.schema_url) == (
        span_scope.name,
        span_scope.version,
        span_scope.schema_url,
    )


def test_only_the_duration_is_on_by_default(meters: Meters, spans: CapturedSpans) -> None:
    """The one stable instrument is recorded without asking, the others by name."""
    drive(traced(OK, meters))
    assert set(meters.collected()) == {DURATION}


def test_the_labels_are_the_conventions(meters: Meters, spans: CapturedSpans) -> None:
    """Method, scheme, route, status and version label the duration and the sizes; the gauge has what is known at the
    start."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route("/orders/{id}")
        await OK(scope, receive, send)

    drive(traced(app, meters, metrics=SERVER), http_scope("/orders/7", "POST", scheme="https", http_version="2"))
    known_at_start = {"http.request.method": "POST", "url.scheme": "https"}
    known_at_end = {
        **known_at_start,
        "http.route": "/orders/{id}",
        "http.response.status_code": 200,
        "network.protocol.version": "2",
    }
    seen = {name: labels(meters.point(name)) for name in SERVER}
    assert seen == {
        DURATION: known_at_end,
        ACTIVE: known_at_start,
        REQUEST_SIZE: known_at_end,
        RESPONSE_SIZE: known_at_end,
    }


def raising(exc: BaseException, *messages: Message) -> ASGIApp:
    return responding(*messages, exc)


class Missing(Exception):
    """Somebody's own exception."""


ENDINGS: dict[str, tuple[ASGIApp, Sequence[Any]]] = {
    "200": (OK, [REQUEST]),
    "404": (responding(start(404), body()), [REQUEST]),
    "503": (responding(start(503), body()), [REQUEST]),
    "raises": (raising(Missing()), [REQUEST]),
    "raises a builtin": (raising(ValueError()), [REQUEST]),
    "raises after 200": (raising(Missing(), start(200)), [REQUEST]),
    "raises after 500": (raising(Missing(), start(500), body()), [REQUEST]),
    "background fails": (raising(Missing(), start(200), body()), [REQUEST]),
    "cancelled": (raising(asyncio.CancelledError(), start(200)), [REQUEST]),
    "exits": (raising(SystemExit()), [REQUEST]),
    "never starts": (responding(), [REQUEST]),
    "never ends": (responding(start(200)), [REQUEST]),
    "client leaves": (raising(OSError(), start(200)), [GONE]),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_error_type_and_status_are_the_spans(ending: str, meters: Meters, spans: CapturedSpans) -> None:
    """Whatever happens to a request, metric and span tell the same story: status, error and duration."""
    app, script = ENDINGS[ending]
    drive(traced(app, meters, metrics=SERVER), script=script)
    point, span = meters.point(), spans.server
    shared = ("http.response.status_code", "error.type")
    recorded = span.attributes or {}
    assert {key: labels(point)[key] for key in shared if key in labels(point)} == {
        key: recorded[key] for key in shared if key in recorded
    }
    assert point.sum == seconds(span)
    assert (point.count, meters.active()) == (1, [0])


def test_the_value_is_the_spans_own_duration(meters: Meters, spans: CapturedSpans) -> None:
    """Both come from the same two clock readings, so dashboards and traces cannot disagree."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(float(scope["path"][1:]) / 1000)
        await OK(scope, receive, send)

    middleware = traced(app, meters)

    async def run() -> None:
        await asyncio.gather(*(serve(middleware, http_scope(f"/{n}")) for n in range(20)))

    asyncio.run(run())
    point = meters.point()
    assert point.count == 20
    assert point.sum == pytest.approx(seconds(*spans), rel=1e-12)
    assert (point.min, point.max) == (min(map(seconds, spans)), max(map(seconds, spans)))


def test_background_work_does_not_lengthen_the_value(meters: Meters, spans: CapturedSpans) -> None:
    """What runs after the last message is in neither, failing or not."""

    delivered: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await OK(scope, receive, send)
        delivered.append(time_ns())
        await asyncio.sleep(0.05)
        raise Missing

    drive(traced(app, meters))
    assert meters.point().sum == seconds(spans.server)
    assert (spans.server.end_time or 0) <= delivered[0]
    assert "error.type" not in labels(meters.point())


def test_websockets_are_not_counted_as_requests(meters: Meters, spans: CapturedSpans) -> None:
    """A connection that stays for hours would drown the durations; the convention has no instrument for it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    drive(traced(app, meters, metrics=SERVER), websocket_scope(), [{"type": "websocket.connect"}])
    assert meters.collected() == {}
    assert len(spans) == 1
