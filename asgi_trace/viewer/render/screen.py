"""Styled text and what shows it: pieces with the name of a style, and a screen's width, colours and characters.

A screen is read from its stream once; nothing else looks at the environment.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TextIO, TypeAlias

from .text import columns

Segment: TypeAlias = tuple[str, str]
"""A piece of text and the name of its style: `""`, `bold`, `dim`, `good`, `bad`, `warn`, or `service:<number>`."""
Line: TypeAlias = list[Segment]


_SGR = {"bold": "1", "dim": "2", "good": "32", "bad": "1;31", "warn": "33"}
_SERVICE_SGR = ("36", "35", "34", "33", "32", "95")


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
    calls: str
    ellipsis: str
    dot: str


UNICODE = Glyphs("━", "╸", "╺", "─", "├ ", "└ ", "│ ", "  ", "✗", "✓", "→ ", "…", "·")
ASCII = Glyphs("=", "=", "=", "-", "|-", "`-", "| ", "  ", "x", "+", "> ", "...", "-")
_ASCII_FOR = str.maketrans({"…": ".", "µ": "u", "“": '"', "”": '"', "→": ">"})


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
        terminal = stream.isatty()
        width = shutil.get_terminal_size((100, 24)).columns
        wanted = colour and terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        return cls(width=max(60, min(width, 140)), colour=wanted, unicode=_can_encode(stream.encoding))


def _can_encode(encoding: str | None) -> bool:
    try:
        "━╸╺─├└│✗✓→…·µ“”".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def to_text(lines: Iterable[Line], screen: Screen) -> str:
    """The lines as text that ends with a line feed."""
    return "".join(_encode(line, screen) + "\n" for line in lines)


def _encode(line: Line, screen: Screen) -> str:
    if not screen.colour:
        text = "".join(piece for piece, _ in line).rstrip()
        return text if screen.unicode else _ascii(text)
    return "".join(_sgr(piece if screen.unicode else _ascii(piece), style) for piece, style in line)


def _ascii(text: str) -> str:
    """`text` without anything beyond ASCII, and as wide as it was."""
    return "".join(char if char.isascii() else "?" * columns(char) for char in text.translate(_ASCII_FOR))


def _sgr(piece: str, style: str) -> str:
    if not piece.strip():
        return piece
    if style.startswith("service:"):
        return f"\x1b[{_SERVICE_SGR[int(style.removeprefix('service:'))]}m{piece}\x1b[0m"
    return f"\x1b[{_SGR[style]}m{piece}\x1b[0m" if style else piece
