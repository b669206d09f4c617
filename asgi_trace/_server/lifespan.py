"""The server's `lifespan`: passed through, but for one thing: what is queued is sent before a stop is complete.

A server may end the process as soon as it hears `lifespan.shutdown.complete` (uvicorn raises SIGTERM again, and no exit
handler runs). An application that knows no lifespan would never let it be heard, so then the server is answered in its
place. Any other exception goes to the server: a start that fails without the middleware fails with it.
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

    But not where it rejects this type of scope before it has received or sent anything, and there is something to
    flush: ASGI says that the server must then go on without a lifespan, and it would not hear of the stop.
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
        if touched or not rejects_lifespan(exc) or not providers():
            raise
        logger.debug("%r knows no lifespan: answering in its place", app, exc_info=True)
    while (await receive())["type"] != "lifespan.shutdown":
        await send({"type": "lifespan.startup.complete"})
    await sent({"type": "lifespan.shutdown.complete"})


_ONLY_OF_REQUESTS = frozenset(
    {"client", "headers", "http_version", "method", "path", "query_string", "raw_path", "scheme", "server"}
)
"""The keys of a scope that a lifespan does not have."""

_REJECTIONS = (
    # "Unknown scope type: 'lifespan'", "scope['type'] must be 'http'"
    r"\bscope(?: |-|\[\W?)types?\b",
    # "expected an http or websocket scope", "received a non-HTTP scope"
    r"\b(?:asgi|http|lifespan|websocket)s?\b(?!:)[\"']? scopes?\b",
    # "can only handle ASGI/HTTP connections, not lifespan", "only http is supported", "HTTP only"
    r"\bonly\b[^.:]{0,40}\b(?:http|websocket)s?\b(?!:)|\b(?:http|websocket)s? only\b",
    r"\b(?:not|no|unknown|unsupported|unexpected|unhandled)\b[^.:]{0,20}\blifespan\b(?!:)",
    r"\blifespan\b[^.:]{0,30}\b(?:unknown|unsupported|not (?:handled|implemented|supported))\b",
    # the value itself: "unhandled type 'lifespan'", "assert 'lifespan' == 'http'"
    r"([\"'])lifespan\1",
)
"""How frameworks, and applications written by hand, say that they serve another type of scope."""

_rejects = re.compile("|".join(f"(?:{pattern})" for pattern in _REJECTIONS), re.IGNORECASE).search
_speaks_of_scopes = re.compile(r"\bscope\b", re.IGNORECASE).search


def rejects_lifespan(exc: Exception) -> bool:
    """Does the exception of an application plainly say that it does not know this type of scope?

    A bare AssertionError or NotImplementedError does, and one that speaks of the scope; a KeyError of a key that only
    requests have; any exception whose text speaks of an unknown type of scope. All else is a start that has failed.
    """
    if isinstance(exc, KeyError):
        return bool(exc.args) and isinstance(exc.args[0], str) and exc.args[0] in _ONLY_OF_REQUESTS
    try:
        text = str(exc)
    except Exception:  # its own __str__ failed
        return False
    if isinstance(exc, (AssertionError, NotImplementedError)) and (not text or _speaks_of_scopes(text)):
        return True
    return _rejects(text) is not None
