"""What a command is doing, in lines on standard error: with a mark and in colour on a terminal, plain elsewhere."""

from __future__ import annotations

from typing import TextIO

from .screen import Line, Screen, to_text
from .text import clip


class Progress:
    """Tells `stream` what happens. On a terminal, `doing` shows what is under way until the next line replaces it."""

    def __init__(self, stream: TextIO, *, colour: bool = True) -> None:
        self._stream = stream
        self._screen = Screen.of(stream, colour=colour)
        self._rewrites = stream.isatty()
        self._pending = False

    def doing(self, what: str) -> None:
        """Something begins."""
        if self._rewrites:
            glyphs = self._screen.glyphs
            self._say([("  ", ""), (clip(what + glyphs.ellipsis, self._screen.width - 4), "dim")], end="")
            self._pending = True

    def done(self, what: str) -> None:
        """Something has been done."""
        self._say([(f"{self._screen.glyphs.good} ", "good"), (what, "")])

    def warn(self, what: str) -> None:
        """Something is not as it should be, and the work goes on."""
        self._say([("! ", "warn"), (what, "warn")])

    def clear(self) -> None:
        """Remove what `doing` has left."""
        if self._pending:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._pending = False

    def _say(self, line: Line, end: str = "\n") -> None:
        self.clear()
        self._stream.write(to_text([line], self._screen).removesuffix("\n") + end)
        self._stream.flush()
