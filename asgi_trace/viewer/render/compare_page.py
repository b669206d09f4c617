"""Two traces aligned, line by line: what only one of them has, and what took longer in the second."""

from __future__ import annotations

from collections.abc import Sequence

from ..analysis.compare import Pair, compare
from ..analysis.overview import Overview
from ..analysis.timeline import Row, Timeline
from ..text import duration, one_line, plural
from .layout import bar, chip, clock, document, mark, track
from .markup import Markup, element
from .section import verdicts
from .waterfall import title
from .wording import Colours, took

MAX_PAIRS = 1_000
_WORTH_A_SIGN = 1_000_000


def compare_page(
    a: tuple[Timeline, Overview], b: tuple[Timeline, Overview], colours: Colours, *, remarks: Sequence[str] = ()
) -> str:
    """The whole page."""
    pairs = compare(a[0], b[0])
    longest = max(a[0].length, b[0].length, 1)
    only_a, only_b = sum(pair.b is None for pair in pairs), sum(pair.a is None for pair in pairs)
    heads = ("service", "span", "first", "", "second", "", "difference")
    head = (element("th", name, scope="col", class_="right" if name == "difference" else "") for name in heads)
    rows = [_row(pair, longest, colours) for pair in pairs[:MAX_PAIRS]]
    cut = len(pairs) - len(rows)
    table = element("table", element("thead", element("tr", *head)), element("tbody", *rows), class_="list pairwise")
    return document(
        "Compare",
        element("h1", "Compare"),
        element("div", _side("first", *a), _side("second", *b), class_="sides"),
        element("div", *verdicts(b[0]), class_="verdicts"),
        element(
            "section",
            element("p", f"{plural(only_a, 'span')} only in the first, {only_b} only in the second", class_="muted"),
            element("div", table, class_="scroll"),
            element("p", f"{plural(cut, 'more line')} are left out.", class_="muted") if cut else "",
            class_="card",
        ),
        remarks=remarks,
        kind="compare",
    )


def _side(which: str, timeline: Timeline, row: Overview) -> Markup:
    return element(
        "section",
        element("h2", mark(row.failed), f" {which}: ", element("a", one_line(row.path or row.name), href=_href(row))),
        element("p", clock(row.time, with_date=True), f" · {took(row.duration)} · {plural(row.span_count, 'span')}",
                class_="facts"),
        class_="card",
    )  # fmt: skip


def _href(row: Overview) -> str:
    return f"/trace/{row.trace_id}"


def _row(pair: Pair, longest: int, colours: Colours) -> Markup:
    slower = pair.slower
    tone, words = "muted", ""
    if pair.a is None or pair.b is None:
        tone, words = "warn", "only in the second" if pair.a is None else "only in the first"
    elif slower is not None and abs(slower) >= _WORTH_A_SIGN:
        tone, words = ("bad" if slower > 0 else "good"), f"{'+' if slower > 0 else ''}{duration(slower)}"
    return element(
        "tr",
        element("td", chip(pair.row.span.service, colours)),
        element("td", element("span", title(pair.row), class_=f"name d{min(pair.depth, 24)}")),
        *_half(pair.a, longest),
        *_half(pair.b, longest),
        element("td", words, class_=f"right {tone}"),
        class_="" if pair.a and pair.b else "one-sided",
    )


def _half(row: Row | None, longest: int) -> tuple[Markup, Markup]:
    if row is None:
        return element("td"), element("td")
    style = "bar failed" if row.failed else "bar"
    outcome = element("span", "✗ ", class_="bad") if row.failed else ""
    return (
        element("td", outcome, took(row.span.duration), f" {row.status}" if row.status else "", class_="right"),
        element("td", track(bar(row.start / longest, row.duration / longest, style))),
    )
