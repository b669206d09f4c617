"""What a client's metrics say: the same labels and values as its spans."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from asgi_trace.httpx import AsyncTraceTransport, TraceTransport
from asgi_trace.testing import CapturedSpans

from ..support.metrics import (
    CLIENT,
    Meters,
    answer_hello,
    labels,
    seconds,
)


def fail(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectTimeout("too slow")


def cancel(request: httpx.Request) -> httpx.Response:
    raise asyncio.CancelledError


CLIENT_DURATION, CLIENT_ACTIVE = CLIENT[:2]
ANSWERS: dict[str, tuple[Callable[[httpx.Request], httpx.Response], dict[str, Any]]] = {
    "200": (answer_hello, {"http.response.status_code": 200, "network.protocol.version": None}),
    "404": (lambda request: httpx.Response(404), {"http.response.status_code": 404, "error.type": "404"}),
    "timeout": (fail, {"error.type": "httpx.ConnectTimeout"}),
    "cancelled": (cancel, {}),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_clients_labels_and_value_are_its_spans(
    answer: str, asynchronous: bool, meters: Meters, spans: CapturedSpans
) -> None:
    """Method, server and outcome label a client's duration, which is its span's, and its gauge returns to zero."""
    handler, expected = ANSWERS[answer]
    options: Any = {"meter_provider": meters.provider, "metrics": CLIENT}
    url, extensions = "http://shop.test:8443/orders/7?page=2", {"url_template": "/orders/{id}"}

    async def run() -> None:
        transport = AsyncTraceTransport(httpx.MockTransport(handler), **options)
        async with httpx.AsyncClient(transport=transport) as client:
            await client.post(url, extensions=extensions)

    try:
        if asynchronous:
            asyncio.run(run())
        else:
            with httpx.Client(transport=TraceTransport(httpx.MockTransport(handler), **options)) as client:
                client.post(url, extensions=extensions)
    except (httpx.ConnectTimeout, asyncio.CancelledError):
        assert answer in ("timeout", "cancelled")
    known_at_start = {
        "http.request.method": "POST",
        "server.address": "shop.test",
        "server.port": 8443,
        "url.template": "/orders/{id}",
    }
    found = labels(meters.point(CLIENT_DURATION))
    found.pop("network.protocol.version", None)
    assert found == {**known_at_start, **{key: value for key, value in expected.items() if value is not None}}
    assert labels(meters.point(CLIENT_ACTIVE)) == known_at_start
    assert meters.point(CLIENT_DURATION).sum == seconds(spans.client)
    assert found.get("error.type") == (spans.client.attributes or {}).get("error.type")
    assert meters.active(CLIENT_ACTIVE) == [0]


def test_a_clients_sizes_are_those_of_its_bodies(meters: Meters, spans: CapturedSpans) -> None:
    """Bytes sent and bytes received are counted, streamed or not."""
    transport = TraceTransport(
        httpx.MockTransport(lambda request: httpx.Response(200, content=request.read() * 2)),
        meter_provider=meters.provider,
        metrics=CLIENT,
    )
    with httpx.Client(transport=transport) as client:
        client.post("http://shop.test/", content=b"12345")
        client.post("http://shop.test/", content=iter([b"123", b"4567"]))
    sent, received = (meters.point(name) for name in CLIENT[2:])
    assert (sent.count, sent.sum) == (2, 12)
    assert (received.count, received.sum) == (2, 24)
