"""What an HTTP request and a WebSocket have in common: one span, its errors, its one end.

An exchange is told what happened and never awaits. Everything here is called from inside the guard of its caller, or
is one: telemetry that fails is reported once and changes nothing.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable
from time import time_ns
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from .._otel.exceptions import ERROR, description
from .._propagation.propagator import SPAN_KEY
from .._routing.scope import read_route
from .._semconv.http import error_type, is_cancellation, span_name, text
from .._semconv.names import (
    BACKGROUND_EXCEPTION,
    CANCELLED,
    ERROR_TYPE,
    OTHER_METHOD,
    ROUTE,
    SERVER_EXCEPTION,
    STATUS_CODE,
)
from .._types import Attributes, Receive, Scope, Send

if TYPE_CHECKING:
    from .start import Inbound

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


_Function = TypeVar("_Function", bound=Callable[..., Any])


def coroutine_function(function: _Function) -> _Function:
    """Mark a plain function that returns an awaitable: some look before they call, and asgiref warns."""
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(function)
    function._is_coroutine = asyncio.coroutines._is_coroutine  # type: ignore[attr-defined]
    return function


class Exchange:
    """State of one request or socket; the settings are its `inbound`'s."""

    __slots__ = (
        "end_time",
        "ended",
        "forward",
        "inbound",
        "method",
        "parent",
        "recording",
        "root_path",
        "scope",
        "source",
        "span",
        "status",
        "template",
    )

    reported: BaseException | None = None
    """What the application says that it answers with an error of its own. Rare: set where it is needed."""

    def __init__(
        self,
        inbound: Inbound,
        parent: Context,
        scope: Scope,
        receive: Receive,
        send: Send,
        span: Span,
        recording: bool,
        method: str,
    ) -> None:
        self.inbound = inbound
        self.parent = parent
        self.scope = scope
        self.source = receive
        self.forward = send
        self.span = span
        self.recording = recording
        self.method = method
        self.root_path: str = scope.get("root_path", "")
        self.template: str | None = None
        self.status = 0  # 0: no response has started
        self.end_time = 0  # 0: the last message has not been seen
        self.ended = False

    @property
    def context(self) -> Context:
        """The caller's context with our span. Not kept: the attached one refers to this, and a cycle is garbage."""
        return Context({**self.parent, SPAN_KEY: self.span})

    def end(
        self, error: str | None = None, exc: BaseException | None = None, attributes: Attributes | None = None
    ) -> None:
        """End the span, once, with what is known only now: error type, exception to record, other attributes."""
        self.ended = True
        if not self.end_time:
            self.end_time = time_ns()
        span = self.span
        try:
            # The template comes from set_route() or from the scope, where the application has put its match by now.
            route = self.template or read_route(self.scope, self.root_path)
            if route is not None:
                self.template = route = route if route.isascii() else text(route)
            if self.recording:
                if self.status:
                    span.set_attribute(STATUS_CODE, self.status)
                if route:
                    span.set_attribute(ROUTE, route)
                    method = "HTTP" if self.method is OTHER_METHOD else self.method
                    if getattr(span, "name", method) == method:  # else a hook or the application named it
                        span.update_name(f"{method} {route}")
                if attributes:
                    span.set_attributes(attributes)
                if error is not None:
                    span.set_attribute(ERROR_TYPE, error)
                    span.set_status(ERROR if exc is None else Status(StatusCode.ERROR, description(exc)))
                if exc is not None:
                    self.inbound.errors.record(span, self.context, exc, SERVER_EXCEPTION)
        except Exception:
            self.inbound.guard.report("describing the end of a request")
        try:
            if self.recording:
                span.end(self.end_time)
        except Exception:  # a span processor's own
            self.inbound.guard.report("ending a span")

    def explained(self, error: str | None) -> tuple[str | None, BaseException | None]:
        """The type of an error, if it is one, and its exception: the one that was reported, when that explains it."""
        exc = self.reported
        if exc is None:
            return error, None
        self.reported = None  # type: ignore[misc]  # its traceback leads back to us
        if error is None or is_cancellation(exc) or is_disconnect(exc, self.forward):
            return error, None
        return error_type(exc), exc

    def background(self, exc: BaseException) -> None:
        """Record, on a child of its own, what failed after a response that the caller has in full."""
        tracer = self.inbound.tracers.current()
        if tracer is None or not self.recording or is_disconnect(exc, self.forward):
            return
        name = f"{span_name(self.method, self.template or read_route(self.scope, self.root_path))} background"
        child = tracer.start_span(name, self.context, SpanKind.INTERNAL, None, (), self.end_time, False, False)
        try:
            child.set_attribute(ERROR_TYPE, error_type(exc))
            if is_cancellation(exc):
                child.set_attribute(CANCELLED, True)
                child.set_status(ERROR)
            else:
                child.set_status(Status(StatusCode.ERROR, description(exc)))
                within = Context({**self.parent, SPAN_KEY: child})
                self.inbound.errors.record(child, within, exc, BACKGROUND_EXCEPTION)
        finally:
            child.end()


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
