"""Which rows of a trace stand on a page at first, and which are folded: equal siblings, and what is too much.

A trace is a list of rows in tree order, so that whatever is folded is a range of that list. A folded range is loaded
when it is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .cause import Cause
from .importance import path_to
from .timeline import Timeline

WINDOW = 300
"""Rows on a page at first, and in each range that is loaded later."""
_GROUPED_FROM = 5


@dataclass(frozen=True)
class Folded:
    """Rows that are not shown: those from `start` up to `end`. `siblings` counts the equal siblings that begin in it,
    0 when it is just what is too much; `failed` counts the rows in it that failed.
    """

    start: int
    end: int
    siblings: int = 0
    failed: int = 0


Piece = int | Folded


def pieces(timeline: Timeline, cause: Cause | None, *, wanted: Iterable[int] = (), limit: int = WINDOW) -> list[Piece]:
    """The page at first: row numbers and folded ranges. The `wanted` rows, the culprit and the ways to them are always
    shown; of the others those that failed come first, then those at the top.
    """
    always: set[int] = set(timeline.entries[:limit])
    for index in (*wanted, *([cause.row] if cause else [])):
        always.update(path_to(timeline, index))
    units = _units(timeline, always)
    if len(units) <= limit:
        return units
    order = sorted(range(len(units)), key=lambda number: (_rank(timeline, units[number], always), number))
    needed = sum(_rank(timeline, unit, always) == 0 for unit in units)
    chosen = set(order[: max(limit, min(needed, 4 * limit))])
    return _fold_the_rest(timeline, units, chosen)


def _units(timeline: Timeline, always: set[int]) -> list[Piece]:
    """All rows, with groups of equal siblings as one piece each."""
    groups = _groups(timeline, always)
    found: list[Piece] = []
    at = 0
    while at < len(timeline.rows):
        found.append(groups.get(at, at))
        at = groups[at].end if at in groups else at + 1
    return found


def _rank(timeline: Timeline, piece: Piece, always: set[int]) -> int:
    if isinstance(piece, Folded):
        return 1 if piece.failed else 2
    return 0 if piece in always else 1 if timeline.rows[piece].failed else 2


def _fold_the_rest(timeline: Timeline, units: list[Piece], chosen: set[int]) -> list[Piece]:
    """The chosen units in order, with one range for each run of the others."""
    found: list[Piece] = []
    number = 0
    while number < len(units):
        if number in chosen:
            found.append(units[number])
            number += 1
            continue
        first = number
        while number < len(units) and number not in chosen:
            number += 1
        end = _start(units[number]) if number < len(units) else len(timeline.rows)
        found.append(_folded(timeline, _start(units[first]), end))
    return found


def _start(piece: Piece) -> int:
    return piece.start if isinstance(piece, Folded) else piece


def matching(timeline: Timeline, rows: Iterable[int], limit: int = WINDOW) -> list[Piece]:
    """The rows that a search found, with the ways to them; all others are folded."""
    visible: set[int] = set()
    for index in rows:
        if len(visible) >= limit:
            break
        visible.update(path_to(timeline, index))
    found: list[Piece] = []
    for index in range(len(timeline.rows)):
        if index in visible:
            found.append(index)
        elif found and isinstance(found[-1], Folded):
            found[-1] = Folded(found[-1].start, index + 1)
        else:
            found.append(Folded(index, index + 1))
    return found


def window(timeline: Timeline, start: int, end: int) -> list[Piece]:
    """A folded range, opened: as many of its rows as a page takes at once, and the rest folded again."""
    start, end = max(0, start), min(end, len(timeline.rows))
    last = min(end, start + WINDOW)
    rest = [_folded(timeline, last, end)] if last < end else []
    return [*range(start, last), *rest]


def _folded(timeline: Timeline, start: int, end: int, siblings: int = 0) -> Folded:
    return Folded(start, end, siblings, sum(row.failed for row in timeline.rows[start:end]))


def _groups(timeline: Timeline, always: set[int]) -> dict[int, Folded]:
    """Runs of at least five siblings that are the same call: same service, kind and name. By the row they begin at."""
    rows = timeline.rows
    ends = list(range(1, len(rows) + 1))  # one past the last row below each row
    for index in range(len(rows) - 1, -1, -1):
        if (parent := rows[index].parent) >= 0:
            ends[parent] = max(ends[parent], ends[index])
    found: dict[int, Folded] = {}
    index = 0
    while index < len(rows):
        run, at = 0, index
        key = (rows[index].parent, rows[index].span.service, rows[index].span.kind, rows[index].label)
        while at < len(rows) and at not in always and rows[index].parent >= 0 and _key(timeline, at) == key:
            run, at = run + 1, ends[at]
        if run >= _GROUPED_FROM:
            found[index] = _folded(timeline, index, at, run)
            index = at
        else:
            index += 1
    return found


def _key(timeline: Timeline, index: int) -> tuple[int, str, str, str]:
    row = timeline.rows[index]
    return row.parent, row.span.service, row.span.kind, row.label
