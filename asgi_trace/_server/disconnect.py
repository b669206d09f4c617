"""Has the client of this exchange left? The evidence for it, and what an exception says once there is evidence.

Evidence comes from the exchange itself: its `receive` has delivered a disconnect, its `send` has raised OSError (ASGI
from spec version 2.4 on), or its task was cancelled and `receive` has a disconnect at hand. The class of an exception
is none: another connection's client, a client of another protocol and an application's own class use the same names.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any

from .._otel.exceptions import chain
from .._semconv.http import is_cancellation, is_group
from .._types import Message, Receive

_FRAMEWORKS = frozenset(
    {
        ("blacksheep", "MessageAborted"),
        ("blacksheep", "WebSocketDisconnectError"),
        ("django", "RequestAborted"),
        ("falcon", "WebSocketDisconnected"),
        ("litestar", "WebSocketDisconnect"),
        ("starlette", "ClientDisconnect"),
        ("starlette", "WebSocketDisconnect"),
        ("starlette", "WebSocketDisconnected"),
    }
)
"""The package and class of what frameworks raise after a disconnect."""
_SERVERS = frozenset({"daphne", "granian", "gunicorn", "hypercorn", "mangum", "uvicorn"})
_MOST_MESSAGES = 1000  # of a request's body that stand before the disconnect
_TURNS = 3  # of the event loop: one for a server's `receive`, more for one that a middleware has wrapped


def is_consequence(exc: BaseException, send: Any) -> bool:
    """Does `exc` say nothing but that the client has left, for which there is evidence already?

    It does as an OSError of this exchange's `send`, as a framework's own exception, as a cancellation, and as a group
    of no others.
    """
    if is_cancellation(exc) or call_of(exc, send) is not None:
        return True
    if any((cls.__module__.partition(".")[0], cls.__name__) in _FRAMEWORKS for cls in type(exc).__mro__):
        return True
    return is_group(exc) and all(is_consequence(part, send) for part in exc.exceptions)  # type: ignore[attr-defined]


def failed_call(exc: BaseException, send: Any) -> FrameType | None:
    """The call of this exchange's `send` out of which an OSError came that is `exc` or behind it, if there is one."""
    return next(filter(None, (call_of(link, send) for link in chain(exc))), None)


def call_of(exc: BaseException, send: Any) -> FrameType | None:
    """The call of this very `send` that `exc` came out of, if it is an OSError that did.

    All connections of a server run the same code, so its `self`, or what it closes over, must be the same as well.
    The stack trace is looked through only when something has failed.
    """
    trace = exc.__traceback__ if isinstance(exc, OSError) else None
    if trace is None:
        return None
    function, given = _taken_apart(send)
    code = getattr(function, "__code__", None)
    while trace is not None:
        if trace.tb_frame.f_code is code and _holds(trace.tb_frame, {**given, **_closed_over(function)}):
            return trace.tb_frame
        trace = trace.tb_next
    return None


def was_sending(call: FrameType, kind: str) -> bool:
    """Was this call of `send` given a message of that type?"""
    return any(isinstance(value, dict) and value.get("type") == kind for value in call.f_locals.values())


def is_servers(send: Any) -> bool:
    """Is this the server's own `send`, and not one that a middleware further out has put around it?

    What comes out of a middleware's `send` may be a failure of the middleware. That has the next `send` at hand: it
    closes over it, or holds it as an argument or an attribute. A server's has none.
    """
    function, given = _taken_apart(send)
    if str(getattr(function, "__module__", "")).partition(".")[0] in _SERVERS:
        return True
    at_hand = {**given, **_closed_over(function)}
    for value in given.values():
        at_hand.update(getattr(value, "__dict__", {}))
    return not any(callable(value) and _is_called_send(name) for name, value in at_hand.items())


def _is_called_send(name: str) -> bool:
    name = name.strip("_")
    return name == "send" or (name.endswith("_send") and not name.startswith("on_"))


def _taken_apart(send: Any) -> tuple[Any, dict[str, Any]]:
    """The function behind a method, a partial or a callable object, and the arguments that it always gets, by name."""
    first: tuple[Any, ...] = ()
    named: dict[str, Any] = {}
    while isinstance(send, partial):
        first, named, send = (*send.args, *first), {**send.keywords, **named}, send.func
    if not hasattr(send, "__code__") and not hasattr(send, "__func__"):
        send = getattr(send, "__call__", send)  # noqa: B004 - a callable object's method
    if hasattr(send, "__func__"):
        first, send = (send.__self__, *first), send.__func__
    names = getattr(getattr(send, "__code__", None), "co_varnames", ())
    return send, {**named, **dict(zip(names, first, strict=False))}


def _closed_over(function: Any) -> dict[str, Any]:
    """The variables that a function closes over; those that have no value yet are left out."""
    found = {}
    cells = getattr(function, "__closure__", None) or ()
    for name, cell in zip(getattr(getattr(function, "__code__", None), "co_freevars", ()), cells, strict=True):
        with suppress(ValueError):
            found[name] = cell.cell_contents
    return found


def _holds(frame: FrameType, variables: dict[str, Any]) -> bool:
    """Have these variables these very values in the frame?"""
    local = frame.f_locals
    return all(name in local and local[name] is value for name, value in variables.items())


async def disconnect_at_hand(receive: Receive) -> Message | None:
    """The disconnect that `receive` returns at once, if it does; messages before it are passed over.

    For an application that is over. It is asked in a task of its own for a few turns of the event loop: a coroutine
    that was driven by hand could not be closed in the middle of what it waits for. Another event loop than asyncio's
    has no such task, so nothing is known there.
    """
    try:
        task = asyncio.get_running_loop().create_task(_next_disconnect(receive))
    except RuntimeError:
        return None
    for _ in range(_TURNS):
        if not task.done():
            await _one_turn()
    if not task.done():
        task.cancel()
        task.add_done_callback(lambda task: task.cancelled() or task.exception())  # else asyncio complains about it
        await _one_turn()
        return None
    return None if task.cancelled() or task.exception() is not None else task.result()


async def _next_disconnect(receive: Receive) -> Message | None:
    for _ in range(_MOST_MESSAGES):
        message = await receive()
        if message["type"] in ("http.disconnect", "websocket.disconnect"):
            return message
    return None


async def _one_turn() -> None:
    with suppress(asyncio.CancelledError):  # again: the exception that is on its way says so already
        await asyncio.sleep(0)
