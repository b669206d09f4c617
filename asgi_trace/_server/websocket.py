"""One WebSocket: its handshake, its messages by number, its close, and what they mean for the span.

No convention covers WebSockets. The span is a `GET` whose status code is the handshake's answer: 101, 403 for a
refusal, or that of the denial response. A client that closes, in whatever words, is no error.
"""

from __future__ import annotations

from collections.abc import Awaitable
from time import time_ns
from types import FrameType

from .._semconv.http import error_type, is_cancellation
from .._semconv.names import (
    CANCELLED,
    CLIENT_DISCONNECTED,
    CLOSE_CODE,
    INCOMPLETE_RESPONSE,
    MESSAGES_RECEIVED,
    MESSAGES_SENT,
)
from .._types import Attributes, Message
from .coroutine_function import coroutine_function
from .disconnect import was_sending
from .exchange import UNANSWERED, Exchange

_DENIALS = frozenset({"websocket.http.response.start", "http.response.start"})
_DENIAL_BODIES = frozenset({"websocket.http.response.body", "http.response.body"})
_NO_STATUS = 1005  # RFC 6455 7.1.5: a close frame without a code
_ABNORMAL = 1006  # RFC 6455 7.1.5: no close frame at all
_INTERNAL_ERROR = 1011  # RFC 6455 7.4.1: what a server closes with when it failed
_NORMAL = 1000  # RFC 6455 7.4.1; what some frameworks close with all the same when they failed


class WebSocket(Exchange):
    """A WebSocket in progress. `receive` and `send` are what the application gets."""

    __slots__ = ()

    received = 0
    sent = 0
    accepted = False
    close_code: int | None = None
    failure: str | None = None
    answer: int | None = None  # the code that the application closed with

    async def receive(self) -> Message:
        """The server's `receive`; counts messages and notices the close."""
        source = self.source  # as in Request.send
        message = await source()
        try:
            kind = message["type"]
            if kind == "websocket.receive":
                self.received += 1
            elif kind == "websocket.disconnect":
                code = message.get("code") or _NO_STATUS
                if self.has_everything():  # the echo of the application's own close
                    self._closed(code)
                else:
                    self.client_left(code)
        except Exception:
            self.config.guard.report("following a WebSocket")
        return message

    @coroutine_function
    def send(self, message: Message) -> Awaitable[None]:
        """The server's `send`; counts messages and notices handshake and close."""
        try:
            if message["type"] == "websocket.send":
                self.sent += 1
            elif not self.ended:
                return self._turn(message)
            elif message["type"] == "websocket.close":
                self.answer = message.get("code", _NORMAL)
        except Exception:
            self.config.guard.report("following a WebSocket")
        return self.forward(message)

    def _turn(self, message: Message) -> Awaitable[None]:
        """A message that opens, refuses or closes."""
        kind = message["type"]
        answers = over = False
        if kind == "websocket.accept":
            self.accepted = answers = over = True
            self.status = 101
            message = self._answered(message)
        elif kind == "websocket.close":
            self.answer = message.get("code", _NORMAL)
            if self.accepted:
                self._closed(self.answer)
                if self.close_code == _INTERNAL_ERROR:
                    self.failure = str(_INTERNAL_ERROR)
            else:
                self._refused(403)
                answers = over = True
        elif kind in _DENIALS:
            self._refused(+message["status"])  # a plain int, also where it is one of `http.HTTPStatus`
            message = self._answered(message)
            answers = True
        elif kind in _DENIAL_BODIES and not message.get("more_body"):
            self.end_time = time_ns()
            over = True
        over = over and self.config.handshake_only
        return self._shake(message, over) if answers or over else self.forward(message)

    def _answered(self, message: Message) -> Message:
        return self.respond(message) if self.config.watches_response else message

    async def _shake(self, message: Message, over: bool) -> None:
        """Send a message of the handshake. `over`: the last one, of a span that covers no more than that."""
        if over:
            self.end_time = self.end_time or time_ns()
        forward = self.forward
        try:
            await forward(message)
        except OSError as exc:  # the client did not get this answer
            self.send_error = exc
            self.status, self.accepted, self.answer, self.failure, self.end_time = 0, False, None, None, 0
            raise
        if not over:
            return
        try:
            self.end(*self._outcome())
        except Exception:
            self.config.guard.report("ending a handshake")

    def has_everything(self) -> bool:
        """Has the application closed or refused it?"""
        return self.answer is not None or (self.status != 0 and not self.accepted)

    def client_left(self, code: object = None) -> None:
        """There is evidence that the client has left."""
        super().client_left(code)
        self._closed(code or _ABNORMAL)

    def not_sent(self, call: FrameType) -> None:
        """A close that was not sent is none."""
        if self.accepted and was_sending(call, "websocket.close"):
            self.answer, self.failure, self.close_code, self.end_time = None, None, None, 0

    def _refused(self, status: int) -> None:
        self.status = status
        self.end_time = time_ns()
        if status >= 500:
            self.failure = str(status)

    def _closed(self, code: object) -> None:
        """The first close counts: what follows is the other side's echo of it."""
        if self.close_code is None:
            self.close_code = int(code) if isinstance(code, int) else _NO_STATUS  # servers give members of enums, too
            self.end_time = self.end_time or time_ns()

    def _outcome(self) -> tuple[str | None, BaseException | None]:
        """Error type and exception, if it failed."""
        if self.failure is not None:
            return self.explained(self.failure)
        exc = self.take_reported()
        if exc is None or self._blames_client():  # what was reported is then the reason for that answer, and handled
            return None, None
        return error_type(exc), exc

    def _blames_client(self) -> bool:
        """Does the application's answer say that the client is at fault?"""
        if self.answer is not None:
            return _blames_client(self.answer)
        return not self.accepted and 0 < self.status < 500

    def _described(self) -> Attributes:
        attributes: Attributes = {}
        if self.accepted:
            attributes[MESSAGES_RECEIVED] = self.received
            attributes[MESSAGES_SENT] = self.sent
            if self.close_code is not None:
                attributes[CLOSE_CODE] = self.close_code
        if self.client_left_at and not self.status:
            attributes[CLIENT_DISCONNECTED] = True
        return attributes

    def returned(self) -> bool:
        """The application returned. False: it left the handshake to the server to answer."""
        if self.ended:
            return True
        attributes = self._described()
        if not self.status and not self.client_left_at:
            self.status = UNANSWERED
            self.failure = INCOMPLETE_RESPONSE
        self.end(*self._outcome(), attributes)
        return self.failure != INCOMPLETE_RESPONSE

    def failed(self, exc: BaseException) -> None:
        """The application raised."""
        if self.ended:  # the span was that of the handshake
            if not self.client_left_at or not self.is_consequence(exc):
                self.background(exc)
            return
        attributes = self._described()
        if self.client_left_at and self.is_consequence(exc):
            self.end(*self._outcome(), attributes)
        elif is_cancellation(exc):
            if not self.end_time:
                attributes[CANCELLED] = True
                self.failure = error_type(exc)
            self.end(self.failure, None, attributes)
        else:
            if self.client_left_at:
                attributes[CLIENT_DISCONNECTED] = True
            else:
                self.status = self.status or UNANSWERED
            self.end(error_type(exc), exc, attributes)


def _blames_client(code: int) -> bool:
    """Does an application that closes with this code say that the client is at fault?

    Falcon makes it of an HTTP status by adding 3000, Litestar by adding 4000.
    """
    if code >= 3000:
        return not 500 <= code % 1000 <= 599
    return code not in (_NORMAL, _INTERNAL_ERROR)
