"""What a run found: figures by clock, row and peer, what was left out and why, and how to keep it in a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from statistics import median, quantiles
from typing import Any

HOT, COLD, INSTRUCTIONS, MEMORY = "hot", "cold", "instructions", "memory"
UNITS = {HOT: "µs", COLD: "µs", INSTRUCTIONS: "instructions", MEMORY: "bytes"}
BARE = "bare"
OURS = "asgi-trace"
CONFIGURED = "asgi-trace-configured"
"""asgi-trace with the provider and the exporter that `configure()` makes."""


@dataclass
class Measurement:
    """What one peer costs over the bare application of the same round, in one row, by one clock."""

    clock: str
    case: str
    peer: str
    bare: float
    """What the bare application costs (the median over the rounds)."""
    rounds: list[float]
    """The peer's cost less the bare application's, for each round; NaN-free, in order."""
    detail: dict[str, float] = field(default_factory=dict)

    @property
    def over(self) -> float:
        """The median over the rounds."""
        return median(self.rounds)

    @property
    def spread(self) -> float:
        """Half of the distance between the quartiles of the rounds."""
        return half_iqr(self.rounds)


@dataclass
class EndToEnd:
    """One peer on a real server at one sampling rate, CPU in microseconds per request."""

    peer: str
    sampling: float
    exporter: str
    requests_per_second: float
    cpu: float
    spread: float
    main: float
    encoding: float
    export: float
    spans: float
    """Spans that reached the receiver, per request."""


@dataclass
class Skipped:
    """A peer, or one of its rows, that could not be measured."""

    what: str
    why: str


@dataclass
class Results:
    """One run."""

    meta: dict[str, Any] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    end_to_end: list[EndToEnd] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def skip(self, what: str, why: str) -> None:
        """Note that something was left out, once."""
        if all((known.what, known.why) != (what, why) for known in self.skipped):
            self.skipped.append(Skipped(what, why))

    def get(self, clock: str, case: str, peer: str) -> Measurement | None:
        """The figures of one cell."""
        return self._index().get((clock, case, peer))

    def clocks(self) -> list[str]:
        """The clocks that were used, in the order of `UNITS`."""
        used = {found.clock for found in self.measurements}
        return [clock for clock in UNITS if clock in used]

    def cases(self, clock: str) -> list[str]:
        """The rows that a clock measured, in the order of measuring."""
        return list(dict.fromkeys(found.case for found in self.measurements if found.clock == clock))

    def peers(self, clock: str) -> list[str]:
        """The peers that a clock measured."""
        return list(dict.fromkeys(found.peer for found in self.measurements if found.clock == clock))

    def _index(self) -> dict[tuple[str, str, str], Measurement]:
        return {(found.clock, found.case, found.peer): found for found in self.measurements}

    def to_json(self) -> str:
        """The whole run as text."""
        return json.dumps(asdict(self), indent=1, default=str)

    @classmethod
    def from_json(cls, text: str) -> Results:
        """The run that `to_json` wrote."""
        data = json.loads(text)
        return cls(
            meta=data["meta"],
            measurements=[Measurement(**each) for each in data["measurements"]],
            end_to_end=[EndToEnd(**each) for each in data["end_to_end"]],
            skipped=[Skipped(**each) for each in data["skipped"]],
        )


def half_iqr(values: list[float]) -> float:
    """Half of the distance between the quartiles; 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    first, _, third = quantiles(values, n=4, method="inclusive")
    return (third - first) / 2


def ratio(above: Measurement, below: Measurement) -> tuple[float, float] | None:
    """One peer's overhead as a multiple of another's: the median over the rounds, and half the quartiles' distance.

    Rounds are paired, so what slows a whole round down cancels out. None where there is no overhead to divide by.
    """
    if below.over <= 0:
        return None
    if len(above.rounds) != len(below.rounds):
        return above.over / below.over, 0.0
    paired = [one / other for one, other in zip(above.rounds, below.rounds, strict=True) if other > 0]
    return (above.over / below.over, half_iqr(paired)) if paired else None
