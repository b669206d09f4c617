"""Stopping within a bound: a process waits so long for a collector and no longer.

The SDK waits for up to 30 seconds when it shuts down and ignores the timeout of `force_flush()`. Here both keep to a
time, also where little is allowed any more: in a signal handler, which may have interrupted the holder of any lock, and
at the interpreter's exit, where no thread can be started.
"""

from __future__ import annotations

import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from .._export.exporter import Sender
from .._guard import logger
from .._otel.stop import STOP_SECONDS


def in_child(method: Callable[[], object]) -> None:
    """Call a bound method in every process that is forked off this one, as long as its object lives.

    What other threads of the parent held, locks for one, is held for good there.
    """
    if hasattr(os, "register_at_fork"):
        weak = weakref.WeakMethod(method)
        os.register_at_fork(after_in_child=lambda: (found := weak()) and found())


class Errand:
    """A function that a daemon thread, which waits for that from now on, runs once when told to."""

    def __init__(self, name: str, function: Callable[[], object]) -> None:
        self._name = name
        self._function = function
        self._start()
        in_child(self._restart)

    def _start(self) -> None:
        # Plain locks, since releasing one is a single step that a signal handler may take.
        self._go = threading.Lock()
        self._done = threading.Lock()
        self._go.acquire()
        self._done.acquire()
        threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _restart(self) -> None:
        if self._done.locked():
            self._start()

    def go(self) -> None:
        """Let it run. Again is harmless."""
        if self._done.locked():
            with suppress(RuntimeError):  # it has been told already
                self._go.release()

    def wait(self, seconds: float) -> bool:
        """Whether it has ended, after `seconds` at the latest."""
        ended = self._done.acquire(timeout=max(0.0, seconds))
        if ended:
            self._done.release()
        return ended

    def _run(self) -> None:
        self._go.acquire()
        try:
            self._function()
        except Exception:
            logger.warning("%s failed", self._name, exc_info=True)
        finally:
            self._done.release()


class Patience:
    """How long a stop may still wait. A flush just before it that waited in vain has used some of that up."""

    def __init__(self, senders: Sequence[Sender] = ()) -> None:
        self._senders = senders
        self._since: float | None = None
        self._until: float | None = None
        in_child(self._renew)

    def _renew(self) -> None:
        self._since = self._until = None
        for sender in self._senders:
            sender.renew()

    def begin(self) -> None:
        """A flush begins: senders hurry."""
        for sender in self._senders:
            sender.hurry()
        if self._since is None or self._until is not None:
            self._since, self._until = time.monotonic(), None

    def end(self, flushed: bool) -> None:
        """It ended, well or not."""
        for sender in self._senders:
            sender.relax()
        self._since, self._until = (None, None) if flushed else (self._since, time.monotonic())

    def left(self) -> float:
        """Seconds."""
        if self._since is None:
            return STOP_SECONDS
        now = time.monotonic()
        until = now if self._until is None else self._until
        if now - until > STOP_SECONDS:  # a failure of long ago says nothing about now
            return STOP_SECONDS
        return max(0.0, STOP_SECONDS - (until - self._since))


class StoppableSpanProcessor(BatchSpanProcessor):
    """The SDK's batch processor, with a `force_flush()` that keeps its timeout."""

    def __init__(self, exporter: SpanExporter, sender: Sender | None = None, **batching: Any) -> None:
        super().__init__(exporter, **batching)
        self.patience = Patience([sender] if sender else ())
        self._renew()
        in_child(self._renew)

    def _renew(self) -> None:
        self._flushing = threading.Lock()

    def force_flush(self, timeout_millis: float | None = None) -> bool:
        """Whether all spans ended before now have been handed to the exporter and it has returned, in time."""
        deadline = time.monotonic() + (30_000 if timeout_millis is None else timeout_millis) / 1000
        self.patience.begin()
        flushed = self._flush_until(deadline)
        self.patience.end(flushed)
        return flushed

    def _flush_until(self, deadline: float) -> bool:
        # One at a time: with a collector that hangs, each flush would leave a thread behind.
        if not self._flushing.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return False
        outcome: list[bool] = []

        def flush() -> None:
            try:
                outcome.append(BatchSpanProcessor.force_flush(self))
            finally:
                self._flushing.release()

        try:
            thread = threading.Thread(target=flush, name="asgi-trace-flush", daemon=True)
            thread.start()
        except RuntimeError:  # the interpreter is ending
            self._flushing.release()
            return False
        thread.join(max(0.0, deadline - time.monotonic()))
        return outcome == [True]


class StoppableMeterProvider(MeterProvider):
    """The SDK's meter provider, which remembers a flush that waited in vain."""

    def __init__(
        self, senders: Sequence[Sender], *, metric_readers: Sequence[MetricReader] = (), **settings: Any
    ) -> None:
        super().__init__(metric_readers=metric_readers, **settings)
        self.patience = Patience(senders)
        self._own_readers = metric_readers
        in_child(self._renew)

    def _renew(self) -> None:
        for reader in self._own_readers:  # the SDK starts their threads anew and forgets this lock
            if hasattr(reader, "_export_lock"):
                reader._export_lock = threading.Lock()

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Collect and export now."""
        flushed = False
        self.patience.begin()
        try:
            flushed = super().force_flush(timeout_millis)
        finally:
            self.patience.end(flushed)
        return flushed


def within(seconds: float, *functions: Callable[[], object]) -> bool:
    """Whether all functions, each in a thread of its own, return something true in time; False where none may start."""
    results: list[bool] = []

    def call(function: Callable[[], object]) -> None:
        try:
            results.append(bool(function()))
        except Exception:
            logger.warning("flushing failed", exc_info=True)

    threads = [threading.Thread(target=call, args=(function,), daemon=True) for function in functions]
    deadline = time.monotonic() + seconds
    try:
        for thread in threads:
            thread.start()
    except RuntimeError:  # the interpreter is ending
        return False
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return len(results) == len(functions) and all(results)


def before_sigterm(shutdown: Callable[[], object]) -> bool:
    """Call `shutdown` before the process dies of SIGTERM, if SIGTERM's default action is in place.

    A handler that anybody has set stays, and False is returned; so it is outside the main thread. The process still
    dies of the signal. So does one that was forked off, with spans of its own.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        return False

    def handler(signum: int, frame: FrameType | None) -> None:
        shutdown()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, handler)
    return True
