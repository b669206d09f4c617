"""Spans for the tests of applications that use this package, without touching OpenTelemetry's globals.

    def test_orders() -> None:
        with capture_spans() as spans:
            client.get("/orders/7")
        assert [span.name for span in spans] == ["GET /orders/{id}"]

Needs `opentelemetry-sdk` (the extra `otlp`).
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType

from opentelemetry.trace import SpanKind, TracerProvider, format_span_id

from ._otel.tracers import override_provider

try:
    from opentelemetry.sdk.trace import ReadableSpan, SpanLimits
    from opentelemetry.sdk.trace import TracerProvider as SDKTracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler
except ImportError as _missing:
    raise ImportError("asgi_trace.testing needs the SDK: pip install 'asgi-trace[otlp]'") from _missing

__all__ = ["CapturedSpans", "capture_spans"]


class CapturedSpans:
    """The ended spans of one `capture_spans()` block, in the order in which they ended.

    Iteration, length and index work as with a list. `tracer_provider` is the SDK provider that records them: pass it to
    everything else that the test builds (`TraceMiddleware(app, tracer_provider=spans.tracer_provider)`, custom spans).
    `sampler` and `span_limits` are the provider's, as in `capture_spans()`.
    """

    def __init__(self, sampler: Sampler | None = None, span_limits: SpanLimits | None = None) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracer_provider: SDKTracerProvider = SDKTracerProvider(
            sampler=sampler or ParentBased(ALWAYS_ON), span_limits=span_limits, shutdown_on_exit=False
        )
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self._before: TracerProvider | None = None

    @property
    def finished(self) -> list[ReadableSpan]:
        """The spans that have ended so far."""
        return list(self._exporter.get_finished_spans())

    def clear(self) -> None:
        """Forget the spans so far."""
        self._exporter.clear()

    def of_kind(self, kind: SpanKind) -> list[ReadableSpan]:
        """The ended spans of one kind."""
        return [span for span in self.finished if span.kind is kind]

    def children_of(self, parent: ReadableSpan) -> list[ReadableSpan]:
        """The ended spans whose parent is `parent`."""
        span_id = _span_id(parent)
        return [span for span in self.finished if span.parent and span.parent.span_id == span_id]

    @property
    def server(self) -> ReadableSpan:
        """The one SERVER span. Raises AssertionError when there is none or more than one."""
        return self._only(SpanKind.SERVER)

    @property
    def client(self) -> ReadableSpan:
        """The one CLIENT span. Raises AssertionError when there is none or more than one."""
        return self._only(SpanKind.CLIENT)

    def _only(self, kind: SpanKind) -> ReadableSpan:
        found = self.of_kind(kind)
        if len(found) != 1:
            seen = [f"{span.name} ({span.kind.name}, {format_span_id(_span_id(span))})" for span in self]
            raise AssertionError(f"expected one {kind.name} span, got {len(found)}; all spans: {seen}")
        return found[0]

    def __iter__(self) -> Iterator[ReadableSpan]:
        return iter(self.finished)

    def __len__(self) -> int:
        return len(self.finished)

    def __getitem__(self, index: int) -> ReadableSpan:
        return self.finished[index]

    def __enter__(self) -> CapturedSpans:
        """Capture from here on; the block gets this object."""
        self._before = override_provider(self.tracer_provider)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Put the provider that was there before back. The captured spans stay."""
        override_provider(self._before)


def capture_spans(sampler: Sampler | None = None, *, span_limits: SpanLimits | None = None) -> CapturedSpans:
    """Capture the spans of every `TraceMiddleware`, transport and `traced` function without a provider of its own.

    Use it in a `with` block: inside it, this package's default provider is one that keeps spans in memory. Custom spans
    are captured when their tracer comes from `spans.tracer_provider`. `sampler` is `ParentBased(ALWAYS_ON)` unless
    given, `span_limits` are those of the environment. Blocks nest; processes (pytest-xdist) do not see the spans of
    each other.
    """
    return CapturedSpans(sampler, span_limits)


def _span_id(span: ReadableSpan) -> int:
    assert span.context is not None  # noqa: S101 - what has ended has one
    span_id: int = span.context.span_id
    return span_id
