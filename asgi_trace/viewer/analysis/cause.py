"""Why did this request fail, and where did the time go: one sentence each, from the timeline alone.

The failure is followed from the request down to the span where it began. Not blamed are: a call that failed and was
repeated with success, a mere refusal (4xx) below a span that raised an exception of its own, and an exception that the
one above it does not mention in its stack trace, because the application had caught it. Of several failures side by
side the first one counts, of several in a row the last. The span that is named and the exception that is told always
belong together. Services between the origin and the caller only passed the failure on, and are named as such.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..receive import http
from ..text import clip, duration, one_line
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
    rows, below = timeline.rows, _children(timeline)
    index = _starting_point(timeline, below)
    if index is None:
        return None
    while (deeper := _next_failure(rows, below, index)) is not None:
        index = deeper
    passed_on = _passed_on(rows, index)
    error, text = _describe(rows, below, index)
    return Cause(
        row=index,
        service=rows[index].span.service,
        error=error,
        passed_on=passed_on,
        fatal=timeline.failed is True,
        sentence=_sentence(timeline, rows[index], text, passed_on),
    )


def _starting_point(timeline: Timeline, below: list[list[int]]) -> int | None:
    """The failed span to begin with: the request's own, or the nearest below a root, the request's first."""
    rows = timeline.rows
    roots = [index for index, row in enumerate(rows) if row.parent < 0]
    for index in sorted(roots, key=lambda index: (index != timeline.entry, index)):
        found = _nearest_failure(rows, below, index)
        if found is not None and (timeline.failed or not _is_mere_refusal(rows, below, found)):
            return found
    return None


def _children(timeline: Timeline) -> list[list[int]]:
    below: list[list[int]] = [[] for _ in timeline.rows]
    for index, row in enumerate(timeline.rows):
        if row.parent >= 0:
            below[row.parent].append(index)
    return below


def _nearest_failure(rows: tuple[Row, ...], below: list[list[int]], index: int) -> int | None:
    return index if rows[index].failed else _next_failure(rows, below, index)


def _next_failure(rows: tuple[Row, ...], below: list[list[int]], index: int) -> int | None:
    """The failed span below `index`, nearest to it, that explains it best; None when it explains itself."""
    found = [
        child
        for child in _nearest_failed(rows, below, index)
        if not _was_repeated(rows, below, child) and _explains(rows, below, child, rows[index])
    ]
    if not found:
        return None
    own = rows[index].failure
    if own is not None:
        same = [child for child in found if (other := rows[child].failure) and str(other) == str(own)]
        found = same or found
    last = max(found, key=lambda child: rows[child].end)
    beside = [child for child in found if rows[child].end >= rows[last].start]
    return min(beside, key=lambda child: (rows[child].end, child))


def _nearest_failed(rows: tuple[Row, ...], below: list[list[int]], index: int) -> list[int]:
    """The failed spans below `index` that no other failed span stands above."""
    found: list[int] = []
    waiting = list(below[index])
    while waiting:
        child = waiting.pop()
        if rows[child].failed:
            found.append(child)
        else:
            waiting.extend(below[child])
    return found


def _explains(rows: tuple[Row, ...], below: list[list[int]], child: int, parent: Row) -> bool:
    """Can the failed `child` be the reason why `parent` failed?"""
    own, row = parent.failure, rows[child]
    if own is None or not parent.failed:
        return True
    if row.failure is not None:
        if row.span.service != parent.span.service or str(row.failure) == str(own) or not own.stacktrace:
            return True
        return row.failure.type.rpartition(".")[2] in own.stacktrace or (row.status or 0) >= 500
    if (row.status or 0) >= 500:
        return True
    if _nearest_failed(rows, below, child):
        return not row.is_refusal or not _is_mere_refusal(rows, below, child)
    return not row.is_refusal and bool(row.span.message or row.span.attributes.get("error.type"))


def _was_repeated(rows: tuple[Row, ...], below: list[list[int]], index: int) -> bool:
    """Did a later sibling of the same name succeed?"""
    row = rows[index]
    if row.parent < 0:
        return False
    return any(
        not rows[other].failed and rows[other].start >= row.end and rows[other].label == row.label
        for other in below[row.parent]
    )


def _is_mere_refusal(rows: tuple[Row, ...], below: list[list[int]], index: int) -> bool:
    """A 4xx answer makes a CLIENT span an error, yet nothing is broken when nothing below it failed either."""
    waiting = [index]
    while waiting:
        here = waiting.pop()
        if rows[here].failed and not rows[here].is_refusal:
            return False
        waiting.extend(below[here])
    return True


def _passed_on(rows: tuple[Row, ...], index: int) -> tuple[tuple[str, int | None], ...]:
    handed: list[tuple[str, int | None]] = []
    origin, parent = rows[index].span.service, rows[index].parent
    while parent >= 0:
        row = rows[parent]
        if row.span.kind == "SERVER" and row.span.service != origin and row.failed:
            handed.append((row.span.service, row.status))
        parent = row.parent
    return tuple(handed)


def _describe(rows: tuple[Row, ...], below: list[list[int]], index: int) -> tuple[str, str]:
    """The error itself, and the error in words."""
    row = rows[index]
    failure = row.failure
    peer = _peer(row) if row.span.kind == "CLIENT" and not below[index] else ""
    if peer and row.status is not None:
        return f"status {row.status}", f"{peer}, which sent no spans, answered {row.status}"
    if failure is not None:
        error = clip(one_line(str(failure)), _MAX_ERROR)
        return error, f"no answer from {peer}: {error}" if peer else error + _place(row, failure)
    error = one_line(row.span.message) or (f"status {row.status}" if row.status else "")
    error = error or one_line(str(row.span.attributes.get("error.type") or "")) or "it reported an error"
    error = clip(error, _MAX_ERROR)
    return error, f"{error}{_place(row, None)}"


def _peer(row: Row) -> str:
    """The host and port that a call went to, empty when the span does not tell."""
    if row.span.attributes.get("db.system.name") or row.span.attributes.get("db.system"):
        return ""
    request = http.read(row.span)
    if not request.host:
        return ""
    return one_line(f"{request.host}:{request.port}" if request.port else request.host)


def _place(row: Row, failure: Failure | None) -> str:
    frame = f", {one_line(failure.where)}" if failure is not None and failure.where else ""
    return f" (in “{clip(one_line(row.label), 60)}”{frame})"


def _sentence(timeline: Timeline, row: Row, text: str, passed_on: tuple[tuple[str, int | None], ...]) -> str:
    service, title = one_line(row.span.service), clip(one_line(timeline.title), 60)
    if timeline.failed is None:
        return f"{service} had a failure; whether {title} failed cannot be known yet: {text}."
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
    whole = timeline.duration or 0
    if whole < _WORTH_A_WORD:
        return None
    alone = self_times(timeline)
    index = max(range(len(alone)), key=alone.__getitem__)
    row = timeline.rows[index]
    if alone[index] * 2 < whole or row.end > timeline.rows[timeline.entry].end:
        return None
    return (
        f"{duration(alone[index])} of {duration(whole)} went into "
        f"“{clip(one_line(row.label), 60)}” of {one_line(row.span.service)}."
    )
