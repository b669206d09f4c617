"""What the meters record of one request: its labels, and how many bytes went each way.

Labels are bounded whatever a caller sends: schemes, versions and methods that exist, and the route's template.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable

from opentelemetry.context import Context

from .._guard import Guard
from .._otel.metrics import Metrics
from .._semconv.http import DEFAULT_PORTS
from .._semconv.names import ERROR_TYPE, METHOD, PROTOCOL_VERSION, ROUTE, SCHEME, STATUS_CODE
from .._types import Attributes, Message, Receive, Send
from .coroutine_function import coroutine_function

_KNOWN_VERSIONS = frozenset({"1.0", "1.1", "2", "3"})


class RequestMetrics:
    """One request that a meter records, also when its span is not recorded.

    `labels` grow until it ends; those it starts with are the active request's. Times are nanoseconds, sizes bytes.
    """

    __slots__ = ("_active", "_metrics", "_started_at", "labels", "received", "sent")

    def __init__(self, metrics: Metrics, method: str, scheme: str, version: str | None, started_at: int) -> None:
        self._metrics = metrics
        self._started_at = started_at
        self._active: Attributes = {METHOD: method, SCHEME: scheme if scheme in DEFAULT_PORTS else "http"}
        self.labels = self._active.copy()
        if version in _KNOWN_VERSIONS:
            self.labels[PROTOCOL_VERSION] = version
        self.received = 0
        self.sent = 0

    def started(self, context: Context) -> None:
        """The request began."""
        self._metrics.started(self._active, context)

    def finished(self, context: Context, ended_at: int, status: int, route: str | None, error: str | None) -> None:
        """The request has ended; `status` is 0 when no response started."""
        labels = self.labels
        if status:
            labels[STATUS_CODE] = status
        if route:
            labels[ROUTE] = route
        if error is not None:
            labels[ERROR_TYPE] = error
        self._metrics.finished(self._active, labels, context, ended_at - self._started_at, self.received, self.sent)


class CountedBodies:
    """`receive` and `send` around those of a request, which add up the bytes of both bodies as they pass."""

    __slots__ = ("_counts_response", "_guard", "_metrics", "_receive", "_send")

    def __init__(self, metrics: RequestMetrics, guard: Guard, method: str, receive: Receive, send: Send) -> None:
        self._metrics = metrics
        self._guard = guard
        self._counts_response = method != "HEAD"  # what an application sends then stays in the server
        self._receive = receive
        self._send = send

    async def receive(self) -> Message:
        """The request's `receive`; counts the request body."""
        receive = self._receive  # not self._receive(): CPython looks a call through a slot up the slow way
        message = await receive()
        try:
            self._metrics.received += len(message.get("body", b""))
        except Exception:
            self._guard.report("counting a body")
        return message

    @coroutine_function
    def send(self, message: Message) -> Awaitable[None]:
        """The request's `send`; counts the response body."""
        try:
            if self._counts_response:
                self._metrics.sent += body_size(message)
        except Exception:
            self._guard.report("counting a body")
        send = self._send
        return send(message)


def body_size(message: Message) -> int:
    """The bytes of a response's body that one message stands for, those of a file that the server sends included."""
    kind = message["type"]
    if kind == "http.response.pathsend":
        return os.stat(message["path"]).st_size
    if kind == "http.response.zerocopysend":
        count: int | None = message.get("count")
        if count is not None:
            return count
        file = message["file"]
        number = file if isinstance(file, int) else file.fileno()
        offset: int | None = message.get("offset")
        return os.fstat(number).st_size - (os.lseek(number, 0, os.SEEK_CUR) if offset is None else offset)
    return len(message.get("body", b""))
