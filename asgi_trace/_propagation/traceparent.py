"""W3C Trace Context Level 2: `traceparent` (and with it `tracestate`) between header bytes and `SpanContext`.

Every rule carries its section number of https://www.w3.org/TR/trace-context-2/. Carriers, a header that
is repeated against the rules, and trust are the business of other modules.
"""

from __future__ import annotations

import re
from binascii import unhexlify
from collections.abc import Sequence
from typing import Any

from opentelemetry.trace import DEFAULT_TRACE_STATE, SpanContext, TraceFlags, TraceState

from .._otel.api import SPAN_CONTEXT_IS_TUPLE
from .tracestate import format_tracestate, parse_tracestate

__all__ = [
    "RemoteParent",
    "format_traceparent",
    "format_tracestate",
    "parse_traceparent",
    "parse_tracestate",
    "read_remote_parent",
    "read_span_context",
    "remote_ids",
    "remote_span_context",
    "remote_trace_id",
    "write_traceparent",
]

_KNOWN_FLAGS = 0b11  # 3.2.2.5.1: sampled, 3.2.2.5.2: random; 3.2.2.5.3: the others are ignored, and sent as zero
_FLAGS = tuple(TraceFlags(byte & _KNOWN_FLAGS) for byte in range(256))
_FLAGS_TEXT = tuple(f"{byte & _KNOWN_FLAGS:02x}" for byte in range(256))

RemoteParent = tuple[Any, ...]
"""A valid `traceparent` of version 00 as it came, and the two lowest bits of its flags: sampled and random.

Where a `tracestate` came with it, the lines of that are the third item.
"""

_LOW_FLAGS = tuple(int(chr(byte), 16) & _KNOWN_FLAGS if byte in b"0123456789abcdef" else 0 for byte in range(256))
"""The lowest flags, by the last character."""
_DIGITS_TO_ZERO = bytes(48 if byte in b"0123456789abcdef" else 45 if byte == 45 else 63 for byte in range(256))
_SHAPE = b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-00"
"""What a `traceparent` becomes with every digit a zero. Upper-case digits are none (3.2)."""
# Of values of this shape, those of version 00 (3.2.2.2) whose trace-id is not zero (3.2.2.3) are greater than the first
# and less than the second, since no digit is as great as "g"; and a span-id that is not zero (3.2.2.4) makes the end
# greater than the third.
_NO_TRACE, _NEXT_VERSION = b"00-" + b"0" * 32 + b"-g", b"00-g"
_NO_SPAN = b"0" * 16 + b"-g"

_new = tuple.__new__
_translate = bytes.translate
_to_int = int.from_bytes

# 3.2.2: version "-" trace-id "-" parent-id "-" trace-flags, then what only a later version may add (3.2.4).
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[^,]*)?", re.DOTALL)


def parse_traceparent(value: bytes) -> tuple[int, int, TraceFlags] | None:
    """Read one `traceparent` value: trace-id, parent-id and flags; None when Level 2 says to start a new trace.

    Spaces and tabs at both ends do not count. A later version's additions are ignored, except that a comma, which only
    folding two headers into one can have put there, refuses the value.
    """
    match = _TRACEPARENT.fullmatch(value.strip(b" \t"))
    if match is None:
        return None
    version, trace_id_text, span_id_text, flags_text, rest = match.groups()
    if version == b"ff":  # 3.2.2.1
        return None
    if version == b"00" and rest:  # 3.2.2.2: version 00 has nothing more
        return None
    trace_id, span_id = int(trace_id_text, 16), int(span_id_text, 16)
    if trace_id == 0 or span_id == 0:  # 3.2.2.3, 3.2.2.4
        return None
    return trace_id, span_id, _FLAGS[int(flags_text, 16)]


def read_remote_parent(traceparent: bytes) -> RemoteParent | None:
    """Check a `traceparent` as nearly every caller writes it. None for any other, which may be valid all the same.

    Nothing is taken that `parse_traceparent()` refuses. It stays text, since most requests need none of its numbers:
    taking them out took twice the instructions.
    """
    try:
        if (
            _translate(traceparent, _DIGITS_TO_ZERO) == _SHAPE
            and _NO_TRACE < traceparent < _NEXT_VERSION
            and traceparent[36:] > _NO_SPAN
        ):
            return traceparent, _LOW_FLAGS[traceparent[54]]
    except TypeError:  # not bytes: a bytearray, which may change later, or something that is no header
        pass
    return None


def remote_trace_id(found: RemoteParent) -> int:
    """The trace-id of a `traceparent`."""
    return _to_int(unhexlify(found[0][3:35]), "big")


def remote_ids(found: RemoteParent) -> tuple[bytes, bytes]:
    """The trace-id and the parent-id of a `traceparent`, 16 and 8 bytes."""
    traceparent = found[0]
    return unhexlify(traceparent[3:35]), unhexlify(traceparent[36:52])


def remote_span_context(found: RemoteParent) -> SpanContext:
    """The span context that a `traceparent` stands for."""
    trace_id, span_id = remote_ids(found)
    flags = _FLAGS[found[1]]
    state: TraceState = parse_tracestate(found[2]) if len(found) > 2 else DEFAULT_TRACE_STATE
    if SPAN_CONTEXT_IS_TUPLE:  # the constructor would check the ids again
        values = (_to_int(trace_id, "big"), _to_int(span_id, "big"), True, flags, state, True)
        return _new(SpanContext, values)
    return SpanContext(_to_int(trace_id, "big"), _to_int(span_id, "big"), True, flags, state)


def read_span_context(traceparent: bytes, tracestate: Sequence[bytes] = ()) -> SpanContext | None:
    """The remote caller's context, or None. `tracestate` holds the lines of that header, in order.

    A bad `tracestate` never costs the trace-id, and a bad `traceparent` leaves `tracestate` unread (3.3).
    """
    found = read_remote_parent(traceparent)
    if found is not None:
        return remote_span_context((*found, tracestate) if tracestate else found)
    parsed = parse_traceparent(traceparent)
    if parsed is None:
        return None
    trace_id, span_id, flags = parsed
    return SpanContext(trace_id, span_id, True, flags, parse_tracestate(tracestate))


def format_traceparent(span_context: SpanContext) -> str:
    """The `traceparent` of a valid context, in version 00: only the sampled and the random bit are sent."""
    return write_traceparent(span_context.trace_id, span_context.span_id, span_context.trace_flags)


def write_traceparent(trace_id: int, span_id: int, trace_flags: int) -> str:
    """The same, of its parts."""
    trace, span = trace_id.to_bytes(16, "big").hex(), span_id.to_bytes(8, "big").hex()
    return f"00-{trace}-{span}-{_FLAGS_TEXT[trace_flags & 0xFF]}"
