"""What a collector's answer means: read from gRPC and from HTTP, and trusted in nothing.

Follows the OTLP specification: which failures may be tried again, the delay that the collector asks for, partial
success. What cannot be read is ignored, a number is kept within its bounds, and a text becomes one printable line.
Pure.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from http import HTTPStatus
from typing import Any

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from .signals import Signal


class Verdict(Enum):
    """What follows from an answer."""

    DELIVERED = auto()
    AGAIN = auto()
    """It may be sent again."""
    TOO_LARGE = auto()
    """It may be sent again in smaller parts."""
    REFUSED = auto()


@dataclass(frozen=True)
class Answer:
    """What came of one attempt to send a request."""

    verdict: Verdict
    reason: str = ""
    """One line for a log."""
    delay: float | None = None
    """Seconds that the collector wants to be left alone; above 0."""
    rejected: int = 0
    """How many of the request the collector took and threw away."""
    stale: bool = False
    """The connection may be dead: the next attempt must open a new one."""
    attributes: Mapping[str, str | int] = field(default_factory=dict)
    """The failure, for the SDK's metrics of itself."""


_LINE = 300
_LONGEST_DELAY = 1e6
_STATUS_DETAILS, _RETRY_INFO = "grpc-status-details-bin", "google.rpc.retryinfo-bin"
_TOO_LARGE = re.compile(r"larger than|too large|exceeds (the )?max", re.IGNORECASE)
"""What the gRPC libraries say of a message that exceeds their limit (C, Go; Rust; Java, .NET): no code says it."""
_LIMIT_CODES = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.OUT_OF_RANGE}
_STALE_CODES = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED}
_GRPC_HINTS = {
    grpc.StatusCode.UNAVAILABLE: "is it running? OTLP/gRPC usually listens on port 4317, OTLP/HTTP on 4318",
    grpc.StatusCode.UNIMPLEMENTED: "does it speak OTLP/gRPC on this port?",
    grpc.StatusCode.UNAUTHENTICATED: "check the headers",
    grpc.StatusCode.PERMISSION_DENIED: "check the headers",
}
TLS_HINT = "does it speak TLS on this port, with a certificate of an authority that is trusted here?"
_RETRYABLE_STATUS = {429, 502, 503, 504}
_HTTP_HINTS = {
    401: "check the headers",
    403: "check the headers",
    404: "does it speak OTLP/HTTP at this path? An endpoint for all signals has no path",
    405: "does it speak OTLP/HTTP at this path? An endpoint for all signals has no path",
}


def line(text: object) -> str:
    """A foreign text as one printable line, cut where it is long."""
    return "".join(char if char.isprintable() else " " for char in str(text)[:_LINE]).strip()


def delivered(response: Any, count: int, signal: Signal) -> Answer:
    """A request of `count` things arrived; `response` is what the collector said, as bytes, perhaps of part of them."""
    try:
        partial = signal.response.FromString(response).partial_success
    except (DecodeError, TypeError, ValueError):
        return Answer(Verdict.DELIVERED)
    rejected = min(max(0, getattr(partial, signal.rejected)), count)
    return Answer(Verdict.DELIVERED, line(partial.error_message), rejected=rejected)


def from_rpc_error(exc: Any, retryable: frozenset[Any]) -> Answer:
    """The failure of a gRPC call. `retryable` are the status codes that may be tried again."""
    code, details = exc.code(), str(exc.details() or "")
    hint = TLS_HINT if "handshake failed" in details else _GRPC_HINTS.get(code)
    delay = _grpc_delay(exc.trailing_metadata() or ())
    if code in _LIMIT_CODES and delay is None and _TOO_LARGE.search(details):
        verdict = Verdict.TOO_LARGE
    else:
        verdict = Verdict.AGAIN if delay is not None or code in retryable else Verdict.REFUSED
    return Answer(
        verdict,
        f"{code.name}, {line(details)}" + (f" ({hint})" if hint else ""),
        delay=delay,
        stale=code in _STALE_CODES,
        attributes={"error.type": type(exc).__qualname__, "rpc.response.status_code": code.name},
    )


def _grpc_delay(trailers: Any) -> float | None:
    for key, value in trailers:
        try:
            if key == _RETRY_INFO and (delay := _seconds(RetryInfo.FromString(value))):
                return delay
            if key == _STATUS_DETAILS:
                for detail in Status.FromString(value).details:
                    info = RetryInfo()
                    if detail.Unpack(info) and (delay := _seconds(info)):
                        return delay
        except (DecodeError, TypeError, ValueError):
            continue
    return None


def _seconds(info: RetryInfo) -> float | None:
    return _usable(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)


def _usable(seconds: float) -> float | None:
    return min(seconds, _LONGEST_DELAY) if 0 < seconds < math.inf else None


def from_http(status: int, headers: Mapping[str, str], body: bytes, count: int, signal: Signal) -> Answer:
    """The response to an HTTP request that carried `count` things."""
    if 200 <= status < 300:
        return delivered(body, count, signal)
    said = _http_message(headers, body)
    attributes: dict[str, str | int] = {"error.type": str(status), "http.response.status_code": status}
    delay = _retry_after(headers.get("retry-after", "")) if status in _RETRYABLE_STATUS else None
    if 300 <= status < 400:
        said, hint = "", "a redirect is not followed: set the endpoint to the address where the collector is"
    else:
        hint = _HTTP_HINTS.get(status, "")
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE or (status == HTTPStatus.BAD_REQUEST and _TOO_LARGE.search(said)):
        verdict = Verdict.TOO_LARGE
    else:
        verdict = Verdict.AGAIN if status in _RETRYABLE_STATUS else Verdict.REFUSED
    reason = ", ".join(filter(None, (f"HTTP {_status_words(status)}", said)))
    return Answer(verdict, reason + (f" ({hint})" if hint else ""), delay=delay, attributes=attributes)


def _status_words(status: int) -> str:
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _http_message(headers: Mapping[str, str], body: bytes) -> str:
    """What the body says: a `google.rpc.Status`, as OTLP asks for, or a text."""
    if "protobuf" in headers.get("content-type", ""):
        try:
            return line(Status.FromString(body).message)
        except DecodeError:
            return ""
    return line(body[:_LINE].decode("utf-8", "replace"))


def _retry_after(value: str) -> float | None:
    """Seconds, from either form of the header `Retry-After`."""
    try:
        return _usable(float(value))
    except ValueError:
        pass
    try:
        return _usable(parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
