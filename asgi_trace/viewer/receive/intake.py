"""One export request into the store, whichever port it came through, and the answer that its sender gets."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any

from .otlp import histograms_of, logs_of, spans_of
from .signals import LOGS, METRICS, TRACES, Signal
from .store import Store

_LOGGER = logging.getLogger("asgi_trace")

Watcher = Callable[[Signal, Any], None]


class Intake:
    """Fills `store`. Each of `watchers` is called with every signal and request after it was stored, in a thread of a
    receiver; it must neither raise nor take long. `complain` gets a sentence for the first case of each kind of fault.
    """

    def __init__(
        self,
        store: Store,
        *,
        watchers: tuple[Watcher, ...] = (),
        complain: Callable[[str], None] = _LOGGER.warning,
    ) -> None:
        self.store = store
        self._watchers = watchers
        self._complain = complain
        self._said: set[str] = set()
        self._lock = threading.Lock()
        self._consume = {TRACES: self._traces, LOGS: self._logs, METRICS: self._metrics}

    def take(self, signal: Signal, request: Any) -> Any:
        """Store the request and return its response. A fault of ours is logged, and the sender is not told of it."""
        response = signal.response()
        try:
            self._consume[signal](request, response)
        except Exception:
            _LOGGER.exception("asgi_trace.viewer: an export of %s could not be stored", signal.name)
        for watcher in self._watchers:
            watcher(signal, request)
        return response

    def say_once(self, kind: str, sentence: str) -> None:
        """Complain about the first fault of a kind; what follows of the same kind is not said again."""
        with self._lock:
            if kind in self._said or len(self._said) > 1_000:
                return
            self._said.add(kind)
        self._complain(sentence)

    def _traces(self, request: Any, response: Any) -> None:
        spans, unusable = spans_of(request)
        self.store.add_spans(spans)
        if unusable:
            self.store.count_unusable(unusable)
            reason = f"{unusable} of {unusable + len(spans)} spans have an unusable trace or span id"
            response.partial_success.rejected_spans = unusable
            response.partial_success.error_message = reason
            self.say_once("ids", f"an export was taken in part: {reason}")

    def _logs(self, request: Any, response: Any) -> None:
        for log in logs_of(request):
            self.store.add_log(log)

    def _metrics(self, request: Any, response: Any) -> None:
        for point, delta in histograms_of(request):
            self.store.set_histogram(point, delta=delta)
