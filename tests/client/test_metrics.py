"""The metrics of a send: durations and sizes, with the labels of its span."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from time import time_ns
from types import ModuleType
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import NoOpTracerProvider

from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import attributes_of
from ..support.http_clients import Kit
from ..support.transports import (
    Answer,
    parent,
    points,
    response_of,
    send,
    send_through,
    traced,
)

httpx = pytest.importorskip("httpx")


def values(reader: Any) -> dict[str, Any]:
    """The sum of each metric."""
    data = reader.get_metrics_data()
    found = {}
    for scope in data.resource_metrics[0].scope_metrics if data else ():
        for metric in scope.metrics:
            found[metric.name] = sum(point.sum for point in metric.data.data_points)
    return found


def test_a_meter_works_without_a_tracer(attached: Any, meter: tuple[MeterProvider, InMemoryMetricReader]) -> None:
    """Where only a MeterProvider is set, calls are measured, and the caller's own context is sent."""
    provider, reader = meter
    attached(parent(1))
    sent = send(meter_provider=provider)
    assert list(values(reader)) == ["http.client.request.duration"]
    assert sent.headers["traceparent"] == f"00-{0xA:032x}-{0xB:016x}-01"


@pytest.mark.parametrize("flags", [0, 1])
def test_a_measurement_without_a_tracer_leads_to_the_callers_span(
    attached: Any, meter: tuple[MeterProvider, InMemoryMetricReader], flags: int
) -> None:
    """Its exemplar is the span that the call was made in, where that is sampled."""
    provider, reader = meter
    attached(parent(flags))
    send(meter_provider=provider, tracer_provider=NoOpTracerProvider())
    (point,) = points(reader, "http.client.request.duration")
    assert [(each.trace_id, each.span_id) for each in point.exemplars] == ([(0xA, 0xB)] if flags else [])


@pytest.mark.parametrize("patched", [False, True])
def test_a_call_below_an_unsampled_span_is_measured(
    attached: Any, meter: tuple[MeterProvider, InMemoryMetricReader], monkeypatch: pytest.MonkeyPatch, patched: bool
) -> None:
    """Sampling is about spans: durations count every call, with contrib's instrumentation in the process or without."""
    name = "opentelemetry.instrumentation.httpx"
    monkeypatch.delitem(sys.modules, name, raising=False)
    if patched:
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    provider, reader = meter
    attached(parent(0))
    with capture_spans(ParentBased(ALWAYS_ON)) as spans:
        send(meter_provider=provider)
    (point,) = points(reader, "http.client.request.duration")
    assert (point.count, len(spans)) == (1, 0)


def test_bodies_in_memory_are_counted(spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader]) -> None:
    """The opt-in sizes count bodies that were there from the start, by their length or by what is announced."""
    provider, reader = meter
    options: dict[str, Any] = {
        "meter_provider": provider,
        "metrics": ("http.client.request.body.size", "http.client.response.body.size"),
    }
    send(method="POST", request={"content": b"12345"}, inner=Answer(content=b"123"), **options)
    send(inner=Answer(stream=httpx.ByteStream(b"1234567"), headers={"content-length": "7"}), **options)
    found = {name.rpartition("http.client.")[2]: value for name, value in values(reader).items()}
    assert found == {"request.body.size": 5, "response.body.size": 10}


def test_an_upload_that_fails_is_the_calls_failure(
    spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader]
) -> None:
    """A body of the request that fails while it is sent, counted or not, fails the call with its own exception."""

    class Reading(httpx.BaseTransport):  # type: ignore[misc, name-defined]
        def handle_request(self, request: Any) -> Any:
            return httpx.Response(200, content=request.read())

    def upload() -> Iterator[bytes]:
        yield b"a"
        raise LookupError("no more")

    provider, _ = meter
    request = {"content": upload()}
    with pytest.raises(LookupError, match="no more"):
        send(
            method="POST",
            request=request,
            inner=Reading(),
            meter_provider=provider,
            metrics="http.client.request.body.size",
        )
    assert attributes_of(spans.client)["error.type"] == "LookupError"


def test_an_upload_is_counted_anew_for_each_send(
    local: Kit, spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader]
) -> None:
    """A body that can be read again is counted at each of a thousand sends, and grows no deeper."""
    provider, reader = meter

    async def scenario(kit: Kit) -> None:
        class Reading(kit.Base):  # type: ignore[misc, name-defined]
            def handle_request(self, request: Any) -> Any:
                return kit.library.Response(200, content=b"".join(request.stream))

            async def handle_async_request(self, request: Any) -> Any:
                return kit.library.Response(200, content=b"".join([part async for part in request.stream]))

        name = "http.client.request.body.size"
        transport = kit.Transport(Reading(), meter_provider=provider, metrics=name)
        request = kit.library.Request("POST", kit.base, stream=kit.body_of(lambda: iter([b"abc"])))
        for _ in range(1000):
            stream = request.stream
            assert (await send_through(kit, transport, request)).content == b"abc"
            assert request.stream is stream
        (point,) = points(reader, name)
        assert (point.count, point.sum, point.max) == (1000, 3000, 3)

    local.run(scenario)


def test_an_upload_that_is_sent_again_meanwhile_is_counted_for_each_send(
    local: Kit, spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader]
) -> None:
    """The body of a request that is sent a second time while it is on its way counts once for either send."""
    provider, reader = meter
    read: list[bytes] = []

    async def scenario(kit: Kit) -> None:
        class Again(kit.Base):  # type: ignore[misc, name-defined]
            def handle_request(self, request: Any) -> Any:
                if not read:
                    read.append(b"")
                    transport.handle_request(sent)
                read.append(b"".join(request.stream))
                return kit.library.Response(200)

            async def handle_async_request(self, request: Any) -> Any:
                if not read:
                    read.append(b"")
                    await transport.handle_async_request(sent)
                read.append(b"".join([part async for part in request.stream]))
                return kit.library.Response(200)

        name = "http.client.request.body.size"
        transport = kit.Transport(Again(), meter_provider=provider, metrics=name)
        stream = kit.body_of(lambda: iter([b"abc"]))
        sent = kit.library.Request("POST", kit.base, stream=stream)
        await send_through(kit, transport, sent)
        assert read == [b"", b"abc", b"abc"]
        assert sent.stream is stream
        (point,) = points(reader, name)
        assert (point.count, point.sum, point.max) == (2, 6, 3)

    local.run(scenario)


def test_the_metric_is_the_span_in_seconds(
    kit: Kit, spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader]
) -> None:
    """The duration has the conventions' labels and is exactly that of the span, body included."""
    provider, reader = meter
    port = int(kit.base.rpartition(":")[2])

    async def scenario(kit: Kit) -> None:
        async with traced(kit, meter_provider=provider) as client:
            await kit.call(client.get(f"{kit.base}/chunks?x=1", extensions={"url_template": "/chunks"}))
        (point,) = points(reader, "http.client.request.duration")
        assert isinstance(point, HistogramDataPoint)
        assert dict(point.attributes or {}) == {
            "http.request.method": "GET",
            "server.address": "127.0.0.1",
            "server.port": port,
            "url.template": "/chunks",
            "http.response.status_code": 200,
            "network.protocol.version": kit.version,
        }
        span = spans.client
        assert point.sum == ((span.end_time or 0) - (span.start_time or 0)) / 1e9

    kit.run(scenario)


ENDINGS: list[tuple[str, Callable[[Kit], Any], dict[str, Any]]] = [
    ("success", lambda kit: lambda request: kit.library.Response(200, content=b"abc"), {}),
    ("refusal", lambda kit: lambda request: kit.library.Response(503), {"error.type": "503"}),
    (
        "body",
        lambda kit: lambda request: kit.library.Response(200, stream=kit.body_of(_broken)),
        {"error.type": "OSError"},
    ),
    ("failure", lambda kit: _raises(kit.library.ConnectTimeout("no")), {"error.type": "{}.ConnectTimeout"}),
    ("stop", lambda kit: _raises(SystemExit(1)), {"error.type": "SystemExit"}),
    ("cancelled", lambda kit: _raises(asyncio.CancelledError()), {}),
    ("no response", lambda kit: lambda request: None, {}),
]


def _raises(error: BaseException) -> Callable[[Any], Any]:
    def handler(request: Any) -> Any:
        raise error

    return handler


def _broken() -> Iterator[bytes]:
    yield b"a"
    raise OSError("broken")


@pytest.mark.parametrize(("name", "handler", "error"), ENDINGS, ids=[ending[0] for ending in ENDINGS])
@pytest.mark.parametrize("flags", [0, 1])
def test_every_ending_is_measured_once(
    local: Kit,
    spans: CapturedSpans,
    meter: tuple[MeterProvider, InMemoryMetricReader],
    name: str,
    handler: Any,
    error: dict[str, Any],
    flags: int,
) -> None:
    """Sampled or not, however a call ends: one duration, no request left active, the error type of the span."""
    provider, reader = meter

    async def scenario(kit: Kit) -> None:
        names = ("http.client.request.duration", "http.client.active_requests")
        transport = kit.Transport(kit.transport_of(handler(kit)), meter_provider=provider, metrics=names)
        token = otel_context.attach(parent(flags))
        try:
            response = await send_through(kit, transport, kit.library.Request("GET", kit.base))
            if response is not None:
                await kit.read(response)
        except BaseException:
            pass
        finally:
            otel_context.detach(token)
        assert len(spans) == flags
        (duration,) = points(reader, "http.client.request.duration")
        assert duration.count == 1
        expected = {key: value.format(kit.name) for key, value in error.items()}
        assert {k: v for k, v in duration.attributes.items() if k == "error.type"} == expected
        (active,) = points(reader, "http.client.active_requests")
        assert active.value == 0
        assert dict(active.attributes) == {
            "http.request.method": "GET",
            "server.address": "svc.test",
            "server.port": 80,
        }

    local.run(scenario)


@pytest.mark.parametrize(
    "when", ["before the response", "while the body is read", "when it is dropped", "at a failure"]
)
def test_no_duration_is_negative(
    local: Kit,
    spans: CapturedSpans,
    meter: tuple[MeterProvider, InMemoryMetricReader],
    monkeypatch: pytest.MonkeyPatch,
    when: str,
) -> None:
    """A clock that is set back by an hour during a call gives a span and a metric of length zero, not less."""
    provider, reader = meter
    clock = [time_ns()]
    for module in ("start", "call"):
        monkeypatch.setattr(f"asgi_trace._client.{module}.time_ns", lambda: clock[0])

    async def scenario(kit: Kit) -> None:
        def handler(request: Any) -> Any:
            if when in ("before the response", "at a failure"):
                clock[0] -= 3600 * 10**9
            if when == "at a failure":
                raise ConnectionError("down")
            return response_of(kit, lambda: iter([b"a", b"b"]))

        transport = kit.Transport(kit.transport_of(handler), meter_provider=provider)
        with suppress(ConnectionError):
            response = await send_through(kit, transport, kit.library.Request("GET", kit.base))
            if when == "while the body is read":
                clock[0] -= 3600 * 10**9
            if when != "when it is dropped":
                await kit.read(response)
            else:
                clock[0] -= 3600 * 10**9
            del response
        gc.collect()
        span = spans.client
        assert (span.start_time, span.end_time) == (span.start_time, span.start_time)
        (point,) = points(reader, "http.client.request.duration")
        assert (point.count, point.sum, point.min) == (1, 0, 0)

    local.run(scenario)


def test_body_sizes_are_those_on_the_wire(
    kit: Kit, spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader]
) -> None:
    """The opt-in sizes count the bytes of both bodies, announced or streamed, and the server gets all of them."""
    provider, reader = meter

    async def scenario(kit: Kit) -> None:
        names = ("http.client.request.body.size", "http.client.response.body.size")
        transport = kit.Transport(kit.network(), meter_provider=provider, metrics=names)
        async with kit.client(transport) as client:
            for content in (b"x" * 500, _upload(kit)):
                response = await kit.call(client.post(f"{kit.base}/length", content=content))
                assert response.content == b"500"
        (sent,) = points(reader, "http.client.request.body.size")
        (got,) = points(reader, "http.client.response.body.size")
        assert (sent.count, sent.sum) == (2, 1000)
        assert (got.count, got.sum) == (2, 6)

    kit.run(scenario)


def _upload(kit: Kit) -> Any:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 100

    return chunks() if kit.is_async else iter([b"x" * 100] * 5)
