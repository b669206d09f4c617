"""What a span says of how a WebSocket went, and how a test writes down what it should say."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode

from .asgi import attributes_of

CLOSE_CODE = "asgi_trace.websocket.close_code"
RECEIVED, SENT = "asgi_trace.websocket.messages_received", "asgi_trace.websocket.messages_sent"
GONE_MARK, CANCELLED_MARK = "asgi_trace.client_disconnected", "asgi_trace.cancelled"

Outcome = dict[str, Any]


def outcome(span: ReadableSpan) -> Outcome:
    """Everything that the span says of how the socket went; no error and no events unless they are named."""
    keys = ("http.response.status_code", "error.type", CLOSE_CODE, RECEIVED, SENT, GONE_MARK, CANCELLED_MARK)
    found = {key: value for key, value in attributes_of(span).items() if key in keys}
    if span.status.status_code is not StatusCode.UNSET:
        found["status"] = span.status.status_code.name
    if span.events:
        found["events"] = len(span.events)
    return found


def code(status: int) -> Outcome:
    """The outcome of a handshake with this answer, without an error."""
    return {"http.response.status_code": status}


def opened(received: int = 0, sent: int = 0, close: int | None = None) -> Outcome:
    """The outcome of a socket that was accepted, without an error."""
    return {**code(101), RECEIVED: received, SENT: sent, **({} if close is None else {CLOSE_CODE: close})}


def error(kind: str, events: int = 0) -> Outcome:
    """What an error adds to an outcome."""
    return {"status": "ERROR", "error.type": kind, **({"events": events} if events else {})}
