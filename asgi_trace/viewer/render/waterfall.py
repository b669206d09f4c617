"""Rows of a trace with their bars, for the live page and for the saved one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..analysis.cause import Cause
from ..analysis.timeline import LogLine, Row, Timeline
from ..text import duration, one_line, plural
from .layout import bar, chip, track
from .markup import Markup, element, text
from .wording import Colours, remarks_on, severity_of, took

Stretches = Mapping[int, Sequence[tuple[int, int]]]
"""For each row the stretches of the critical path in it, see `critical_path`."""

_MAX_LINES = 3
DEEPEST = 24
"""Levels that are indented; deeper rows say how deep they are."""


def axis(length: int) -> Markup:
    """Five moments of the trace, above the bars."""
    ticks = element("span", *(element("span", duration(length * part / 4)) for part in range(5)), class_="ticks")
    cells = (element("span", "service"), element("span", "span"), element("span"), ticks)
    return element("div", *cells, element("span", "duration", class_="right"), class_="axis grid", aria_hidden="true")


def row_class(row: Row, colours: Colours, *, is_cause: bool) -> str:
    """The classes of a row's element: its colour, its state, its depth."""
    names = ["row", f"c{colours(row.span.service)}", f"d{min(row.depth, DEEPEST)}"]
    names += [name for name, yes in (("failed", row.failed), ("cause", is_cause), ("root", row.parent < 0)) if yes]
    return " ".join(names)


def cells(
    row: Row,
    timeline: Timeline,
    colours: Colours,
    name: Markup,
    stretches: Sequence[tuple[int, int]],
    lines: Sequence[LogLine] = (),
    *,
    is_cause: bool,
) -> tuple[Markup, ...]:
    """Service, name, status, bar, duration and remarks of a row. `name` is the element with its title, `lines` are the
    log lines to show in place.
    """
    remarks = [*_remarks(row, is_cause=is_cause), *_log_remarks(lines)]
    return (
        chip(row.span.service, colours),
        name,
        element("span", str(row.status or ""), class_="status " + ("bad" if row.failed else "good")),
        _track(row, timeline, stretches),
        element("span", took(row.span.duration), class_="duration"),
        element("span", *remarks, class_="name remarks") if remarks else Markup(),
    )


def title(row: Row) -> str:
    """The name of a row, with an arrow for a call and the depth where it is no longer indented."""
    depth = f"({row.depth}) " if row.depth > DEEPEST else ""
    arrow = "→ " if row.span.kind in ("CLIENT", "PRODUCER") else ""
    return depth + arrow + one_line(row.label)


def _remarks(row: Row, *, is_cause: bool) -> list[Markup]:
    found = [element("span", one, class_="warn") for one in remarks_on(row)]
    if row.failure is not None and row.failure.first:
        words = str(row.failure) if is_cause else str(row.failure).split("\n", 1)[0]
        place = f" at {row.failure.where}" if row.failure.where and is_cause else ""
        found.append(text("span", f"✗ {words[:2_000]}{place}", class_="bad"))
    return found


def _log_remarks(lines: Sequence[LogLine]) -> list[Markup]:
    """Log lines below their row, errors first where there are too many."""
    chosen = sorted(sorted(lines, key=lambda line: not line.record.is_error)[:_MAX_LINES], key=lambda line: line.offset)
    found = [
        element(
            "span",
            element("b", severity_of(line.record), class_="bad" if line.record.is_error else ""),
            f" {one_line(line.record.body)[:500]}",
            class_="log",
        )
        for line in chosen
    ]
    more = len(lines) - len(chosen)
    return [*found, element("span", f"{plural(more, 'more log line')}", class_="log")] if more else found


def _track(row: Row, timeline: Timeline, stretches: Sequence[tuple[int, int]]) -> Markup:
    length = max(timeline.length, 1)
    shapes = [bar(row.start / length, row.duration / length, "bar")]
    for start, end in stretches:
        left, width = start / length * 1_000, (end - start) / length * 1_000
        if width >= 1:
            shapes.append(element("rect", x=f"{left:.1f}", y="8", width=f"{width:.1f}", height="2", class_="path"))
    if row.failed:
        edge = min(row.end / length * 1_000, 1_000.0)
        shapes.append(element("rect", x=f"{max(0.0, edge - 4):.1f}", y="0", width="4", height="10", class_="edge"))
    return track(*shapes)


def logs_by_span(timeline: Timeline) -> dict[str, list[LogLine]]:
    """The log lines of each span, by its id."""
    found: dict[str, list[LogLine]] = {}
    for line in timeline.logs:
        found.setdefault(line.record.span_id, []).append(line)
    return found


def is_cause(cause: Cause | None, index: int) -> bool:
    """Is this row the culprit?"""
    return cause is not None and cause.row == index
