"""The load of the server campaign: ordinary requests, errors, streams, aborts and WebSockets at the same time."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import TracebackType

import httpx
import websockets
from websockets.asyncio.client import connect

_PAUSE = 0.005  # seconds between two requests of one visitor: the load is bounded
_TROUBLE = (httpx.HTTPError, OSError, websockets.WebSocketException, EOFError, TimeoutError)


class Load:
    """Visitors in a thread of their own, until the `with` block ends; what a stopping server does to them is ignored.

    Each request has an id of its own in its query. `answered` counts those with a whole answer.
    """

    def __init__(self, port: int, *, http2: bool = False, sockets: bool = True) -> None:
        self.answered = 0
        self._url = f"127.0.0.1:{port}"
        self._http2 = http2
        self._sockets = sockets
        self._numbers = itertools.count()
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="load")

    def __enter__(self) -> Load:
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    async def _run(self) -> None:
        async with httpx.AsyncClient(http1=not self._http2, http2=self._http2, timeout=10, trust_env=False) as client:
            visits = [self._get(client, path) for path in ("/ok", "/ok", "/error", "/slow", "/stream")]
            visits.append(self._abort(client))
            if self._sockets:
                visits.append(self._socket())
            await asyncio.gather(*(self._visitor(visit) for visit in visits))

    async def _visitor(self, visit: Callable[[], Awaitable[None]]) -> None:
        while not self._over.is_set():
            with suppress(*_TROUBLE):
                await visit()
                self.answered += 1
            await asyncio.sleep(_PAUSE)

    def _target(self, scheme: str, path: str) -> str:
        return f"{scheme}://{self._url}{path}?id={path[1:]}-{next(self._numbers)}"

    def _get(self, client: httpx.AsyncClient, path: str) -> Callable[[], Awaitable[None]]:
        async def visit() -> None:
            await client.get(self._target("http", path))

        return visit

    def _abort(self, client: httpx.AsyncClient) -> Callable[[], Awaitable[None]]:
        async def visit() -> None:
            async with client.stream("GET", self._target("http", "/stream")) as response:
                async for _ in response.aiter_raw():
                    return  # leaving the block closes the connection, or resets the stream of HTTP/2

        return visit

    def _socket(self) -> Callable[[], Awaitable[None]]:
        async def visit() -> None:
            async with connect(self._target("ws", "/socket"), proxy=None, open_timeout=5, close_timeout=2) as socket:
                for _ in range(3):
                    await socket.send("hello")
                    await socket.recv()

        return visit
