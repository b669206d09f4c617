"""The service that the campaigns start: it notes each request that it sees, beside its traces.

`CAMPAIGN_NOTES` names the file. A line is "start ID" when the application is called, "end ID" when it returns or
raises, and "dropped ID" when it is closed like a generator that nothing awaits any more. So it can be told afterwards
which requests have no span. `CAMPAIGN_LOST`, where it is set, names a file for the spans that were lost at the end.
"""

from __future__ import annotations

import os
from pathlib import Path

import anyio

from asgi_trace import TraceMiddleware, configure
from asgi_trace._types import Receive, Scope, Send

tracing = configure("campaign")

_notes = os.open(os.environ["CAMPAIGN_NOTES"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _note(what: str, scope: Scope) -> None:
    os.write(_notes, f"{what} {scope['query_string'].decode().removeprefix('id=')}\n".encode())


async def service(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer by the path: `/ok`, `/error`, `/slow`, `/stream` and the WebSocket `/socket`."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
        return
    _note("start", scope)
    try:
        if scope["type"] == "websocket":
            await _socket(receive, send)
        else:
            await _http(scope["path"], send)
    except GeneratorExit:
        _note("dropped", scope)
        raise
    except BaseException:
        _note("end", scope)
        raise
    _note("end", scope)


async def _lifespan(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
    if "CAMPAIGN_LOST" in os.environ:
        tracing.shutdown()
        Path(os.environ["CAMPAIGN_LOST"]).write_text(str(tracing.lost["spans"]))


async def _http(path: str, send: Send) -> None:
    if path == "/error":
        raise RuntimeError("the order cannot be found")
    if path == "/slow":
        await anyio.sleep(0.2)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    if path == "/stream":
        for _ in range(10):
            await send({"type": "http.response.body", "body": b"chunk\n" * 100, "more_body": True})
            await anyio.sleep(0.02)
    await send({"type": "http.response.body", "body": b"done\n"})


async def _socket(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


app = TraceMiddleware(service)
