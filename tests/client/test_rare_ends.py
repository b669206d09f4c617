"""What happens seldom in the life of a call, and must not be seen by the caller."""

from __future__ import annotations

import contextvars
import types
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import httpx
import pytest
from opentelemetry.trace import StatusCode

from asgi_trace.httpx import AsyncTraceTransport, TraceTransport
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of
from ..support.http_clients import Kit
from ..support.transports import Answer


class _Pieces:
    """An iterator that is no generator: it has no `close()`."""

    def __init__(self) -> None:
        self._left = [b"a", b"b", b"c"]

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if not self._left:
            raise StopIteration
        return self._left.pop(0)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        return self._left.pop(0)


def _stream(kit: Kit) -> Any:
    base = kit.library.AsyncByteStream if kit.is_async else kit.library.SyncByteStream
    return types.new_class("_Stream", (base,), {}, lambda body: body.update(_METHODS))()


_METHODS = {"__iter__": lambda self: _Pieces(), "__aiter__": lambda self: _Pieces()}


@pytest.mark.parametrize("reads", [1, 3, 4])
def test_a_body_that_is_no_generator_is_read_as_far_as_the_caller_likes(
    local: Kit, spans: CapturedSpans, reads: int
) -> None:
    """A response body with an iterator of its own is read in part or to its end: the span ends, without an error."""

    async def scenario(kit: Kit) -> None:
        async def answer_async(request: Any) -> Any:
            return kit.library.Response(200, stream=_stream(kit))

        def answer(request: Any) -> Any:
            return kit.library.Response(200, stream=_stream(kit))

        inner = kit.library.MockTransport(answer_async if kit.is_async else answer)
        transport = kit.Transport(inner)
        request = kit.library.Request("GET", "http://svc.test/")
        if kit.is_async:
            response = await transport.handle_async_request(request)
            chunks: Any = response.aiter_raw()
            read = [await anext(chunks, None) for _ in range(reads)]
            await chunks.aclose()
            await response.aclose()
        else:
            response = transport.handle_request(request)
            chunks = response.iter_raw()
            read = [next(chunks, None) for _ in range(reads)]
            chunks.close()
            response.close()
        assert read == [b"a", b"b", b"c", None][:reads]
        assert spans.client.status.status_code is StatusCode.UNSET
        assert "error.type" not in attributes_of(spans.client)

    local.run(scenario)


@types.coroutine
def _pause() -> Generator[None, None, None]:
    yield


class _Pausing(httpx.AsyncBaseTransport):
    async def handle_async_request(self, request: Any) -> Any:
        await _pause()
        return httpx.Response(204)


def test_a_send_that_goes_on_in_another_context_has_its_span(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """An event loop that runs the halves of a send in two contexts gets the response, and the span is whole."""
    request = httpx.Request("GET", "http://svc.test/")
    send = AsyncTraceTransport(_Pausing()).handle_async_request(request)
    contextvars.Context().run(send.send, None)
    with pytest.raises(StopIteration) as caught:
        contextvars.Context().run(send.send, None)

    assert caught.value.value.status_code == 204
    assert attributes_of(spans.client)["http.response.status_code"] == 204
    assert "traceparent" not in request.headers


@pytest.mark.parametrize("whose", ["no request's", "another request's"])
def test_a_decoding_error_of_something_else_is_no_error_of_the_call(spans: CapturedSpans, whose: str) -> None:
    """A response that is closed while another body's DecodingError is being handled ends without an error."""
    response = TraceTransport(Answer(stream=_stream(Kit("httpx", False)))).handle_request(
        httpx.Request("GET", "http://svc.test/")
    )
    other = None if whose == "no request's" else httpx.Request("GET", "http://svc.test/")
    try:
        raise httpx.DecodingError("bad gzip", request=other)
    except httpx.DecodingError:
        response.close()

    assert "error.type" not in attributes_of(spans.client)


def test_a_transport_that_is_closed_by_itself_closes_the_one_further_in(local: Kit) -> None:
    """`close()` and `aclose()` without a client reach the transport that does the work."""
    closed: list[str] = []

    async def scenario(kit: Kit) -> None:
        inner = kit.network()
        if kit.is_async:

            async def aclose() -> None:
                closed.append("inner")

            inner.aclose = aclose
            await kit.Transport(inner).aclose()
        else:
            inner.close = lambda: closed.append("inner")
            kit.Transport(inner).close()

    local.run(scenario)
    assert closed == ["inner"]


@pytest.mark.parametrize(
    ("entry", "excepted"),
    [
        ("1.2.3.4.5", ["all://*1.2.3.4.5"]),  # may be a name
        ("1.2.3.400", ["all://*1.2.3.400"]),
        ("1:2", ["all://*1:2"]),  # may be a name and a port
        (":::", []),
        ("1.2.3.4/33", []),
        ("[1.2.3.4]", []),
        ("[:::]", []),
    ],
)
def test_an_entry_of_no_proxy_that_is_no_address_is_a_name_or_nothing(
    monkeypatch: pytest.MonkeyPatch, entry: str, excepted: list[str]
) -> None:
    """What looks like an address in NO_PROXY and is none stops no client from being built."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", entry)
    mounts = TraceTransport.for_client()["mounts"]

    assert mounts.pop("http://") is not None
    assert list(mounts) == excepted
