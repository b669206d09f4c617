"""A dict that is filled by the first look at it, since most requests never look."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

D = TypeVar("D", bound=dict[Any, Any])

_METHODS = (
    *("__contains__", "__delitem__", "__eq__", "__ge__", "__getitem__", "__gt__", "__ior__", "__iter__", "__le__"),
    *("__len__", "__lt__", "__ne__", "__or__", "__repr__", "__reversed__", "__ror__", "__setitem__"),
    *("clear", "copy", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"),
)


def filled_at_first_look(fill: Callable[[Any], object]) -> Callable[[type[D]], type[D]]:
    """A decorator for a subclass of a dict: each method calls `fill(self)`, then does what it does in the base class.

    `fill` puts the entries in and gives the object another class, so that it runs once. Threads may call it at the same
    time, and one of them may have done all of it. Every method that looks at entries is replaced, those too for which
    CPython takes a short way to a dict's own memory where a subclass leaves them alone.
    """

    def decorate(cls: type[D]) -> type[D]:
        for name in _METHODS:
            setattr(cls, name, _filling(fill, name, getattr(cls.__base__, name)))
        return cls

    return decorate


def _filling(fill: Callable[[Any], object], name: str, usual: Callable[..., Any]) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        fill(self)
        return usual(self, *args, **kwargs)

    method.__name__ = name
    return method
