"""Where a provider's ended spans go: into a queue with a thread, or straight to a console that a person watches."""

from __future__ import annotations

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter

from .._export.queue import Batching
from .._export.signals import TRACES
from .._sdk import readable_spans
from .queued_export import ImmediateExport, QueuedExport
from .stop_budget import StopBudget


class BatchingSpanProcessor(QueuedExport[ReadableSpan], SpanProcessor):
    """Hands ended spans to an exporter in batches, from a thread of its own."""

    def __init__(self, exporter: SpanExporter, batching: Batching, budget: StopBudget) -> None:
        super().__init__(exporter, TRACES, batching, budget, prepare=readable_spans)
        self.take_live = self._put
        """Takes a sampled span of `asgi_trace._sdk` as it is, see `TracerSettings.on_end`."""

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span that is sampled."""
        if span.context.trace_flags & 1:  # pyright: ignore[reportOptionalMemberAccess]
            self._put(span)


class ImmediateSpanProcessor(ImmediateExport[ReadableSpan], SpanProcessor):
    """Hands each span to an exporter as soon as it has ended."""

    def __init__(self, exporter: SpanExporter) -> None:
        super().__init__(exporter, TRACES)

    def on_end(self, span: ReadableSpan) -> None:
        """Export a span that is sampled."""
        if span.context.trace_flags & 1:  # pyright: ignore[reportOptionalMemberAccess]
            self._put(span)
