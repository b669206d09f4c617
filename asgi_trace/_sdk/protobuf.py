"""Protocol Buffers' wire format, as far as OTLP needs it: numbers, text, attributes. Pure functions.

Each writes what the official library writes for the same value, or raises `Unknown`: a value that no rule here covers,
or that the official library would refuse, is left to that. A field is named by its tag, the byte in front of its value.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import Struct
from typing import Any

_double = Struct("<d").pack
_LONGEST_INT = 1 << 63

try:
    from opentelemetry.exporter.otlp.proto.common._internal import _encode_value

    _null_is_empty = _encode_value(None).SerializeToString() == b""
except Exception:  # before 1.45 None is refused; should the name go away, None is left to the official encoder
    _null_is_empty = False
NULL_IS_EMPTY = _null_is_empty


class Unknown(Exception):
    """This value is left to the official encoder."""


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


_SMALL = tuple(_varint(number) for number in range(1024))


def varint(number: int) -> bytes:
    """A number from 0 to 2**64 - 1."""
    return _SMALL[number] if number < 1024 else _varint(number)


def sized(tag: bytes, data: bytes) -> bytes:
    """A field that holds bytes, text or a message."""
    size = len(data)
    return tag + (_SMALL[size] if size < 1024 else _varint(size)) + data


def text(tag: bytes, value: str | None) -> bytes:
    """A field that holds text; nothing when that is empty."""
    if not value:
        if value is None or type(value) is str:
            return b""
        raise Unknown
    if type(value) is not str:
        raise Unknown
    return sized(tag, value.encode())


def count(tag: bytes, number: int) -> bytes:
    """A field that holds a uint32; nothing when that is 0."""
    if type(number) is not int or not 0 <= number < 1 << 32:
        raise Unknown
    return tag + varint(number) if number else b""


def fixed64(tag: bytes, number: int | None) -> bytes:
    """A field that holds a fixed64, like a time; nothing when that is 0."""
    if number is None:
        return b""
    if type(number) is not int or not 0 <= number < 1 << 64:
        raise Unknown
    return tag + number.to_bytes(8, "little") if number else b""


def attributes(tag: bytes, values: Mapping[str, Any] | None) -> bytes:
    """A repeated field of key-values."""
    if not values:
        return b""
    return b"".join([sized(tag, key_value(key, value)) for key, value in values.items()])


def key_value(key: str, value: Any) -> bytes:
    """One key with its value, as a message."""
    return text(b"\x0a", key) + sized(b"\x12", any_value(value))


def any_value(value: Any) -> bytes:
    """An `AnyValue`, as a message."""
    kind = type(value)
    if kind is str:
        return sized(b"\x0a", value.encode())
    if kind is bool:
        return b"\x10\x01" if value else b"\x10\x00"
    if kind is int:
        return _int(value)
    if kind is float:
        return b"\x21" + _double(value)
    if value is None and NULL_IS_EMPTY:
        return b""
    return _unusual(value)


def _int(value: int) -> bytes:
    if not -_LONGEST_INT <= value < _LONGEST_INT:
        raise Unknown
    return b"\x18" + varint(value if value >= 0 else value + (1 << 64))


def _unusual(value: Any) -> bytes:
    # In the order in which the official encoder looks; an instance of a subclass counts as one of the base class.
    if isinstance(value, str):
        return sized(b"\x0a", str.encode(value))
    if isinstance(value, int):
        return _int(int.__index__(value))
    if isinstance(value, float):
        return b"\x21" + _double(value)
    if type(value) is bytes:
        return sized(b"\x3a", value)
    if type(value) in (tuple, list):
        return sized(b"\x2a", _repeated(any_value(item) for item in value))
    if type(value) is dict:
        return sized(b"\x32", _repeated(key_value(str(key), item) for key, item in value.items()))
    raise Unknown


def _repeated(messages: Iterable[bytes]) -> bytes:
    return b"".join([sized(b"\x0a", message) for message in messages])
