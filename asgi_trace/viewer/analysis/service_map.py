"""Services and the calls between them, from the spans alone; peers that sent no spans included."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..receive import http
from ..receive.figures import Durations
from .timeline import Row, Timeline

MAX_CALLS = 400


@dataclass(frozen=True, slots=True)
class Call:
    """One call between two services of one trace. `traced` is False for a callee that sent no spans."""

    caller: str
    callee: str
    traced: bool
    failed: bool
    duration: int | None


@dataclass
class Edge:
    """All calls from one service to another. `traced` is False for a callee that sent no spans."""

    caller: str
    callee: str
    traced: bool
    calls: int = 0
    errors: int = 0
    durations: Durations = field(default_factory=Durations)


def calls_of(timeline: Timeline) -> tuple[Call, ...]:
    """The calls in one trace. A caller that is unknown, because the trace begins there, is an empty name."""
    rows = timeline.rows
    answered = {row.parent for row in rows if row.parent >= 0}
    found = []
    for index, row in enumerate(rows):
        caller = rows[row.parent].span.service if row.parent >= 0 else ""
        if row.span.kind in ("SERVER", "CONSUMER") and (row.parent < 0 or caller != row.span.service):
            found.append(Call(caller, row.span.service, True, row.failed, row.span.duration))
        elif row.span.kind in ("CLIENT", "PRODUCER") and index not in answered and (peer := _peer(row)):
            found.append(Call(row.span.service, peer, False, row.failed, row.span.duration))
    return tuple(found)


def edges(calls: Iterable[Call]) -> list[Edge]:
    """The calls added up, the busiest first; at most `MAX_CALLS` pairs."""
    found: dict[tuple[str, str, bool], Edge] = {}
    for call in calls:
        key = (call.caller, call.callee, call.traced)
        edge = found.get(key)
        if edge is None:
            if len(found) >= MAX_CALLS:
                continue
            edge = found[key] = Edge(*key)
        edge.calls += 1
        edge.errors += call.failed
        if call.duration is not None:
            edge.durations.add(call.duration)
    return sorted(found.values(), key=lambda edge: (-edge.calls, edge.caller, edge.callee))


def _peer(row: Row) -> str:
    """What a call without an answering span went to: a database, a queue, or a host."""
    values = row.span.attributes
    for system, name in (("db.system.name", "db.namespace"), ("db.system", "db.name"), ("messaging.system", "")):
        if values.get(system):
            return " ".join(str(values[key]) for key in (system, name) if key and values.get(key))
    request = http.read(row.span)
    if not request.host:
        return ""
    return f"{request.host}:{request.port}" if request.port else request.host


def layers(found: Iterable[Edge]) -> list[list[str]]:
    """The services in columns from left to right, each behind its callers where the calls form no circle."""
    below: dict[str, list[str]] = {}
    names: dict[str, int] = {}
    for edge in found:
        names.setdefault(edge.callee, 0)
        if edge.caller:
            names.setdefault(edge.caller, 0)
            if edge.caller != edge.callee:
                below.setdefault(edge.caller, []).append(edge.callee)
    for _ in range(min(len(names), 50)):  # a circle would push its members on for ever
        moved = False
        for caller, callees in below.items():
            for callee in callees:
                if names[callee] <= names[caller] < 12 and not _reaches(below, callee, caller):
                    names[callee] = names[caller] + 1
                    moved = True
        if not moved:
            break
    columns: list[list[str]] = [[] for _ in range(max(names.values(), default=-1) + 1)]
    for name in sorted(names):
        columns[names[name]].append(name)
    return [column for column in columns if column]


def _reaches(below: dict[str, list[str]], start: str, goal: str) -> bool:
    seen, waiting = {start}, [start]
    while waiting:
        for callee in below.get(waiting.pop(), ()):
            if callee == goal:
                return True
            if callee not in seen:
                seen.add(callee)
                waiting.append(callee)
    return start == goal
