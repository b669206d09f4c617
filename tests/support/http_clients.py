"""Local HTTP/1.1 and HTTP/2 servers, and one face for httpx and httpx2, sync and async.

A scenario is a coroutine function that gets a `Kit`. The sync kits never suspend, so `Kit.run` drives the scenario to
its end without an event loop.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs

import pytest

from .servers import uvicorn_serving

Scenario = Callable[["Kit"], Coroutine[Any, Any, None]]


class Kit:
    """A client library, sync or async, and a server to call."""

    def __init__(self, library: str, is_async: bool, base: str = "http://svc.test", version: str = "1.1") -> None:
        self.base = base
        self.version = version
        self.name = library
        self.is_async = is_async
        self.library: Any = pytest.importorskip(library)
        module = import_module(f"asgi_trace.{library}")
        prefix = "Async" if is_async else ""
        self.Transport: Any = getattr(module, f"{prefix}TraceTransport")
        self.Network: Any = getattr(self.library, f"{prefix}HTTPTransport")
        self.Client: Any = getattr(self.library, f"{prefix}Client")
        self.Base: Any = getattr(self.library, f"{prefix or ''}BaseTransport")
        self.Stream: Any = getattr(self.library, "AsyncByteStream" if is_async else "SyncByteStream")

    def network(self, **options: Any) -> Any:
        """The library's own transport, for the server of this kit."""
        if self.version == "2":
            options |= {"http1": False, "http2": True}
        return self.Network(**options)

    def run(self, scenario: Scenario) -> None:
        coroutine = scenario(self)
        if self.is_async:
            asyncio.run(coroutine)
            return
        try:
            coroutine.send(None)
        except StopIteration:
            return
        raise AssertionError("a sync scenario has suspended")

    @asynccontextmanager
    async def client(self, transport: Any, **options: Any) -> AsyncIterator[Any]:
        if self.is_async:
            async with self.Client(transport=transport, **options) as client:
                yield client
        else:
            with self.Client(transport=transport, **options) as client:
                yield client

    async def call(self, result: Any) -> Any:
        """The result of a method of the client, awaited where the library is async."""
        return await result if self.is_async else result

    @asynccontextmanager
    async def stream(self, client: Any, *arguments: Any, **options: Any) -> AsyncIterator[Any]:
        if self.is_async:
            async with client.stream(*arguments, **options) as response:
                yield response
        else:
            with client.stream(*arguments, **options) as response:
                yield response

    async def read(self, response: Any) -> bytes:
        body: bytes = await response.aread() if self.is_async else response.read()
        return body

    async def close(self, response: Any) -> None:
        await self.call(response.aclose() if self.is_async else response.close())

    async def chunks(self, response: Any, most: int = 1000) -> list[bytes]:
        """The first `most` raw chunks."""
        found: list[bytes] = []
        if self.is_async:
            async for chunk in response.aiter_raw():
                found.append(chunk)
                if len(found) == most:
                    break
        else:
            for chunk in response.iter_raw():
                found.append(chunk)
                if len(found) == most:
                    break
        return found

    def transport_of(self, handler: Callable[[Any], Any]) -> Any:
        """A transport of the application's own, around one function of the request."""
        if self.is_async:

            class Handler(self.Base):  # type: ignore[misc, name-defined]
                async def handle_async_request(self, request: Any) -> Any:
                    return handler(request)
        else:

            class Handler(self.Base):  # type: ignore[misc, name-defined, no-redef]
                def handle_request(self, request: Any) -> Any:
                    return handler(request)

        return Handler()

    def body_of(self, chunks: Callable[[], Iterator[bytes]], closed: Callable[[], None] = lambda: None) -> Any:
        """A response's stream of the application's own."""
        if self.is_async:

            class Body(self.Stream):  # type: ignore[misc, name-defined]
                async def __aiter__(self) -> AsyncIterator[bytes]:
                    for chunk in chunks():
                        yield chunk

                async def aclose(self) -> None:
                    closed()
        else:

            class Body(self.Stream):  # type: ignore[misc, name-defined, no-redef]
                def __iter__(self) -> Iterator[bytes]:
                    yield from chunks()

                def close(self) -> None:
                    closed()

        return Body()


async def application(scope: Any, receive: Any, send: Any) -> None:
    """What both servers serve."""
    assert scope["type"] == "http"
    query = {key: values[-1] for key, values in parse_qs(scope["query_string"].decode()).items()}
    path: str = scope["path"]
    sent = {name.decode(): value.decode() for name, value in scope["headers"]}
    status, headers, chunks = 200, [(b"x-served", b"a"), (b"x-served", b"b")], [b"hello"]
    if path == "/headers":
        lines = [(name.decode(), value.decode()) for name, value in scope["headers"]]
        chunks = [json.dumps({"version": scope["http_version"], "method": scope["method"], "headers": lines}).encode()]
    elif path.startswith("/status/"):
        status = int(path.rpartition("/")[2])
    elif path == "/redirect":
        status, headers = 302, [(b"location", query["to"].encode())]
    elif path == "/auth" and "authorization" not in sent:
        status, headers = 401, [(b"www-authenticate", b'Digest realm="r", nonce="n", qop="auth", algorithm=MD5')]
    elif path in ("/chunks", "/cut", "/stall"):
        chunks = [b"a" * 10, b"b" * 10, b"c" * 10]
    elif path == "/length":
        length, more = 0, True
        while more:
            message = await receive()
            length, more = length + len(message.get("body", b"")), message.get("more_body", False)
        chunks = [str(length).encode()]
    elif path == "/slow":
        await asyncio.sleep(30)
    if scope["method"] == "HEAD" or status == 204:
        chunks = []
    if path == "/cut":
        headers = [(b"content-length", b"1000")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for chunk in chunks:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
        if path == "/cut":
            raise ConnectionError("the server breaks off")
        if path == "/stall":
            await asyncio.sleep(30)
    await send({"type": "http.response.body"})


@contextmanager
def http1_server() -> Iterator[str]:
    """The application over HTTP/1.1; yields its base URL."""
    with uvicorn_serving(application, log_level="critical", timeout_graceful_shutdown=0) as server:
        yield server.url


class _Http2(asyncio.Protocol):
    """Serves the application over HTTP/2 with prior knowledge; what it raises resets the stream."""

    def __init__(self, connected: list[Any]) -> None:
        from h2.config import H2Configuration
        from h2.connection import H2Connection

        self.connection: Any = H2Connection(H2Configuration(client_side=False, header_encoding=None))
        self.bodies: dict[int, asyncio.Queue[Any]] = {}
        self.tasks: set[asyncio.Task[None]] = set()
        self.connected = connected

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.connected.append(transport)
        self.connection.initiate_connection()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        for task in self.tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        from h2 import events

        for event in self.connection.receive_data(data):
            if isinstance(event, events.RequestReceived):
                self.bodies[event.stream_id] = asyncio.Queue()
                task = asyncio.ensure_future(self._serve(event.stream_id, event.headers))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
            elif isinstance(event, events.DataReceived):
                self.connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                self.bodies[event.stream_id].put_nowait({"body": event.data, "more_body": True})
            elif isinstance(event, events.StreamEnded):
                self.bodies[event.stream_id].put_nowait({"body": b"", "more_body": False})
        self._flush()

    async def _serve(self, stream: int, lines: list[tuple[bytes, bytes]]) -> None:
        fields = dict(lines)
        path, _, query = fields[b":path"].partition(b"?")
        headers = [(b"host", fields[b":authority"]), *(line for line in lines if not line[0].startswith(b":"))]
        scope = {
            "type": "http",
            "http_version": "2",
            "method": fields[b":method"].decode(),
            "path": path.decode(),
            "query_string": query,
            "headers": headers,
        }

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                status = (b":status", str(message["status"]).encode())
                self.connection.send_headers(stream, [status, *message["headers"]])
            else:
                end = not message.get("more_body", False)
                self.connection.send_data(stream, message.get("body", b""), end_stream=end)
            self._flush()

        try:
            await application(scope, self.bodies[stream].get, send)
        except ConnectionError:
            self.connection.reset_stream(stream)
            self._flush()

    def _flush(self) -> None:
        self.transport.write(self.connection.data_to_send())


@contextmanager
def http2_server(tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """The application over HTTP/2; yields its base URL. Without TLS, clients need `http1=False, http2=True`."""
    pytest.importorskip("h2")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    loop = asyncio.new_event_loop()
    connected: list[Any] = []

    def serve() -> None:
        server = loop.run_until_complete(loop.create_server(lambda: _Http2(connected), sock=listener, ssl=tls))
        loop.run_forever()
        server.close()
        for transport in connected:
            transport.abort()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
