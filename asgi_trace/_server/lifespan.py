"""The server's `lifespan`: passed through, but for one thing: what is queued is sent before a stop is complete.

A server may end the process as soon as it hears `lifespan.shutdown.complete` (uvicorn raises SIGTERM again, and no exit
handler runs). An application that knows no lifespan would never let it be heard, so then we answer in its place. One
that fails at its very start cannot be told from it for sure: it is served as well, but not in silence.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .._guard import Guard, logger
from .._types import ASGIApp, Message, Receive, Scope, Send
from .flush import Flushable, flush

_LAST = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


async def serve_lifespan(
    app: ASGIApp,
    scope: Scope,
    receive: Receive,
    send: Send,
    providers: Callable[[], list[Flushable]],
    guard: Guard,
) -> None:
    """Serve a `lifespan` scope, and flush before its last message. Raises what the application raises.

    But not where it raises before it has received or sent anything, and there is something to flush: then it knows no
    lifespan (ASGI: "the server must continue"), and the server is answered as if there were nothing to do. Unless the
    exception plainly says that, it is logged as a warning.
    """
    touched = False

    async def received() -> Message:
        nonlocal touched
        touched = True
        return await receive()

    async def sent(message: Message) -> None:
        nonlocal touched
        touched = True
        try:
            if message["type"] in _LAST:
                await flush(providers())
        except Exception:
            guard.report("flushing")
        await send(message)

    try:
        await app(scope, received, sent)
        return
    except Exception as exc:
        if touched or not providers():
            raise
        if _is_rejection(exc):
            logger.debug("%r knows no lifespan: answering in its place", app, exc_info=True)
        else:
            logger.warning(
                "%r failed in its lifespan before it received anything, as an application does that knows no lifespan:"
                " it is served all the same. If it is a failed start, receive `lifespan.startup` first.",
                app,
                exc_info=True,
            )
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await sent({"type": "lifespan.shutdown.complete"})


_REJECTION = re.compile(r"\b(?:lifespan|scope|http)\b(?!:)", re.IGNORECASE)
_ONLY_OF_REQUESTS = ("headers", "http_version", "method", "path", "query_string", "raw_path", "scheme")


def _is_rejection(exc: Exception) -> bool:
    """Does it say that the application serves requests only? The `http:` of a URL says nothing."""
    if isinstance(exc, (AssertionError, NotImplementedError)):
        return True
    if isinstance(exc, KeyError):
        return bool(exc.args) and exc.args[0] in _ONLY_OF_REQUESTS
    try:
        return _REJECTION.search(str(exc)) is not None
    except Exception:
        return False
