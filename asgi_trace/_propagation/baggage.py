"""W3C Baggage: header text <-> the entries that the OpenTelemetry API keeps in a context.

The API stores plain values. What it has no place for (properties, repeated keys, how a member was written) is
remembered beside them, so that baggage which the application did not change is sent as it was received
(https://www.w3.org/TR/baggage/).
Knows nothing of contexts and carriers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from .._otel.unread import filled_at_first_look

__all__ = ["ReceivedBaggage", "format_baggage", "merge_baggage", "parse_baggage", "receive_baggage", "shorten_baggage"]

# All of 64 members and 8,192 bytes must pass; of more, whole members may be dropped.
MAX_MEMBERS = 180
MAX_BYTES = 8192

_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"  # noqa: S105
_OCTETS = r"[!#-+\--:<-\[\]-~]+"
_match_token = re.compile(_TOKEN).fullmatch
# key OWS "=" OWS value *( OWS ";" OWS property ); a property is a key, or a key and a value. Blanks are taken up where
# they end a part, never where they begin one: that leaves one way to read them, and so no backtracking over them.
_VALUE = rf"[ \t]*=[ \t]*(?:({_OCTETS})[ \t]*)?"
_PROPERTY = rf";[ \t]*{_TOKEN}[ \t]*(?:=[ \t]*(?:{_OCTETS}[ \t]*)?)?"
_match_member = re.compile(rf"({_TOKEN}){_VALUE}(?:{_PROPERTY})*").fullmatch

_SAFE_IN_KEY = "!#$&'*+-.^_`|~"
_UNDECODABLE = "\ufffd"


class _Value(str):
    """A received value that its text alone would not bring back: it knows the member in which it came."""

    __slots__ = ("member",)
    member: str


class ReceivedBaggage(dict[str, object]):
    """The entries of one request, and the list they came in. The API copies it into a plain dict at every change."""

    __slots__ = ("header",)
    header: str


def _read(entries: ReceivedBaggage) -> ReceivedBaggage:
    """Parse it, unless another thread was first: a function, since that thread may have changed the class since."""
    lines: Any = entries.header
    if isinstance(lines, str):
        return entries
    parsed = parse_baggage(lines)
    dict.update(entries, parsed)
    entries.header = parsed.header
    entries.__class__ = ReceivedBaggage
    return entries


@filled_at_first_look(_read)
class UnreadBaggage(ReceivedBaggage):
    """Received baggage as it came. The first look at an entry parses it, and makes it a `ReceivedBaggage`.

    Most requests only pass their baggage on, and a caller chooses its size.
    """

    __slots__ = ()


def receive_baggage(lines: Sequence[bytes]) -> ReceivedBaggage | None:
    """The lines of `baggage`, to be parsed by the first look at an entry. None: they surely hold no entry."""
    if not any(line.find(b"=") >= 0 for line in lines):
        return None
    received = UnreadBaggage()
    received.header = lines  # type: ignore[assignment]
    return received


def parse_baggage(lines: Sequence[bytes]) -> ReceivedBaggage:
    """Read the lines of `baggage` as one list.

    An illegal member is dropped alone. Keys are taken as they are, values are percent-decoded ("+" is a plus), and of
    equal keys the application sees the last.
    """
    received = ReceivedBaggage()
    members: list[str] = []
    room, count = MAX_BYTES, 0
    for text in b",".join(lines).decode("latin-1").split(","):
        member = text.strip(" \t")
        if not member:
            continue
        count += 1
        if count > MAX_MEMBERS:
            break
        match = _match_member(member) if len(member) <= room else None
        if match is None:
            continue
        room -= len(member) + 1
        members.append(member)
        key, value = match.groups("")
        if "%" in value:
            value = unquote(value)
        if ";" in member or _UNDECODABLE in value:
            value = _Value(value)
            value.member = member
        received[key] = value
    received.header = ",".join(members)
    return received


def format_baggage(entries: Mapping[str, object]) -> str:
    """Write the entries as one header value; what was received and not changed, as it was received.

    A new value for a received key loses the properties that came with the old one: the API cannot hold them. A key
    that is not a token is percent-encoded, which makes it one, and receivers see the encoded name. Members beyond the
    limits are dropped whole.
    """
    if type(entries) is UnreadBaggage:
        entries = _read(entries)
    if type(entries) is ReceivedBaggage:
        return entries.header
    return _join(_member(key, value) for key, value in entries.items())


def shorten_baggage(header: str) -> str:
    """A `baggage` value without the members that are beyond the limits: `header` itself where none is."""
    if len(header) <= MAX_BYTES and header.count(",") < MAX_MEMBERS:
        return header
    return _join(member.strip(" \t") for member in header.split(","))


def merge_baggage(existing: str, ours: str) -> str:
    """The members of `ours`, then those of `existing` whose keys `ours` lacks."""
    our_members = ours.split(",")
    our_keys = {_key(member) for member in our_members}
    their_members = [member.strip(" \t") for member in existing.split(",")]
    return _join(our_members + [member for member in their_members if member and _key(member) not in our_keys])


def _member(key: str, value: object) -> str:
    if type(value) is _Value and _key(value.member) == key:
        return value.member
    name = key if _match_token(key) else quote(str(key), safe=_SAFE_IN_KEY, errors="replace")
    return name + "=" + quote(str(value), safe="", errors="replace")


def _key(member: str) -> str:
    return member.partition("=")[0].strip(" \t")


def _join(members: Iterable[str]) -> str:
    kept: list[str] = []
    room = MAX_BYTES
    for member in members:
        if len(member) <= room and len(kept) < MAX_MEMBERS:
            kept.append(member)
            room -= len(member) + 1
    return ",".join(kept)
