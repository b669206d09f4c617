"""Sending what is queued before SIGTERM's default action ends the process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType

from .._export.latch import Latch


def before_sigterm(shutdown: Callable[[], object], flush: Callable[[], object]) -> bool:
    """Call `shutdown` before the process dies of SIGTERM, if SIGTERM's default action is in place.

    A handler that something else has set stays, and False is returned; so it is outside the main thread. The process
    still dies of the signal. So does one that was forked off, with spans of its own.

    The kernel does not end the first process of a container by that action: it goes on, and so does tracing. There
    `flush` is called, by a thread that waits for it.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return False
    wake = _flusher(flush) if os.getpid() == 1 else None

    def handler(signum: int, frame: FrameType | None) -> None:
        if wake is not None and os.getpid() == 1:
            wake.set()
            return
        shutdown()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, handler)
    return True


def _flusher(flush: Callable[[], object]) -> Latch:
    wake = Latch()

    def run() -> None:
        while wake.take():
            flush()

    threading.Thread(target=run, name="asgi-trace-sigterm", daemon=True).start()
    return wake
