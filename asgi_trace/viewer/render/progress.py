"""What a command is doing, in lines on standard error: with a mark and in colour on a terminal, plain elsewhere."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.status import Status
from rich.text import Text

from ..text import clip
from .screen import Line, Screen, to_text


class Progress:
    """Tells `stream` what happens. On a terminal, `doing` shows what is under way until the next line replaces it."""

    def __init__(self, stream: TextIO, *, colour: bool = True) -> None:
        self._stream = stream
        self._screen = Screen.of(stream, colour=colour)
        self._console = Console(file=stream, no_color=not self._screen.colour, highlight=False)
        self._status: Status | None = None

    def doing(self, what: str) -> None:
        """Something begins."""
        self.clear()
        if self._console.is_terminal:
            text = Text(
                clip(what + self._screen.glyphs.ellipsis, self._screen.width - 4), "dim" if self._screen.colour else ""
            )
            self._status = self._console.status(text, spinner="dots" if self._screen.unicode else "line")
            self._status.start()

    def done(self, what: str) -> None:
        """Something has been done."""
        self._say([(f"{self._screen.glyphs.good} ", "good"), (what, "")])

    def warn(self, what: str) -> None:
        """Something is not as it should be, and the work goes on."""
        self._say([("! ", "warn"), (what, "warn")])

    def clear(self) -> None:
        """Remove what `doing` has left."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def _say(self, line: Line) -> None:
        self.clear()
        self._stream.write(to_text([line], self._screen))
        self._stream.flush()
