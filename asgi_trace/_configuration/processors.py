"""Where a provider's ended spans go: into a queue with a thread, or straight to a console that a person watches."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter

from .._export.exporters import OTLPSpanExporter
from .._export.foreign import counting
from .._export.losses import Losses
from .._export.pipeline import Pipeline
from .._export.queue import Batching, BatchQueue
from .._export.signals import TRACES
from .._export.suppression import suppressed
from .._guard import Guard
from .stop_budget import StopBudget

Ship = Callable[[Sequence[ReadableSpan]], int]


class BatchingSpanProcessor(SpanProcessor):
    """Hands ended spans to an exporter in batches, from a thread of its own.

    `force_flush()` and `shutdown()` keep their time, which the SDK's own batch processor does not.
    """

    def __init__(self, exporter: SpanExporter, batching: Batching, budget: StopBudget) -> None:
        ours = exporter if isinstance(exporter, OTLPSpanExporter) else None
        ship: Ship = ours.ship if ours else counting(exporter, TRACES.things)
        self._budget = budget
        self._queue: BatchQueue[ReadableSpan] = BatchQueue(
            ship,
            batching,
            Losses(TRACES.things),
            settle=exporter.force_flush,
            close=exporter.shutdown,
        )
        self.pipeline = Pipeline(self._queue.losses, ours.delivery if ours else None, self._queue.give_up)
        self._put = self._queue.put

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span that is sampled."""
        if span.context.trace_flags & 1:
            self._put(span)

    def force_flush(self, timeout_millis: float | None = None) -> bool:
        """Whether all spans that ended before now have arrived in time, and none was lost since the last call."""
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


class ImmediateSpanProcessor(SpanProcessor):
    """Hands each span to an exporter as soon as it has ended, as for a console that a person watches."""

    def __init__(self, exporter: SpanExporter) -> None:
        losses = Losses(TRACES.things)
        self.pipeline = Pipeline(losses, None, losses.give_up)
        self._exporter = exporter
        self._ship: Ship = counting(exporter, TRACES.things)
        self._guard = Guard()
        self._stopped = False

    def on_end(self, span: ReadableSpan) -> None:
        """Export a span that is sampled."""
        if self._stopped or not span.context.trace_flags & 1:
            return
        try:
            with suppressed():
                lost = self._ship((span,))
        except Exception:
            self._guard.report("exporting a span")
            lost = 1
        self.pipeline.losses.add(lost)

    def force_flush(self, timeout_millis: float = 30_000) -> bool:
        """Whether no span was lost since the last call."""
        return self._exporter.force_flush() is not False and self.pipeline.losses.none_since_last_asked()

    def shutdown(self) -> None:
        """Export nothing any more."""
        self._stopped = True
        self._exporter.shutdown()
