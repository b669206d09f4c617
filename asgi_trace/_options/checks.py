"""Checks of options: a wrong argument raises at construction, with the option's name and with what to write instead."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from inspect import Parameter, iscoroutinefunction, signature
from typing import Any

from .._types import ASGIApp, Receive, Scope, Send

_IN_BRACKETS = re.compile(r"\\.|\{[^}]*\}|\[[^\]]*\]|\([^)]*\)")
"""The parts of a regular expression in which a comma separates nothing."""


def texts(option: str, value: str | Iterable[str], advice: str) -> tuple[str, ...]:
    """One string or several, as a tuple.

    Raises TypeError for anything else, where `advice` says what to write, and ValueError for one string that is a
    comma-separated list, as other libraries and the environment variables take it: it would match nothing.
    """
    if isinstance(value, str) and "," in _IN_BRACKETS.sub("", value):
        parts = [part.strip() for part in value.split(",")]
        raise ValueError(
            f"{option}: {value!r} is one string; write a list, {parts}, or {[value]} if the comma is meant"
        )
    items = (value,) if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f"{option}: {item!r} is not a string; write {advice}, or () for none")
    return items


def one_of(option: str, value: str, choices: tuple[str, ...]) -> str:
    """One of a few words. Raises ValueError for any other value."""
    if value not in choices:
        raise ValueError(f"{option}: {value!r} is unknown; write one of {', '.join(map(repr, choices))}")
    return value


def plain_function(option: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is not awaited. Raises TypeError for a coroutine function, whose result would always be true."""
    if iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        raise TypeError(f"{option}: {function!r} is a coroutine function; write a plain `def`, it is not awaited")
    return function


def hook(option: str, function: Callable[..., object] | None) -> Callable[..., object] | None:
    """A plain function or None. Raises TypeError for anything else."""
    if function is None:
        return None
    if not callable(function):
        raise TypeError(f"{option}: {function!r} is not callable; write a function")
    return plain_function(option, function)


def provider(option: str, value: Any, method: str) -> None:
    """A provider or None. Raises TypeError for an object without the method that such providers have."""
    if value is not None and not callable(getattr(value, method, None)):
        raise TypeError(f"{option}: {value!r} has no {method}(); write a provider, or None for the global one")


def application(app: Any) -> ASGIApp:
    """An ASGI application; one of ASGI 2, `app(scope)(receive, send)`, is wrapped. Raises TypeError if not callable."""
    if not callable(app):
        raise TypeError(f"app: {app!r} is not callable; write an ASGI application")
    version_3: Any = app
    return _of_version_2(app) if _takes_only_a_scope(app) else version_3


def _takes_only_a_scope(app: Any) -> bool:
    try:
        parameters = signature(app).parameters.values()
    except (TypeError, ValueError):  # not written in Python
        return False
    required = [p for p in parameters if p.default is Parameter.empty and p.kind is not Parameter.VAR_KEYWORD]
    return len(required) == 1 and required[0].kind is not Parameter.VAR_POSITIONAL


def _of_version_2(app: Any) -> ASGIApp:
    async def version_3(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope)(receive, send)

    return version_3
