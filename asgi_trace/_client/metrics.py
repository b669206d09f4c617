"""The metrics of one send: its labels, and how many bytes went each way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry.context import Context

from .._otel.api import SPAN_KEY
from .._otel.metrics import Metrics
from .._semconv.names import METHOD, SERVER_ADDRESS, SERVER_PORT, URL_TEMPLATE
from .._types import Attributes, AttributeValue
from .library import Library

_LABELS = (METHOD, SERVER_ADDRESS, SERVER_PORT, URL_TEMPLATE)


class CallMetrics:
    """One send that a meter records: its labels are among `attributes`.

    `labels` grow until it ends; those it starts with are the active request's. `sent` and `received` are bytes of the
    bodies, counted only for the instruments that want them.
    """

    __slots__ = ("_active", "_metrics", "_upload", "context", "labels", "received", "sent")

    context: Context
    """What is current during the send."""

    def __init__(self, metrics: Metrics, attributes: Mapping[str, AttributeValue]) -> None:
        self._metrics = metrics
        self.labels: Attributes = {label: attributes[label] for label in _LABELS if label in attributes}
        self._active = self.labels.copy()
        self._upload: Any = None
        self.sent = 0
        self.received = 0

    def started(self, context: Context, request: Any, library: Library) -> None:
        """The request is about to be sent."""
        self.context = context
        self._metrics.started(self._active, context)
        if not self._metrics.counts_bodies:
            return
        length = request.headers.get("content-length", "")
        if length.isdigit():
            self.sent = int(length)
            return
        stream = request.stream
        if isinstance(stream, library.stream) and not isinstance(stream, library.memory_stream):
            if isinstance(stream, library.body) and isinstance(stream._watcher, _Upload):
                stream = stream._stream  # the same request is on its way elsewhere, and is counted there
            request.stream = self._upload = library.body(stream, _Upload(self))

    def sent_all(self, request: Any) -> None:
        """The request is no longer on its way: its body is the caller's again."""
        if self._upload is not None and request.stream is self._upload:
            request.stream = self._upload._stream

    def arrived(self, response: Any) -> None:
        """The response came with its whole body."""
        if self._metrics.counts_bodies:
            length = response.headers.get("content-length", "")
            self.received = int(length) if length.isdigit() else len(response.content)

    @property
    def span(self) -> object:
        """The span of the send, also where that is not recorded."""
        return self.context.get(SPAN_KEY)

    def finished(self, nanoseconds: int) -> None:
        """The send has ended, after as long as its span."""
        labels = tuple(self.labels.items())
        self._metrics.finished(self._active, labels, self, nanoseconds, self.sent, self.received)


class _Upload:
    """Watches a request's body as a `Call` watches the response's."""

    __slots__ = ("_measured",)

    def __init__(self, measured: CallMetrics) -> None:
        self._measured = measured

    def read(self, size: int) -> None:
        self._measured.sent += size

    def failed(self, exc: BaseException) -> None:
        """The transport raises it, too."""

    def finished(self) -> None:
        """The response has yet to come."""

    def closed(self) -> None:
        """The transport needs no more of it."""

    def dropped(self) -> None:
        """The call ends with its response."""
