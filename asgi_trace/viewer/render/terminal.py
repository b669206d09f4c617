"""The timeline for a terminal, as lines of styled text.

What the screen can show is given, never guessed here. Long traces and texts are cut and say so. Everything that came
over the network passes through `text` first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ..analysis.cause import Cause, explain, time_spent
from ..analysis.importance import logs_to_show, rows_to_show
from ..analysis.summary import RouteStats
from ..analysis.timeline import LogLine, Row, Timeline
from ..receive.records import LogRecord
from ..text import block, clip, columns, duration, one_line, pad, plural, wrap
from .screen import Glyphs, Line, Part, Screen, Segment
from .wording import Colours, outcome_style, remarks_on, severity_of, took

MAX_ROWS = 120
MAX_LOGS = 60
_MAX_ENTRIES = 5

_DEEPEST = 10
"""Levels of the tree that are drawn; deeper rows say how deep they are."""


def _service(colours: Colours, service: str) -> str:
    return f"service:{colours(service)}"


@dataclass(frozen=True)
class _Layout:
    """Column widths for one trace on one screen."""

    service: int
    name: int
    bar: int

    STATUS = 3
    DURATION = 8

    @classmethod
    def for_trace(cls, timeline: Timeline, width: int) -> _Layout:
        service = min(14, max((columns(one_line(name)) for name in timeline.services), default=4))
        rest = width - 2 - service - 1 - cls.STATUS - cls.DURATION - 4
        bar = max(12, min(44, rest * 2 // 5))
        return cls(service, max(16, rest - bar), bar)


def trace_lines(timeline: Timeline, screen: Screen, colours: Colours | None = None, *, heading: str = "") -> list[Line]:
    """One trace: its head, the tree with bars, exceptions where they happened, log lines, and what to make of it."""
    colours = colours or Colours()
    layout = _Layout.for_trace(timeline, screen.width)
    lines = _head(timeline, screen, heading)
    cause = explain(timeline)
    before = -1
    for index in rows_to_show(timeline, cause, MAX_ROWS):
        lines += _gap(index - before - 1, "more span")
        is_cause = cause is not None and cause.row == index
        lines += _row(timeline.rows[index], timeline, layout, screen, colours, is_cause=is_cause)
        before = index
    lines += _gap(len(timeline.rows) - before - 1, "more span")
    if timeline.logs:
        lines += [[], [("  logs", "bold")]] if timeline.rows else [[("  logs", "bold")]]
        before = -1
        for index in logs_to_show(timeline, MAX_LOGS):
            lines += _gap(index - before - 1, "more line")
            lines += _log(timeline.logs[index], layout.service, screen, colours)
            before = index
        lines += _gap(len(timeline.logs) - before - 1, "more line")
    return lines + _conclusions(timeline, cause, screen)


def _gap(count: int, noun: str) -> list[Line]:
    """What is left out at this place, on a line; nothing when nothing is."""
    return [[("  ", ""), (f"… {plural(count, noun)}", "dim")]] if count else []


def _head(timeline: Timeline, screen: Screen, heading: str) -> list[Line]:
    glyphs = screen.glyphs
    counts = (plural(len(timeline.rows), "span"), plural(len(timeline.services), "service"))
    longer = f"{duration(timeline.length)} in all" if timeline.length > (timeline.duration or 0) * 1.001 else ""
    facts = f" {glyphs.dot} ".join(filter(None, (f"trace {timeline.trace_id}", *counts, longer)))
    lines: list[Line] = [[(glyphs.rule * screen.width, "dim")]]
    if heading:
        lines.append([("  ", ""), (clip(one_line(heading), screen.width - 2, glyphs.ellipsis), "dim")])
    if timeline.rows:
        lines.append(_title(timeline.rows[timeline.entry], timeline.failed, screen))
        others = [timeline.rows[index] for index in timeline.entries if index != timeline.entry]
        lines += [_title(row, row.failed if row.is_timed else None, screen) for row in others[:_MAX_ENTRIES]]
        lines += _gap(len(others[_MAX_ENTRIES:]), "more entry span")
    else:
        lines.append([("  ", ""), (timeline.title, "bold")])
    return [*lines, [("  ", ""), (clip(facts, screen.width - 2, glyphs.ellipsis), "dim")], []]


def _title(row: Row, failed: bool | None, screen: Screen) -> Line:
    """The mark, the name, the status and the duration of an entry span."""
    glyphs, style = screen.glyphs, outcome_style(failed)
    outcome = f" {glyphs.calls}{row.status}" if row.status else ""
    time = f" in {took(row.span.duration)}"
    room = screen.width - columns(outcome) - columns(time) - 2
    return [
        (glyphs.unknown if failed is None else glyphs.failed if failed else glyphs.good, style),
        (" ", ""),
        (clip(one_line(row.label), room, glyphs.ellipsis), "bold"),
        (outcome, style),
        (time, ""),
    ]


def _row(
    row: Row, timeline: Timeline, layout: _Layout, screen: Screen, colours: Colours, *, is_cause: bool
) -> list[Line]:
    """The row and its remarks. Only the row where the failure began is red all over; the others passed it on."""
    glyphs, failed = screen.glyphs, row.failed
    tree = _tree(row, glyphs)
    arrow = glyphs.calls if row.span.kind == "CLIENT" else ""
    name = clip(arrow + one_line(row.label), max(6, layout.name - columns(tree)), glyphs.ellipsis)
    status = str(row.status) if row.status is not None else ""
    service = _service(colours, row.span.service)
    line: Line = [
        (f"{glyphs.failed} " if failed else "  ", "bad"),
        (pad(clip(one_line(row.span.service), layout.service, glyphs.ellipsis), layout.service), service),
        (" ", ""),
        (tree, "dim"),
        (pad(name, layout.name - columns(tree)), "bad" if is_cause else "bold" if row.parent < 0 else ""),
        (" ", ""),
        (pad(status, layout.STATUS), "bad" if failed else "good"),
        (" ", ""),
        *_bar(row, timeline.length, layout.bar, glyphs, "bad" if is_cause else service),
        (" ", ""),
        (pad(took(row.span.duration), layout.DURATION, right=True), ""),
    ]
    margin = 2 + layout.service + 1
    return [line, *_remarks(row, margin, screen, is_cause=is_cause)]


def _tree(row: Row, glyphs: Glyphs) -> str:
    if not row.guides:
        return ""
    drawn = row.guides[:_DEEPEST]
    if len(row.guides) > len(drawn):
        return glyphs.trunk * (_DEEPEST - 2) + f"({row.depth}) "
    trunks = "".join(glyphs.trunk if more else glyphs.gap for more in drawn[:-1])
    return trunks + (glyphs.branch if drawn[-1] else glyphs.last)


def _bar(row: Row, total: int, width: int, glyphs: Glyphs, style: str) -> list[Segment]:
    """The bar in half cells: at least one, never outside the width."""
    halves = width * 2
    scale = halves / total if total > 0 else 0.0
    first = max(0, min(int(row.start * scale), halves - 1))
    last = max(first + 1, min(round(row.end * scale), halves))
    cells = []
    for cell in range(width):
        left, right = first <= cell * 2 < last, first <= cell * 2 + 1 < last
        cells.append(
            glyphs.full if left and right else glyphs.left_half if left else glyphs.right_half if right else " "
        )
    return [("".join(cells), style)]


def _remarks(row: Row, margin: int, screen: Screen, *, is_cause: bool) -> list[Line]:
    """What stands below a row: its exception where it happened, a missing parent, a link that was not followed.

    The exception that the request failed with is told in full, any other one on a line.
    """
    glyphs = screen.glyphs
    below = "".join(glyphs.trunk if more else glyphs.gap for more in row.guides[:_DEEPEST])
    room = max(20, screen.width - margin - columns(below) - 2)
    remarks: list[Segment] = []
    if row.failure is not None and row.failure.first:
        lines = wrap(clip(one_line(str(row.failure)), 4 * room, glyphs.ellipsis), room - 2)
        if not is_cause:
            lines = [clip(one_line(str(row.failure).split("\n", 1)[0]), room - 2, glyphs.ellipsis)]
        remarks += [(f"{'  ' if number else glyphs.failed + ' '}{part}", "bad") for number, part in enumerate(lines)]
        if row.failure.where and is_cause:
            remarks.append((f"  at {one_line(row.failure.where)}", "dim"))
    remarks += [(text, "warn") for text in remarks_on(row)]
    return [[(" " * margin, ""), (below, "dim"), (clip(text, room, glyphs.ellipsis), style)] for text, style in remarks]


def _log(line: LogLine, service_width: int, screen: Screen, colours: Colours) -> list[Line]:
    """A log line on at most two lines."""
    record, glyphs = line.record, screen.glyphs
    head = f"  {pad(_offset(line.offset), 9, right=True)} "
    severity = severity_of(record)
    room = max(20, screen.width - columns(head) - service_width - 8)
    style = "bad" if severity in ("ERROR", "FATAL") else "warn" if severity == "WARN" else ""
    first, *rest = wrap(clip(one_line(record.body), 2 * room - 10, glyphs.ellipsis), room)
    lines: list[Line] = [
        [
            (head, "dim"),
            (
                pad(clip(one_line(record.service), service_width, glyphs.ellipsis), service_width),
                _service(colours, record.service),
            ),
            (" ", ""),
            (pad(severity, 5), style or "dim"),
            (" ", ""),
            (first, style),
        ]
    ]
    return lines + [[(" " * (columns(head) + service_width + 7), ""), (part, style)] for part in rest]


def _offset(nanoseconds: int) -> str:
    return f"+{duration(nanoseconds)}" if nanoseconds >= 0 else duration(nanoseconds)


def _conclusions(timeline: Timeline, cause: Cause | None, screen: Screen) -> list[Line]:
    said: list[Segment] = []
    if cause is not None:
        said.append((cause.sentence, "bad" if cause.fatal else "warn"))
    spent = time_spent(timeline)
    if spent is not None:
        said.append((spent, "bold"))
    said += [(f"{note}.", "dim") for note in timeline.notes]
    lines: list[Line] = [[]] if said else []
    for text, style in said:
        for number, part in enumerate(wrap(text, screen.width - 4)):
            lines.append([("  ", ""), (screen.glyphs.calls if number == 0 else "  ", style), (part, style)])
    return [*lines, []]


def route_table(
    routes: Sequence[RouteStats], screen: Screen, colours: Colours, title: str = "routes", source: str = "SERVER spans"
) -> list[Part]:
    """The routes as a table: requests, errors, median, 95th percentile and maximum. Nothing when there are none."""
    if not routes:
        return []
    table = Table(box=None, padding=(0, 1, 0, 1), header_style="dim", pad_edge=False, width=screen.width - 2)
    table.add_column("", no_wrap=True, overflow="ellipsis", max_width=14)
    table.add_column("", no_wrap=True, overflow="ellipsis", ratio=1)
    for name in ("requests", "errors", "p50", "p95", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for route in routes:
        table.add_row(
            Text(one_line(route.service), _service(colours, route.service)),
            Text(one_line(route.label)),
            f"{route.requests:,}",
            Text(f"{route.errors:,}", "bad" if route.errors else "dim"),
            *("?" if value is None else duration(value) for value in (route.p50, route.p95, route.maximum)),
        )
    return [
        [(screen.glyphs.rule * screen.width, "dim")],
        [(f"  {title}", "bold"), (f" ({source})", "dim")],
        Padding(table, (0, 0, 1, 2)),
    ]


def metric_table(routes: Sequence[RouteStats], screen: Screen, colours: Colours) -> list[Part]:
    """The same for the histograms that were exported."""
    return route_table(routes, screen, colours, "metrics", "histograms of http.server, as received")


def stray_log_table(logs: Sequence[LogRecord], screen: Screen, colours: Colours) -> list[Part]:
    """The newest log lines that belong to no trace, each on one line. Nothing when there are none."""
    if not logs:
        return []
    table = Table.grid(padding=(0, 1, 0, 0), expand=True)
    table.add_column(no_wrap=True, overflow="ellipsis", width=min(14, max(columns(log.service) for log in logs)))
    table.add_column(no_wrap=True, style="dim", width=5)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    for log in logs[-MAX_LOGS:]:
        text = Text(block(log.body).split("\n", 1)[0])
        table.add_row(Text(one_line(log.service), _service(colours, log.service)), Text(severity_of(log)), text)
    return [[("  logs outside any request", "bold")], Padding(table, (0, 0, 1, 2))]
