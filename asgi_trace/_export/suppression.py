"""No instrumentation traces what an exporter does: neither ours nor that of other libraries."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.context import attach, detach, set_value

try:
    from opentelemetry.context import _SUPPRESS_HTTP_INSTRUMENTATION_KEY as _SUPPRESS_HTTP
    from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY as _SUPPRESS
except ImportError:
    _SUPPRESS, _SUPPRESS_HTTP = "suppress_instrumentation", "suppress_http_instrumentation"


@contextmanager
def suppressed() -> Iterator[None]:
    """Mark the current context, as the SDK's own processors do, until the block ends."""
    token = attach(set_value(_SUPPRESS, True, set_value(_SUPPRESS_HTTP, True)))
    try:
        yield
    finally:
        detach(token)
