"""The queue before an exporter: batches that grow, a bound that is said, a flush and a stop that tell the truth."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from asgi_trace._export.losses import Losses
from asgi_trace._export.queue import Batching, BatchQueue

from ..support.servers import eventually


class Exporter:
    """Keeps the batches that it is given. Waits in each export while it is `closed`; loses what `lose` says."""

    def __init__(self, lose: Callable[[Sequence[int]], int] = lambda batch: 0) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self._lose = lose

    def ship(self, batch: Sequence[int]) -> int:
        self.entered.set()
        self.gate.wait(60)
        self.batches.append(list(batch))
        return self._lose(batch)

    @property
    def items(self) -> list[int]:
        return [item for batch in self.batches for item in batch]


def queue(
    exporter: Exporter, *, size: int = 100, batch: int = 10, largest: int = 50, **options: Any
) -> BatchQueue[int]:
    """A queue that exports nothing by itself before a batch is there."""
    batching = Batching(size, batch, largest, delay=600.0, bound_by="OTEL_BSP_MAX_QUEUE_SIZE or max_queue_size")
    return BatchQueue(exporter.ship, batching, Losses("spans"), **options)


def test_a_batch_begins_when_enough_waits_and_grows_with_what_waits() -> None:
    """Ten items begin an export; what comes in meanwhile is one export more, and none is larger than allowed."""
    exporter = Exporter()
    exporter.gate.clear()
    waiting = queue(exporter)
    for number in range(10):
        waiting.put(number)
    assert exporter.entered.wait(30)
    for number in range(10, 90):
        waiting.put(number)
    exporter.gate.set()
    assert waiting.flush(30)
    assert [len(batch) for batch in exporter.batches] == [10, 50, 30]
    assert exporter.items == list(range(90))


def test_what_waits_is_exported_after_the_delay() -> None:
    """A single item is exported without a flush."""
    exporter = Exporter()
    waiting: BatchQueue[int] = BatchQueue(exporter.ship, Batching(10, 10, 10, delay=0.01), Losses("spans"))
    waiting.put(1)
    eventually(lambda: exporter.items == [1], "the item")


def test_a_full_queue_is_said_once_and_its_count_later(caplog: pytest.LogCaptureFixture) -> None:
    """What finds the queue full is lost and counted: one WARNING with what to raise, one INFO with the number."""
    caplog.set_level(logging.INFO, "asgi_trace")
    exporter = Exporter()
    exporter.gate.clear()
    waiting = queue(exporter, size=20)
    for number in range(10):
        waiting.put(number)
    assert exporter.entered.wait(30)
    for number in range(10, 60):
        waiting.put(number)
    assert waiting.losses.count == 30
    exporter.gate.set()
    assert not waiting.flush(30)
    assert exporter.items == list(range(30))
    assert waiting.flush(30)
    assert waiting.stop(30)
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "20 spans wait to be exported" in caplog.messages[0]
    assert "OTEL_BSP_MAX_QUEUE_SIZE or max_queue_size" in caplog.messages[0]
    assert caplog.messages[1] == "30 spans were lost at the full queue so far"


def test_a_flush_is_true_when_nothing_was_lost_since_the_last() -> None:
    """A loss makes the next flush False, whatever it was, and the one after it True."""
    exporter = Exporter(lose=lambda batch: sum(item < 0 for item in batch))
    waiting = queue(exporter)
    waiting.put(1)
    assert waiting.flush(30)
    waiting.put(-1)
    waiting.put(1)
    assert not waiting.flush(30)
    assert waiting.losses.count == 1
    waiting.put(1)
    assert waiting.flush(30)
    assert waiting.stop(30)
    assert not waiting.flush(30)


def test_a_flush_keeps_its_time() -> None:
    """A flush that waits for a slow export ends after its own time, and another one later sees the end."""
    exporter = Exporter()
    exporter.gate.clear()
    waiting = queue(exporter)
    waiting.put(1)
    began = time.monotonic()
    assert not waiting.flush(0.2)
    assert 0.2 <= time.monotonic() - began < 10
    exporter.gate.set()
    assert waiting.flush(30)
    assert exporter.items == [1]


@pytest.mark.parametrize("settled", [False, ValueError("no")])
def test_an_exporter_that_still_holds_something(settled: object, caplog: pytest.LogCaptureFixture) -> None:
    """An exporter whose own flush says False, or raises, makes the flush False."""

    def settle() -> object:
        if isinstance(settled, Exception):
            raise settled
        return settled

    waiting = queue(Exporter(), settle=settle)
    waiting.put(1)
    assert not waiting.flush(30)
    assert len(caplog.records) == isinstance(settled, Exception)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_an_exporter_raises(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    """The batch is lost and counted, it is said once, and the thread goes on."""

    def lose(batch: Sequence[int]) -> int:
        if batch[0] < 0:
            raise error
        return 0

    exporter = Exporter(lose)
    waiting = queue(exporter)
    for number in (-1, -2, 3):
        waiting.put(number)
        assert waiting.flush(30) is (number > 0)
    assert waiting.losses.count == 2
    assert [record.levelname for record in caplog.records if record.levelno > logging.DEBUG] == ["ERROR"]


def test_a_stop_exports_what_waits_and_closes_the_exporter() -> None:
    """All that was queued before is exported; the exporter is shut down after it; later items are lost and counted."""
    closed = threading.Event()
    exporter = Exporter()
    waiting = queue(exporter, close=closed.set)
    for number in range(5):
        waiting.put(number)
    assert waiting.stop(30)
    assert exporter.items == list(range(5))
    assert closed.is_set()
    waiting.put(6)
    assert waiting.losses.count == 1
    assert waiting.stop(0)


def test_what_a_stop_leaves_behind_is_counted() -> None:
    """What is being exported when the time is over, and what waits, is lost; a late end counts nothing twice."""
    exporter = Exporter(lose=len)
    exporter.gate.clear()
    waiting = queue(exporter)
    for number in range(10):
        waiting.put(number)
    assert exporter.entered.wait(30)
    for number in range(5):
        waiting.put(number)
    assert not waiting.stop(0.1)
    waiting.give_up()
    assert waiting.losses.count == 15
    exporter.gate.set()
    assert waiting.stop(30)
    waiting.give_up()
    assert waiting.losses.count == 15


def test_a_signal_handler_may_flush_and_stop() -> None:
    """A handler that interrupts a flush, wherever that is, flushes and stops itself without a deadlock."""
    exporter = Exporter()
    waiting = queue(exporter, size=100_000)
    outcome: list[bool] = []

    def handler(signum: int, frame: object) -> None:
        waiting.put(2)
        outcome.append(waiting.flush(60))

    before = signal.signal(signal.SIGALRM, handler)
    try:
        for number in range(100):
            signal.setitimer(signal.ITIMER_REAL, 0.0001 + number * 0.00001)
            while len(outcome) <= number:
                waiting.put(1)
                assert waiting.flush(60)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert all(outcome)
    assert waiting.stop(60)
    assert exporter.items.count(2) == len(outcome) == 100


def test_items_from_many_threads() -> None:
    """Nothing is lost or doubled when many threads queue at once."""
    exporter = Exporter()
    waiting = queue(exporter, size=100_000, largest=1000)

    def put(begin: int) -> None:
        for number in range(begin, begin + 2000):
            waiting.put(number)

    threads = [threading.Thread(target=put, args=(begin * 2000,)) for begin in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert waiting.flush(60)
    assert sorted(exporter.items) == list(range(16_000))


def test_losses_are_counted_exactly_while_they_are_read() -> None:
    """Threads that lose items one by one, and others that ask how many were lost, do not get in each other's way."""
    losses = Losses("spans")
    seen: list[int] = []

    def lose() -> None:
        for number in range(500):
            next(losses.singles)
            if number % 50 == 0:
                losses.add(2)
                seen.append(losses.count)

    threads = [threading.Thread(target=lose) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [losses.count, losses.count] == [4 * (500 + 10 * 2)] * 2
    assert min(seen) > 0
    assert max(seen) <= losses.count
