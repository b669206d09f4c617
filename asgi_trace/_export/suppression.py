"""No instrumentation traces what an exporter does: neither ours nor that of other libraries."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

from opentelemetry.context import attach, detach, set_value

from .._otel.api import SUPPRESS, SUPPRESS_HTTP


@contextmanager
def suppressed() -> Generator[None, None, None]:
    """Mark the current context, as the SDK's own processors do, until the block ends."""
    token = attach(set_value(SUPPRESS, True, set_value(SUPPRESS_HTTP, True)))
    try:
        yield
    finally:
        detach(token)
