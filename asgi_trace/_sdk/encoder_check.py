"""Which encoder to use with the installed version of the official one: ours, where it writes the same bytes.

Both encode a batch that holds one of everything that a span can have. Where a version writes one more field, or writes
one differently, the official encoder is used, which is said once at INFO.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from .._guard import logger
from .attributes import AttributeLimits
from .encoder import Encode, SpanEncoder, official_bytes

_ATTRIBUTES: dict[str, Any] = {
    "text": "a",
    "empty": "",
    "long": "x" * 2000,
    "yes": True,
    "no": False,
    "whole": 1 << 40,
    "negative": -1,
    "float": 0.5,
    "bytes": b"\x00\xff",
    "texts": ("a", "b"),
    "numbers": (1, 0.5, True),
    "mapping": {"a": {"b": 1}},
}


def span_encoder() -> Encode:
    """A function from a batch of spans to the bytes of an `ExportTraceServiceRequest`."""
    return SpanEncoder() if writes_official_bytes() else official_bytes


@cache
def writes_official_bytes() -> bool:
    """Whether our encoder writes what the installed official one writes; found out once."""
    try:
        if SpanEncoder().encode(_sample()) == official_bytes(_sample()):
            return True
        reason = "it writes other bytes than ours"
    except Exception as exc:
        reason = repr(exc)
    logger.info("spans are encoded by the official encoder, since this version of it is not as expected: %s", reason)
    return False


def _sample() -> list[ReadableSpan]:
    attributes = BoundedAttributes(2, {"a": 1, "b": 2})
    attributes.dropped = 300  # as if there had been more
    context = SpanContext(1 << 127 | 5, 1 << 63 | 7, False, TraceFlags(3), TraceState([("a", "1"), ("b", "2")]))
    caller = SpanContext(1 << 127 | 5, 9, True, TraceFlags(1), TraceState([("c", "3")]))
    resources = [Resource({"service.name": "a", "number": 1}, "https://a.test"), Resource({})]
    scopes = [InstrumentationScope("a", "1", "https://b.test", {"a": 1}), InstrumentationScope("b"), None]
    statuses = [Status(), Status(StatusCode.OK), Status(StatusCode.ERROR, "é"), Status(StatusCode.ERROR)]
    kinds = list(SpanKind)
    return [
        ReadableSpan(
            name=f"span {number}" if number else "",
            context=context,
            parent=(None, caller, context)[number % 3],
            resource=resources[number % 2],
            attributes=(_ATTRIBUTES, attributes, None, AttributeLimits(None, None).attributes({"a": "b"}))[number % 4],
            events=[Event("event", attributes, 3), Event("", None, 4)] if number % 3 else (),
            links=[Link(caller, attributes), Link(context)] if number % 4 else (),
            kind=kinds[number % len(kinds)],
            status=statuses[number % 4],
            start_time=1 << 60 if number else None,
            end_time=1 << 61 if number else 0,
            instrumentation_scope=scopes[number % 3],
        )
        for number in range(24)
    ]
