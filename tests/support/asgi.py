"""Drives an application the way an ASGI server does: scopes, a scripted `receive`, a `send` that writes down.

    served = drive(app, http_scope("/orders/7"))
    assert served.messages == [start(200), body(b"ok")]

`receive` hands out the script. When that is used up it waits, as a server's does, until the response is complete, and
then says that the client is gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from time import time_ns
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan

from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send

Step = Message | BaseException | float
"""One thing that `receive` does: hand out a message, raise, or wait for some seconds first."""

RECEIVE = "receive"
"""The step of asking the server for a message."""

REQUEST: Message = {"type": "http.request", "body": b"", "more_body": False}
GONE: Message = {"type": "http.disconnect"}
CONNECT: Message = {"type": "websocket.connect"}

TRACEPARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
TRACE_ID = 0x0AF7651916CD43DD8448EB211C80319C
PARENT_ID = 0xB7AD6B7169203331


def http_scope(path: str = "/", method: str = "GET", **keys: Any) -> dict[str, Any]:
    """What uvicorn hands over for one request; `keys` replaces any of it."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(errors="replace"),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"shop.test:8000")],
        "client": ("127.0.0.1", 51234),
        "server": ("127.0.0.1", 8000),
        "state": {},
        **keys,
    }


def websocket_scope(path: str = "/ws", **keys: Any) -> dict[str, Any]:
    """What uvicorn hands over for one WebSocket."""
    scope = http_scope(path, **{"type": "websocket", "scheme": "ws", "subprotocols": [], **keys})
    del scope["method"]
    return scope


def start(status: int = 200, headers: Sequence[tuple[bytes, bytes]] = (), **keys: Any) -> dict[str, Any]:
    """The message that starts a response."""
    return {"type": "http.response.start", "status": status, "headers": list(headers), **keys}


def body(data: bytes = b"", more_body: bool = False) -> dict[str, Any]:
    """A piece of a response's body; the last one unless `more_body`."""
    return {"type": "http.response.body", "body": data, "more_body": more_body}


def responding(*messages: Message | BaseException) -> ASGIApp:
    """An application that sends these messages, raising what is an exception among them."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in messages:
            if isinstance(message, BaseException):
                raise message
            await send(dict(message))

    return app


OK = responding(start(200, [(b"content-length", b"2")]), body(b"ok"))


def attributes_of(span: ReadableSpan) -> dict[str, Any]:
    """The attributes of a span."""
    return dict(span.attributes or {})


def milliseconds(span: ReadableSpan) -> float:
    """How long a span lasted."""
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e6


class Steps:
    """An application that takes one step after another, and notes when.

    A message is sent, a number is a pause in milliseconds, RECEIVE asks for a message, an exception is raised.
    """

    def __init__(self, *steps: Any) -> None:
        self.steps = steps
        self._times: list[int] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._times = []
        for step in self.steps:
            self._times.append(time_ns())
            if step is RECEIVE:
                await receive()
            elif isinstance(step, (int, float)):
                await asyncio.sleep(step / 1000)
            elif isinstance(step, BaseException):
                raise step
            else:
                await send(step)
        self._times.append(time_ns())

    def saw_the_end(self, span: ReadableSpan, step: int) -> bool:
        """Did the span end while this step was being taken?"""
        assert span.end_time is not None
        later = self._times[step + 1 : step + 2]
        return self._times[step] <= span.end_time and all(span.end_time <= time for time in later)


class Served:
    """What came of one scope: the messages that reached the server, and how the application ended."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.messages: list[Message] = []
        self.received = 0
        """How many messages the application asked for and got."""
        self.result: Any = None
        self.exception: BaseException | None = None

    @property
    def status(self) -> int:
        """The response's status code."""
        status: int = next(message["status"] for message in self.messages if "status" in message)
        return status

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The header lines of the response."""
        return list(next(message["headers"] for message in self.messages if "headers" in message))


async def serve(
    app: ASGIApp,
    scope: Scope | None = None,
    script: Iterable[Step] = (REQUEST,),
    on_send: Callable[[Message], Awaitable[None] | None] | None = None,
) -> Served:
    """Serve one scope; the exception that the application raises, cancellation included, is kept and not raised.

    `on_send` sees each message before it is written down, and may raise or return something to wait for.
    """
    served = Served(http_scope() if scope is None else scope)
    steps = iter(script)
    complete = asyncio.Event()

    async def receive() -> Message:
        for step in steps:
            if isinstance(step, (int, float)):
                await asyncio.sleep(step)
            elif isinstance(step, BaseException):
                raise step
            else:
                served.received += 1
                return step
        await complete.wait()
        served.received += 1
        return {"type": "websocket.disconnect"} if served.scope["type"] == "websocket" else GONE

    async def send(message: Message) -> None:
        if on_send is not None:
            waiting = on_send(message)
            if waiting is not None:
                await waiting
        served.messages.append(dict(message))
        if message["type"] == "http.response.body" and not message.get("more_body"):
            complete.set()

    async def run() -> None:
        served.result = await app(served.scope, receive, send)

    try:
        await run()
    except BaseException as exc:
        served.exception = exc
    return served


def drive(
    app: ASGIApp,
    scope: Scope | None = None,
    script: Iterable[Step] = (REQUEST,),
    on_send: Callable[[Message], Awaitable[None] | None] | None = None,
) -> Served:
    """`serve()` in an event loop of its own."""

    async def main() -> Served:
        return await serve(app, scope, script, on_send)

    return asyncio.run(main())
