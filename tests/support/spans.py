"""Ended spans, for exporters."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.sdk.trace import ReadableSpan

from asgi_trace.testing import capture_spans


def spans(*names: str, size: int = 0) -> Sequence[ReadableSpan]:
    """One ended span for each name, with an attribute of `size` characters."""
    attributes = {"filling": "x" * size} if size else {}
    with capture_spans() as captured:
        for name in names or ("GET",):
            captured.tracer_provider.get_tracer("test").start_span(name, attributes=attributes).end()
        return captured.finished
