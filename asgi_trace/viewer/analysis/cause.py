"""Why did this request fail, and where did the time go: one sentence each, from the timeline alone.

The failure is followed from the request down to the span where it began. A call that failed but was repeated with
success is not blamed; of several failures side by side the first one counts, of several in a row the last. Services
between the origin and the caller only passed it on, and are named as such.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..render.text import clip, duration, one_line
from .failures import Failure
from .timeline import Row, Timeline, self_times

_MAX_ERROR = 240
_WORTH_A_WORD = 100_000_000
"""A request of at least 0.1 s gets a sentence about its time, when one span has at least half of it."""


@dataclass(frozen=True)
class Cause:
    """Where a failure began: `row` is an index into the timeline's rows, `passed_on` the services (with the status
    code they answered) that handed it up, the nearest first. `fatal` is False when the request survived it.
    """

    row: int
    service: str
    error: str
    passed_on: tuple[tuple[str, int | None], ...]
    fatal: bool
    sentence: str


def explain(timeline: Timeline) -> Cause | None:
    """The cause of the failure in `timeline`, or None when nothing in it failed."""
    if not timeline.rows:
        return None
    rows, below = timeline.rows, _children(timeline)
    index = _nearest_failure(rows, below, timeline.entry)
    if index is None or (not timeline.failed and _is_mere_refusal(rows[index])):
        return None
    while True:
        deeper = _next_failure(rows, below, index)
        if deeper is None:
            break
        index = deeper
    passed_on = _passed_on(rows, index)
    error, text = _describe(rows, below, index)
    return Cause(
        row=index,
        service=rows[index].span.service,
        error=error,
        passed_on=passed_on,
        fatal=timeline.failed,
        sentence=_sentence(timeline, rows[index], text, passed_on),
    )


def _children(timeline: Timeline) -> list[list[int]]:
    below: list[list[int]] = [[] for _ in timeline.rows]
    for index, row in enumerate(timeline.rows):
        if row.parent >= 0:
            below[row.parent].append(index)
    return below


def _nearest_failure(rows: tuple[Row, ...], below: list[list[int]], index: int) -> int | None:
    return index if rows[index].span.failed else _next_failure(rows, below, index)


def _next_failure(rows: tuple[Row, ...], below: list[list[int]], index: int) -> int | None:
    """The failed span below `index`, nearest to it, that explains it best."""
    found: list[int] = []
    waiting = list(below[index])
    while waiting:
        child = waiting.pop()
        if not rows[child].span.failed:
            waiting.extend(below[child])
        elif not _was_repeated(rows, below, child):
            found.append(child)
    if not found:
        return None
    own = rows[index].failure
    if own is not None:
        same = [child for child in found if (other := rows[child].failure) and str(other) == str(own)]
        found = same or found
    last = max(found, key=lambda child: _end(rows[child]))
    beside = [child for child in found if _end(rows[child]) >= rows[last].start]
    return min(beside, key=lambda child: (_end(rows[child]), child))


def _was_repeated(rows: tuple[Row, ...], below: list[list[int]], index: int) -> bool:
    """Did a later sibling of the same name succeed?"""
    row = rows[index]
    if row.parent < 0:
        return False
    return any(
        not rows[other].span.failed and rows[other].start >= _end(row) and rows[other].label == row.label
        for other in below[row.parent]
    )


def _end(row: Row) -> int:
    return row.start + row.duration


def _is_mere_refusal(row: Row) -> bool:
    """A 4xx answer makes a CLIENT span an error, yet nothing is broken when the request itself is fine."""
    return row.failure is None and row.status is not None and row.status < 500


def _passed_on(rows: tuple[Row, ...], index: int) -> tuple[tuple[str, int | None], ...]:
    handed: list[tuple[str, int | None]] = []
    origin, parent = rows[index].span.service, rows[index].parent
    while parent >= 0:
        row = rows[parent]
        if row.span.kind == "SERVER" and row.span.service != origin and row.span.failed:
            handed.append((row.span.service, row.status))
        parent = row.parent
    return tuple(handed)


def _describe(rows: tuple[Row, ...], below: list[list[int]], index: int) -> tuple[str, str]:
    """The error itself, and the error in words."""
    row = rows[index]
    failure = row.failure or _failure_above(rows, index)
    silent = row.span.kind == "CLIENT" and not below[index] and row.span.attributes.get("server.address")
    if silent and row.status is not None:
        error = f"status {row.status}"
        return error, f"{_peer(row)}, which sent no spans, answered {row.status}"
    if failure is not None:
        error = clip(one_line(str(failure)), _MAX_ERROR)
        return error, f"no answer from {_peer(row)}: {error}" if silent else error + _place(row, failure)
    error = one_line(row.span.message) or (f"status {row.status}" if row.status else "")
    error = error or one_line(str(row.span.attributes.get("error.type") or "")) or "it reported an error"
    error = clip(error, _MAX_ERROR)
    return error, f"{error}{_place(row, None)}"


def _failure_above(rows: tuple[Row, ...], index: int) -> Failure | None:
    """The exception of the nearest ancestor in the same service."""
    service, parent = rows[index].span.service, rows[index].parent
    while parent >= 0 and rows[parent].span.service == service:
        if rows[parent].failure is not None:
            return rows[parent].failure
        parent = rows[parent].parent
    return None


def _peer(row: Row) -> str:
    attributes = row.span.attributes
    port = attributes.get("server.port")
    return one_line(f"{attributes.get('server.address')}:{port}" if port else str(attributes.get("server.address")))


def _place(row: Row, failure: Failure | None) -> str:
    frame = f", {one_line(failure.where)}" if failure is not None and failure.where else ""
    return f" (in “{clip(one_line(row.label), 60)}”{frame})"


def _sentence(timeline: Timeline, row: Row, text: str, passed_on: tuple[tuple[str, int | None], ...]) -> str:
    service, title = one_line(row.span.service), clip(one_line(timeline.title), 60)
    if not timeline.failed:
        outcome = f"answered {timeline.status} all the same" if timeline.status else "went well all the same"
        return f"{service} had a failure, but {title} {outcome}: {text}."
    sentence = f"{service} made {title} fail: {text}"
    if not passed_on:
        return sentence + "."
    names = [one_line(name) + (f" ({status})" if status else "") for name, status in passed_on]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{sentence}; {listed} only passed it on."


def time_spent(timeline: Timeline) -> str | None:
    """Which span has at least half of a slow request to itself, in one sentence; None when none has."""
    if not timeline.rows or timeline.duration < _WORTH_A_WORD:
        return None
    alone = self_times(timeline)
    index = max(range(len(alone)), key=alone.__getitem__)
    if alone[index] * 2 < timeline.duration:
        return None
    row = timeline.rows[index]
    return (
        f"{duration(alone[index])} of {duration(timeline.duration)} went into "
        f"“{clip(one_line(row.label), 60)}” of {one_line(row.span.service)}."
    )
