"""Where each span stands: parents before children, siblings by start, every span exactly once.

Also decides how far a service's clock must be moved to fit its caller. Iterative: a trace may hold ten thousand spans
in one chain, or a circle of parents.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..receive.records import SpanRecord

MAX_GUIDES = 32
"""How many levels of the tree a row describes; deeper rows are drawn at this depth."""


@dataclass(frozen=True)
class Placed:
    """A span in its place: `parent` is the index of its parent in the same list (-1: none), `guides` says for the
    levels above and for itself whether siblings follow, `shift` moves its clock, `note` says why it has no parent.
    """

    span: SpanRecord
    parent: int
    depth: int
    guides: tuple[bool, ...]
    shift: int
    note: str


def arrange(spans: dict[str, SpanRecord]) -> list[Placed]:
    """All spans of a trace, depth first."""
    children: dict[str, list[SpanRecord]] = {}
    roots: list[tuple[SpanRecord, str]] = []
    for span in sorted(spans.values(), key=lambda span: (span.start, span.span_id)):
        if span.parent_id in spans:
            children.setdefault(span.parent_id, []).append(span)
        else:
            roots.append((span, "its parent was not received" if span.parent_id else ""))
    clocks: dict[tuple[str, str], int] = {}
    places: list[Placed] = []
    placed: set[str] = set()
    for span, note in roots:
        _descend(span, note, children, clocks, places, placed)
    for span in sorted(spans.values(), key=lambda span: (span.start, span.span_id)):
        if span.span_id not in placed:
            _descend(span, "its parents form a circle", children, clocks, places, placed)
    return places


def _descend(
    root: SpanRecord,
    note: str,
    children: dict[str, list[SpanRecord]],
    clocks: dict[tuple[str, str], int],
    places: list[Placed],
    placed: set[str],
) -> None:
    """Append `root` and everything below it that has no place yet, depth first."""
    placed.add(root.span_id)
    waiting: list[tuple[SpanRecord, int, tuple[bool, ...]]] = [(root, -1, ())]
    while waiting:
        span, parent, guides = waiting.pop()
        above = places[parent] if parent >= 0 else None
        shift = _shift(span, above, clocks)
        here = len(places)
        places.append(Placed(span, parent, above.depth + 1 if above else 0, guides, shift, "" if above else note))
        below = [child for child in children.get(span.span_id, ()) if child.span_id not in placed]
        placed.update(child.span_id for child in below)
        for index in range(len(below) - 1, -1, -1):
            more = index < len(below) - 1
            waiting.append((below[index], here, (*guides[: MAX_GUIDES - 1], more)))


def _shift(span: SpanRecord, parent: Placed | None, clocks: dict[tuple[str, str], int]) -> int:
    """By how much the clock of `span`'s service must be moved so that it was called while its caller waited.

    Work in another process never begins before its parent. That it ends in time can be asked only of a SERVER span
    whose CLIENT parent got its answer: a queue is emptied later, and a caller that gave up may be answered later.
    """
    clock = (span.service, span.instance)
    shift = clocks.setdefault(clock, 0)
    if parent is None or parent.span.start <= 0 or clock == (parent.span.service, parent.span.instance):
        return shift
    begins, waited = parent.span.start + parent.shift, parent.span.duration
    start = span.start + shift
    answered = span.kind == "SERVER" and parent.span.kind == "CLIENT" and parent.span.status != "ERROR"
    late = answered and waited is not None and start > begins + waited
    if span.start > 0 and (start < begins or late):
        spare = (waited or 0) - (span.duration or 0)
        shift = clocks[clock] = begins + max(0, spare) // 2 - span.start
    return shift
