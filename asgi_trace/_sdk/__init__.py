"""Faster drop-ins for the OpenTelemetry SDK's tracer and span, and for the official OTLP encoding of spans.

What they do is what the SDK's own do, and the bytes are the official encoder's; only the time differs. Both are held
against the installed versions before they are used first, and stand aside where those do something else. `configure()`
uses them; nothing else in this package knows of them.
"""

from __future__ import annotations

from .._guard import logger

try:
    from .encoder_check import span_encoder
    from .tracer import TracerProvider
except (ImportError, AttributeError) as exc:  # a name that only the versions known today have
    logger.debug("the SDK's own spans and encoder are used, since this SDK is not as expected: %r", exc)
    from opentelemetry.sdk.trace import TracerProvider  # type: ignore[assignment]

    def span_encoder() -> None:  # type: ignore[misc]
        """None: an exporter then has the official one."""


__all__ = ["TracerProvider", "span_encoder"]
