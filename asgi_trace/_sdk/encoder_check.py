"""Which encoder to use with the installed version of the official one: ours, when it writes the same bytes.

Both are given a batch that holds one of everything that a span can have. A version that writes a field more, or one
differently, is followed at once, by using it.
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
from .attributes import Bounds
from .encoder import Encode, Encoder, official

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
    return Encoder() if _same_bytes() else official


@cache
def _same_bytes() -> bool:
    try:
        same = Encoder().encode(_sample()) == official(_sample())
    except Exception as exc:
        logger.debug("spans are encoded by the official encoder, since this version is not as expected: %r", exc)
        return False
    if not same:
        logger.debug("spans are encoded by the official encoder, since this version writes other bytes than ours")
    return same


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
            attributes=(_ATTRIBUTES, attributes, None, Bounds(None, None).attributes({"a": "b"}))[number % 4],
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
