"""The service that the W3C Trace Context validation suite talks to, over real sockets.

Its protocol: POST a JSON array of `{"url": ..., "arguments": [...]}`; for each of them the service POSTs `arguments`,
as JSON, to `url`. Run it as `python -m tests.support.w3c_service [port] [h11|httptools]` to hold it against the suite
itself.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, TypeVar

import httpx
import uvicorn
from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
from opentelemetry.trace import TracerProvider

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Receive, Scope, Send
from asgi_trace.httpx import AsyncTraceTransport

from .servers import uvicorn_config

T = TypeVar("T")
TextHeaders = list[tuple[str, str]]


def conformance_app(
    tracer_provider: TracerProvider, *, trust: bool | str = True, propagate_to: str | None = None
) -> ASGIApp:
    """The service: this package's middleware around it, this package's transport below its client."""

    def client() -> httpx.AsyncClient:
        inner = httpx.AsyncHTTPTransport(verify=False)
        transport = AsyncTraceTransport(inner, tracer_provider=tracer_provider, propagate_to=propagate_to)
        return httpx.AsyncClient(transport=transport, timeout=60)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        async with client() as http:
            for call in json.loads(body):
                await http.post(call["url"], json=call["arguments"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    return TraceMiddleware(app, tracer_provider=tracer_provider, trust=trust)


class Harness:
    """Servers in a thread of their own, and a listener that writes down the header lines it is sent, as they are."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._servers: list[tuple[uvicorn.Server, asyncio.Task[None]]] = []
        self._heard: list[TextHeaders] = []

    def __enter__(self) -> Harness:
        self._thread.start()
        self._listener = self._await(asyncio.start_server(self._hear, "127.0.0.1", 0))
        self._callback = self._listener.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._await(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=60)
        self._loop.close()

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=60)

    def serve(self, app: ASGIApp, http: str) -> int:
        """Run uvicorn with one of its HTTP parsers; returns the port."""
        return self._await(self._serve(app, http))

    async def _serve(self, app: ASGIApp, http: str) -> int:
        config = uvicorn_config(app, http=http, lifespan="off", ws="none", access_log=False)
        server = uvicorn.Server(config)
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        self._servers.append((server, asyncio.ensure_future(server.serve([listening]))))
        while not server.started:
            await asyncio.sleep(0.005)
        port: int = listening.getsockname()[1]
        return port

    async def _stop(self) -> None:
        for server, _ in self._servers:
            server.should_exit = True
        await asyncio.gather(*(running for _, running in self._servers))
        self._listener.close()
        await self._listener.wait_closed()

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = [line.partition(":") for line in head.split("\r\n")[1:-2]]
        headers = [(name, value.removeprefix(" ")) for name, _, value in lines]
        self._heard.append(headers)
        await reader.readexactly(int(dict(headers).get("content-length", "0")))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    def ask(self, port: int, headers: Sequence[tuple[str, str]], calls: int = 1) -> list[TextHeaders]:
        """Send one request with exactly these header lines; returns those of each call that the service then made."""
        self._heard.clear()
        url = f"http://127.0.0.1:{self._callback}/"
        body = json.dumps([{"url": url, "arguments": []}] * calls).encode()
        lines = ["POST / HTTP/1.1", "Host: service.test", "Content-Type: application/json", "Connection: close"]
        lines += [f"Content-Length: {len(body)}", *(f"{name}:{value}" for name, value in headers)]
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        assert len(self._heard) == calls
        return list(self._heard)


def values_of(headers: TextHeaders, name: str) -> list[str]:
    """The values of every line that bears this name."""
    return [value for header, value in headers if header.lower() == name]


def main(port: str = "5000", http: str = "auto") -> None:
    """Serve in the foreground."""
    uvicorn.run(conformance_app(SDKTracerProvider()), port=int(port), http=http, lifespan="off")


if __name__ == "__main__":
    main(*sys.argv[1:])
