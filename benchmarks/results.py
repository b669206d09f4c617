"""What a run found: figures by clock, row and peer, what was left out and why, and how to keep it in a file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from statistics import median, quantiles
from typing import Any

HOT, COLD, INSTRUCTIONS, MEMORY = "hot", "cold", "instructions", "memory"
UNITS = {INSTRUCTIONS: "instructions", HOT: "µs", COLD: "µs", MEMORY: "bytes"}
BARE, SDK_PROVIDER, CONFIGURED = "bare", "asgi-trace", "asgi-trace-configured"


@dataclass
class Measurement:
    """What one peer costs over the bare application of the same round, in one row, by one clock."""

    clock: str
    case: str
    peer: str
    bare: float
    """What the bare application costs (the median over the rounds)."""
    rounds: list[float]
    """The peer's cost less the bare application's, for each round, in order."""

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
    """One peer on a real server at one sampling rate; CPU in µs per request, over the bare server."""

    peer: str
    sampling: float
    requests_per_second: float
    cpu: float
    spread: float
    request_path: float
    """The share of the event loop's thread."""
    spans: float
    """Spans that reached the receiver, per request."""
    instructions: float | None = None
    """Of the whole process, export included; counted in another run."""


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
        if Skipped(what, why) not in self.skipped:
            self.skipped.append(Skipped(what, why))

    def get(self, clock: str, case: str, peer: str) -> Measurement | None:
        """The figures of one cell."""
        wanted = (clock, case, peer)
        return next((each for each in self.measurements if (each.clock, each.case, each.peer) == wanted), None)

    def ours(self, clock: str, case: str) -> Measurement | None:
        """asgi-trace in that row: with `configure()`, where that was measured, else on the SDK's provider."""
        return self.get(clock, case, CONFIGURED) or self.get(clock, case, SDK_PROVIDER)

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
    """One overhead as a share of another: of the medians over the rounds, and half the quartiles' distance.

    Rounds are paired, so what slows a whole round down cancels out. None where there is no overhead to divide by.
    """
    if below.over <= 0:
        return None
    if len(above.rounds) != len(below.rounds):
        return above.over / below.over, 0.0
    paired = [one / other for one, other in zip(above.rounds, below.rounds, strict=True) if other > 0]
    return above.over / below.over, half_iqr(paired)
