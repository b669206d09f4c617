"""What is decorated: of which kind it is, what it is called, and a function that takes its place in everything."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import Enum
from functools import partial, update_wrapper
from inspect import isasyncgenfunction, isclass, iscoroutinefunction, isgeneratorfunction, isroutine, unwrap
from types import FunctionType
from typing import Any, cast


class Kind(Enum):
    """How a callable runs: what `inspect` says of it."""

    FUNCTION = "function"
    COROUTINE = "coroutine function"
    GENERATOR = "generator function"
    ASYNC_GENERATOR = "async generator function"


def kind_of(target: Callable[..., Any]) -> Kind:
    """The kind of a function, a method, a partial, a class or an object with `__call__`."""
    function: Any = described(target)
    if not isroutine(function) and not isclass(function):
        function = type(function).__call__
    if isasyncgenfunction(function):
        return Kind.ASYNC_GENERATOR
    if isgeneratorfunction(function):
        return Kind.GENERATOR
    if iscoroutinefunction(function) or iscoroutinefunction(target):  # the latter may be marked as one
        return Kind.COROUTINE
    return Kind.FUNCTION


def described(target: Callable[..., Any]) -> Callable[..., Any]:
    """What has the name, the module and the documentation: the callable behind partials."""
    while isinstance(target, partial):
        target = target.func
    return target


def names_of(target: Callable[..., Any]) -> tuple[str, str]:
    """The qualified name without `<locals>.`, and the same behind the module's name: `code.function.name`."""
    named: Any = described(target)
    if not hasattr(named, "__qualname__"):
        named = type(named)
    name = str(named.__qualname__).replace("<locals>.", "")
    module = getattr(named, "__module__", None)
    return name, f"{module}.{name}" if module else name


def in_place_of(target: Callable[..., Any], wrapper: Callable[..., Any]) -> Callable[..., Any]:
    """`wrapper` as a function that answers as `target` does: name, documentation, signature, attributes, globals.

    The globals are those of `target`, since FastAPI before 0.118 and others evaluate postponed annotations in the
    `__globals__` of what they are given. So a wrapper must find everything in its closure, and nothing by a global name
    but what is built in.
    """
    named: Any = described(target)
    plain = cast(FunctionType, wrapper)
    found = FunctionType(plain.__code__, _globals_of(named), plain.__name__, plain.__defaults__, plain.__closure__)
    has_name = hasattr(named, "__qualname__")
    # The attributes of a function belong to it as a function; those of a class or of an object are its own.
    update_wrapper(found, named if has_name else type(named), updated=("__dict__",) if isroutine(named) else ())
    found.__wrapped__ = target  # type: ignore[attr-defined]
    return found


def _globals_of(named: Any) -> dict[str, Any]:
    for function in (unwrap(named), getattr(named, "__init__", None), type(named).__call__):
        found = getattr(function, "__globals__", None)
        if found is not None:
            return cast("dict[str, Any]", found)
    module = sys.modules.get(getattr(named, "__module__", None) or "")
    return globals() if module is None else vars(module)
