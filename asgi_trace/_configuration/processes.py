"""Children of `multiprocessing`: they end by `os._exit()`, without `atexit`, in all three start methods but "spawn"."""

from __future__ import annotations

from multiprocessing import parent_process, util
from typing import Any

_LAST = -100  # after the queues of multiprocessing itself


def before_child_ends(tracing: Any) -> None:
    """Call `tracing.shutdown()` at the end of this process, if it is such a child, and of every child of it."""
    # Also in a child of the fork server, which imports the main module and then forgets what it has registered there.
    util.register_after_fork(tracing, _at_the_end)
    if parent_process() is not None:
        _at_the_end(tracing)


def _at_the_end(tracing: Any) -> None:
    util.Finalize(None, tracing.shutdown, exitpriority=_LAST)
