"""The attributes of one span: the SDK's `BoundedAttributes`, made in a fraction of the time.

Values that need no cleaning are recognised by their exact type and copied; everything else goes through the SDK's own
constructor. The result has the state that the SDK's methods expect, so all of them work on it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from opentelemetry.attributes import BoundedAttributes

_UNCLEANED: frozenset[type] = frozenset({str, bool, int, float})
"""Types whose values the SDK keeps as they are, in every version that `span_check` accepts."""
_new = object.__new__


class LazyField:
    """A field that is made at the first read, and from then on is an ordinary field of the instance."""

    def __init__(self, make: Callable[[Any], object]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        # setdefault() is one atomic step, so all threads that read at the same time get the same object.
        return vars(instance).setdefault(self._name, self._make(instance))


class SpanAttributes(BoundedAttributes):
    """Bounded attributes that `AttributeLimits` has made: what most of them never need is made at the first read."""

    dropped = 0
    _immutable = False
    _extended_attributes = False  # read by SDKs before 1.44
    _lock: Any = LazyField(lambda _: threading.RLock())


class AttributeLimits:
    """Makes the attributes of spans within the limits of one provider."""

    def __init__(self, max_count: int | None, max_length: int | None) -> None:
        self._max_count = max_count
        self._max_length = max_length
        self.room = sys.maxsize if max_count is None else max_count
        """How many attributes fit in: a very large number where there is no limit."""
        self.uncleaned = _UNCLEANED if max_length is None else _UNCLEANED - {str}
        """Types whose values are kept as they are: without `str` where long text is cut."""

    def kept(self, given: dict[str, Any]) -> dict[str, Any] | None:
        """A copy of attributes that the SDK would keep as they are; None when it would change or drop something."""
        # The copy is checked, not the original: another thread may change that between the check and the copy.
        values = given.copy()
        return values if len(values) <= self.room and need_no_cleaning(values, self.uncleaned) else None

    def around(self, values: dict[str, Any]) -> SpanAttributes:
        """The attributes that consist of `values`, which need no cleaning. The dict is not copied."""
        made = _new(SpanAttributes)
        made.maxlen = self._max_count
        made.max_value_len = self._max_length
        made._dict = values
        return made

    def attributes(self, given: Mapping[str, Any]) -> SpanAttributes:
        """The attributes that a span starts with, cleaned by the SDK where that is needed. `given` is read once."""
        if type(given) is MappingProxyType:
            given = dict(given.items())
        if type(given) is dict and (values := self.kept(given)) is not None:
            return self.around(values)
        made = _new(SpanAttributes)
        BoundedAttributes.__init__(made, self._max_count, given, immutable=False, max_value_len=self._max_length)
        return made


def need_no_cleaning(values: dict[str, Any], uncleaned: frozenset[type]) -> bool:
    """Whether the SDK would keep all of these as they are, or make a tuple of a list of values of one type.

    `values` are a copy, in which such lists are replaced.
    """
    for key, value in values.items():
        if type(value) not in uncleaned:
            if type(value) is not list and type(value) is not tuple:
                return False
            items = tuple(value)
            kind = type(items[0]) if items else str
            for item in items:
                if type(item) is not kind or kind not in uncleaned:
                    return False
            values[key] = items
        if type(key) is not str or not key:
            return False
    return True
