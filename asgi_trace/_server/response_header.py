"""The response header that tells the caller its trace id: `Server-Timing`, `traceresponse` or one of your own.

Formats: W3C Trace Context Level 3 draft (`server-timing: trace;desc=...`), its predecessor `traceresponse`, and the
bare trace id in hex for any other name.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from opentelemetry.trace import SpanContext, format_trace_id

from .._propagation.traceparent import format_traceparent
from .._types import Message

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 5.6.2


def response_header_of(option: str | None) -> Callable[[SpanContext, Message], Message] | None:
    """Turn the option `response_header` into what adds it to a message. Raises ValueError for what is not a name."""
    if option is None:
        return None
    if not isinstance(option, str) or not _TOKEN.fullmatch(option):
        advice = "write 'server-timing', 'traceresponse' or one of your own"
        raise ValueError(f"response_header: {option!r} is not a header name; {advice}")
    name = option.lower()
    encoded = name.encode()
    value_of = {"server-timing": _server_timing, "traceresponse": format_traceparent}.get(name, _trace_id)

    def add(span_context: SpanContext, message: Message) -> Message:
        headers: list[tuple[bytes, bytes]] = list(message.get("headers") or ())
        names = {bytes(key).lower() for key, _ in headers}
        if not span_context.is_valid or (encoded in names and name != "server-timing"):
            return message  # exactly once: what the application says under this name stands
        headers.append((encoded, value_of(span_context).encode()))
        if b"access-control-allow-origin" in names and name != "server-timing":
            headers.append((b"access-control-expose-headers", encoded))  # else a browser's script cannot read it
        return {**message, "headers": headers}

    return add


def _server_timing(span_context: SpanContext) -> str:
    return f"trace;desc={format_traceparent(span_context)}"


def _trace_id(span_context: SpanContext) -> str:
    return format_trace_id(span_context.trace_id)
