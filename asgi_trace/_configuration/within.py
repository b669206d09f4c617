"""Calling functions that may hang, for a limited time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from .._guard import logger


def within(seconds: float, *functions: Callable[[], object]) -> bool:
    """Whether all functions, each in a thread of its own, return something true in time; False where none may start."""
    results: list[bool] = []

    def call(function: Callable[[], object]) -> None:
        try:
            results.append(bool(function()))
        except Exception:
            logger.warning("flushing failed", exc_info=True)

    threads = [
        threading.Thread(target=call, args=(function,), name="asgi-trace-flush", daemon=True) for function in functions
    ]
    deadline = time.monotonic() + seconds
    try:
        for thread in threads:
            thread.start()
    except RuntimeError:  # the interpreter is ending
        return False
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return len(results) == len(functions) and all(results)
