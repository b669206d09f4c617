"""Sending what is queued before SIGTERM's default action ends the process."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType


def before_sigterm(shutdown: Callable[[], object], flush: Callable[[], object]) -> bool:
    """Call `shutdown` before the process dies of SIGTERM, if SIGTERM's default action is in place.

    A handler that something else has set stays, and False is returned; so it is outside the main thread. The process
    still dies of the signal. So does one that was forked off, with spans of its own. As the first process of a
    container, which the kernel does not end by that action, it goes on: there `flush` is called, and tracing goes on.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return False

    def handler(signum: int, frame: FrameType | None) -> None:
        if os.getpid() == 1:
            flush()
            return
        shutdown()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, handler)
    return True
