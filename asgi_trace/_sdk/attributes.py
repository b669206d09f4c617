"""The attributes of one span: the SDK's `BoundedAttributes`, made in a fraction of the time.

Values that need no cleaning are seen by their exact type and copied; whatever else is handed over goes through the
SDK's own constructor. What comes out has the state that the SDK's methods expect, so all of them work on it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from opentelemetry.attributes import BoundedAttributes

_PLAIN: frozenset[type] = frozenset({str, bool, int, float})
"""Types whose values the SDK keeps as they are, in every version."""
_new = object.__new__


class Later:
    """An attribute that is made when somebody asks for it, from then on an ordinary one."""

    def __init__(self, make: Callable[[Any], object]) -> None:
        self._make = make

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is None:
            return self
        # One step, so that all threads which ask at the same time get the same object.
        return vars(instance).setdefault(self._name, self._make(instance))


class Attributes(BoundedAttributes):
    """Bounded attributes that are made by `Bounds`. They know which values fit without being cleaned."""

    dropped = 0
    _immutable = False
    _extended_attributes = False  # until SDK 1.44
    _lock: Any = Later(lambda _: threading.RLock())

    room: int
    """So many attributes fit in: `maxlen`, as a number also where there is no limit."""
    plain: frozenset[type]
    """Types that need no cleaning: without `str`, where text may have to be cut."""


class Bounds:
    """Makes the attributes of spans within one provider's limits."""

    def __init__(self, most: int | None, longest: int | None) -> None:
        self._most = most
        self._longest = longest
        self._room = sys.maxsize if most is None else most
        self._plain = _PLAIN if longest is None else _PLAIN - {str}

    def attributes(self, given: Mapping[str, Any] | None) -> Attributes:
        """The attributes that a span starts with."""
        made = _new(Attributes)
        made.maxlen = self._most
        made.max_value_len = self._longest
        made.room = self._room
        made.plain = self._plain
        if not given:
            made._dict = {}
            return made
        if type(given) is dict or type(given) is MappingProxyType:
            # A copy before it is looked at: another thread may change what was given.
            values = given.copy() if type(given) is dict else dict(given.items())
            if len(values) <= self._room and are_plain(values, self._plain):
                made._dict = values
                return made
        BoundedAttributes.__init__(made, self._most, given, immutable=False, max_value_len=self._longest)
        return made


def are_plain(values: dict[str, Any], plain: frozenset[type]) -> bool:
    """Would the SDK keep all of these as they are?"""
    for key, value in values.items():  # noqa: SIM110 - twice as fast as all()
        if type(value) not in plain or type(key) is not str or not key:
            return False
    return True
