"""Faster drop-ins for the OpenTelemetry SDK's tracer and span, and for the official OTLP encoding of spans.

They do what the SDK's own do, and write the official encoder's bytes; only the time differs. Both are compared with the
installed versions before their first use. Where those differ from what is expected, the SDK's own spans and the
official encoder do the work, which is said once at INFO.
"""

from __future__ import annotations

from .._guard import logger

try:
    from .encoder_check import span_encoder
    from .tracer import TracerProvider
except (ImportError, AttributeError) as exc:  # a name that this version does not have
    logger.info("the SDK's own spans and encoder are used, since this SDK is not as expected: %r", exc)
    from opentelemetry.sdk.trace import TracerProvider  # type: ignore[assignment]

    def span_encoder() -> None:  # type: ignore[misc]
        """None, which an exporter takes as the official encoder."""


__all__ = ["TracerProvider", "span_encoder"]
