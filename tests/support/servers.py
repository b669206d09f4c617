"""Real uvicorn in a thread, on a free port of the loopback, and a client that sees the bytes.

with uvicorn_serving(app, http="httptools") as server:
    assert server.get("/orders/7").status == 200
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

import uvicorn

from asgi_trace._types import ASGIApp

SECONDS = 30.0
"""The longest that anything here waits."""


def eventually(condition: Callable[[], object], what: str = "") -> None:
    """Wait until `condition()` is true. Raises AssertionError when it takes too long."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, f"waited in vain for {what or condition}"
        time.sleep(0.002)


class Response(NamedTuple):
    """One response as it came over the wire."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        """The values of every header line of this name, which is in lower case."""
        return [value for header, value in self.headers if header == name]


class Connection:
    """A TCP connection that sends what it is told and reads one HTTP/1.1 response after another."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS)
        self.reader: BinaryIO = self.socket.makefile("rb")

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave, whatever the server is doing."""
        self.reader.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(data)

    def request(
        self, path: str = "/", method: str = "GET", headers: Sequence[tuple[str, str]] = (), data: bytes = b""
    ) -> None:
        """Send one request."""
        self.send(request_bytes(path, method, headers, data))

    def response(self, *, bodiless: bool = False) -> Response:
        """Read one response. Raises EOFError when the server closes before it is complete."""
        line = self.reader.readline()
        if not line:
            raise EOFError("the server has closed the connection")
        status = int(line.split()[1])
        headers = []
        while (line := self.reader.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").partition(":")
            headers.append((name.lower(), value.strip()))
        if 100 <= status < 200 and status != 101:
            return self.response(bodiless=bodiless)
        if bodiless or status in (101, 204, 304):
            return Response(status, headers, b"")
        return Response(status, headers, self._body(dict(headers)))

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            length = headers.get("content-length")
            return self.reader.read() if length is None else self._exactly(int(length))
        chunks = []
        while size := int(self._line(), 16):
            chunks.append(self._exactly(size))
            self._line()
        while self._line():
            pass
        return b"".join(chunks)

    def _line(self) -> bytes:
        line = self.reader.readline()
        if not line:
            raise EOFError("the server has closed the connection in the middle of a body")
        return line.rstrip(b"\r\n")

    def _exactly(self, size: int) -> bytes:
        data = self.reader.read(size)
        if len(data) < size:
            raise EOFError("the server has closed the connection in the middle of a body")
        return data


def request_bytes(
    path: str = "/", method: str = "GET", headers: Sequence[tuple[str, str]] = (), data: bytes = b""
) -> bytes:
    """One HTTP/1.1 request."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    if not any(name.lower() == "host" for name, _ in headers):
        lines.append("Host: shop.test")
    if data:
        lines.append(f"Content-Length: {len(data)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + data


class UvicornServer:
    """A running uvicorn."""

    def __init__(self, port: int, server: uvicorn.Server, thread: threading.Thread) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self.server = server
        self._thread = thread

    def connect(self) -> Connection:
        """A connection to it; close it, or use it in a `with` block."""
        return Connection(self.port)

    def get(
        self, path: str = "/", method: str = "GET", headers: Sequence[tuple[str, str]] = (), data: bytes = b""
    ) -> Response:
        """One request on a connection of its own."""
        with self.connect() as connection:
            connection.request(path, method, headers, data)
            return connection.response(bodiless=method == "HEAD")

    def stop(self) -> None:
        """Stop as on a signal: gracefully, for as long as `timeout_graceful_shutdown` lasts."""
        self.server.should_exit = True
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "uvicorn does not stop"


def uvicorn_config(app: ASGIApp, **options: Any) -> uvicorn.Config:
    """A configuration that leaves logging as it is: `access_log=False` cuts that logger off for the whole process."""
    access = logging.getLogger("uvicorn.access")
    before = access.propagate, access.handlers
    config = uvicorn.Config(app, log_config=None, **options)
    access.propagate, access.handlers = before
    return config


@contextmanager
def uvicorn_serving(
    app: ASGIApp, *, http: str = "h11", loop: str = "asyncio", ws: str = "none", lifespan: str = "off", **options: Any
) -> Iterator[UvicornServer]:
    """Serve `app` until the block ends; `options` are those of `uvicorn.Config`. Logs go where the test looks."""
    options.setdefault("timeout_graceful_shutdown", 10)
    options.setdefault("access_log", False)
    config = uvicorn_config(app, http=http, loop=loop, ws=ws, lifespan=lifespan, **options)
    # with its protocol named, asyncio sets TCP_NODELAY: otherwise each answer on a kept connection takes 40 ms
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],), name="uvicorn", daemon=True)
        running = UvicornServer(listening.getsockname()[1], server, thread)
        thread.start()
        try:
            eventually(lambda: server.started or not thread.is_alive(), "uvicorn's start")
            yield running
        finally:
            running.stop()
