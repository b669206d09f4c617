"""A thread that is started while threads can be started, and does its work when they cannot."""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

from .._export.forking import in_child
from .._export.latch import Latch
from .._guard import logger


class PreparedThread:
    """A daemon thread that waits from now on, and runs `function` once when it is told to.

    Stopping happens where little is allowed any more. At the interpreter's exit no thread can be started, so this one
    waits from the beginning. A signal handler may have interrupted the holder of any lock, so telling the thread, and
    waiting for it, are single steps of a plain lock (see `Latch`), and what the thread itself locks is not the business
    of the handler: it runs `function` here, and only waits for a time.
    """

    def __init__(self, name: str, function: Callable[[], object]) -> None:
        self._name = name
        self._function = function
        self._start()
        in_child(self._restart)

    def _start(self) -> None:
        self._go, self._ended = Latch(), Latch()
        Thread(target=self._run, name=self._name, daemon=True).start()

    def _restart(self) -> None:
        if not self._ended.is_set:
            self._start()

    def go(self) -> None:
        """Let it run. Again is harmless."""
        self._go.set()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, after `seconds` at the latest."""
        return self._ended.wait(seconds)

    def _run(self) -> None:
        go, ended = self._go, self._ended
        go.take()
        try:
            self._function()
        except Exception:
            logger.warning("%s failed", self._name, exc_info=True)
        finally:
            ended.set()
