"""What a stream can show, and how styled lines get there: width, colours, and characters beyond ASCII or not.

`rich` finds out about the terminal and writes the colours. Two things stay here because rich does not do them: a
character set of equal shape for streams whose encoding knows no box-drawing characters, and a width between 60 and
140 columns. Rich lets escape sequences inside a text pass, so every text must go through `text` first.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TextIO, TypeAlias

from rich.console import Console, RenderableType
from rich.text import Text
from rich.theme import Theme

from ..text import columns

Segment: TypeAlias = tuple[str, str]
"""A piece of text and the name of its style: `""`, `bold`, `dim`, `good`, `bad`, `warn`, or `service:<number>`."""
Line: TypeAlias = list[Segment]
Part: TypeAlias = "Line | RenderableType"
"""What `to_text` can print."""

_SERVICES = ("cyan", "magenta", "blue", "yellow", "green", "bright_magenta")
_THEME = Theme(
    {
        "good": "green",
        "bad": "bold red",
        "warn": "yellow",
        **{f"service:{number}": colour for number, colour in enumerate(_SERVICES)},
    }
)


@dataclass(frozen=True)
class Glyphs:
    """The characters of one character set."""

    full: str
    left_half: str
    right_half: str
    rule: str
    branch: str
    last: str
    trunk: str
    gap: str
    failed: str
    good: str
    unknown: str
    calls: str
    ellipsis: str
    dot: str


UNICODE = Glyphs("━", "╸", "╺", "─", "├ ", "└ ", "│ ", "  ", "✗", "✓", "?", "→ ", "…", "·")
ASCII = Glyphs("=", "=", "=", "-", "|-", "`-", "| ", "  ", "x", "+", "?", "> ", "...", "-")
_ASCII_FOR = str.maketrans({"…": ".", "µ": "u", "“": '"', "”": '"', "→": ">", "✗": "x", "✓": "+"})


@dataclass(frozen=True)
class Screen:
    """What can be shown: how many columns, in colour or not, beyond ASCII or not."""

    width: int = 100
    colour: bool = False
    unicode: bool = True

    @property
    def glyphs(self) -> Glyphs:
        """The characters to draw with."""
        return UNICODE if self.unicode else ASCII

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str] = os.environ, *, colour: bool = True) -> Screen:
        """What `stream` can show. `NO_COLOR`, `TERM=dumb` and `colour=False` keep it plain, as does a pipe."""
        console = Console(file=stream, _environ=environ)
        width = shutil.get_terminal_size((100, 24)).columns
        wanted = colour and stream.isatty() and not environ.get("NO_COLOR") and not console.is_dumb_terminal
        return cls(width=max(60, min(width, 140)), colour=wanted, unicode=_can_encode(stream.encoding))


def _can_encode(encoding: str | None) -> bool:
    try:
        "━╸╺─├└│✗✓→…·µ“”".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


@lru_cache(maxsize=8)
def _console(width: int, colour: bool) -> Console:
    return Console(
        file=io.StringIO(),
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=not colour,
        theme=_THEME,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
        _environ={},
    )


def to_text(parts: Iterable[Part], screen: Screen) -> str:
    """Lines, and whatever else rich can draw, as text of the screen that ends with a line feed."""
    console = _console(screen.width, screen.colour)
    with console.capture() as capture:
        for part in parts:
            if isinstance(part, list):
                console.print(Text.assemble(*part), no_wrap=True, overflow="ignore", crop=False)
            else:
                console.print(part)
    text = "".join(line.rstrip() + "\n" for line in capture.get().splitlines())
    return text if screen.unicode else _ascii(text)


def _ascii(text: str) -> str:
    """`text` without anything beyond ASCII, and as wide as it was."""
    return "".join(char if char.isascii() else "?" * columns(char) for char in text.translate(_ASCII_FOR))
