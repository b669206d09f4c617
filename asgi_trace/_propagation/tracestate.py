"""`tracestate`: its grammar by W3C Trace Context Level 2, and a `TraceState` that can hold it.

The API's own class still has the keys of Level 1 and empties itself at a repeated one. Numbers are the sections of
https://www.w3.org/TR/trace-context-2/; where the specification leaves a choice, a docstring says which one was made.
"""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Sequence, ValuesView
from typing import Any

from opentelemetry.trace import TraceState

__all__ = ["Level2TraceState", "format_tracestate", "parse_tracestate", "shorten_tracestate"]

MAX_MEMBERS = 32  # 3.3.1.1
MAX_LENGTH = 8192  # of what is read: servers commonly refuse longer header lines
MAX_SENT = 512  # of what is sent, for which 3.3.1.5 asks: no caller may make our own calls too large for their servers
LONG_MEMBER = 128  # 3.3.1.5: what is longer goes first

# 3.3.1.3.1 (Level 2): a digit may lead, and "@" may stand anywhere but there.
_KEY = r"[a-z0-9][a-z0-9_\-*/@]{0,255}"
# 3.3.1.3.2: printable ASCII but "," and "="; the last character is not a space.
_VALUE = r"[ -+\--<>-~]{0,255}[!-+\--<>-~]"
_match_key = re.compile(_KEY).fullmatch
_match_value = re.compile(_VALUE).fullmatch
_match_member = re.compile(f"({_KEY})=({_VALUE})").fullmatch


def parse_tracestate(values: Sequence[bytes]) -> TraceState:
    """Read the lines of `tracestate` as one list (3.3.1), when something looks at it: most requests only pass it on.

    One illegal member, or a 33rd, discards the whole list (3.3.1.1, 3.3.1.3); of two members with one key the first is
    kept; a list longer than 8,192 characters loses whole members in the order that 3.3.1.5 gives.
    """
    state = Level2TraceState.__new__(Level2TraceState)
    state._unread = values
    return state


def format_tracestate(trace_state: TraceState, *, forwarded: bool = False) -> str:
    """The `tracestate` value to send, at most 512 characters; empty when there is nothing to send.

    `forwarded` says that the `traceparent` it belongs to goes out unchanged: then this must too, repeated keys and all
    (3.4), where a participant sends one member for each key (3.3.1.4).
    """
    header: Any = None
    if forwarded and isinstance(trace_state, Level2TraceState):
        header = trace_state._members and trace_state.received
    return shorten_tracestate(header or trace_state.to_header())


def shorten_tracestate(header: str) -> str:
    """A `tracestate` value without the members that are too much to send: `header` itself up to 512 characters."""
    return header if len(header) <= MAX_SENT else ",".join(_shortened(header.split(","), MAX_SENT))


class Level2TraceState(TraceState):
    """A `TraceState` with the key grammar of Level 2, where the API's own still has that of Level 1.

    Immutable. What `add` and `update` are given and is not legal leaves everything as it is. `received` is the list as
    the caller wrote it, where that had repeated keys.
    """

    received: str | None = None
    _unread: Sequence[bytes] = ()
    """The lines of a header that nothing has looked at yet."""
    _members: dict[str, str]

    def __getattr__(self, name: str) -> Any:
        # Only for what is not there: the fields of a state that was received, at the first look. What two threads make
        # at the same time is equal.
        if name not in ("_members", "_dict"):
            raise AttributeError(name)
        parsed = Level2TraceState.from_header([b",".join(self._unread).decode("latin-1")])
        if parsed.received is not None:
            self.received = parsed.received
        self._dict, self._members = parsed._dict, parsed._members
        return getattr(self, name)

    def __init__(self, entries: Iterable[tuple[str, str]] | None = None) -> None:
        """Keep the legal ones of `entries`, of equal keys the first, and of more than 32 the first 32."""
        super().__init__()
        self._members = {}
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
            kept = _shortened([f"{key}={value}" for key, value in members.items()], MAX_LENGTH)
            return cls._of({key: value for key, _, value in (member.partition("=") for member in kept)})
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
        """The members as one header value of at most 512 characters: other libraries send that, too."""
        return shorten_tracestate(",".join([f"{key}={value}" for key, value in self._members.items()]))

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


def _shortened(members: list[str], most: int) -> list[str]:
    """3.3.1.5: whole members go, first those of more than 128 characters, then the others, from the right."""
    total = sum(map(len, members)) + len(members) - 1
    kept: list[str | None] = list(members)
    rightmost_first = range(len(members) - 1, -1, -1)
    order = iter([i for i in rightmost_first if len(members[i]) > LONG_MEMBER] + list(rightmost_first))
    while total > most:  # it ends with the last member at the latest: without members the total is -1
        index = next(order)
        if kept[index] is not None:
            total -= len(members[index]) + 1
            kept[index] = None
    return [member for member in kept if member is not None]
