"""Attributes of spans as bytes, where each of the frequent ones is encoded once.

Most attributes say the same again and again: the method, the route, the status, the host. Every key remembers its first
values, up to a bound; a key that has had more of them (a path, a client's port) forgets them all, and is encoded each
time from then on. The number of keys and the length of a value are bounded as well.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .protobuf import any_value, key_value, sized, text

MOST_KEYS, MOST_VALUES, LONGEST = 128, 64, 128

_SPAN_ATTRIBUTE, _KEY, _VALUE = b"\x4a", b"\x0a", b"\x12"
_CLOSED: dict[Any, bytes] = {}
"""The memory of a key that has had too many values. Always empty."""


class Memo:
    """Encodes the attributes of spans, and remembers."""

    def __init__(self) -> None:
        self._fields: dict[str, dict[Any, bytes]] = {}
        self._heads: dict[str, bytes] = {}

    def extend(self, parts: list[bytes], items: Iterable[tuple[str, Any]]) -> None:
        """Append the field of each attribute to `parts`."""
        fields = self._fields
        for key, value in items:
            # Only these two are remembered: as keys of a dict, 1 == 1.0 == True would be one.
            if (type(value) is str or type(value) is int) and key in fields:
                parts.append(fields[key].get(value) or self._encode(key, value))
            else:
                parts.append(self._encode(key, value))

    def _encode(self, key: str, value: Any) -> bytes:
        head = self._heads.get(key)
        if head is None:
            if type(key) is not str or len(key) > LONGEST or len(self._heads) >= MOST_KEYS:
                return sized(_SPAN_ATTRIBUTE, key_value(key, value))
            head = self._heads[key] = text(_KEY, key) + _VALUE
            self._fields[key] = {}
        field = sized(_SPAN_ATTRIBUTE, sized(head, any_value(value)))
        if type(value) is int or (type(value) is str and len(value) <= LONGEST):
            self._remember(key, value, field)
        return field

    def _remember(self, key: str, value: Any, field: bytes) -> None:
        known = self._fields[key]
        if known is _CLOSED:
            return
        if len(known) < MOST_VALUES:
            known[value] = field
        else:
            self._fields[key] = _CLOSED
