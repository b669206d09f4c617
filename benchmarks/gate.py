"""The gate: has the request path become more expensive than `baseline.json` says?

Instructions over the bare application, row by row: on the build that the baseline was counted on (same Python, same
compiler, same OpenTelemetry, same machine architecture) two runs agree to a fraction of a per cent, so 3 % more is a
regression. On any other build absolute counts mean nothing; then our share of a peer counted in the same run is held
against the baseline's, with a wider tolerance. Where nothing can be counted the gate says so and lets everything pass.
"""

from __future__ import annotations

import compileall
import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import cases, environments
from .clocks import instructions
from .ladder import Plan, count_instructions
from .peers import BARE, OURS
from .progress import Progress
from .registry import every
from .results import INSTRUCTIONS, Results

BASELINE = Path(__file__).with_name("baseline.json")
TOLERANCE = 0.03
SHARE_TOLERANCE = 0.10
_SLACK = 100.0  # instructions: a few more in a row that has only a few thousand are no regression
_BARE_NOISE = 0.001  # of the bare application: what its own count may differ by, with another path to the checkout

_SEEDS = (0, 1, 2)
_SERVER = [
    *(f"server/{cases.BARE}/{state}" for state in cases.SERVER_STATES),
    f"server/fastapi-100/{cases.SAMPLED}",
    f"server/{cases.HEADERS}/{cases.SAMPLED}",
    f"server/{cases.STREAM}/{cases.SAMPLED}",
    f"server/{cases.WEBSOCKET}/{cases.SAMPLED}",
]
_CLIENT = [
    *(f"client/{cases.TRANSPORT}/{state}" for state in cases.CLIENT_STATES),
    f"client/{cases.GET_STREAMED}/{cases.SAMPLED}",
]
ROWS = (*_SERVER, *_CLIENT)

Counts = dict[str, dict[str, float]]
"""Instructions over the bare application, by row and peer."""


@dataclass(frozen=True)
class Change:
    """One row, before and now: instructions, or a share of the peer's."""

    case: str
    before: float
    now: float
    allowed: float

    @property
    def growth(self) -> float:
        """By how much it grew, as a fraction of what it was."""
        return self.now / self.before - 1 if self.before else 0.0

    @property
    def kept(self) -> bool:
        """Is it within what is allowed?"""
        return self.now <= self.allowed


def compare(before: Counts, now: Counts, tolerance: float = TOLERANCE) -> list[Change]:
    """Our instructions in each row that both have."""
    found = []
    for case in [case for case in before if case in now]:
        then, today = before[case].get(OURS.name), now[case].get(OURS.name)
        if then is not None and today is not None:
            slack = _SLACK + _BARE_NOISE * before[case].get(BARE.name, 0.0)
            found.append(Change(case, then, today, then * (1 + tolerance) + slack))
    return found


def compare_shares(before: Counts, now: Counts, tolerance: float = SHARE_TOLERANCE) -> list[Change]:
    """Our share of the reference's instructions, in each row where both runs have a reference."""
    found = []
    for case in [case for case in before if case in now]:
        then, today = _share(before[case]), _share(now[case])
        if then is not None and today is not None:
            found.append(Change(case, then, today, then * (1 + tolerance)))
    return found


def _share(counts: dict[str, float]) -> float | None:
    ours = counts.get(OURS.name)
    reference = next((count for peer, count in counts.items() if peer not in (OURS.name, BARE.name)), None)
    return ours / reference if ours is not None and reference else None


def count(progress: Progress) -> Counts:
    """Count the gate's rows for us and for one peer each. Raises subprocess.SubprocessError when that fails."""
    compileall.compile_dir(environments.ROOT / "asgi_trace", quiet=1)  # else the first run differs from the second
    counts: Counts = {}
    for rows, reference in ((_SERVER, "starlette"), (_CLIENT, "contrib")):
        results = Results()
        peers = [peer for peer in (OURS, every()[reference]) if environments.missing(peer) is None]
        plan = Plan([cases.parse(row) for row in rows], peers, 1, results, progress)
        count_instructions(plan, _SEEDS)
        for found in results.measurements:
            if found.clock == INSTRUCTIONS:
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


def run(say: Callable[[str], None], progress: Progress, update: bool = False, path: Path = BASELINE) -> int:
    """Compare with the baseline, or write it; 0 when nothing has regressed or nothing can be said."""
    broken = environments.missing(OURS)
    if broken is not None:
        say(f"benchmark gate: {broken}")
        return 1
    reason = instructions.missing()
    if reason is not None:
        say(f"benchmark gate: skipped, {reason}")
        return 0
    entries = json.loads(path.read_text())["entries"] if path.exists() else []
    build = environments.build()
    if update:
        kept = [entry for entry in entries if entry["build"] != build]
        data = {"entries": [*kept, {"build": build, "rows": count(progress)}]}
        path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        say(f"benchmark gate: {path.name} holds {len(data['entries'])} builds now")
        return 0
    entry, same = chosen(entries, build)
    if entry is None:
        say(f"benchmark gate: skipped, the baseline has nothing for Python {build['python']}")
        return 0
    return _judge(say, entry, same, build, count(progress))


def _judge(say: Callable[[str], None], entry: dict[str, Any], same: bool, build: dict[str, str], now: Counts) -> int:
    if same:
        changes, what = compare(entry["rows"], now), "instructions"
    else:
        other = ", ".join(
            f"{key} {entry['build'].get(key)} -> {build[key]}" for key in build if build[key] != entry["build"].get(key)
        )
        say(f"benchmark gate: another build than the baseline's ({other}): shares of a peer are compared instead")
        changes, what = compare_shares(entry["rows"], now), "of the peer's instructions"
    if not changes:
        say("benchmark gate: skipped, no row to compare")
        return 0
    for change in changes:
        figures = f"{change.before:,.0f} -> {change.now:,.0f}" if same else f"{change.before:.3f} -> {change.now:.3f}"
        say(f"  {'ok  ' if change.kept else 'MORE'} {change.case:<34} {figures} {what} ({change.growth:+.1%})")
    failed = [change for change in changes if not change.kept]
    missing = [case for case in entry["rows"] if case not in now]
    if missing:
        say(f"benchmark gate: not counted: {', '.join(missing)}")
    if failed:
        say(f"benchmark gate: {len(failed)} of {len(changes)} rows cost more than the baseline allows")
        say("  if that is meant: python -m benchmarks gate --update, and say why in the commit")
        return 1
    say(f"benchmark gate: {len(changes)} rows, none costs more")
    return 0
