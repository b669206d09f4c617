"""The gate: compares the instructions of the request path with the last accepted state, `baseline.json`.

Instructions over the bare application, row by row. On the build that the baseline was counted on (same Python, same
compiler, same OpenTelemetry, same machine architecture) two runs agree to within one per cent, so 2 % more is a
regression. On any other build absolute counts mean nothing; then our share of a peer counted in the same run is
compared with the baseline's, with a wider tolerance. Where nothing can be counted the gate says so and passes.
"""

from __future__ import annotations

import compileall
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import callgrind, cases, environments
from .ladder import Plan, count_instructions
from .peers import BARE, OURS
from .registry import every
from .results import INSTRUCTIONS, Results

BASELINE = Path(__file__).with_name("baseline.json")
TOLERANCE = 0.02
SHARE_TOLERANCE = 0.10
_SLACK = 100.0  # instructions: a few more in a row that has only a few thousand are not a regression
_BARE_NOISE = 0.003  # of the bare application: how much its own count differs with another path of the checkout
_SEEDS = (0, 1, 2)

_SERVER = [
    *(f"server/{cases.BARE}/{state}" for state in cases.SERVER_STATES),
    *(f"server/{shape}/{cases.SAMPLED}" for shape in ("fastapi-100", cases.HEADERS, cases.STREAM, cases.WEBSOCKET)),
]
_CLIENT = [
    *(f"client/{cases.TRANSPORT}/{state}" for state in cases.OTHER_STATES),
    f"client/{cases.GET_STREAMED}/{cases.SAMPLED}",
]
_SPANS = [f"spans/{shape}/{cases.SAMPLED}" for shape in cases.SPAN_SHAPES]
ROWS = (*_SERVER, *_CLIENT, *_SPANS)

Counts = dict[str, dict[str, float]]
"""Instructions over the bare application, by row and peer."""


@dataclass(frozen=True)
class Change:
    """One row of ours, before and now: instructions, or a share of the peer's."""

    case: str
    peer: str
    before: float
    now: float
    allowed: float

    @property
    def growth(self) -> float:
        """By how much it grew, as a fraction of what it was."""
        return self.now / self.before - 1 if self.before else 0.0

    @property
    def kept(self) -> bool:
        """True while it is within what is allowed."""
        return self.now <= self.allowed


def compare(before: Counts, now: Counts, same_build: bool) -> list[Change]:
    """Our instructions in each row that both have; of different builds, our share of the peer in the same row."""
    found = []
    for case, peer in [(case, peer.name) for case in before for peer in OURS]:
        then, today = before[case].get(peer), now.get(case, {}).get(peer)
        if then is None or today is None:
            continue
        if same_build:
            slack = _SLACK + _BARE_NOISE * before[case].get(BARE.name, 0.0)
            found.append(Change(case, peer, then, today, then * (1 + TOLERANCE) + slack))
        elif (reference := _reference(before[case])) and (reference_now := _reference(now[case])):
            share = then / reference
            found.append(Change(case, peer, share, today / reference_now, share * (1 + SHARE_TOLERANCE)))
    return found


def _reference(counts: dict[str, float]) -> float | None:
    """The count of the one peer in a row that is neither ours nor the bare application."""
    names = {peer.name for peer in (*OURS, BARE)}
    return next((count for peer, count in counts.items() if peer not in names), None)


def count() -> Counts:
    """Count the gate's rows for us and for one peer each. Raises subprocess.SubprocessError when that fails."""
    compileall.compile_dir(environments.ROOT / "asgi_trace", quiet=1)  # else the first run differs from the second
    counts: Counts = {}
    for rows, reference in ((_SERVER, "starlette"), (_CLIENT, "contrib"), (_SPANS, "sdk")):
        results = Results()
        peers = [peer for peer in (*OURS, every()[reference]) if environments.missing(peer) is None]
        count_instructions(Plan([cases.parse(row) for row in rows], peers, 1, results), _SEEDS)
        for found in results.measurements:
            row = counts.setdefault(found.case, {BARE.name: round(found.bare)})
            row[found.peer] = round(found.over)
        failed = [skipped for skipped in results.skipped if skipped.what.endswith(INSTRUCTIONS)]
        if failed:
            raise subprocess.SubprocessError(failed[0].why)
    return counts


def chosen(entries: list[dict[str, Any]], build: dict[str, str]) -> tuple[dict[str, Any] | None, bool]:
    """The baseline's entry to compare with, and whether it was counted on this very build."""
    for entry in entries:
        if entry["build"] == build:
            return entry, True
    minor = build["python"].rpartition(".")[0]
    nearest = [entry for entry in entries if entry["build"]["python"].rpartition(".")[0] == minor]
    return (nearest[0] if nearest else None), False


def run(say: Callable[[str], None], update: bool = False, path: Path = BASELINE) -> int:
    """Compare with the baseline, or write it; 0 when nothing has regressed or nothing can be counted."""
    broken = environments.missing(OURS[0])
    if broken is not None:
        say(f"benchmark gate: {broken}")
        return 1
    reason = callgrind.missing()
    if reason is not None:
        say(f"benchmark gate: skipped, {reason}")
        return 0
    entries = json.loads(path.read_text())["entries"] if path.exists() else []
    build = environments.build()
    if update:
        kept = [entry for entry in entries if entry["build"] != build]
        data = {"entries": [*kept, {"build": build, "rows": count()}]}
        path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        say(f"benchmark gate: {path.name} holds {len(data['entries'])} builds now")
        return 0
    entry, same = chosen(entries, build)
    if entry is None:
        say(f"benchmark gate: skipped, the baseline has nothing for Python {build['python']}")
        return 0
    if not same:
        then = entry["build"]
        other = ", ".join(f"{key} {then.get(key)} -> {now}" for key, now in build.items() if now != then.get(key))
        say(f"benchmark gate: another build than the baseline's ({other}): shares of a peer are compared instead")
    return _judge(say, entry["rows"], count(), same)


def _judge(say: Callable[[str], None], before: Counts, now: Counts, same: bool) -> int:
    changes = compare(before, now, same)
    if not changes:
        say("benchmark gate: skipped, no row to compare")
        return 0
    what, form = ("instructions", ",.0f") if same else ("of the peer's instructions", ".3f")
    for change in changes:
        figures = f"{change.before:{form}} -> {change.now:{form}} {what} ({change.growth:+.1%})"
        say(f"  {'ok  ' if change.kept else 'MORE'} {change.case:<30} {change.peer:<21} {figures}")
    missing = [case for case in before if case not in now]
    if missing:
        say(f"benchmark gate: not counted: {', '.join(missing)}")
    failed = [change for change in changes if not change.kept]
    if failed:
        say(f"benchmark gate: {len(failed)} of {len(changes)} rows cost more than the baseline allows")
        say("  if that is meant: python -m benchmarks gate --update, and say why in the commit")
        return 1
    say(f"benchmark gate: {len(changes)} rows, none costs more")
    return 0
