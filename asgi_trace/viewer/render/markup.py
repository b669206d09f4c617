"""HTML that cannot forget to escape: `element` escapes every child that is not markup already."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def element(name: str, *children: str, **attributes: str) -> Markup:
    """`<name attributes>children</name>`. Children that are no `Markup`, and all attribute values, are escaped.

    `class_` and `for_` stand for the names that Python keeps, `_` inside a name for `-`; an empty value is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items() if value
    )
    return Markup(f"<{name}{written}>{joined(children)}</{name}>")


def joined(parts: Iterable[str]) -> Markup:
    """The parts one after the other, escaped where they are no `Markup`."""
    return Markup("".join(part if isinstance(part, Markup) else escape(part) for part in parts))
