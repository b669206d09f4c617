"""Calls that fail or are cancelled: what their spans say, and that the caller gets the very exception."""

from __future__ import annotations

import asyncio
import builtins
import logging
import socket
from collections.abc import Iterator
from contextvars import copy_context
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import (
    StatusCode,
)

from asgi_trace._otel import exceptions
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of
from ..support.http_clients import Kit
from ..support.transports import (
    exceptions_of,
    failing,
    points,
    response_of,
    send,
    send_through,
    traced,
)

httpx = pytest.importorskip("httpx")
from asgi_trace.httpx import AsyncTraceTransport  # noqa: E402


def test_a_body_that_breaks_off_is_an_error(kit: Kit, spans: CapturedSpans) -> None:
    """A failure in the middle of the body is on the span, once, beside the status code of the response."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            with pytest.raises(kit.library.RemoteProtocolError) as caught:
                await kit.call(client.get(f"{kit.base}/cut"))
        span = spans.client
        assert attributes_of(span)["http.response.status_code"] == 200
        assert attributes_of(span)["error.type"] == f"{kit.name}.RemoteProtocolError"
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, str(caught.value))
        assert exceptions_of(span) == [f"{kit.name}.RemoteProtocolError"]

    kit.run(scenario)


@pytest.mark.parametrize(("path", "code"), [("/slow", None), ("/stall", 200)])
def test_a_read_timeout_is_an_error(kit: Kit, spans: CapturedSpans, path: str, code: int | None) -> None:
    """A server that keeps silent, before its response or in the middle of it, is a ReadTimeout on the span."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            timeout = kit.library.Timeout(30, read=0.05 if code is None else 30)
            request = client.build_request("GET", f"{kit.base}{path}", timeout=timeout)
            with pytest.raises(kit.library.ReadTimeout):
                await _read_quickly(kit, client, request)
        assert attributes_of(spans.client)["error.type"] == f"{kit.name}.ReadTimeout"
        assert attributes_of(spans.client).get("http.response.status_code") == code
        assert exceptions_of(spans.client) == [f"{kit.name}.ReadTimeout"]

    kit.run(scenario)


async def _read_quickly(kit: Kit, client: Any, request: Any) -> None:
    response = await kit.call(client.send(request, stream=True))
    request.extensions["timeout"]["read"] = 0.05  # the head of the response may have taken longer
    try:
        await kit.read(response)
    finally:
        await kit.close(response)


@pytest.mark.parametrize("version", ["1.1"], indirect=True)
def test_a_pool_timeout_is_an_error(kit: Kit, spans: CapturedSpans) -> None:
    """Connection limits are those of the transport further in, and waiting in vain for a connection is an error."""

    async def scenario(kit: Kit) -> None:
        limits, timeout = kit.library.Limits(max_connections=1), kit.library.Timeout(30, pool=0.05)
        async with traced(kit, kit.network(limits=limits)) as client, kit.stream(client, "GET", f"{kit.base}/chunks"):
            with pytest.raises(kit.library.PoolTimeout):
                await kit.call(client.get(f"{kit.base}/chunks", timeout=timeout))
            assert attributes_of(spans.client)["error.type"] == f"{kit.name}.PoolTimeout"

    kit.run(scenario)


@pytest.mark.parametrize("version", ["1.1"], indirect=True)
def test_no_connection_is_an_error_without_a_response(kit: Kit, spans: CapturedSpans) -> None:
    """A closed port, a server without TLS and a name that does not resolve: ConnectError, no status code, no peer."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        unused = f"http://127.0.0.1:{closed.getsockname()[1]}"
    resolve = socket.getaddrinfo

    def unresolved(host: Any, *rest: Any, **more: Any) -> Any:
        if host in ("nowhere.invalid", b"nowhere.invalid"):
            raise socket.gaierror(socket.EAI_NONAME, "unknown name")
        return resolve(host, *rest, **more)

    async def scenario(kit: Kit) -> None:
        async with traced(kit, kit.network(retries=1)) as client:
            for url in (unused, kit.base.replace("http:", "https:"), "http://nowhere.invalid"):
                with pytest.raises(kit.library.ConnectError):
                    await kit.call(client.get(url))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", unresolved)
        kit.run(scenario)
    assert [attributes_of(span)["server.address"] for span in spans] == ["127.0.0.1", "127.0.0.1", "nowhere.invalid"]
    for span in spans:
        assert attributes_of(span)["error.type"] == f"{kit.name}.ConnectError"
        assert not {"http.response.status_code", "network.peer.address"} & attributes_of(span).keys()


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_a_refusal_is_an_error_without_an_exception(kit: Kit, spans: CapturedSpans, status: int) -> None:
    """4xx and 5xx: ERROR without a description, the code as error type, no event."""

    async def scenario(kit: Kit) -> None:
        async with traced(kit) as client:
            response = await kit.call(client.get(f"{kit.base}/status/{status}"))
        assert response.status_code == status
        span = spans.client
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, None)
        assert attributes_of(span)["error.type"] == str(status)
        assert attributes_of(span)["http.response.status_code"] == status
        assert not span.events

    kit.run(scenario)


class Stop(BaseException):
    """No Exception, and no cancellation."""


NAMES = ["ConnectTimeout", "WriteTimeout", "WriteError", "ProxyError", "UnsupportedProtocol", "LocalProtocolError"]


@pytest.mark.parametrize("name", NAMES)
def test_every_failure_of_the_library_keeps_its_public_name(local: Kit, spans: CapturedSpans, name: str) -> None:
    """`error.type` is the class as the library's users write it; the caller gets the very exception."""

    async def scenario(kit: Kit) -> None:
        error = getattr(kit.library, name)("it failed")

        def handler(request: Any) -> Any:
            raise error

        async with traced(kit, kit.transport_of(handler)) as client:
            with pytest.raises(type(error)) as caught:
                await kit.call(client.get(kit.base))
        assert caught.value is error
        assert attributes_of(spans.client)["error.type"] == f"{kit.name}.{name}"
        assert spans.client.status.description == "it failed"
        assert exceptions_of(spans.client) == [f"{kit.name}.{name}"]

    local.run(scenario)


def _groups(kit: Kit) -> dict[str, tuple[Any, str, str | None]]:
    """Groups of exceptions, with the error type and the description that they count as."""
    one, other = kit.library.ConnectError("no route"), ValueError("no such sku")
    group: Any = getattr(builtins, "ExceptionGroup", None)
    if group is None:
        group = pytest.importorskip("exceptiongroup").ExceptionGroup
    connect = f"{kit.name}.ConnectError"
    return {
        "one": (group("g", [one]), connect, "no route"),
        "nested": (group("g", [group("h", [group("i", [one])])]), connect, "no route"),
        "two": (group("g", [one, other]), "ExceptionGroup", "g (2 sub-exceptions)"),
        "one of two": (group("g", [group("h", [one, other])]), "ExceptionGroup", "h (2 sub-exceptions)"),
    }


@pytest.mark.parametrize("when", ["instead of a response", "in its body"])
@pytest.mark.parametrize("case", ["one", "nested", "two", "one of two"])
def test_a_group_of_one_counts_as_its_member(
    local: Kit, spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader], case: str, when: str
) -> None:
    """Error type and description, also of the metric, are those of the only member; the event has the group's stack."""
    provider, reader = meter

    async def scenario(kit: Kit) -> None:
        error, kind, message = _groups(kit)[case]

        def chunks() -> Iterator[bytes]:
            yield b"a"
            raise error

        def handler(request: Any) -> Any:
            if when == "instead of a response":
                raise error
            return response_of(kit, chunks)

        transport = kit.Transport(kit.transport_of(handler), meter_provider=provider)
        with pytest.raises(type(error)) as caught:
            await kit.read(await send_through(kit, transport, kit.library.Request("GET", kit.base)))
        assert caught.value is error
        span = spans.client
        assert attributes_of(span)["error.type"].rpartition("exceptiongroup.")[2] == kind
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, message)
        (event,) = span.events
        assert "Exception Group Traceback" in str((event.attributes or {})["exception.stacktrace"])
        (point,) = points(reader, "http.client.request.duration")
        assert point.attributes["error.type"].rpartition("exceptiongroup.")[2] == kind

    local.run(scenario)


@pytest.mark.parametrize("error", [Stop("now"), KeyboardInterrupt(), SystemExit(3)])
def test_what_is_no_exception_is_an_error_too(local: Kit, spans: CapturedSpans, error: BaseException) -> None:
    """A BaseException passes through unchanged and is an error on the span; nothing stays current."""

    async def scenario(kit: Kit) -> None:
        def handler(request: Any) -> Any:
            raise error

        transport = kit.Transport(kit.transport_of(handler))
        before = otel_context.get_current()
        with pytest.raises(type(error)) as caught:
            await send_through(kit, transport, kit.library.Request("GET", kit.base))
        assert caught.value is error
        assert otel_context.get_current() == before
        assert spans.client.status.status_code is StatusCode.ERROR
        assert attributes_of(spans.client)["error.type"].endswith(type(error).__name__)

    local.run(scenario)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("where", ["/slow", "/stall"])
@pytest.mark.parametrize("version", ["1.1", "2"])
def test_a_cancelled_call_is_marked_and_no_error(
    servers: dict[str, str],
    spans: CapturedSpans,
    meter: tuple[MeterProvider, InMemoryMetricReader],
    caplog: pytest.LogCaptureFixture,
    library: str,
    backend: str,
    where: str,
    version: str,
) -> None:
    """A call that its caller cancels, before the response or in its body, is marked, counted, and no error."""
    anyio = pytest.importorskip("anyio")
    pytest.importorskip(backend)
    provider, reader = meter
    kit = Kit(library, True, servers[version], version)

    async def main() -> None:
        async with traced(kit, meter_provider=provider) as client:
            with anyio.move_on_after(0.1) as scope:
                await client.get(f"{kit.base}{where}")
            assert scope.cancelled_caught

    anyio.run(main, backend=backend)
    span = spans.client
    assert attributes_of(span)["asgi_trace.cancelled"] is True
    assert "error.type" not in attributes_of(span)
    assert span.status.status_code is StatusCode.UNSET
    assert not span.events
    (point,) = points(reader, "http.client.request.duration")
    assert point.count == 1
    assert "error.type" not in point.attributes
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_call_that_is_closed_elsewhere_leaves_that_context_alone(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """A coroutine that is closed from another context is a cancelled call, and detaches nothing there."""

    class Waiting(httpx.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            await asyncio.sleep(3600)

    call = AsyncTraceTransport(Waiting()).handle_async_request(httpx.Request("GET", "http://svc.test/"))
    loop = asyncio.new_event_loop()
    try:
        copy_context().run(_first_step, call, loop)
        call.close()
    finally:
        loop.close()
    assert attributes_of(spans.client)["asgi_trace.cancelled"] is True
    assert spans.client.status.status_code is StatusCode.UNSET
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def _first_step(call: Any, loop: asyncio.AbstractEventLoop) -> None:
    async def step() -> None:
        call.send(None)

    loop.run_until_complete(step())


@pytest.mark.parametrize(("words", "events", "records"), [("", 1, 0), ("logs", 0, 1), ("logs/dup", 1, 1)])
def test_an_exception_is_an_event_or_a_log_record(
    spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch, words: str, events: int, records: int
) -> None:
    """OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN chooses span events, log records or both; a record belongs to its span."""
    exporter: Any = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(exceptions, "get_logger", lambda name, version, schema_url: provider.get_logger(name, version))
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", words)
    with pytest.raises(httpx.ConnectError):
        send(inner=httpx.MockTransport(failing))
    span = spans.client
    assert len(span.events) == events
    emitted = [record.log_record for record in exporter.get_finished_logs()]
    assert len(emitted) == records
    for record in emitted:
        assert record.event_name == "http.client.request.exception"
        assert record.severity_text == "WARN"
        assert record.span_id == span.context.span_id
        assert dict(record.attributes or {})["exception.message"] == "no route"


class Unspeakable(Exception):
    """Its text cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


def test_an_exception_without_words_is_still_raised(spans: CapturedSpans) -> None:
    """An exception whose text fails is raised unchanged, and the span has its type and an error status."""

    def handler(request: Any) -> Any:
        raise Unspeakable

    with pytest.raises(Unspeakable):
        send(inner=httpx.MockTransport(handler))
    assert attributes_of(spans.client)["error.type"].endswith(".Unspeakable")
    assert spans.client.status.status_code is StatusCode.ERROR
    assert [name.endswith(".Unspeakable") for name in exceptions_of(spans.client)] == [True]
