"""One HTTP request: which message was its last, how it ended, and what that means for its span.

Below 500 the span ends with the last message. At 500 and above only its end time is taken then, and the span waits for
the application to return, so that the exception which explains it is recorded on it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from time import time_ns
from types import FrameType

from .._semconv.http import error_type, is_cancellation
from .._semconv.names import CANCELLED, CLIENT_DISCONNECTED, INCOMPLETE_RESPONSE
from .._types import Message
from .coroutine_function import coroutine_function
from .disconnect import was_sending
from .exchange import UNANSWERED, Exchange

_FINE = frozenset(range(1, 500))  # a response that started, and needs no explanation
_ENDINGS = frozenset({"http.response.body", "http.response.pathsend", "http.response.zerocopysend"})


class Request(Exchange):
    """A request in progress. `receive` and `send` are what the application gets."""

    __slots__ = ()

    async def receive(self) -> Message:
        """The server's `receive`; notices when the client leaves."""
        source = self.source
        message = await source()
        try:
            if message["type"] == "http.disconnect" and not self.end_time and not self.client_left_at:
                self.client_left()
                self.span.set_attribute(CLIENT_DISCONNECTED, True)  # now: the application may go on to answer
        except Exception:
            self.config.guard.report("following a request's body")
        return message

    @coroutine_function
    def send(self, message: Message) -> Awaitable[None]:
        """The server's `send`, told apart from it by one look per body chunk."""
        try:
            if not message.get("more_body"):
                kind = message["type"]
                if kind == "http.response.start":
                    if not self.client_left_at:  # after that the server sends nothing
                        # `+` makes a plain int of one of `http.HTTPStatus` and raises for what is not a number.
                        self.status = self.status or +message["status"]
                    if "trailers" in message:
                        self.trailers = message["trailers"]
                    if self.config.watches_response:
                        message = self.respond(message)
                elif not self.end_time and (
                    (kind in _ENDINGS and not self.trailers)
                    or (kind == "http.response.trailers" and not message.get("more_trailers"))
                ):
                    return self._last(message)
        except Exception:
            self.config.guard.report("following a response")
        forward = self.forward  # not self.forward(...): CPython looks a call through a slot up the slow way
        return forward(message)

    async def _last(self, message: Message) -> None:
        self.end_time = time_ns()
        forward = self.forward
        try:
            await forward(message)
        except Exception as exc:
            if isinstance(exc, OSError):
                self.send_error = exc
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
        if self.client_left_at:
            self._end_abandoned(*self.explained(self._status_error()))
        elif self.end_time:
            self.end(*self.explained(self._status_error()))
        else:
            self.status = self.status or UNANSWERED
            self.end(*self.explained(INCOMPLETE_RESPONSE))
            return False
        return True

    def not_sent(self, call: FrameType) -> None:
        """A response that did not start has no status."""
        if was_sending(call, "http.response.start"):
            self.status = 0

    def failed(self, exc: BaseException) -> None:
        """The application raised."""
        if self.ended:
            self.background(exc)
        elif self.client_left_at:
            if self.is_consequence(exc):
                self._end_abandoned(*self.explained(self._status_error()))
            else:
                self._end_abandoned(error_type(exc), exc)
        elif not is_cancellation(exc):
            self.status = self.status or UNANSWERED
            self.end(error_type(exc), exc)
        elif self.end_time:
            self.end(*self.explained(self._status_error()))
        else:
            self.end(error_type(exc), None, {CANCELLED: True})

    def _end_abandoned(self, error: str | None, exc: BaseException | None = None) -> None:
        """The client has left before it had everything: the request lasted until then, as far as that is known."""
        self.end_time = self.client_left_at
        self.end(error, exc, {CLIENT_DISCONNECTED: True})

    def _status_error(self) -> str | None:
        return str(self.status) if self.status >= 500 else None
