"""Attributes of spans as bytes. Those that many spans share are encoded once and looked up from then on.

Most attributes say the same again and again: the method, the route, the status, the host. The first values of every
key are remembered, up to a bound. A key with more values than that (a path, a client's port) loses its memory and is
encoded each time from then on, so that it does not cost a failing lookup as well. The number of keys and the length of
a remembered value are bounded too: what callers send cannot make the cache grow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .protobuf import any_value, key_value, sized, text

MAX_KEYS, MAX_VALUES, MAX_LENGTH = 128, 64, 128

_SPAN_ATTRIBUTE, _KEY, _VALUE = b"\x4a", b"\x0a", b"\x12"
_CLOSED: dict[Any, bytes] = {}
"""The memory of a key that has had too many values. Always empty."""


class AttributeCache:
    """Encodes the attributes of spans and remembers the frequent ones from one batch to the next."""

    def __init__(self) -> None:
        self._fields: dict[str, dict[Any, bytes]] = {}
        """By key and value: the whole field."""
        self._heads: dict[str, bytes] = {}
        """By key: what stands before the value in its field."""

    def extend(self, parts: list[bytes], items: Iterable[tuple[str, Any]]) -> None:
        """Append the field of each attribute to `parts`."""
        fields = self._fields
        for key, value in items:
            # Only these two types are remembered: as keys of a dict, 1 == 1.0 == True would be one and the same.
            if (type(value) is str or type(value) is int) and key in fields:
                parts.append(fields[key].get(value) or self._encode(key, value))
            else:
                parts.append(self._encode(key, value))

    def _encode(self, key: str, value: Any) -> bytes:
        head = self._heads.get(key)
        if head is None:
            if type(key) is not str or len(key) > MAX_LENGTH or len(self._heads) >= MAX_KEYS:
                return sized(_SPAN_ATTRIBUTE, key_value(key, value))
            head = self._heads[key] = text(_KEY, key) + _VALUE
            self._fields[key] = {}
        field = sized(_SPAN_ATTRIBUTE, sized(head, any_value(value)))
        if type(value) is int or (type(value) is str and len(value) <= MAX_LENGTH):
            self._remember(key, value, field)
        return field

    def _remember(self, key: str, value: Any, field: bytes) -> None:
        known = self._fields[key]
        if known is _CLOSED:
            return
        if len(known) < MAX_VALUES:
            known[value] = field
        else:
            self._fields[key] = _CLOSED
