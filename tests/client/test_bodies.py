"""The span covers the response's body: it ends when that is read, closed or dropped."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from time import time_ns
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import (
    StatusCode,
)

import asgi_trace
from asgi_trace._client.call import TELEMETRY_MODULES
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of
from ..support.http_clients import Kit
from ..support.transports import (
    IDS,
    KITS,
    Answer,
    Chunks,
    always,
    exceptions_of,
    failing,
    points,
    response_of,
    send,
    send_through,
    traced,
)

httpx = pytest.importorskip("httpx")
from asgi_trace.httpx import TraceTransport  # noqa: E402


def test_the_span_lasts_until_the_body_is_read(kit: Kit, spans: CapturedSpans) -> None:
    """A streamed body keeps the span open until its last byte."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client, kit.stream(client, "GET", f"{kit.base}/chunks") as response:
            assert len(spans) == 0
            assert b"".join(await kit.chunks(response)) == b"a" * 10 + b"b" * 10 + b"c" * 10
            assert len(spans) == 1
        assert len(spans) == 1

    kit.run(scenario)


@pytest.mark.parametrize("most", [0, 1])
def test_a_body_that_is_not_read_to_its_end_ends_the_span_at_the_close(
    kit: Kit, spans: CapturedSpans, most: int
) -> None:
    """A response that is closed early, or never read, ends its span at the close, without an error."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            async with kit.stream(client, "GET", f"{kit.base}/chunks") as response:
                if most:
                    assert len(await kit.chunks(response, most)) == most
                assert most or len(spans) == 0
            assert spans.client.status.status_code is StatusCode.UNSET
            assert "error.type" not in attributes_of(spans.client)

    kit.run(scenario)


def test_a_response_that_is_dropped_ends_its_span(local: Kit, spans: CapturedSpans) -> None:
    """A response that is dropped unread ends its span when it is collected, at the time of its last read."""

    async def scenario(kit: Kit) -> None:
        inner = kit.transport_of(lambda request: response_of(kit, lambda: iter([b"a", b"b", b"c"])))
        response = await send_through(kit, kit.Transport(inner), kit.library.Request("GET", kit.base))
        reader: Any = aiter(response.stream) if kit.is_async else iter(response.stream)
        assert (await anext(reader) if kit.is_async else next(reader)) == b"a"
        read_at = time_ns()
        assert len(spans) == 0
        del response, reader
        for _ in range(3):
            gc.collect()
            await asyncio.sleep(0.001) if kit.is_async else None
        assert spans.client.status.status_code is StatusCode.UNSET
        assert (spans.client.end_time or 0) <= read_at

    local.run(scenario)


def test_a_body_in_memory_ends_the_span_at_once(local: Kit, spans: CapturedSpans) -> None:
    """A response that came with its whole body ends its span when it is returned, and is handed on as it is."""

    async def scenario(kit: Kit) -> None:
        for body in ({"content": b"abc"}, {"stream": kit.library.ByteStream(b"abc")}):
            response = kit.library.Response(200, **body)
            stream = response.stream
            transport = kit.Transport(kit.transport_of(always(response)))
            returned = await send_through(kit, transport, kit.library.Request("GET", kit.base))
            assert returned is response
            assert returned.stream is stream
        assert len(spans) == 2

    local.run(scenario)


def test_a_body_that_the_transport_has_read_ends_the_span_at_once(local: Kit, spans: CapturedSpans) -> None:
    """A transport of the application's own that reads the body itself leaves nothing to wait for."""

    async def scenario(kit: Kit) -> None:
        response = response_of(kit, lambda: iter([b"a"]))
        assert await kit.read(response) == b"a"
        returned = await send_through(
            kit, kit.Transport(kit.transport_of(always(response))), kit.library.Request("GET", kit.base)
        )
        assert returned.content == b"a"
        assert len(spans) == 1

    local.run(scenario)


def test_the_last_byte_ends_the_span_before_the_close(local: Kit, spans: CapturedSpans) -> None:
    """A stream that is read to its end, closed or not, has ended its span."""

    async def scenario(kit: Kit) -> None:
        transport = kit.Transport(kit.transport_of(lambda request: response_of(kit, lambda: iter([b"a", b"b"]))))
        response = await send_through(kit, transport, kit.library.Request("GET", kit.base))
        body = [chunk async for chunk in response.stream] if kit.is_async else list(response.stream)
        assert body == [b"a", b"b"]
        assert len(spans) == 1
        await kit.call(response.stream.aclose() if kit.is_async else response.stream.close())
        assert len(spans) == 1

    local.run(scenario)


def test_a_close_that_fails_is_an_error(local: Kit, spans: CapturedSpans) -> None:
    """What closing the body raises is on the span, and reaches the caller."""

    def closed() -> None:
        raise OSError("gone")

    async def scenario(kit: Kit) -> None:
        stream = kit.body_of(lambda: iter([b"a"]), closed)
        async with traced(kit, kit.transport_of(lambda request: kit.library.Response(200, stream=stream))) as client:
            response = await kit.call(client.send(client.build_request("GET", kit.base), stream=True))
            with pytest.raises(OSError, match="gone"):
                await kit.close(response)
        assert attributes_of(spans.client)["error.type"] == "OSError"

    local.run(scenario)


def test_a_reader_that_stops_stops_the_body_at_once(local: Kit, spans: CapturedSpans) -> None:
    """Closing the iteration of a body closes that of the body further in, without the garbage collector."""

    async def scenario(kit: Kit) -> None:
        ended: list[str] = []

        def parts() -> Iterator[bytes]:
            try:
                yield b"a"
                yield b"b"
            finally:
                ended.append("closed")

        async def parts_async() -> AsyncIterator[bytes]:
            for part in parts():
                try:
                    yield part
                finally:
                    ended.append("closed")

        kept: Any = parts_async() if kit.is_async else parts()  # nor by counting references

        class Body(kit.Stream):  # type: ignore[misc, name-defined]
            def __iter__(self) -> Any:
                return kept

            def __aiter__(self) -> Any:
                return kept

        response = await send_through(
            kit,
            kit.Transport(kit.transport_of(lambda request: kit.library.Response(200, stream=Body()))),
            kit.library.Request("GET", kit.base),
        )
        if kit.is_async:
            reading = response.stream.__aiter__()
            assert await reading.__anext__() == b"a"
            await reading.aclose()
        else:
            reading = iter(response.stream)
            assert next(reading) == b"a"
            reading.close()
        assert ended[:1] == ["closed"]
        await kit.close(response)
        assert len(spans) == 1

    local.run(scenario)


def test_a_response_that_is_dropped_while_it_is_read_ends_with_the_last_read(local: Kit, spans: CapturedSpans) -> None:
    """A response that is dropped in the middle of its body has a span that ends when the last bytes came."""

    async def scenario(kit: Kit) -> None:
        async with traced(
            kit, kit.transport_of(lambda request: response_of(kit, lambda: iter([b"a", b"b"])))
        ) as client:
            response = await kit.call(client.send(client.build_request("GET", kit.base), stream=True))
            if kit.is_async:
                reading = response.aiter_bytes()
                await reading.__anext__()
            else:
                reading = response.iter_bytes()
                next(reading)
            read = time_ns()
            del response, reading
            gc.collect()
            if kit.is_async:
                await asyncio.sleep(0.01)
                gc.collect()
        assert spans.client.end_time is not None
        assert spans.client.end_time <= read

    local.run(scenario)


@pytest.mark.parametrize("local", KITS[:2], ids=IDS[:2], indirect=True)
def test_a_body_that_does_not_decode_is_an_error(
    local: Kit, spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader]
) -> None:
    """A call of httpx that fails because its body is not what Content-Encoding says is an error; another is not."""
    provider, reader = meter

    async def scenario(kit: Kit) -> None:
        def handler(request: Any) -> Any:
            parts = kit.body_of(lambda: iter([b"no gzip", b"at all"]))
            return kit.library.Response(200, headers={"content-encoding": "gzip"}, stream=parts)

        async with traced(kit, kit.transport_of(handler), meter_provider=provider) as client:
            other = await kit.call(client.send(client.build_request("GET", kit.base), stream=True))
            with pytest.raises(kit.library.DecodingError):
                await _get_and_close(kit, client, other)
        failed, clean = sorted(spans, key=lambda span: len(span.events), reverse=True)
        assert attributes_of(failed)["error.type"] == f"{kit.name}.DecodingError"
        assert attributes_of(failed)["http.response.status_code"] == 200
        assert exceptions_of(failed) == [f"{kit.name}.DecodingError"]
        assert (clean.status.status_code, attributes_of(clean).get("error.type")) == (StatusCode.UNSET, None)
        errors = {point.attributes.get("error.type") for point in points(reader, "http.client.request.duration")}
        assert errors == {None, f"{kit.name}.DecodingError"}

    local.run(scenario)


async def _get_and_close(kit: Kit, client: Any, other: Any) -> None:
    try:
        await kit.call(client.get(kit.base))
    except kit.library.DecodingError:
        await kit.close(other)
        raise


class Held(SpanProcessor):
    """A processor with a plain lock, in whose hold garbage is collected: what happens to any SDK sooner or later."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.ended: list[str] = []

    def on_end(self, span: ReadableSpan) -> None:
        assert self.lock.acquire(timeout=2), "a deadlock"
        try:
            gc.collect()
            self.ended.append(span.name)
        finally:
            self.lock.release()


@pytest.mark.parametrize("later", ["close", "call"])
def test_a_dropped_response_never_deadlocks_the_sdk(later: str) -> None:
    """A response that is collected while the SDK holds a lock has its span ended at the next call, or the close."""
    held = Held()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(held)
    transport = TraceTransport(Answer(stream=Chunks()), tracer_provider=provider)
    gc.collect()
    gc.disable()
    try:
        response: Any = transport.handle_request(httpx.Request("GET", "http://svc.test/"))
        response.itself = response  # only the collector finds it
        del response
        provider.get_tracer("other").start_span("other").end()
        assert held.ended == ["other"]
        if later == "close":
            transport.close()
        else:
            transport.handle_request(httpx.Request("POST", "http://svc.test/")).close()
        assert held.ended[:2] == ["other", "GET"]
    finally:
        gc.enable()


@pytest.mark.parametrize("name", TELEMETRY_MODULES)
def test_what_may_hold_a_lock_is_known_by_its_name(name: str) -> None:
    """Each package inside of which the end of a dropped response has to wait exists under that name."""
    assert find_spec(name) is not None


def test_what_is_given_spans_is_known_by_its_name() -> None:
    """Every module of this package that handles ended spans, or holds a lock, belongs to a package of that list."""
    found = set()
    for path in Path(asgi_trace.__file__).parent.rglob("*.py"):
        module = ".".join(("asgi_trace", *path.relative_to(Path(asgi_trace.__file__).parent).with_suffix("").parts))
        if module.startswith(("asgi_trace.viewer", "asgi_trace.demo")):  # programs of their own
            continue
        if re.search(r"\b(?:R?Lock|Condition)\(|def (?:on_end|_on_ending|export|emit)\(", path.read_text()):
            found.add(module)
    assert found, "the search for locks and processors finds nothing"
    assert {module for module in found if not module.startswith(TELEMETRY_MODULES)} == set()


@pytest.mark.parametrize("name", TELEMETRY_MODULES)
def test_a_dropped_response_waits_inside_of_each(name: str, spans: CapturedSpans) -> None:
    """A response that is dropped while code of such a package runs ends its span at the next call, not at once."""
    transport = TraceTransport(Answer(stream=Chunks()))
    response = transport.handle_request(httpx.Request("GET", "http://svc.test/"))
    waiting = {"__name__": f"{name}.anything", "held": [response]}
    del response
    exec("held.clear()", waiting)
    gc.collect()
    assert len(spans) == 0
    transport.close()
    assert len(spans) == 1


def test_nothing_is_left_of_calls_that_ended_badly(spans: CapturedSpans) -> None:
    """Unread, failed and dropped calls leave no object of ours behind."""
    from asgi_trace._client.call import Call
    from asgi_trace._client.resend import History

    def count() -> int:
        gc.collect()
        return sum(type(thing) in (Call, History) for thing in gc.get_objects())  # a proxy lies to isinstance()

    before = count()
    transport = TraceTransport(Answer(stream=Chunks()))
    for _ in range(50):
        transport.handle_request(httpx.Request("GET", "http://svc.test/"))
        transport.handle_request(httpx.Request("GET", "http://svc.test/")).close()
        with suppress(httpx.ConnectError):
            send(inner=httpx.MockTransport(failing))
    assert count() <= before
    assert len(spans) == 150
