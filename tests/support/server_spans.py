"""The attributes of the SERVER span of one plain request."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asgi_trace import TraceMiddleware
from asgi_trace.testing import CapturedSpans

from .asgi import OK, attributes_of, drive


def seen(spans: CapturedSpans, scope: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
    """The attributes of the span of a plain 200."""
    spans.clear()
    drive(TraceMiddleware(OK, **options), scope)
    return attributes_of(spans.server)


def shown(spans: CapturedSpans, keys: Iterable[str], scope: dict[str, Any], **options: Any) -> dict[str, Any]:
    """Some of the attributes: those of them that are there."""
    attributes = seen(spans, scope, **options)
    return {key: attributes[key] for key in keys if key in attributes}
