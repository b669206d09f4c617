"""Traces in files: lines of OTLP/JSON, one export request each, as `--save` and the collector's file exporter write."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from queue import Full, Queue
from typing import Any

from .intake import Intake
from .signals import SIGNALS, Signal, Unreadable, from_data, to_data

_MAX_COMPLAINTS = 5
_WAITING = 2_000


def load(path: Path, intake: Intake, complain: Callable[[str], None]) -> int:
    """Feed the file to `intake`, and return the number of export requests in it. Raises OSError.

    A line that cannot be read is complained about with the file's name and its number, and the others count. A file
    that is one JSON document over many lines is read as well.
    """
    text = path.read_text("utf-8", "replace")
    whole = _parsed(text)
    if whole is not None:
        lines: list[tuple[int, object]] = [(1, whole)]
    else:
        lines = [(number, _parsed(line)) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    bad: list[tuple[int, str]] = []
    taken = 0
    for number, data in lines:
        try:
            taken += _take(data, intake)
        except Unreadable as exc:
            bad.append((number, str(exc)))
    for number, reason in bad[:_MAX_COMPLAINTS]:
        complain(f"{path}, line {number}: {reason}")
    if len(bad) > _MAX_COMPLAINTS:
        complain(f"{path}: {len(bad) - _MAX_COMPLAINTS} more lines cannot be read")
    return taken


def _parsed(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _take(data: object, intake: Intake) -> int:
    """Take every signal that the object holds. Raises `Unreadable` when it holds none."""
    if not isinstance(data, dict):
        raise Unreadable("this is not a JSON object")
    found = [signal for signal in SIGNALS if signal.key in data]
    if not found:
        raise Unreadable("there is no resourceSpans, resourceLogs or resourceMetrics in it")
    for signal in found:
        intake.take(signal, from_data(signal, {signal.key: data[signal.key]}))
    return len(found)


class Saver:
    """Appends every export request to a file, in a thread of its own: a slow disk holds up no sender.

    `complain` is told once when requests are lost: the disk is full, or too slow.
    """

    def __init__(self, path: Path, complain: Callable[[str], None]) -> None:
        self.path = path
        self.lost: int = 0
        self.saved: int = 0
        self._complain = complain
        self._file = path.open("a", encoding="utf-8")
        self._queue: Queue[tuple[Signal, Any] | None] = Queue(_WAITING)
        self._thread = threading.Thread(target=self._run, name="asgi-trace-save", daemon=True)
        self._thread.start()

    def add(self, signal: Signal, request: Any) -> None:
        """Save a request soon, or count it as lost when too many wait already."""
        try:
            self._queue.put_nowait((signal, request))
        except Full:
            self._lose("the disk is too slow")

    def close(self) -> None:
        """Write what waits, for at most a few seconds, and close the file. Idempotent."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join(10)
        with suppress(OSError):  # what could not be written has been counted
            self._file.close()

    def _run(self) -> None:
        while (waiting := self._queue.get()) is not None:
            _, request = waiting
            try:
                self._file.write(json.dumps(to_data(request), separators=(",", ":")) + "\n")
                self._file.flush()
                self.saved += 1
            except (OSError, ValueError) as exc:
                self._lose(str(exc))

    def _lose(self, reason: str) -> None:
        self.lost += 1
        if self.lost == 1:
            self._complain(f"an export could not be saved to {self.path}: {reason}. The viewer goes on without it.")
