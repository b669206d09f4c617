"""Hot CPU time: one row in a tight loop, everything in the caches. Flatters everybody, and repeats well."""

from __future__ import annotations

import time

from ..traffic import Runner


def batch(runner: Runner, units: int) -> float:
    """CPU seconds that so many units take."""
    return runner.run(range(units), time.process_time)
