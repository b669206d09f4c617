"""Make text from the network safe to print, and narrow enough for its place.

In a terminal an escape sequence in a span's name could move the cursor, change the window's title or forge a line; in
a page a bidirectional override could show text that is not there. `rich` removes five control characters and lets
escape sequences pass, so everything that is printed goes through `one_line` or `block` first. Widths, cuts and line
breaks are rich's. HTML escaping is done in `markup`.
"""

from __future__ import annotations

import io
import re
import unicodedata

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, screen
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS...: title, clipboard
    r"|\x1b[ -/]*[0-~]"
)
_CONSOLE = Console(file=io.StringIO(), width=200, _environ={})
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


def one_line(text: str) -> str:
    """`text` on one line without escape sequences, control, invisible or direction-changing characters."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_visible(char) for char in _ESCAPE_SEQUENCE.sub("", text)).strip()


def block(text: str) -> str:
    """The same for text of several lines: line feeds and indentation stay."""
    return "\n".join(
        "".join(_visible(char) for char in line).rstrip()
        for line in _ESCAPE_SEQUENCE.sub("", text.replace("\r\n", "\n")).expandtabs(4).split("\n")
    )


def _visible(char: str) -> str:
    if char in "\t\n\r\v\f\x85\u2028\u2029":
        return " "
    return "" if unicodedata.category(char) in _INVISIBLE else char


def columns(text: str) -> int:
    """How many terminal columns `text` takes: two for a wide character, none for a combining one."""
    return cell_len(text)


def clip(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` cut to at most `width` columns; what is cut ends with `ellipsis`."""
    if cell_len(text) <= width:
        return text
    room = width - cell_len(ellipsis)
    return set_cell_size(text, room) + ellipsis if room >= 0 else ellipsis[: max(width, 0)]


def pad(text: str, width: int, *, right: bool = False) -> str:
    """`text` filled with spaces to `width` columns, at its left side when `right`."""
    space = " " * max(0, width - cell_len(text))
    return space + text if right else text + space


def wrap(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` columns, cut at spaces where there are any. `width` is at least 2."""
    return [line.plain.rstrip() for line in Text(text).wrap(_CONSOLE, width)] or [""]


def duration(nanoseconds: float) -> str:
    """A length of time in the unit that reads best: `850 µs`, `12.3 ms`, `1.24 s`."""
    if nanoseconds < 0:
        return "-" + duration(-nanoseconds)
    if nanoseconds < 999_500:
        return f"{nanoseconds / 1e3:.0f} µs"
    if nanoseconds < 99_950_000:
        return f"{nanoseconds / 1e6:.1f} ms"
    if nanoseconds < 999_500_000:
        return f"{nanoseconds / 1e6:.0f} ms"
    if nanoseconds < 119_500_000_000:
        return f"{nanoseconds / 1e9:.2f} s"
    return f"{nanoseconds / 60e9:.1f} min"


def plural(count: int, noun: str) -> str:
    """`1 span`, `2 spans`, `12,000 spans`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
