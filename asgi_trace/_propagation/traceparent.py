"""W3C Trace Context Level 2: `traceparent` (and with it `tracestate`) between header bytes and `SpanContext`.

Every rule carries its section number of https://www.w3.org/TR/trace-context-2/. Carriers, a header that
is repeated against the rules, and trust are the business of other modules.
"""

from __future__ import annotations

import re
import struct
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
    "remote_span_context",
    "write_traceparent",
]

_KNOWN_FLAGS = 0b11  # 3.2.2.5.1: sampled, 3.2.2.5.2: random; 3.2.2.5.3: the others are ignored, and sent as zero
_FLAGS = tuple(TraceFlags(byte & _KNOWN_FLAGS) for byte in range(256))
_FLAGS_TEXT = tuple(f"{byte & _KNOWN_FLAGS:02x}" for byte in range(256))

RemoteParent = tuple[Any, ...]
"""A valid `traceparent` of version 00, taken apart and no more: version, trace-id, parent-id, flags.

Where a `tracestate` came with it, the lines of that are the fifth item.
"""

_unpack = struct.Struct(">B16s8sB").unpack
_to_int = int.from_bytes
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)


_new = tuple.__new__

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
    """Take apart a `traceparent` as nearly every caller writes it. None for any other, which may be valid all the same.

    Nothing is taken that `parse_traceparent()` refuses: islower() refuses upper-case digits, unhexlify() whatever is
    not a digit, and 45 is "-".
    """
    if len(traceparent) == 55 and traceparent[2] == traceparent[35] == traceparent[52] == 45 and traceparent.islower():
        try:
            found = _unpack(unhexlify(traceparent.replace(b"-", b"")))
        except (ValueError, struct.error):
            return None
        if found[0] == 0 and found[1] != _NO_TRACE and found[2] != _NO_SPAN:
            return found
    return None


def remote_span_context(found: RemoteParent) -> SpanContext:
    """The span context that a `traceparent` stands for."""
    _, trace_id, span_id, flags = found[:4]
    state: TraceState = parse_tracestate(found[4]) if len(found) > 4 else DEFAULT_TRACE_STATE
    if SPAN_CONTEXT_IS_TUPLE:  # the constructor would check the ids again
        values = (_to_int(trace_id, "big"), _to_int(span_id, "big"), True, _FLAGS[flags], state, True)
        return _new(SpanContext, values)
    return SpanContext(_to_int(trace_id, "big"), _to_int(span_id, "big"), True, _FLAGS[flags], state)


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
