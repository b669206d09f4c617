"""`configure()` called once more: is it the same call?"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

_PLAIN = (str, bytes, int, float, bool, type(None))


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """The names of the arguments that differ. Their values, which may be secret, are in no message."""
    return [name for name in first if not _same(first[name], second[name])]


def _same(one: Any, other: Any) -> bool:
    """Values by what they are, a list like a tuple, a path like its text; objects that do something by their type."""
    one, other = _text(one), _text(other)
    if isinstance(one, _PLAIN) or isinstance(other, _PLAIN):
        return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other)


def _text(value: Any) -> Any:
    return os.fspath(value) if isinstance(value, os.PathLike) else value
