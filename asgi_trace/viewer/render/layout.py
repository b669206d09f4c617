"""What every page has: its head, the navigation, what was lost, and pieces that several pages show."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from functools import cache
from importlib.resources import files

from ..analysis.filters import Filters
from ..text import one_line
from .api import rfc3339
from .markup import Markup, element, joined
from .wording import Colours, outcome_style

_PAGES = (("/", "Traces"), ("/routes", "Routes"), ("/map", "Map"))
MARKS = {"bad": ("✗", "failed"), "good": ("✓", "succeeded"), "warn": ("?", "not known yet")}


@cache
def static(name: str) -> str:
    """A file of the package that pages use."""
    return files("asgi_trace.viewer").joinpath("static").joinpath(name).read_text("utf-8")


def document(title: str, *content: str, active: str = "", remarks: Sequence[str] = (), kind: str = "") -> str:
    """A page of the live viewer. `active` is the address of its tab, `remarks` stand above the content."""
    head = joined(
        (
            element("meta", charset="utf-8"),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("meta", name="color-scheme", content="light dark"),
            element("title", one_line(f"{title} - asgi-trace")),
            element("link", rel="icon", href="/static/favicon.svg", type="image/svg+xml"),
            element("link", rel="stylesheet", href="/static/page.css"),
            element("script", src="/static/page.js", defer="defer"),
        )
    )
    tabs = [
        element("a", name, href=href, class_="tab", aria_current="page" if href == active else "")
        for href, name in _PAGES
    ]
    top = element(
        "header",
        element("a", element("span", class_="logo", aria_hidden="true"), "asgi-trace", href="/", class_="brand"),
        element("nav", *tabs, aria_label="Pages"),
        element("span", class_="live", id="live-state", role="status"),
        class_="top",
    )
    notes = [element("p", one_line(remark), class_="notice") for remark in remarks]
    skip = element("a", "Skip to the content", href="#content", class_="skip")
    body = element("div", *notes, element("main", *content, id="content"), class_=f"page {kind}".strip())
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>{skip}{top}{body}</body></html>\n'


def chip(service: str, colours: Colours) -> Markup:
    """A service's name in its colour."""
    name = one_line(service)
    return element("span", name, class_=f"chip c{colours(service)}", title=name)


def service_link(service: str, filters: Filters | None = None) -> str:
    """The address of the list with this service alone."""
    return (filters or Filters()).url(service=service)


def mark(failed: bool | None) -> Markup:
    """The outcome as a sign, with its word for screen readers."""
    style = outcome_style(failed)
    sign, word = MARKS[style]
    return element("span", sign, class_=f"mark {style}", role="img", aria_label=word, title=word)


def clock(nanoseconds: int, *, with_date: bool = False) -> Markup:
    """A moment in the server's time zone; the page's script writes it in the reader's."""
    exact = rfc3339(nanoseconds)
    if exact is None:
        return element("span", "unknown time", class_="muted")
    local = datetime.fromtimestamp(nanoseconds // 1_000_000_000, timezone.utc).astimezone()
    text = f"{local:%H:%M:%S}.{nanoseconds // 1_000_000 % 1_000:03d}"
    if with_date:
        text = f"{local:%Y-%m-%d} {text} {local:%Z}"
    return element("time", text, datetime=exact, title=exact, class_="with-date" if with_date else "")


def bar(start: float, length: float, class_: str = "bar", *, view: str = "0 0 1000 10") -> Markup:
    """One bar in its track, as SVG: positions are attributes, because the policy forbids inline style.

    `start` and `length` are shares of the whole; at least a sliver is drawn.
    """
    left = min(max(start, 0.0), 0.996) * 1_000
    width = min(max(length * 1_000, 3.0), 1_000 - left)
    return element("rect", x=f"{left:.1f}", y="0", width=f"{width:.1f}", height="10", rx="2", class_=class_)


def track(*shapes: Markup) -> Markup:
    """The room for bars."""
    return element(
        "svg", *shapes, class_="track", viewBox="0 0 1000 10", preserveAspectRatio="none", aria_hidden="true"
    )


def select(name: str, label: str, options: Sequence[tuple[str, str]], chosen: str) -> Markup:
    """A labelled choice in a form; what is chosen is offered even when it is not among the options."""
    known = [value for value, _ in options]
    extra = [] if chosen in known else [(chosen, chosen)]
    return element(
        "select",
        *(
            element("option", one_line(text), value=value, selected="selected" if value == chosen else "")
            for value, text in (*options, *extra)
        ),
        name=name,
        aria_label=label,
    )
