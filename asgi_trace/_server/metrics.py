"""What the meters record of one request: its labels, and how many bytes went each way.

Labels are bounded whatever a caller sends: schemes, versions and methods that exist, and the route's template.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable
from typing import Any, Protocol

from .._guard import Guard
from .._otel.metrics import Measured, Metrics
from .._semconv.http import DEFAULT_PORTS
from .._semconv.names import ERROR_TYPE, METHOD, PROTOCOL_VERSION, ROUTE, SCHEME, STATUS_CODE
from .._types import Attributes, Message, Receive, Send
from .coroutine_function import coroutine_function

_KNOWN_VERSIONS = frozenset({"1.0", "1.1", "2", "3"})


class MeasuredRequest(Measured, Protocol):
    """What is recorded of a request; times are nanoseconds."""

    method: str
    status: int
    template: str | None
    started_at: int
    end_time: int


class RequestMetrics:
    """One request that a meter records, also when its span is not recorded.

    Scheme and version are those it came with: the application may change its scope. `received` and `sent` are bytes.
    """

    __slots__ = ("_active", "_metrics", "_scheme", "_version", "received", "sent")

    def __init__(self, metrics: Metrics, scheme: str, version: str | None) -> None:
        self._metrics = metrics
        self._scheme = scheme if scheme in DEFAULT_PORTS else "http"
        self._version = version if version in _KNOWN_VERSIONS else None
        self._active: Attributes = _NO_LABELS
        self.received = 0
        self.sent = 0

    def started(self, request: MeasuredRequest) -> None:
        """The request began, and the active ones are counted."""
        self._active = {METHOD: request.method, SCHEME: self._scheme}
        self._metrics.started(self._active, request.context)

    def finished(self, request: MeasuredRequest, error: str | None) -> None:
        """The request has ended, with `error` as its `error.type`."""
        labels = request.method, self._scheme, self._version, request.status, request.template, error
        duration = request.end_time - request.started_at
        self._metrics.finished(self._active, labels, request, duration, self.received, self.sent)


_NO_LABELS: Attributes = {}


def request_labels(values: tuple[Any, ...]) -> Attributes:
    """The labels of a request, of method, scheme, version, status, route and error type.

    The status is 0 when no response started; version, route and error type may be None.
    """
    method, scheme, version, status, route, error = values
    labels: Attributes = {METHOD: method, SCHEME: scheme}
    if version is not None:
        labels[PROTOCOL_VERSION] = version
    if status:
        labels[STATUS_CODE] = status
    if route:
        labels[ROUTE] = route
    if error is not None:
        labels[ERROR_TYPE] = error
    return labels


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
