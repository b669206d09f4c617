"""Attributes of spans as bytes. Those that many spans share are encoded once and looked up from then on.

Most attributes say the same again and again: the method, the route, the status, the host. The first values of every
key are remembered, up to a bound. A key with more values than that (a path, a client's port) loses its memory and is
encoded each time from then on. The number of keys and the length of a remembered value are bounded too: what callers
send cannot make the cache grow.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .protobuf import any_value, key_value, sized, text

MAX_KEYS, MAX_VALUES, MAX_LENGTH = 128, 64, 128

_SPAN_ATTRIBUTE, _KEY, _VALUE = b"\x4a", b"\x0a", b"\x12"


class AttributeCache:
    """Encodes the attributes of spans and remembers the frequent ones from one batch to the next."""

    def __init__(self) -> None:
        self._fields: dict[tuple[str, Any], bytes] = {}
        """By key and value: the whole field."""
        self._values: dict[str, list[Any]] = {}
        """By key: the values that are remembered. A key that has lost its memory has one too many."""
        self._heads: dict[str, bytes] = {}
        """By key: what stands before the value in its field."""

    def extend(self, parts: list[bytes], items: Iterable[tuple[str, Any]]) -> None:
        """Append the field of each attribute to `parts`."""
        fields = self._fields
        for item in items:
            kind = type(item[1])
            # Only these two types are remembered: as keys of a dict, 1 == 1.0 == True would be one and the same.
            field = fields.get(item) if kind is str or kind is int else None
            parts.append(self._encode(*item) if field is None else field)

    def _encode(self, key: str, value: Any) -> bytes:
        head = self._heads.get(key)
        if head is None:
            if type(key) is not str or len(key) > MAX_LENGTH or len(self._heads) >= MAX_KEYS:
                return sized(_SPAN_ATTRIBUTE, key_value(key, value))
            head = self._heads[key] = text(_KEY, key) + _VALUE
            self._values[key] = []
        field = sized(_SPAN_ATTRIBUTE, sized(head, any_value(value)))
        if type(value) is int or (type(value) is str and len(value) <= MAX_LENGTH):
            self._remember(key, value, field)
        return field

    def _remember(self, key: str, value: Any, field: bytes) -> None:
        known = self._values[key]
        if len(known) < MAX_VALUES:
            known.append(value)
            self._fields[key, value] = field
        elif len(known) == MAX_VALUES:
            for each in known:
                del self._fields[key, each]
            known.append(value)
