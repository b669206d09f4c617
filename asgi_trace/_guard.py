"""Telemetry that fails must not disturb the request it describes: it is reported, once, and the request goes on."""

from __future__ import annotations

import logging

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

    def warn(self, kind: str, message: str) -> None:
        """Log `message` at WARNING the first time that this `kind` of thing is seen."""
        if self._level(kind) == logging.ERROR:
            logger.warning(message)

    def _level(self, kind: str) -> int:
        if kind in self._seen:
            return logging.DEBUG
        self._seen.add(kind)
        return logging.ERROR
