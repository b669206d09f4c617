"""contrib's instrumentation of the same client: when it is the one that traces a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from opentelemetry.trace import SpanKind

from .._semconv.names import URL_FULL

CONTRIB = "opentelemetry.instrumentation.httpx"


def is_traced_by_contrib(span: object, request: Any) -> bool:
    """Is `span` the one that contrib, wrapped around this transport, made for this request?"""
    scope = getattr(span, "instrumentation_scope", None)
    if scope is None or scope.name != CONTRIB or getattr(span, "kind", None) is not SpanKind.CLIENT:
        return False
    attributes: Mapping[str, Any] = getattr(span, "attributes", None) or {}
    url = attributes.get(URL_FULL) or attributes.get("http.url")
    return isinstance(url, str) and _place(url) == _place(str(request.url))


def _place(url: str) -> tuple[str, str, str]:
    """Scheme, authority without credentials, and path: what no redaction changes."""
    scheme, _, rest = re.split(r"[?#]", url, maxsplit=1)[0].partition("://")
    authority, _, path = rest.partition("/")
    return scheme, authority.rpartition("@")[2], path
