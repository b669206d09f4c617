"""Telemetry that fails must not disturb the request it describes: it is reported, once, and the request goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

logger = logging.getLogger("asgi_trace")


class Guard:
    """Reports what went wrong inside our own work: each kind once at ERROR, after that at DEBUG.

    One per middleware or transport. Call `report()` inside an `except` block.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: set[str] = set()

    def report(self, kind: str) -> None:
        """Log the exception being handled. `kind` says which step failed, in words for a person."""
        logger.log(self._level(kind), "%s failed; the request goes on without it", kind, exc_info=True)

    def warn(self, kind: str, message: str, *, exc_info: bool = False) -> None:
        """Log `message` at WARNING the first time that this `kind` of thing is seen; `exc_info` adds the exception."""
        if self._level(kind) == logging.ERROR:
            logger.warning(message, exc_info=exc_info)

    def _level(self, kind: str) -> int:
        if kind in self._seen:
            return logging.DEBUG
        self._seen.add(kind)
        return logging.ERROR


def guarded_decision(
    decide: Callable[[Any], object], guard: Guard | None = None, kind: str | None = None
) -> Callable[[Any], bool]:
    """`decide` as a function that never raises: where it does, the answer is False, reported as `kind`.

    `guard` is the one that reports; None makes one for this function alone.
    """
    guard = guard or Guard()
    kind = kind or f"{decide!r} (the answer is no)"

    def guarded(subject: Any) -> bool:
        try:
            return bool(decide(subject))
        except Exception:
            guard.report(kind)
            return False

    return guarded
