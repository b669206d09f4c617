"""Ended spans and emitted log records wait here for one thread, which exports them in batches.

What the SDK's batch processors leave open is done here: a batch grows with what waits, so that a slow collector is
asked less often instead of losing what comes in meanwhile; `flush()` and `stop()` keep their time and tell the truth,
also in a signal handler and at the interpreter's exit, where no thread can be started; what is lost is counted.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from threading import Thread
from typing import Generic, TypeVar

from .._guard import logger
from .forking import in_child
from .latch import Latch
from .losses import Losses
from .self_metrics import ProcessorMetrics
from .suppression import suppressed

T = TypeVar("T")


@dataclass(frozen=True)
class Batching:
    """How items are gathered: for at most `delay` seconds, or until `batch_size` of them wait.

    An export takes all that waits, and at most `largest_batch`. `queue_size` is the hard bound of what waits;
    `bound_by` names the variable and the argument that raise it, for the log.
    """

    queue_size: int
    batch_size: int
    largest_batch: int
    delay: float
    bound_by: str = "max_queue_size"


class BatchQueue(Generic[T]):
    """A bounded queue and its thread. `ship` exports a batch and returns how many of it were lost.

    The thread calls `settle` at the end of a flush, which returns False when the exporter still holds something, and
    `close` at its own end.
    """

    def __init__(
        self,
        ship: Callable[[Sequence[T]], int],
        batching: Batching,
        losses: Losses,
        *,
        settle: Callable[[], object] = lambda: True,
        close: Callable[[], object] = lambda: None,
    ) -> None:
        self.losses = losses
        self._ship = ship
        self._settle = settle
        self._close = close
        self.batching = batching
        self.metrics: ProcessorMetrics | None = None
        """What this processor records of itself, where that is on."""
        self._queue_size = batching.queue_size
        self._calm = min(batching.queue_size, batching.batch_size - 1)
        """While fewer wait, an item is queued and that is all; 0 from the stop on. One look in place of three."""
        self._stopping = False
        self._complained = self._late = False
        self._renew()
        in_child(self._renew)

    def _renew(self) -> None:
        self._items: deque[T] = deque()
        self._flushes: deque[_Flush] = deque()
        self._wake, self._ended = Latch(), Latch()
        self._drops = count(1)  # taking the next number is a single step, in whatever thread
        self._dropped = self._dropped_said = 0
        if not self._stopping:
            with suppress(RuntimeError):  # no thread can be started: nothing is exported, and flush() says so
                Thread(target=self._run, name=f"asgi-trace-{self.losses.things}", daemon=True).start()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: T) -> None:
        """Queue an item, without waiting. It is lost at a full queue, and after the stop."""
        items = self._items
        waiting = len(items)
        if waiting < self._calm:
            items.append(item)
            return
        if waiting >= self._queue_size or self._stopping:
            self._drop()
            return
        items.append(item)
        self._wake.set()  # a batch is there

    def flush(self, seconds: float) -> bool:
        """Export what was queued before now. True when that ended in time, and nothing was lost since the last one."""
        if self._stopping:
            return False
        flush = _Flush()
        self._flushes.append(flush)
        self._wake.set()
        return flush.ended.wait(seconds) and flush.clean

    def stop(self, seconds: float) -> bool:
        """Export what is queued, and end. Returns whether that ended within `seconds`. Again is harmless."""
        self._stopping = True
        self._calm = 0
        self._wake.set()
        return self._ended.wait(seconds)

    def give_up(self) -> None:
        """Count what waits and what is being exported as lost, unless it has ended."""
        if not self._ended.is_set:
            self.losses.give_up(len(self._items))
            self._items.clear()

    def _run(self) -> None:
        stopping = False
        while not stopping:
            self._wake.take(self.batching.delay)
            stopping = self._stopping
            flushes = [self._flushes.popleft() for _ in range(len(self._flushes))]
            self._export(len(self._items))
            for flush in flushes:
                settled = self._guarded(self._settle, "flushing the exporter of %s failed") is not False
                flush.clean = settled and self.losses.none_since_last_asked()
                flush.ended.set()
        self._export(len(self._items))  # what another thread has put in while the stop began
        self._say_dropped(at_last=True)
        self._guarded(self._close, "shutting the exporter of %s down failed")
        self._ended.set()

    def _export(self, waiting: int) -> None:
        while waiting > 0:
            batch = self._taken(min(waiting, self.batching.largest_batch))
            if not batch:
                return
            waiting -= len(batch)
            self.losses.begin(len(batch))
            if self.metrics is not None:
                self.metrics.passed_on(len(batch))
            self.losses.end(self._shipped(batch))
            self._say_dropped()

    def _taken(self, number: int) -> list[T]:
        items = self._items
        taken: list[T] = []
        with suppress(IndexError):  # the rest was given up meanwhile
            for _ in range(number):
                taken.append(items.popleft())  # noqa: PERF401 - what has been taken is kept
        return taken

    def _shipped(self, batch: Sequence[T]) -> int:
        try:
            with suppressed():
                return self._ship(batch)
        except BaseException:  # also what would end the thread without a word, as SystemExit does
            self._complain("exporting %d %s failed, and they are lost", len(batch), self.losses.things)
            return len(batch)

    def _guarded(self, function: Callable[[], object], complaint: str) -> object:
        try:
            return function()
        except BaseException:
            self._complain(complaint, self.losses.things)
            return False

    def _complain(self, message: str, *values: object) -> None:
        level = logging.DEBUG if self._complained else logging.ERROR
        self._complained = True
        logger.log(level, message + "; this is said once", *values, exc_info=True)

    def _drop(self) -> None:
        next(self.losses.singles)  # add(1) and its lock take 2,500 instructions more, at a collector that is down
        if self.metrics is not None:
            self.metrics.dropped("already_shutdown" if self._stopping else "queue_full")
        if self._stopping:
            if not self._late:
                self._late = True
                logger.warning("%s that come after shutdown() are lost; this is said once", self.losses.things)
            return
        self._dropped = next(self._drops)
        if self._dropped == 1:
            logger.warning(
                "%d %s wait to be exported, which is the most that may wait: more are lost until there is room again. "
                "The bound is %s; this is said once",
                self._queue_size,
                self.losses.things,
                self.batching.bound_by,
            )

    def _say_dropped(self, at_last: bool = False) -> None:
        """How many were dropped at the full queue: when it has room again, at each doubling, and at the end."""
        dropped = self._dropped
        if dropped > self._dropped_said and (at_last or dropped >= 2 * self._dropped_said):
            self._dropped_said = dropped
            logger.info("%d %s were lost at the full queue so far", dropped, self.losses.things)


class _Flush:
    """One call of `flush()`, and what came of it."""

    __slots__ = ("clean", "ended")

    def __init__(self) -> None:
        self.ended = Latch()
        self.clean = False
