"""A progress bar on stderr; nothing at all where stderr is no terminal."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_WIDTH = 28


class Progress:
    """Counts steps towards a total that may grow, and says how long the rest will take."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stderr if stream is None else stream
        self._visible = self._stream.isatty()
        self._total = self._done = 0
        self._label = ""
        self._started = self._drawn = 0.0

    def stage(self, label: str, steps: int) -> None:
        """Begin a part of so many steps."""
        self._label, self._total, self._done = label, max(steps, 1), 0
        self._started, self._drawn = time.monotonic(), 0.0
        self._draw("")

    def step(self, what: str = "") -> None:
        """One step is done; `what` says which."""
        self._done += 1
        self._draw(what)

    def say(self, text: str) -> None:
        """Print a line above the bar, also where there is no bar."""
        self.clear()
        print(text, file=self._stream, flush=True)

    def clear(self) -> None:
        """Take the bar away."""
        if self._visible:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _draw(self, what: str) -> None:
        now = time.monotonic()
        if not self._visible or (now - self._drawn < 0.1 and self._done < self._total):
            return
        self._drawn = now
        share = min(self._done / self._total, 1.0)
        bar = "█" * round(share * _WIDTH) + "░" * (_WIDTH - round(share * _WIDTH))
        left = (now - self._started) * (1 - share) / share if share else 0.0
        rest = f"{left:4.0f} s left" if self._done else ""
        self._stream.write(f"\r\x1b[K{self._label:<13}{bar} {share:4.0%} {rest} {what[:40]}")
        self._stream.flush()
