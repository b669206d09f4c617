"""The same endings over real servers: uvicorn with both of its parsers, and hypercorn for what uvicorn cannot do."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import h2.connection
import pytest
import trio
from hypercorn.asyncio import serve as asyncio_serve
from hypercorn.config import Config
from hypercorn.trio import serve as trio_serve
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp as StarletteApp

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans

from ..support.asgi import GONE, attributes_of, body, http_scope, milliseconds, responding, start
from ..support.servers import Connection, UvicornServer, eventually, uvicorn_serving

GONE_MARK, CANCELLED_MARK = "asgi_trace.client_disconnected", "asgi_trace.cancelled"
PARSERS = ["h11", "httptools"]


class Shop:
    """An application with one path for each ending, and what happened behind its responses."""

    def __init__(self) -> None:
        self.events: list[str] = []
        routes = [
            Route("/plain", self.plain, methods=["GET", "POST", "HEAD"]),
            Route("/no-content", lambda request: Response(status_code=204)),
            Route("/stream", self.stream),
            Route("/events", self.endless),
            Route("/waits", self.waits, methods=["POST"]),
            Route("/fails", self.fails),
            Route("/fails-in-the-stream", self.fails_in_the_stream),
            Route("/slow-background", self.slow_background),
            Route("/failing-background", self.failing_background),
            Route("/sleeps", self.sleeps),
        ]
        self.app: StarletteApp = Starlette(routes=routes)

    async def plain(self, request: Request) -> Response:
        return PlainTextResponse("ok")

    async def stream(self, request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(3):
                await asyncio.sleep(0.01)
                yield b"x" * 10

        return StreamingResponse(chunks())

    async def endless(self, request: Request) -> Response:
        async def events() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"data: 1\n\n"
                    await asyncio.sleep(0.005)
            finally:
                self.events.append("stream closed")

        return StreamingResponse(events(), media_type="text/event-stream")

    async def waits(self, request: Request) -> Response:
        self.events.append("waiting")
        await request.body()
        return PlainTextResponse("never")

    async def fails(self, request: Request) -> Response:
        raise ValueError("no stock")

    async def fails_in_the_stream(self, request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"x"
            raise ValueError("no more")

        return StreamingResponse(chunks())

    async def slow_background(self, request: Request) -> Response:
        async def mail() -> None:
            while "send it" not in self.events:
                await asyncio.sleep(0.002)
            self.events.append("mail sent")

        return PlainTextResponse("ok", background=BackgroundTask(mail))

    async def failing_background(self, request: Request) -> Response:
        async def mail() -> None:
            raise KeyError("address")

        return PlainTextResponse("ok", background=BackgroundTask(mail))

    async def sleeps(self, request: Request) -> Response:
        self.events.append("sleeping")
        await asyncio.sleep(30)
        return PlainTextResponse("never")


@pytest.fixture(scope="module", params=PARSERS)
def shop_server(request: pytest.FixtureRequest) -> Iterator[tuple[Shop, UvicornServer]]:
    shop = Shop()
    with uvicorn_serving(TraceMiddleware(shop.app), http=request.param) as server:
        yield shop, server


@pytest.fixture
def shop(shop_server: tuple[Shop, UvicornServer]) -> Shop:
    shop_server[0].events.clear()
    return shop_server[0]


@pytest.fixture
def server(shop_server: tuple[Shop, UvicornServer]) -> UvicornServer:
    return shop_server[1]


def only_span(spans: CapturedSpans) -> ReadableSpan:
    """The one span of the one request, which may end a moment after the client has its answer."""
    eventually(lambda: len(spans), "a span")
    return spans.server


def is_clean(span: ReadableSpan, code: int) -> bool:
    attributes = attributes_of(span)
    marks = {"error.type", GONE_MARK, CANCELLED_MARK}.intersection(attributes)
    unset = span.status.status_code is StatusCode.UNSET
    return attributes.get("http.response.status_code") == code and unset and not marks and not span.events


@pytest.mark.parametrize(
    ("method", "path", "status", "length"),
    [
        ("GET", "/plain", 200, 2),
        ("HEAD", "/plain", 200, 0),
        ("GET", "/no-content", 204, 0),
        ("GET", "/stream", 200, 30),
    ],
)
def test_complete_responses_over_the_wire(
    server: UvicornServer, spans: CapturedSpans, method: str, path: str, status: int, length: int
) -> None:
    """GET, HEAD, 204 and a stream each end as one clean span, and the client gets what it should."""
    response = server.get(path, method)

    assert (response.status, len(response.body)) == (status, length)
    span = only_span(spans)
    assert is_clean(span, status)
    assert span.name == f"{method} {path}"
    assert milliseconds(span) >= (28 if path == "/stream" else 0)


def test_an_exception_before_the_start_is_the_servers_500(
    shop: Shop, server: UvicornServer, spans: CapturedSpans
) -> None:
    """The client gets 500; the span has the code, the class and one event, though the page was sent first."""
    assert server.get("/fails").status == 500

    span = only_span(spans)
    attributes = attributes_of(span)
    assert attributes["http.response.status_code"] == 500
    assert attributes["error.type"] == "ValueError"
    assert attributes["http.route"] == "/fails"
    assert [event.name for event in span.events] == ["exception"]


def test_an_exception_in_a_stream_breaks_the_connection(server: UvicornServer, spans: CapturedSpans) -> None:
    """The client sees a broken body; the span keeps the 200 that was sent, with the exception as its error."""
    with server.connect() as connection:
        connection.request("/fails-in-the-stream")
        with pytest.raises(EOFError):
            connection.response()

    span = only_span(spans)
    attributes = attributes_of(span)
    assert attributes["http.response.status_code"] == 200
    assert attributes["error.type"] == "ValueError"
    assert span.status.status_code is StatusCode.ERROR
    assert len(span.events) == 1


def test_a_client_that_leaves_before_the_response(shop: Shop, server: UvicornServer, spans: CapturedSpans) -> None:
    """A client that hangs up while its body is awaited is marked; there is no status code and no error."""
    with server.connect() as connection:
        connection.send(b"POST /waits HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 10\r\n\r\nabc")
        eventually(lambda: shop.events, "the request")

    span = only_span(spans)
    attributes = attributes_of(span)
    assert attributes[GONE_MARK] is True
    assert "http.response.status_code" not in attributes
    assert "error.type" not in attributes
    assert (span.status.status_code, len(span.events)) == (StatusCode.UNSET, 0)


def test_a_client_that_leaves_an_event_stream(shop: Shop, server: UvicornServer, spans: CapturedSpans) -> None:
    """Closing an SSE stream is how its client ends it: one span, marked, no error, and as long as the client stayed."""
    with server.connect() as connection:
        connection.request("/events")
        while connection.reader.readline() != b"data: 1\n":
            pass
        time.sleep(0.03)
        assert len(spans) == 0

    span = only_span(spans)
    attributes = attributes_of(span)
    assert attributes["http.response.status_code"] == 200
    assert attributes[GONE_MARK] is True
    assert "error.type" not in attributes
    assert span.status.status_code is StatusCode.UNSET
    assert milliseconds(span) >= 25
    eventually(lambda: shop.events == ["stream closed"], "the end of the generator")


def test_a_slow_background_task_delays_neither_response_nor_span(
    shop: Shop, server: UvicornServer, spans: CapturedSpans
) -> None:
    """The client and the span are done while the mail is still being sent."""
    assert server.get("/slow-background").body == b"ok"

    span = only_span(spans)
    assert is_clean(span, 200)
    shop.events.append("send it")
    eventually(lambda: "mail sent" in shop.events, "the background task")
    assert len(spans) == 1


def test_a_failing_background_task_is_recorded_beside_the_clean_200(
    server: UvicornServer, spans: CapturedSpans
) -> None:
    """The delivered response stays clean; its failure is one child, with one event."""
    assert server.get("/failing-background").body == b"ok"

    eventually(lambda: len(spans) == 2, "the background span")
    assert is_clean(spans.server, 200)
    (child,) = spans.of_kind(SpanKind.INTERNAL)
    assert child.name == "GET /failing-background background"
    assert attributes_of(child)["error.type"] == "KeyError"
    assert len(child.events) == 1


@pytest.mark.parametrize("http", PARSERS)
def test_a_shutdown_with_requests_in_flight(spans: CapturedSpans, http: str) -> None:
    """A request that the server cancels when it stops is marked as cancelled; nobody invents a status code for it."""
    shop = Shop()
    serving = uvicorn_serving(TraceMiddleware(shop.app), http=http, timeout_graceful_shutdown=0)
    with serving as server, server.connect() as connection:
        connection.request("/sleeps")
        eventually(lambda: shop.events, "the request")
        server.stop()

    attributes = attributes_of(spans.server)
    assert attributes[CANCELLED_MARK] is True
    assert attributes["error.type"] == "asyncio.exceptions.CancelledError"
    assert "http.response.status_code" not in attributes
    assert spans.server.status.status_code is StatusCode.ERROR
    assert not spans.server.events


@pytest.mark.parametrize("http", PARSERS)
def test_a_graceful_shutdown_lets_a_stream_finish(spans: CapturedSpans, http: str) -> None:
    """A response that the server waits for when it stops ends as any other."""
    serving = uvicorn_serving(TraceMiddleware(Shop().app), http=http, timeout_graceful_shutdown=30)
    with serving as server, server.connect() as connection:
        connection.request("/stream")
        while connection.reader.readline() != b"\r\n":
            pass
        server.stop()

    assert is_clean(spans.server, 200)


@pytest.mark.parametrize("http", PARSERS)
@pytest.mark.parametrize(
    ("app", "error"),
    [
        (responding(), "incomplete_response"),
        (responding(start(200, [(b"content-length", b"10")]), body(b"x", True)), "incomplete_response"),
    ],
    ids=["never started", "never finished"],
)
def test_a_response_that_nobody_finishes(spans: CapturedSpans, http: str, app: ASGIApp, error: str) -> None:
    """The server answers 500, or hangs up, in the application's place; the span says why."""
    with uvicorn_serving(TraceMiddleware(app), http=http) as server, server.connect() as connection:
        connection.request()
        try:
            code = connection.response().status
        except EOFError:
            code = 200

    attributes = attributes_of(spans.server)
    assert attributes["http.response.status_code"] == code
    assert attributes["error.type"] == error
    assert spans.server.status.status_code is StatusCode.ERROR


@pytest.mark.parametrize("http", PARSERS)
def test_a_large_upload_and_keep_alive(spans: CapturedSpans, http: str) -> None:
    """Ten requests on one connection, with bodies of many pieces, are ten spans in the order in which they came."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        size = 0
        while True:
            message = await receive()
            size += len(message["body"])
            if not message["more_body"]:
                break
        answer = str(size).encode()
        await send(start(200, [(b"content-length", str(len(answer)).encode())]))
        await send(body(answer))

    with uvicorn_serving(TraceMiddleware(app), http=http) as server, server.connect() as connection:
        for number in range(10):
            connection.request(f"/{number}", "POST", data=b"x" * 300_000)
            assert connection.response().body == b"300000"

    assert [attributes_of(span)["url.path"] for span in spans] == [f"/{number}" for number in range(10)]


@pytest.mark.parametrize("http", PARSERS)
def test_the_wire_shows_no_difference(spans: CapturedSpans, http: str) -> None:
    """Byte for byte, a client cannot tell whether the middleware is there."""
    requests = [("GET", "/plain"), ("HEAD", "/plain"), ("GET", "/stream"), ("GET", "/no-content"), ("GET", "/nowhere")]
    requests += [("POST", "/stream"), ("GET", "/fails"), ("OPTIONS", "/plain")]
    seen: list[bytes] = []
    for app in (Shop().app, TraceMiddleware(Shop().app)):
        with uvicorn_serving(app, http=http, date_header=False) as server:
            answers = []
            for method, path in requests:
                with server.connect() as connection:
                    connection.request(path, method, [("Connection", "close")])
                    answers.append(connection.reader.read())
            seen.append(b"\n".join(answers))

    assert seen[0] == seen[1]
    assert len(spans) == len(requests)


# --- hypercorn: what uvicorn does not speak ---


@contextmanager
def hypercorn_serving(app: ASGIApp, worker: str) -> Iterator[int]:
    """Serve with hypercorn in a thread, on asyncio or trio; yields the port."""
    config = Config()
    config.errorlog = logging.getLogger("hypercorn.test")
    stop = threading.Event()

    def on_asyncio() -> None:
        async def stopped() -> None:
            while not stop.is_set():
                await asyncio.sleep(0.01)

        asyncio.run(asyncio_serve(app, config, shutdown_trigger=stopped, mode="asgi"))

    def on_trio() -> None:
        async def stopped() -> None:
            while not stop.is_set():
                await trio.sleep(0.01)

        trio.run(partial(trio_serve, app, config, shutdown_trigger=stopped, mode="asgi"))

    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    port: int = listening.getsockname()[1]
    config.bind = [f"fd://{listening.detach()}"]
    thread = threading.Thread(target=on_trio if worker == "trio" else on_asyncio, daemon=True)
    thread.start()
    try:
        eventually(lambda: _listens(port), "hypercorn's start")
        yield port
    finally:
        stop.set()
        thread.join(10)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def http2_events(port: int, path: str) -> list[tuple[str, Any]]:
    """What a client sees of one HTTP/2 request: kinds of events, with their headers or data."""
    connection = h2.connection.H2Connection()
    connection.initiate_connection()
    headers = [(":method", "GET"), (":path", path), (":authority", "shop.test"), (":scheme", "http")]
    connection.send_headers(1, [*headers, ("te", "trailers")], end_stream=True)
    seen: list[tuple[str, Any]] = []
    with socket.create_connection(("127.0.0.1", port), timeout=60) as wire:
        while ("StreamEnded", None) not in seen:
            wire.sendall(connection.data_to_send())
            for event in connection.receive_data(wire.recv(65536)):
                if getattr(event, "stream_id", 0) == 1:
                    shown = [h for h in getattr(event, "headers", ()) if h[0] not in (b"date", b"server")]
                    seen.append((type(event).__name__, shown or getattr(event, "data", None)))
    return seen


async def elaborate(scope: Scope, receive: Receive, send: Send) -> None:
    assert "http.response.trailers" in scope["extensions"]
    await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
    await send(start(200, trailers=True))
    await send(body(b"ok"))
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"1")], "more_trailers": False})


@pytest.mark.parametrize("worker", ["asyncio", "trio"])
def test_early_hints_and_trailers_over_http2(spans: CapturedSpans, worker: str) -> None:
    """Early hints and trailers reach the client, who sees no difference; the span ends after the trailers."""
    seen = []
    for app in (elaborate, TraceMiddleware(elaborate)):
        with hypercorn_serving(lifespan_ignored(app), worker) as port:
            seen.append(http2_events(port, "/style"))

    assert seen[0] == seen[1]
    kinds = [kind for kind, _ in seen[0]]
    assert {"InformationalResponseReceived", "TrailersReceived"} <= set(kinds)
    assert is_clean(spans.server, 200)
    assert attributes_of(spans.server)["network.protocol.version"] == "2"


def lifespan_ignored(app: ASGIApp) -> ASGIApp:
    async def http_only(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http", "no lifespan here"
        await app(scope, receive, send)

    return http_only


@pytest.mark.parametrize("worker", ["asyncio", "trio"])
def test_a_client_that_leaves_hypercorn(spans: CapturedSpans, worker: str) -> None:
    """Hypercorn reports a client gone as `http.disconnect`, on both of its event loops."""
    asked = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        asked.set()
        while await receive() != GONE:
            pass

    with hypercorn_serving(lifespan_ignored(TraceMiddleware(app)), worker) as port:
        with Connection(port) as connection:
            connection.request()
            eventually(asked.is_set, "the request")
        span = only_span(spans)

    assert attributes_of(span)[GONE_MARK] is True
    assert span.status.status_code is StatusCode.UNSET


def test_a_cancelled_request_on_trio(spans: CapturedSpans) -> None:
    """Trio's cancellation is recorded as what it is, and ends the task as always."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await trio.sleep(10)

    async def never() -> Message:
        raise AssertionError

    async def nowhere(message: Message) -> None:
        raise AssertionError

    async def main() -> bool:
        with trio.move_on_after(0.01) as scope:
            await TraceMiddleware(app)(http_scope(), never, nowhere)
        return scope.cancelled_caught

    assert trio.run(main)
    attributes = attributes_of(spans.server)
    assert attributes[CANCELLED_MARK] is True
    assert attributes["error.type"] == "trio.Cancelled"
    assert not spans.server.events
