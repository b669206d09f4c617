"""What is shown of a trace that is too long to be shown whole: the way to the culprit and ERROR lines come first."""

from __future__ import annotations

from collections.abc import Iterable

from .cause import Cause
from .timeline import Timeline


def path_to(timeline: Timeline, index: int) -> list[int]:
    """The rows from a root down to the row `index`, itself included."""
    path = []
    while index >= 0:
        path.append(index)
        index = timeline.rows[index].parent
    return path[::-1]


def rows_to_show(timeline: Timeline, cause: Cause | None, limit: int) -> list[int]:
    """At most `limit` rows in tree order: the way to the culprit, the entries, what failed, then from the top.

    The way to the culprit is never cut, except that of a way longer than the limit the two ends are kept.
    """
    if len(timeline.rows) <= limit:
        return list(range(len(timeline.rows)))
    chosen: set[int] = set()
    if cause is not None:
        path = path_to(timeline, cause.row)
        chosen.update(path if len(path) <= limit else path[: limit // 2] + path[-(limit - limit // 2) :])
    _fill(chosen, limit, ([entry] for entry in (timeline.entry, *timeline.entries)))
    failed = (path_to(timeline, index) for index, row in enumerate(timeline.rows) if row.failed)
    _fill(chosen, limit - limit // 4, failed)
    _fill(chosen, limit, ([index] for index in range(len(timeline.rows))))
    return sorted(chosen)


def _fill(chosen: set[int], limit: int, groups: Iterable[list[int]]) -> None:
    """Add each group that still fits whole, until the limit is reached."""
    for group in groups:
        if len(chosen) >= limit:
            return
        new = [index for index in group if index not in chosen]
        if len(chosen) + len(new) <= limit:
            chosen.update(new)


def logs_to_show(timeline: Timeline, limit: int) -> list[int]:
    """At most `limit` log lines in time order: ERROR and above first, then warnings, then the earliest."""
    order = {"ERROR": 0, "FATAL": 0, "WARN": 1}
    ranked = sorted(range(len(timeline.logs)), key=lambda index: order.get(timeline.logs[index].record.level, 2))
    return sorted(ranked[:limit])
