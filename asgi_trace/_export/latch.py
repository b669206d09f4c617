"""A signal from one thread to another that a signal handler may give."""

from __future__ import annotations

from contextlib import suppress
from threading import Lock


class Latch:
    """Unset at first. `set()` releases the thread that waits, or the next one that comes.

    A plain lock does the work, since acquiring and releasing one are single steps. `threading.Event` takes a lock of
    its own inside of `set()` and `wait()`: a signal handler that interrupts a thread there, and sets or waits itself,
    would wait for the code that it has interrupted, for ever.
    """

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Set it. Again is harmless."""
        if self._lock.locked():
            with suppress(RuntimeError):  # another thread has been quicker
                self._lock.release()

    @property
    def is_set(self) -> bool:
        """Whether it is set at this moment."""
        return not self._lock.locked()

    def take(self, seconds: float | None = None) -> bool:
        """Wait until it is set, for at most `seconds`, and unset it. Returns whether it was set."""
        return self._lock.acquire(timeout=-1 if seconds is None else max(0.0, seconds))

    def wait(self, seconds: float) -> bool:
        """Wait until it is set, for at most `seconds`, and leave it set. Returns whether it was set."""
        taken = self.take(seconds)
        if taken:
            self.set()
        return taken
