"""How much of what one exporter was given never arrived."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from threading import RLock

from .forking import in_child


class Losses:
    """Counts what one exporter loses: while it runs, and what it could not send before it stopped.

    `things` is what is counted: "spans", "logs" or "data points". A process that is forked off begins at zero.
    """

    __slots__ = ("__weakref__", "_asked", "_counted", "_given_up", "_in_flight", "_lock", "_looks", "singles", "things")

    singles: Iterator[int]
    """Taking the next number counts one more loss at once: a single step in whatever thread, without the lock."""

    def __init__(self, things: str) -> None:
        self.things = things
        self._renew()
        in_child(self._renew)

    def _renew(self) -> None:
        self._lock = RLock()  # reentrant: a signal handler that stops the exporter may have interrupted its holder
        self._counted = self._in_flight = self._asked = 0
        self.singles, self._looks = count(), count()
        self._given_up = False

    @property
    def count(self) -> int:
        """How many were lost so far."""
        with self._lock:  # each look takes a number of the single ones as well
            return self._counted + next(self.singles) - next(self._looks)

    def add(self, number: int) -> None:
        """So many were lost outside of an export: at a full queue, or after the stop."""
        with self._lock:
            self._counted += number

    def begin(self, number: int) -> None:
        """An export of so many begins."""
        self._in_flight = number

    def end(self, lost: int) -> None:
        """It has ended, and so many of it are lost. What has been given up before is not counted a second time."""
        with self._lock:
            if not self._given_up:
                self._counted += lost
            self._in_flight = 0

    def give_up(self, waiting: int = 0) -> None:
        """What is being exported is lost, and what waits behind it. Once: nothing of it is counted again."""
        with self._lock:
            if not self._given_up:
                self._counted += self._in_flight + waiting
            self._given_up = True

    def none_since_last_asked(self) -> bool:
        """Whether nothing was lost since this was asked the last time."""
        count, asked = self.count, self._asked
        self._asked = count
        return count == asked
