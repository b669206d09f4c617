"""What an HTTP request and a WebSocket have in common: one span, its errors, its one end.

An exchange is told what happened and never awaits. Telemetry that fails is reported once and changes nothing: each
method here has a guard of its own or is called within its caller's.
"""

from __future__ import annotations

from asyncio import CancelledError
from time import time_ns
from types import FrameType

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from .._options.text import recordable
from .._otel.api import SPAN_KEY
from .._otel.exceptions import ERROR
from .._propagation.propagator import caller_context
from .._propagation.traceparent import RemoteParent
from .._routing.scope import read_route
from .._semconv.http import error_type, is_cancellation, span_name
from .._semconv.names import (
    BACKGROUND_EXCEPTION,
    CANCELLED,
    ERROR_TYPE,
    OTHER_METHOD,
    ROUTE,
    SERVER_EXCEPTION,
    STATUS_CODE,
)
from .._types import Attributes, Message, Receive, Scope, Send
from .config import ServerConfig
from .disconnect import disconnect_at_hand, failed_call, is_consequence, is_servers
from .metrics import RequestMetrics

UNANSWERED = 500
"""The status that every ASGI server answers with where the application does not."""
_SERVICE_RESTART = 1012  # what servers tell the applications of open WebSockets when they stop; no client sends it


class Exchange:
    """State of one request or WebSocket. `source` and `forward` are the server's `receive` and `send`.

    `start()` makes it, and fills every field that has no value here.
    """

    __slots__ = (
        "__dict__",
        "caller",
        "client_left_at",
        "config",
        "deferred",
        "end_time",
        "ended",
        "forward",
        "method",
        "metrics",
        "recording",
        "root_path",
        "scope",
        "source",
        "span",
        "started_at",
        "status",
        "template",
        "trailers",
    )

    # Rare, so set only on the instances that need them: the others do not pay for the place.
    send_error: OSError | None = None  # what the server's `send` raised for the last message
    reported: BaseException | None = None  # what the application says that it answers with an error of its own

    config: ServerConfig
    caller: Context | RemoteParent
    scope: Scope
    source: Receive
    forward: Send
    span: Span
    recording: bool
    deferred: bool
    """Whether the span started from facts, and takes its last ones in one step."""
    method: str
    started_at: int
    """Nanoseconds; 0 where neither a span nor a meter records."""
    root_path: str
    """The scope's, as it was before the application saw it."""
    template: str | None
    status: int
    """0: no response has started."""
    end_time: int
    """Nanoseconds; 0: the last message has not been seen."""
    client_left_at: int
    """Nanoseconds; 0: there is no evidence that it left before it had everything."""
    trailers: bool
    """Whether the response announces some."""
    metrics: RequestMetrics | None
    ended: bool

    @property
    def parent(self) -> Context:
        """The caller's context."""
        return caller_context(self.caller)

    @property
    def context(self) -> Context:
        """The caller's context with our span. Not kept: the attached one refers to this, and a cycle is garbage."""
        caller = self.caller
        if type(caller) is tuple:
            return Context({SPAN_KEY: self.span})
        return Context({**caller, SPAN_KEY: self.span})  # type: ignore[dict-item]

    def respond(self, message: Message) -> Message:
        """A response or an accepted handshake starts: capture, hook, and the header that tells the trace id."""
        config, span = self.config, self.span
        if "headers" in message and not isinstance(message["headers"], (list, tuple)):
            message = {**message, "headers": list(message["headers"])}
        if self.recording:
            if config.response_headers is not None:
                span.set_attributes(config.response_headers.attributes(message.get("headers") or ()))
            if config.on_response is not None:
                try:
                    config.on_response(span, self.scope, message)
                except (Exception, CancelledError):  # the one that is no Exception and that libraries raise themselves
                    config.guard.report("the hook on_response")
        if config.response_header is not None:
            return config.response_header(span.get_span_context(), message)
        return message

    def end(
        self, error: str | None = None, exc: BaseException | None = None, attributes: Attributes | None = None
    ) -> None:
        """End the span and the measurement, once, with what is known only now.

        `error` is the `error.type`, `exc` the exception to record.
        """
        self.ended = True
        if not self.end_time:
            self.end_time = time_ns()
        if self.end_time < self.started_at:  # the clock was set back
            self.end_time = self.started_at
        open_span = False
        try:
            if self.deferred and error is None and attributes is None:
                # What _describe() and span.end() do, for a success and in one step: a third of the instructions.
                route = self.template or read_route(self.scope, self.root_path)
                method, name = self.method, None  # a known method, as in all facts
                if route:
                    self.template = route = route if route.isascii() else recordable(route)
                    name = f"{method} {route}"
                self.span.finish((self.status, route), method, name, self.end_time)  # type: ignore[attr-defined]
            else:
                open_span = self.recording
                self._describe(error, exc, attributes)
        except Exception:
            self.config.guard.report("describing the end of a request")
            open_span = self.recording and self.span.is_recording()
        try:
            if open_span:
                self.span.end(self.end_time)
        except Exception:  # a span processor's own
            self.config.guard.report("ending a span")
        if self.metrics is not None:
            try:
                self.metrics.finished(self, error)
            except Exception:
                self.config.guard.report("recording a metric")

    def _describe(self, error: str | None, exc: BaseException | None, attributes: Attributes | None) -> None:
        # The template comes from set_route() or from the scope, where the application has put its match by now.
        route = self.template or read_route(self.scope, self.root_path)
        if route is not None:
            self.template = route = route if route.isascii() else recordable(route)
        if not self.recording:
            return
        span = self.span
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
            span.set_status(ERROR if exc is None else Status(StatusCode.ERROR, self.config.errors.description(exc)))
        if exc is not None:
            self.config.errors.record(span, self.context, exc, SERVER_EXCEPTION)

    def client_left(self, code: object = None) -> None:
        """There is evidence that the client has left; `code` is a WebSocket's close code, where it is known."""
        self.client_left_at = self.client_left_at or time_ns()

    def has_everything(self) -> bool:
        """Has the client got all that the application sends, so that it may leave at any time?"""
        return self.end_time != 0

    def not_sent(self, call: FrameType) -> None:
        """A message did not reach the server, since this call of its `send` failed: what it meant is taken back."""

    async def look_for_client(self, exc: BaseException | None) -> None:
        """The application is over, by `exc` if that is not None: is there evidence that the client has left?

        An OSError out of the server's own `send` is. Where a middleware further out may have raised it, and where the
        task was cancelled, it is what `receive` returns at once.
        """
        if self.client_left_at:
            return
        call = None if exc is None else failed_call(exc, self.forward)
        if call is not None:
            self.not_sent(call)
        if self.has_everything():
            return
        failed = call is not None or self.send_error is not None
        if failed and is_servers(self.forward):
            self.client_left(getattr(exc, "code", None))
        elif failed or (exc is not None and is_cancellation(exc) and not isinstance(exc, GeneratorExit)):
            message = await disconnect_at_hand(self.source)
            if message is not None and message.get("code") != _SERVICE_RESTART:
                self.client_left(message.get("code"))

    def take_reported(self) -> BaseException | None:
        """The exception that the application reported and that is a failure of its own, for one answer only."""
        exc = self.reported
        if exc is None:
            return None
        self.reported = None  # its traceback leads back to us
        handled = is_cancellation(exc) or (self.client_left_at and self.is_consequence(exc))
        return None if handled else exc

    def is_consequence(self, exc: BaseException) -> bool:
        """Does `exc` say nothing but that the client has left, for which there is evidence already?"""
        return exc is self.send_error or is_consequence(exc, self.forward)

    def explained(self, error: str | None) -> tuple[str | None, BaseException | None]:
        """The type of an error, if it is one, and its exception: the one that was reported, when that explains it."""
        exc = self.take_reported()
        if exc is None or error is None:
            return error, None
        return error_type(exc), exc

    def background(self, exc: BaseException) -> None:
        """Record, on a child of its own, what failed after a response that the caller has in full."""
        tracer = self.config.tracers.current()
        if tracer is None or not self.recording:
            return
        name = f"{span_name(self.method, self.template or read_route(self.scope, self.root_path))} background"
        child = tracer.start_span(name, self.context, SpanKind.INTERNAL, None, (), self.end_time, False, False)
        try:
            child.set_attribute(ERROR_TYPE, error_type(exc))
            if is_cancellation(exc):
                child.set_attribute(CANCELLED, True)
                child.set_status(ERROR)
            else:
                child.set_status(Status(StatusCode.ERROR, self.config.errors.description(exc)))
                within = Context({**self.parent, SPAN_KEY: child})
                self.config.errors.record(child, within, exc, BACKGROUND_EXCEPTION)
        finally:
            child.end(max(time_ns(), self.end_time))
