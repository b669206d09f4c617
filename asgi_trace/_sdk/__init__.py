"""Faster drop-ins for the OpenTelemetry SDK's tracer and span, and for the official OTLP encoding of spans.

They do what the SDK's own do, and write the official encoder's bytes; only the time differs. Both are compared with the
installed versions before their first use. Where those differ from what is expected, the SDK's own spans and the
official encoder do the work, which is said once at INFO.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._guard import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Tracer

    from .encoder import Encode

_UNLIKE = "the SDK's own %s used, since this SDK is not as expected: %r"

try:
    from .span import readable_spans
    from .tracer import TracerProvider, fast_tracer
except (ImportError, AttributeError) as exc:  # a name that this version does not have
    logger.info(_UNLIKE, "spans are", exc)
    from opentelemetry.sdk.trace import TracerProvider  # type: ignore[assignment]

    def fast_tracer(tracer: Tracer) -> Tracer:
        """The tracer as it is."""
        return tracer

    def readable_spans(spans: Sequence[ReadableSpan]) -> Sequence[ReadableSpan]:
        """The spans as they are."""
        return spans


def span_encoder() -> Encode | None:
    """A function from a batch of spans to the bytes of an `ExportTraceServiceRequest`. None: take the official one."""
    try:
        from . import encoder_check
    except (ImportError, AttributeError) as exc:
        logger.info(_UNLIKE, "encoder is", exc)
        return None
    return encoder_check.span_encoder()


__all__ = ["TracerProvider", "fast_tracer", "readable_spans", "span_encoder"]
