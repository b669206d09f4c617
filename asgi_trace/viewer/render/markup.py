"""HTML that cannot forget to escape: `element` escapes every child that is not markup already.

This is the only place where text becomes HTML, for the live page and for the saved one. `code` and `text_block` also
remove control and direction characters, see `text`.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from ..text import block, one_line

_VOID = frozenset(("input", "link", "meta", "br", "hr"))


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: str) -> Markup:
    """`<name attributes>children</name>`. Children that are not `Markup`, and all attribute values, are escaped.

    `class_` and `for_` stand for the names that Python keeps, `_` inside a name for `-`; an empty value is left out,
    except that of `value`.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_clean(value))}"'
        for key, value in attributes.items()
        if value or key == "value"
    )
    return Markup(f"<{name}{written}>" if name in _VOID else f"<{name}{written}>{joined(children)}</{name}>")


def _clean(value: str) -> str:
    """An attribute's value without control and direction characters."""
    return value if value.isascii() and value.isprintable() else block(value)


def joined(parts: Iterable[str]) -> Markup:
    """The parts one after the other, escaped where they are not `Markup`."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))


def text(name: str, value: str, /, **attributes: str) -> Markup:
    """An element with one line of text that came over the network."""
    return element(name, one_line(value), **attributes)


def text_block(value: str, **attributes: str) -> Markup:
    """Text of several lines that came over the network, as it was written."""
    return element("pre", block(value), **attributes)
