"""W3C Trace Context Level 2: `traceparent` and `tracestate` between header bytes and `SpanContext`.

Every rule carries its section number of https://www.w3.org/TR/trace-context-2/. Where the specification leaves a
choice, the function's docstring says which one was made. Knows nothing of carriers, of repeated headers that are an
error, or of who may be trusted.
"""

from __future__ import annotations

import re
import struct
from binascii import unhexlify
from collections.abc import Callable, ItemsView, Iterable, Iterator, KeysView, Sequence, ValuesView

from opentelemetry.trace import DEFAULT_TRACE_STATE, SpanContext, TraceFlags, TraceState

__all__ = [
    "Level2TraceState",
    "format_traceparent",
    "format_tracestate",
    "parse_traceparent",
    "parse_tracestate",
    "read_span_context",
]

MAX_MEMBERS = 32  # 3.3.1.1
MAX_LENGTH = 8192  # 3.3.1.5 asks for at least 512; servers commonly refuse longer header lines
LONG_MEMBER = 128  # 3.3.1.5: what is longer goes first

_KNOWN_FLAGS = TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID
# 3.2.2.5.3: the other bits are ignored when read and zero when sent.
_FLAGS = tuple(TraceFlags(byte & _KNOWN_FLAGS) for byte in range(256))
_FLAGS_TEXT = tuple(f"{byte & _KNOWN_FLAGS:02x}" for byte in range(256))

_unpack = struct.Struct(">B16sQB").unpack
_to_int = int.from_bytes


def _remote_constructor() -> Callable[[int, int, TraceFlags, TraceState], SpanContext]:
    """What makes a remote `SpanContext` from ids that are known to be valid.

    The class is a tuple whose constructor checks the ids again: a quarter of the cost of reading a header. Where a
    tuple made here is not what the constructor makes (another version of the API), the constructor is called.
    """

    def checked(trace_id: int, span_id: int, flags: TraceFlags, state: TraceState) -> SpanContext:
        return SpanContext(trace_id, span_id, True, flags, state)

    make = tuple.__new__

    def unchecked(trace_id: int, span_id: int, flags: TraceFlags, state: TraceState) -> SpanContext:
        return make(SpanContext, (trace_id, span_id, True, flags, state, True))

    sample = (1, 2, _FLAGS[1], DEFAULT_TRACE_STATE)
    try:
        same = tuple(unchecked(*sample)) == tuple(checked(*sample)) and unchecked(*sample).is_valid
    except TypeError:
        same = False
    return unchecked if same else checked


_remote = _remote_constructor()

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


def read_span_context(traceparent: bytes, tracestate: Sequence[bytes] = ()) -> SpanContext | None:
    """The remote caller's context, or None. `tracestate` holds the lines of that header, in order.

    A bad `tracestate` never costs the trace-id, and a bad `traceparent` leaves `tracestate` unread (3.3).
    """
    # Fast path: version 00 in its exact shape (45 is "-"). islower() refuses upper-case digits and unhexlify() all that
    # are none, so nothing is taken here that parse_traceparent() refuses; it decides about what is not taken.
    if len(traceparent) == 55 and traceparent[2] == traceparent[35] == traceparent[52] == 45 and traceparent.islower():
        try:
            version, trace_id_bytes, span_id, flag_bits = _unpack(unhexlify(traceparent.replace(b"-", b"")))
        except (ValueError, struct.error):
            return None
        trace_id = _to_int(trace_id_bytes, "big")
        if version == 0 and trace_id and span_id:
            flags = _FLAGS[flag_bits]
            if tracestate:
                return _remote(trace_id, span_id, flags, parse_tracestate(tracestate))
            return _remote(trace_id, span_id, flags, DEFAULT_TRACE_STATE)
    parsed = parse_traceparent(traceparent)
    if parsed is None:
        return None
    trace_id, span_id, flags = parsed
    return SpanContext(trace_id, span_id, True, flags, parse_tracestate(tracestate))


def format_traceparent(span_context: SpanContext) -> str:
    """The `traceparent` of a valid context, in version 00: only the sampled and the random bit are sent."""
    trace_id, span_id = span_context.trace_id.to_bytes(16, "big").hex(), span_context.span_id.to_bytes(8, "big").hex()
    return f"00-{trace_id}-{span_id}-{_FLAGS_TEXT[span_context.trace_flags & 0xFF]}"


# 3.3.1.3.1 (Level 2): a digit may lead, and "@" may stand anywhere but there.
_KEY = r"[a-z0-9][a-z0-9_\-*/@]{0,255}"
# 3.3.1.3.2: printable ASCII but "," and "="; the last character is no space.
_VALUE = r"[ -+\--<>-~]{0,255}[!-+\--<>-~]"
_match_key = re.compile(_KEY).fullmatch
_match_value = re.compile(_VALUE).fullmatch
_match_member = re.compile(f"({_KEY})=({_VALUE})").fullmatch


def parse_tracestate(values: Sequence[bytes]) -> TraceState:
    """Read the lines of `tracestate` as one list (3.3.1).

    One illegal member, or a 33rd, discards the whole list (3.3.1.1, 3.3.1.3); of two members with one key the first is
    kept; a list longer than 8,192 characters loses whole members in the order that 3.3.1.5 gives.
    """
    return Level2TraceState.from_header([b",".join(values).decode("latin-1")])


def format_tracestate(trace_state: TraceState, *, forwarded: bool = False) -> str:
    """The `tracestate` value, empty when there is nothing to send.

    `forwarded` says that the `traceparent` it belongs to goes out unchanged: then this must too, repeated keys and all
    (3.4), where a participant sends one member for each key (3.3.1.4).
    """
    if forwarded and isinstance(trace_state, Level2TraceState):
        return trace_state.received or trace_state.to_header()
    return trace_state.to_header()


class Level2TraceState(TraceState):
    """A `TraceState` with the key grammar of Level 2, where the API's own still has that of Level 1.

    Immutable. What `add` and `update` are given and is not legal leaves everything as it is. `received` is the list as
    the caller wrote it, where that had repeated keys.
    """

    received: str | None = None

    def __init__(self, entries: Iterable[tuple[str, str]] | None = None) -> None:
        """Keep the legal ones of `entries`, of equal keys the first, and of more than 32 the first 32."""
        super().__init__()
        self._members: dict[str, str] = {}
        for key, value in entries or ():
            if _is_legal(key, value) and len(self._members) < MAX_MEMBERS:
                self._members.setdefault(key, value)

    @classmethod
    def _of(cls, members: dict[str, str]) -> Level2TraceState:
        state = cls.__new__(cls)
        TraceState.__init__(state)
        state._members = members
        return state

    @classmethod
    def from_header(cls, header_list: list[str]) -> Level2TraceState:
        """Read the lines of the header in order; empty when they break a rule (see `parse_tracestate`)."""
        members: dict[str, str] = {}
        count = length = 0
        texts = ",".join(header_list).split(",")
        for text in texts:
            member = text.strip(" \t")
            if not member:  # 3.3.1.1: an empty member is legal and means nothing
                continue
            match = _match_member(member)
            count += 1
            if match is None or count > MAX_MEMBERS:
                return cls()
            length += len(member) + 1
            key, value = match.groups()
            if key not in members:
                members[key] = value
        if length > MAX_LENGTH + 1:
            return cls._of(_truncated(members))
        state = cls._of(members)
        if count != len(members):
            state.received = ",".join(filter(None, (text.strip(" \t") for text in texts)))
        return state

    @classmethod
    def get_default(cls) -> Level2TraceState:
        """The empty one."""
        return cls()

    def add(self, key: str, value: str) -> Level2TraceState:
        """A copy with a new member at the left (3.5); a 33rd pushes the rightmost out. A key that is there stays."""
        return self if key in self._members else self.update(key, value)

    def update(self, key: str, value: str) -> Level2TraceState:
        """A copy with this member at the left, new or changed (3.5)."""
        if not _is_legal(key, value):
            return self
        members = {key: value}
        for other, its in self._members.items():
            if other != key and len(members) < MAX_MEMBERS:
                members[other] = its
        return self._of(members)

    def delete(self, key: str) -> Level2TraceState:
        """A copy without this member."""
        if key not in self._members:
            return self
        return self._of({other: value for other, value in self._members.items() if other != key})

    def to_header(self) -> str:
        """The members as one header value."""
        return ",".join([f"{key}={value}" for key, value in self._members.items()])

    def __contains__(self, item: object) -> bool:
        return item in self._members

    def __getitem__(self, key: str) -> str:
        return self._members[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __repr__(self) -> str:
        """As the API writes it: the SDK puts this text into `ReadableSpan.to_json()`."""
        return str([f"{{key={key}, value={value}}}" for key, value in self._members.items()])

    def keys(self) -> KeysView[str]:
        return self._members.keys()

    def items(self) -> ItemsView[str, str]:
        return self._members.items()

    def values(self) -> ValuesView[str]:
        return self._members.values()


def _is_legal(key: object, value: object) -> bool:
    return (
        isinstance(key, str)
        and isinstance(value, str)
        and _match_key(key) is not None
        and _match_value(value) is not None
    )


def _truncated(members: dict[str, str]) -> dict[str, str]:
    """3.3.1.5: whole members go, first those of more than 128 characters, then the others from the right."""
    lengths = {key: len(key) + 1 + len(value) for key, value in members.items()}
    total = sum(lengths.values()) + len(lengths) - 1
    rightmost_first = list(reversed(lengths))
    for key in [k for k in rightmost_first if lengths[k] > LONG_MEMBER] + rightmost_first:
        if total <= MAX_LENGTH:
            break
        total -= lengths.pop(key, -1) + 1
    return {key: members[key] for key in lengths}
