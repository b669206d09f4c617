"""How long a process waits for its exporters before it ends: a few seconds, in all."""

from __future__ import annotations

import math
import time

from .._export.forking import in_child
from .._otel.stop import STOP_SECONDS


class StopBudget:
    """The seconds that all calls of `shutdown()` share, `atexit` included, whatever the exporter.

    A flush just before the stop that waited in vain has used some of them up: a server that flushes when it stops, and
    a process that shuts down after it, wait no longer than either alone. Only numbers are kept here, and no lock is
    taken, since a signal handler may ask.
    """

    def __init__(self) -> None:
        self._renew()
        in_child(self._renew)

    def _renew(self) -> None:
        self._stop_by: float | None = None
        self._flushes = 0
        self._waited = 0.0
        """Seconds that flushes have waited in vain, one after the other."""
        self._begin = self._end = -math.inf

    def flush_begins(self) -> None:
        """A flush begins."""
        now = time.monotonic()
        if self._flushes == 0:
            if now - self._end > STOP_SECONDS:  # a failure of long ago says nothing about now
                self._waited = 0.0
            self._begin = now
        self._flushes += 1

    def flush_ends(self, flushed: bool) -> None:
        """It has ended, well or not."""
        self._flushes -= 1
        if self._flushes <= 0:
            self._flushes = 0
            self._end = time.monotonic()
            self._waited = 0.0 if flushed else self._waited + self._end - self._begin

    def begin_stop(self) -> None:
        """A stop begins: from now on the time runs."""
        if self._stop_by is None:
            self._stop_by = time.monotonic() + self.left()

    def left(self) -> float:
        """The seconds that a stop may still wait."""
        now = time.monotonic()
        if self._stop_by is not None:
            return max(0.0, self._stop_by - now)
        if self._flushes:
            return max(0.0, STOP_SECONDS - self._waited - (now - self._begin))
        return max(0.0, STOP_SECONDS - self._waited) if now - self._end <= STOP_SECONDS else STOP_SECONDS
