"""The traffic of a row: applications, requests as a server or a client makes them, and how one of them is driven.

Every request is as new as on a real server: its own scope, its own header bytes (so that no hash is remembered), its
own response messages, its own `contextvars` context, and one of 64 callers. No coroutine suspends, so a request is one
`coroutine.send(None)` and the event loop adds no cost.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, MutableMapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from . import cases
from .cases import Case

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Unit = Callable[[int], Coroutine[Any, Any, None]]
Header = tuple[bytes, bytes]
TraceHeader = Callable[[str, str, bool], Header]
"""How a peer's callers write their context: from a trace id, a span id and the sampling decision, in hexadecimal."""

CLIENT_URL = "http://orders.internal:8080/items/42?page=2"
TRACE_ID, SPAN_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7

_CALLERS = 64
_BROWSER = (
    (b"host", b"api.example.com"),
    (b"user-agent", b"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    (b"accept", b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
)
_NO_TRACE = (b"accept-encoding", b"gzip, deflate, br, zstd")
CAPTURED_HEADER = "x-request-id"
_MORE_HEADERS: dict[str, tuple[Header, ...]] = {
    cases.HEADERS: tuple((b"x-header-%d" % number, b"a value of some length, %d" % number) for number in range(36)),
    cases.TRACESTATE: ((b"tracestate", b"vendor=5f2e1c0a"),),
    cases.BAGGAGE: ((b"baggage", b",".join(b"key-%03d=%s" % (number, b"v" * 72) for number in range(99))),),
    cases.CAPTURED: ((CAPTURED_HEADER.encode(), b"b7ad6b71-6920-4331-8f3c-0f5a3c6b0d11"),),
}
_QUERY = b"page=2"
_LONG_QUERY = b"page=2&size=50&sort=name&order=asc&lang=en&region=eu&theme=dark&view=list&sig=3f9a7c51a0&debug=0"


class ApplicationError(RuntimeError):
    """What the application of the row `exception` raises."""


def traceparent(trace_id: str, span_id: str, sampled: bool) -> Header:
    """The header of W3C Trace Context."""
    return b"traceparent", f"00-{trace_id}-{span_id}-{'01' if sampled else '00'}".encode()


# --- applications ---


async def hello(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with five bytes: the application of most rows."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"5")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"hello"})


async def stream(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with a thousand chunks."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    for _ in range(cases.MESSAGES - 1):
        await send({"type": "http.response.body", "body": b"chunk of a response", "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Send every message of a WebSocket back."""
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    """Raise before the response starts."""
    raise ApplicationError("the order cannot be found")


opened = asyncio.Event()
"""Lets the requests of the rows `in-flight` finish."""


async def wait(scope: Scope, receive: Receive, send: Send) -> None:
    """Stay in flight until `opened` is set, then answer."""
    await opened.wait()
    await hello(scope, receive, send)


_RAW: dict[str, App] = {cases.STREAM: stream, cases.WEBSOCKET: echo, cases.EXCEPTION: fail, cases.IN_FLIGHT: wait}


def application(case: Case, telemetry: Any = None) -> App:
    """A new application of that shape; FastAPI's own telemetry is off, unless its configuration is given."""
    if case.routes:
        return _fastapi(case.routes, telemetry or {"tracing": False, "metrics": False, "logs": False})
    if case.shape == cases.STARLETTE:
        return _starlette()
    return _RAW.get(case.shape, hello)


def _starlette() -> App:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    async def item(request: Request) -> Response:
        return PlainTextResponse("hello")

    return Starlette(routes=[Route("/items/{item_id}", item)])


_fastapi_routes: dict[int, list[Any]] = {}


def _fastapi(routes: int, telemetry: Any) -> App:
    """A FastAPI application whose last route answers; the routes are shared, since a thousand take long to make."""
    from fastapi import FastAPI

    if routes not in _fastapi_routes:
        first = FastAPI(openapi_url=None)
        for number in reversed(range(routes)):
            first.get(f"/{'items' if number == 0 else f'items{number}'}/{{item_id}}")(_item)
        _fastapi_routes[routes] = list(first.routes)
    return FastAPI(openapi_url=None, routes=_fastapi_routes[routes], telemetry=telemetry)


async def _item(item_id: int) -> dict[str, int]:
    return {"id": item_id}


# --- requests to a server ---


class Requests:
    """Makes the units of one server row: `requests(n)` is the coroutine of the n-th one."""

    def __init__(self, case: Case, app: App, header: TraceHeader = traceparent) -> None:
        self._app = app
        self._headers = [_template(case, header, caller) for caller in range(_CALLERS)]
        self._websocket = case.shape == cases.WEBSOCKET
        self._query = _LONG_QUERY if case.shape == cases.QUERY else _QUERY

    async def __call__(self, number: int) -> None:
        headers = [(bytes(name), bytes(value)) for name, value in self._headers[number % _CALLERS]]
        if not self._websocket:
            await self._app(_scope("http", self._query, headers), _receive, _send)
            return
        messages = _socket_messages()

        async def receive() -> Message:
            return next(messages)

        await self._app(_scope("websocket", self._query, headers), receive, _send)


def _template(case: Case, header: TraceHeader, caller: int) -> list[tuple[bytearray, bytearray]]:
    last = _NO_TRACE
    if case.state in (cases.SAMPLED, cases.UNSAMPLED):
        last = header(f"{TRACE_ID + caller:032x}", f"{SPAN_ID + caller:016x}", case.state == cases.SAMPLED)
    lines = (*_BROWSER, *_MORE_HEADERS.get(case.shape, ()), last)
    return [(bytearray(name), bytearray(value)) for name, value in lines]


def _scope(kind: str, query: bytes, headers: list[Header]) -> Scope:
    scope: Scope = {
        "type": kind,
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("203.0.113.7", 51123),
        "scheme": "http" if kind == "http" else "ws",
        "root_path": "",
        "path": "/items/42",
        "raw_path": b"/items/42",
        "query_string": query,
        "headers": headers,
        "state": {},
    }
    if kind == "http":
        scope["method"] = "GET"
    else:
        scope["subprotocols"] = []
    return scope


async def _receive() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def _send(message: Message) -> None:
    return None


def _socket_messages() -> Iterator[Message]:
    yield {"type": "websocket.connect"}
    for _ in range(cases.MESSAGES // 2):
        yield {"type": "websocket.receive", "text": "hello"}
    yield {"type": "websocket.disconnect", "code": 1000}


# --- requests of a client, and the application's own spans ---


def mock_transport(case: Case) -> Any:
    """httpx's own MockTransport, which answers with five bytes, at once or as a stream."""
    import httpx

    class Body(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            yield b"hello"

    def answer(request: Any) -> Any:
        return httpx.Response(200, content=b"hello")

    def answer_streamed(request: Any) -> Any:
        return httpx.Response(200, stream=Body())

    return httpx.MockTransport(answer_streamed if case.shape == cases.GET_STREAMED else answer)


def calls_of_transport(transport: Any) -> Unit:
    """Units that hand a new request to a transport and read the response; the request is made with the unit."""
    import httpx

    async def call(request: Any) -> None:
        response = await transport.handle_async_request(request)
        await response.aread()

    return lambda number: call(httpx.Request("GET", CLIENT_URL))


def calls_of_client(client: Any) -> Unit:
    """Units that are one `client.get` each."""

    async def call(number: int) -> None:
        await client.get(CLIENT_URL)

    return call


def plain_function(number: int) -> int:
    """What is wrapped in the row `traced-10`."""
    return number


def ten_spans(start: Callable[[int], AbstractContextManager[object]]) -> Unit:
    """Units that open ten spans, one after the other."""

    async def unit(number: int) -> None:
        for index in range(10):
            with start(index):
                pass

    return unit


def ten_calls(function: Callable[[int], object]) -> Unit:
    """Units that call a function ten times."""

    async def unit(number: int) -> None:
        for index in range(10):
            function(index)

    return unit


# --- driving ---


def drive(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that never suspends. Raises RuntimeError for one that does."""
    try:
        coroutine.send(None)
    except (StopIteration, ApplicationError):
        return
    coroutine.close()
    raise RuntimeError("suspended: this row can be driven by an event loop only")


class Runner:
    """Runs units of one row for one peer, each in its own context below `surroundings` (a parent span, for example).

    `ahead`: the units are made before the clock starts, where making them is not what is measured. `settle()` is for
    after a measurement, for example to empty a queue.
    """

    def __init__(
        self,
        unit: Unit,
        surroundings: Callable[[], AbstractContextManager[object]] = nullcontext,
        ahead: bool = False,
        settle: Callable[[], object] = lambda: None,
    ) -> None:
        self._unit = unit
        self._surroundings = surroundings
        self._ahead = ahead
        self.settle = settle

    def run(self, numbers: Iterable[int], clock: Callable[[], float] = lambda: 0.0) -> float:
        """Run the units of those numbers; return by how much the clock advanced."""
        context = contextvars.copy_context()
        surroundings = self._surroundings()
        context.run(surroundings.__enter__)
        units: Iterable[Coroutine[Any, Any, None]] = map(self._unit, numbers)
        if self._ahead:
            units = list(units)
        started = clock()
        for coroutine in units:
            context.copy().run(drive, coroutine)
        spent = clock() - started
        context.run(surroundings.__exit__, None, None, None)
        return spent
