"""Sends what the demo's receiver gets to the collector of `OTEL_EXPORTER_OTLP_ENDPOINT` too, so that it fills a Jaeger.

Reads the caller's `OTEL_EXPORTER_OTLP_*` variables exactly as `configure()` does. A collector that is down or slow
never holds up the demo: requests wait in a bounded queue, and the end waits for a few seconds at most.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from .._configuration.environment import Environment
from .._configuration.otlp_settings import CollectorArguments, collector
from .._configuration.otlp_variables import variables_of
from .._export.answer import Verdict
from .._export.collector import Collector
from .._export.delivery import Delivery
from .._export.signals import TRACES as SPANS
from ..viewer.receive.signals import TRACES, Signal
from ..viewer.text import plural

_WAITING = 1_000
_LAST_CHANCE = 3.0


class Forwarder:
    """One thread that passes trace exports on to `collector`. `problems` are complaints about its variables."""

    def __init__(self, collector: Collector, problems: tuple[str, ...] = ()) -> None:
        self.target: str = collector.target
        self.problems = problems
        self.sent: int = 0
        self.lost: int = 0
        self._delivery = Delivery(collector, SPANS)
        self._queue: queue.Queue[tuple[bytes, int] | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="asgi-trace-forward", daemon=True)
        self._thread.start()

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Forwarder | None:
        """The forwarder that the caller's variables ask for; None when they name no endpoint."""
        environment = Environment(environ)
        if environment.text(*variables_of(SPANS).endpoint) is None:
            return None
        found = collector(SPANS, CollectorArguments(), environment)
        return cls(found, tuple(environment.problems.values()))

    def add(self, signal: Signal, request: Any) -> None:
        """Pass an export of traces on, or count it as lost when too many wait already; other signals stay here."""
        if signal is not TRACES:
            return
        count = sum(len(scoped.spans) for group in request.resource_spans for scoped in group.scope_spans)
        try:
            self._queue.put_nowait((request.SerializeToString(), count))
        except queue.Full:
            self.lost += count

    def close(self) -> None:
        """Send what waits, for at most a few seconds. Idempotent."""
        with suppress(queue.Full):
            self._queue.put_nowait(None)
        self._thread.join(_LAST_CHANCE)
        self._delivery.close()
        self._thread.join(1.0)

    def report(self) -> str:
        """What became of the spans, in one sentence. Right only after `close()`."""
        if not self.lost:
            return f"{plural(self.sent, 'span')} went to {self.target} as well"
        return f"{plural(self.lost, 'span')} did not reach {self.target}, {self.sent} did"

    def _run(self) -> None:
        while (waiting := self._queue.get()) is not None:
            payload, count = waiting
            if self._delivery.deliver(payload, count).verdict is Verdict.DELIVERED:
                self.sent += count
            else:
                self.lost += count
