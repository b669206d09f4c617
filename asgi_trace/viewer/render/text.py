"""Make text that others sent safe and narrow enough to print.

Span names, attributes and log lines come from the network. In a terminal an escape sequence in one of them could
move the cursor, change the title or forge a line; in a page a bidirectional override could show text that is not
there. Everything that is printed passes through `one_line` or `block` first; HTML escaping is the page's own duty.
"""

from __future__ import annotations

import re
import unicodedata

_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, screen
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"  # OSC, DCS...: title, clipboard
    r"|\x1b[ -/]*[0-~]"
)
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
    if text.isascii():
        return len(text)
    return sum(_columns_of(char) for char in text)


def _columns_of(char: str) -> int:
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def clip(text: str, width: int, ellipsis: str = "…") -> str:
    """`text` cut to at most `width` columns; what is cut ends with `ellipsis`."""
    if columns(text) <= width:
        return text
    room = width - columns(ellipsis)
    if room < 0:
        return ellipsis[: max(width, 0)]
    kept: list[str] = []
    for char in text:
        room -= _columns_of(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept) + ellipsis


def pad(text: str, width: int, *, right: bool = False) -> str:
    """`text` filled with spaces to `width` columns, at its left side when `right`."""
    space = " " * max(0, width - columns(text))
    return space + text if right else text + space


def wrap(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width` columns, cut at spaces where there are any. `width` is at least 2."""
    lines = [""]
    for word in text.split(" "):
        while columns(word) > width:
            head = clip(word, width, "")
            lines.append(head)
            word = word[len(head) :]
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if columns(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines if lines[0] or len(lines) == 1 else lines[1:]


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
