"""How a request ended, as its span says it, and what the server saw with and without the middleware."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Message, Scope

from .asgi import (
    REQUEST,
    Served,
    attributes_of,
    drive,
    http_scope,
)

ExceptionGroup: Any = getattr(builtins, "ExceptionGroup", None) or pytest.importorskip("exceptiongroup").ExceptionGroup


BaseExceptionGroup: Any = (
    getattr(builtins, "BaseExceptionGroup", None) or pytest.importorskip("exceptiongroup").BaseExceptionGroup
)


GROUP = "ExceptionGroup" if hasattr(builtins, "ExceptionGroup") else "exceptiongroup.ExceptionGroup"


ERROR, UNSET = StatusCode.ERROR, StatusCode.UNSET
GONE_MARK, CANCELLED_MARK = "asgi_trace.client_disconnected", "asgi_trace.cancelled"
CANCELLED_ERROR = "asyncio.exceptions.CancelledError"


class Ending(NamedTuple):
    """What a span says of the end of its request."""

    code: int | None
    status: StatusCode = StatusCode.UNSET
    error: str | None = None
    events: int = 0
    mark: str | None = None


def ending_of(span: ReadableSpan) -> Ending:
    """The ending that a span shows."""
    attributes = attributes_of(span)
    marks = [key for key in (GONE_MARK, CANCELLED_MARK) if key in attributes]
    assert all(attributes[key] is True for key in marks)
    assert len(marks) < 2
    code = attributes.get("http.response.status_code")
    assert code is None or type(code) is int
    return Ending(
        code,
        span.status.status_code,
        attributes.get("error.type"),
        len(span.events),
        marks[0] if marks else None,
    )


def traced(
    app: ASGIApp,
    scope: Scope | None = None,
    script: Any = (REQUEST,),
    on_send: Callable[[], Callable[[Message], Awaitable[None] | None]] | None = None,
    looks: int = 0,
) -> Served:
    """Serve it through the middleware, after seeing that the server cannot tell whether the middleware is there.

    `looks`: how many messages the middleware asks for itself when the application is over.
    """
    scope = http_scope() if scope is None else scope
    bare = drive(app, dict(scope), list(script), on_send and on_send())
    served = drive(TraceMiddleware(app), dict(scope), list(script), on_send and on_send())
    assert served.messages == bare.messages
    assert served.received == bare.received + looks
    assert type(served.exception) is type(bare.exception)
    assert served.result == bare.result
    assert served.scope.keys() == bare.scope.keys()
    return served


def breaking(kind: str, error: BaseException, at: int) -> Callable[[], Callable[[Message], None]]:
    """A server whose `send` raises at the nth message of that kind."""

    def made() -> Callable[[Message], None]:
        seen = 0

        def on_send(message: Message) -> None:
            nonlocal seen
            seen += message["type"] == kind
            if message["type"] == kind and seen == at:
                raise error

        return on_send

    return made


async def never() -> Message:
    """A `receive` that has nothing."""
    await asyncio.sleep(30)
    raise AssertionError


async def nowhere(message: Message) -> None:
    """A `send` that forgets."""
