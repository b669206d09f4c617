"""Has the client left? What an exception says about it."""

from __future__ import annotations

from types import FrameType
from typing import Any

_DISCONNECTS = frozenset(
    {
        "ClientDisconnect",  # Starlette, Litestar
        "ClientDisconnected",  # uvicorn
        "MessageAborted",  # BlackSheep
        "RequestAborted",  # Django
        "WebSocketDisconnect",  # Starlette, Litestar
        "WebSocketDisconnected",  # Falcon
    }
)


def is_disconnect(exc: BaseException, send: Any) -> bool:
    """Does `exc` say that the client has gone, and nothing else?

    It does as a framework's own exception, as an OSError of the server's `send`, and as a group of no others.
    """
    if any(cls.__name__ in _DISCONNECTS for cls in type(exc).__mro__) or _raised_by(exc, send) is not None:
        return True
    parts = getattr(exc, "exceptions", None)
    return isinstance(parts, tuple) and bool(parts) and all(is_disconnect(part, send) for part in parts)


def came_from(exc: BaseException, send: Any) -> FrameType | None:
    """The call of the server's `send` whose OSError is among the exceptions that `exc` was raised from, if one is."""
    link: BaseException | None = exc
    for _ in range(8):
        if link is None:
            break
        frame = _raised_by(link, send)
        if frame is not None:
            return frame
        link = link.__cause__ or link.__context__
    return None


def was_sending(frame: FrameType, kind: str) -> bool:
    """Was this call of `send` given a message of that type?"""
    return any(isinstance(value, dict) and value.get("type") == kind for value in frame.f_locals.values())


def _raised_by(exc: BaseException, send: Any) -> FrameType | None:
    """The call of `send` that an OSError came out of, if it is one.

    ASGI servers (spec version 2.4) raise one when the client has gone. An application raises its own for other reasons,
    so the traceback must show the server's function: that costs nothing until something has failed.
    """
    code = getattr(getattr(send, "__func__", send), "__code__", None)
    trace = exc.__traceback__ if code is not None and isinstance(exc, OSError) else None
    while trace is not None:
        if trace.tb_frame.f_code is code:
            return trace.tb_frame
        trace = trace.tb_next
    return None
