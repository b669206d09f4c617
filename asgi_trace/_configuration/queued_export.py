"""What stands before an exporter, whatever the signal: a queue with a thread, or nothing for a console."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from opentelemetry.metrics import MeterProvider

from .._export.foreign import counting
from .._export.losses import Losses
from .._export.pipeline import Pipeline
from .._export.queue import Batching, BatchQueue
from .._export.self_metrics import ProcessorMetrics
from .._export.signals import Signal
from .._export.suppression import suppressed
from .._guard import Guard
from .stop_budget import StopBudget

T = TypeVar("T")


class QueuedExport(Generic[T]):
    """Hands items to an exporter in batches, from a thread of its own.

    `force_flush()` and `shutdown()` keep their time, which the SDK's own batch processors do not. An exporter of ours
    has a `ship()` that counts what it loses, and a `delivery`. Any other exporter gets what `prepare` makes of a batch.
    """

    def __init__(
        self,
        exporter: Any,
        signal: Signal,
        batching: Batching,
        budget: StopBudget,
        prepare: Callable[[Sequence[T]], Sequence[T]] = lambda batch: batch,
    ) -> None:
        delivery = getattr(exporter, "delivery", None)
        ship: Callable[[Sequence[T]], int] = exporter.ship if delivery else counting(exporter, signal.things, prepare)
        self._signal = signal
        self._budget = budget
        self._queue: BatchQueue[T] = BatchQueue(
            ship, batching, Losses(signal.things), settle=exporter.force_flush, close=exporter.shutdown
        )
        self.pipeline = Pipeline(self._queue.losses, delivery, self._queue.give_up)
        self._put = self._queue.put

    def observe(self, meters: MeterProvider) -> None:
        """Measure this processor with these meters from now on."""
        queue = self._queue
        queue.metrics = ProcessorMetrics(meters, self._signal, (queue.batching.queue_size, lambda: len(queue)))

    def force_flush(self, timeout_millis: float | None = None) -> bool:
        """Whether all that came before now has arrived in time, and nothing was lost since the last call."""
        self._budget.flush_begins()
        self.pipeline.hurry()
        flushed = self._queue.flush(30.0 if timeout_millis is None else timeout_millis / 1000)
        self.pipeline.relax()
        self._budget.flush_ends(flushed)
        return flushed

    def shutdown(self) -> None:
        """Export what is queued and stop for good, as long as the budget allows. What is left is lost, and counted."""
        self._budget.begin_stop()
        self.pipeline.hurry()
        if not self._queue.stop(self._budget.left()):
            self.pipeline.close()
            self._queue.stop(0.1)  # what was cut off ends at once
            self.pipeline.give_up()


class ImmediateExport(Generic[T]):
    """Hands each item to an exporter at once, as for a console that a person watches."""

    def __init__(self, exporter: Any, signal: Signal) -> None:
        losses = Losses(signal.things)
        self._signal = signal
        self._metrics: ProcessorMetrics | None = None
        self.pipeline = Pipeline(losses, None, losses.give_up)
        self._exporter = exporter
        self._ship: Callable[[Sequence[T]], int] = counting(exporter, signal.things)
        self._guard = Guard()
        self._stopped = False

    def observe(self, meters: MeterProvider) -> None:
        """Measure this processor with these meters from now on."""
        self._metrics = ProcessorMetrics(meters, self._signal, None)

    def _put(self, item: T) -> None:
        if self._stopped:
            if self._metrics is not None:
                self._metrics.dropped("already_shutdown")
            return
        if self._metrics is not None:
            self._metrics.passed_on(1)
        try:
            with suppressed():
                lost = self._ship((item,))
        except Exception:
            self._guard.report(f"exporting {self.pipeline.losses.things}")
            lost = 1
        self.pipeline.losses.add(lost)

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Whether nothing was lost since the last call."""
        flush = getattr(self._exporter, "force_flush", None)
        return (flush is None or flush() is not False) and self.pipeline.losses.none_since_last_asked()

    def shutdown(self) -> None:
        """Export nothing any more."""
        self._stopped = True
        self._exporter.shutdown()
