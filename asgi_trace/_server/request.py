"""One HTTP request: which message was its last, how it ended, and what that means for its span.

Below 500 the span ends with the last message. At 500 and above only its end time is taken then, and the span waits for
the application to return, so that the exception which explains it is recorded on it.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable
from time import time_ns

from .._semconv.http import error_type, is_cancellation
from .._semconv.names import (
    CANCELLED,
    CLIENT_DISCONNECTED,
    ERROR_TYPE,
    INCOMPLETE_RESPONSE,
    METHOD,
    PROTOCOL_VERSION,
    ROUTE,
    SCHEME,
    STATUS_CODE,
)
from .._types import Attributes, Message
from .exchange import Exchange, came_from, coroutine_function, is_disconnect, was_sending

UNANSWERED = 500  # what every ASGI server answers where the application does not
_TO_NOBODY = -1  # the client left before a response started: what is answered then is not sent
_FINE = frozenset(range(1, 500))  # a response that started, and needs no explanation
_ENDINGS = frozenset({"http.response.body", "http.response.pathsend", "http.response.zerocopysend"})


class Request(Exchange):
    """A request in progress. `receive` and `send` are what the application gets."""

    __slots__ = ("__dict__",)

    # Rare: set on the few instances that need them, so the others don't pay for the place.
    gone_at = 0  # when the client left, before it had everything
    trailers = False

    async def receive(self) -> Message:
        """The server's `receive`; notices when the client leaves."""
        source = self.source
        message = await source()
        try:
            if message["type"] == "http.disconnect" and not self.end_time and not self.gone_at:
                self.gone_at = time_ns()
                self.status = self.status or _TO_NOBODY
                self.span.set_attribute(CLIENT_DISCONNECTED, True)  # now: the application may go on to answer
        except Exception:
            self.inbound.guard.report("following a request's body")
        return message

    @coroutine_function
    def send(self, message: Message) -> Awaitable[None]:
        """The server's `send`, told apart from it by one look per body chunk."""
        try:
            if not message.get("more_body"):
                kind = message["type"]
                if kind == "http.response.start":
                    # `+` makes a plain int of one of `http.HTTPStatus` and raises for what is no number.
                    self.status = self.status or +message["status"]
                    if "trailers" in message:
                        self.trailers = message["trailers"]
                    if self.inbound.watches_response:
                        message = self.inbound.respond(self, message)
                elif not self.end_time and (
                    (kind in _ENDINGS and not self.trailers)
                    or (kind == "http.response.trailers" and not message.get("more_trailers"))
                ):
                    return self._last(message)
        except Exception:
            self.inbound.guard.report("following a response")
        forward = self.forward  # not self.forward(...): CPython looks a call through a slot up the slow way
        return forward(message)

    async def _last(self, message: Message) -> None:
        self.end_time = time_ns()
        forward = self.forward
        try:
            await forward(message)
        except Exception as exc:
            if isinstance(exc, OSError):
                self.gone_at = self.gone_at or self.end_time
            self.end_time = 0
            raise
        except BaseException:  # cancelled after the server has got all of it: the response is complete
            if self.status in _FINE:
                self.end()
            raise
        if self.status in _FINE:
            self.end()

    def returned(self) -> bool:
        """The application returned. False: it left the response to the server to answer, or unfinished."""
        if self.ended:
            return True
        if self.gone_at:
            self._end_abandoned(*self.explained(self._status_error()))
        elif self.end_time:
            self.end(*self.explained(self._status_error()))
        else:
            self.status = self.status or UNANSWERED
            self.end(*self.explained(INCOMPLETE_RESPONSE))
            return False
        return True

    def failed(self, exc: BaseException) -> None:
        """The application raised."""
        if self.ended:
            self.background(exc)
            return
        gone = is_disconnect(exc, self.forward)
        call = came_from(exc, self.forward)
        explains = not (gone or is_cancellation(exc))
        if self.gone_at or (not self.end_time and (gone or call is not None)):
            if call is not None and was_sending(call, "http.response.start"):
                self.status = 0  # nobody has got it
            if explains:
                self._end_abandoned(error_type(exc), exc)
            else:
                self._end_abandoned(*self.explained(self._status_error()))
        elif self.end_time:
            if explains:
                self.end(error_type(exc), exc)
            else:
                self.end(*self.explained(self._status_error()))
        elif is_cancellation(exc):
            self.end(error_type(exc), None, {CANCELLED: True})
        else:
            self.status = self.status or UNANSWERED
            self.end(error_type(exc), exc)

    def _end_abandoned(self, error: str | None, exc: BaseException | None = None) -> None:
        """The client has left before it had everything: the request lasted until then, as far as that is known."""
        self.end_time = self.gone_at
        self.status = max(self.status, 0)
        self.end(error, exc, {CLIENT_DISCONNECTED: True})

    def _status_error(self) -> str | None:
        return str(self.status) if self.status >= 500 else None


class MeasuredRequest(Request):
    """A request that a meter records too, also when its span is not recorded."""

    __slots__ = ()

    active: Attributes  # what the gauge was raised with, and must be lowered with
    started_at = 0
    version: str | None = None
    request_size = 0
    response_size = 0

    def measure_start(self, started_at: int, scheme: str, version: str | None) -> None:
        """The request began, at the span's start in nanoseconds; both labels are bounded by the caller of this."""
        self.started_at = started_at
        self.version = version
        self.active = {METHOD: self.method, SCHEME: scheme}
        try:
            self.inbound.metrics.started(self.active, self.context)
        except Exception:
            self.inbound.guard.report("recording a metric")

    def end(
        self, error: str | None = None, exc: BaseException | None = None, attributes: Attributes | None = None
    ) -> None:
        """End the span, then record the metrics of the request."""
        super().end(error, exc, attributes)
        route = self.template
        try:
            attributes = dict(self.active)
            if self.version is not None:
                attributes[PROTOCOL_VERSION] = self.version
            if self.status:
                attributes[STATUS_CODE] = self.status
            if route:
                attributes[ROUTE] = route
            if error is not None:
                attributes[ERROR_TYPE] = error
            self.inbound.metrics.finished(
                self.active,
                attributes,
                self.context,
                self.end_time - self.started_at,
                self.request_size,
                self.response_size,
            )
        except Exception:
            self.inbound.guard.report("recording a metric")


class SizedRequest(MeasuredRequest):
    """A request whose body bytes are counted, chunk by chunk, as they pass."""

    __slots__ = ()

    async def receive(self) -> Message:
        """The server's `receive`; counts the request body."""
        message = await super().receive()
        try:
            self.request_size += len(message.get("body", b""))
        except Exception:
            self.inbound.guard.report("counting a body")
        return message

    @coroutine_function
    def send(self, message: Message) -> Awaitable[None]:
        """The server's `send`; counts the response body."""
        try:
            if self.method != "HEAD":  # what an application sends then stays in the server
                self.response_size += body_size(message)
        except Exception:
            self.inbound.guard.report("counting a body")
        return super().send(message)


def body_size(message: Message) -> int:
    """The bytes of a response's body that one message stands for, those of a file that the server sends included."""
    kind = message["type"]
    if kind == "http.response.pathsend":
        return os.stat(message["path"]).st_size
    if kind == "http.response.zerocopysend":
        count: int | None = message.get("count")
        if count is None:
            file = message["file"]
            number = file if isinstance(file, int) else file.fileno()
            offset = message.get("offset")
            count = os.fstat(number).st_size - (os.lseek(number, 0, os.SEEK_CUR) if offset is None else offset)
        return count
    return len(message.get("body", b""))
