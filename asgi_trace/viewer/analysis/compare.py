"""Two traces side by side: the spans that are the same call in both stand on one line."""

from __future__ import annotations

from dataclasses import dataclass

from .timeline import Row, Timeline


@dataclass(frozen=True)
class Pair:
    """A line of the comparison: the row in the first trace, in the second, or in both."""

    depth: int
    a: Row | None
    b: Row | None

    @property
    def row(self) -> Row:
        """The one that is there."""
        row = self.a or self.b
        if row is None:  # pragma: no cover - a pair is made of at least one row
            raise ValueError("a pair without rows")
        return row

    @property
    def slower(self) -> int | None:
        """By how many nanoseconds the second is slower than the first; None when it cannot be said."""
        if self.a is None or self.b is None or not (self.a.is_timed and self.b.is_timed):
            return None
        return self.b.duration - self.a.duration


def compare(a: Timeline, b: Timeline) -> list[Pair]:
    """All rows of both traces, aligned: below aligned parents the n-th call of a service, kind and name is the n-th.

    Calls that only the second trace has stand where they would have been: behind the calls before them.
    """
    below_a, below_b = _children(a), _children(b)
    pairs: list[Pair] = []
    waiting: list[tuple[int, int, int]] = [(0, *both) for both in reversed(_aligned(a, below_a[-1], b, below_b[-1]))]
    while waiting:
        depth, here, there = waiting.pop()
        pairs.append(Pair(depth, a.rows[here] if here >= 0 else None, b.rows[there] if there >= 0 else None))
        children_a = below_a.get(here, []) if here >= 0 else []
        children_b = below_b.get(there, []) if there >= 0 else []
        waiting += [(depth + 1, *both) for both in reversed(_aligned(a, children_a, b, children_b))]
    return pairs


def _children(timeline: Timeline) -> dict[int, list[int]]:
    below: dict[int, list[int]] = {-1: []}
    for index, row in enumerate(timeline.rows):
        below.setdefault(row.parent, []).append(index)
    return below


def _aligned(a: Timeline, rows_a: list[int], b: Timeline, rows_b: list[int]) -> list[tuple[int, int]]:
    """The children of both sides as pairs of row numbers, -1 where one side has none."""
    keys_a, keys_b = _keys(a, rows_a), _keys(b, rows_b)
    partner = {key: index for index, key in keys_b.items()}
    known = set(keys_a.values())
    paired: list[tuple[int, int]] = []
    taken: set[int] = set()
    rest = iter(rows_b)
    for index, key in keys_a.items():
        other = partner.get(key, -1)
        if other >= 0 and other not in taken:
            for before in rest:
                if before == other:
                    break
                if keys_b[before] not in known:
                    paired.append((-1, before))
                    taken.add(before)
        paired.append((index, other))
        taken.add(other)
    return paired + [(-1, other) for other in rows_b if other not in taken]


def _keys(timeline: Timeline, rows: list[int]) -> dict[int, tuple[str, str, str, int]]:
    seen: dict[tuple[str, str, str], int] = {}
    keys = {}
    for index in rows:
        span = timeline.rows[index].span
        key = (span.service, span.kind, span.name)
        seen[key] = seen.get(key, 0) + 1
        keys[index] = (*key, seen[key])
    return keys
