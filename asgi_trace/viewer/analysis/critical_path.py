"""The critical path: at each moment of the request the one span that it was waiting for."""

from __future__ import annotations

from .timeline import Timeline


def critical_path(timeline: Timeline) -> dict[int, list[tuple[int, int]]]:
    """For each row on the path, the stretches of time (start, end) that the request spent in it and in no child.

    Walks backwards from the end of the entry span: a child that ended last before the current moment was waited for,
    from its end to its start; what no child covers is the span's own. Iterative, for chains of any depth.
    """
    if not timeline.rows or timeline.entry < 0:
        return {}
    rows = timeline.rows
    children: dict[int, list[int]] = {}
    for index, row in enumerate(rows):
        if row.parent >= 0:
            children.setdefault(row.parent, []).append(index)
    found: dict[int, list[tuple[int, int]]] = {}
    waiting = [(timeline.entry, rows[timeline.entry].start, rows[timeline.entry].end)]
    while waiting:
        index, low, high = waiting.pop()
        low, moment = max(low, rows[index].start), min(high, rows[index].end)
        for child in sorted(children.get(index, ()), key=lambda one: -rows[one].end):
            begins, ends = max(rows[child].start, low), rows[child].end
            if ends > moment or begins >= ends:  # it was not waited for, or it took no time
                continue
            if ends < moment:
                found.setdefault(index, []).append((ends, moment))
            waiting.append((child, begins, ends))
            moment = begins
        if low < moment:
            found.setdefault(index, []).append((low, moment))
    return found
