"""What the project promises: shares of a peer's overhead that ours must not exceed, row by row."""

from __future__ import annotations

from dataclasses import dataclass

from . import cases
from .results import HOT, INSTRUCTIONS, MEMORY, OURS, Results, ratio

STARLETTE, CONTRIB = "starlette", "contrib"
_LIKE_BARE = (cases.BARE, cases.STARLETTE, *cases.ROUTES, cases.HEADERS)
_MOST_HEADERS = 1.10
_MOST_ROUTES = 1.10


@dataclass(frozen=True)
class Target:
    """Our overhead in `case` by `clock`, over another overhead, must not exceed `limit`."""

    clock: str
    case: str
    peer: str
    limit: float
    against: str | None = None
    """The row to divide by, when it is another one (`peer` is us then)."""

    @property
    def what(self) -> str:
        """What is divided by, in words."""
        return f"{self.peer}" if self.against is None else f"ours in {self.against}"


@dataclass(frozen=True)
class Verdict:
    """What a run says of a target."""

    target: Target
    share: float
    spread: float

    @property
    def kept(self) -> bool:
        """Is it what was promised?"""
        return self.share <= self.target.limit


def _targets() -> list[Target]:
    found = []
    for shape in _LIKE_BARE:
        row = f"server/{shape}"
        found += [
            Target(HOT, f"{row}/{cases.SAMPLED}", STARLETTE, 0.45),
            Target(HOT, f"{row}/{cases.SAMPLED}", CONTRIB, 0.21),
            Target(HOT, f"{row}/{cases.UNSAMPLED}", STARLETTE, 0.20),
            Target(HOT, f"{row}/{cases.UNSAMPLED}", CONTRIB, 0.12),
            Target(HOT, f"{row}/{cases.NO_PROVIDER}", STARLETTE, 0.20),
            Target(HOT, f"{row}/{cases.EXCLUDED}", STARLETTE, 0.30),
            Target(INSTRUCTIONS, f"{row}/{cases.SAMPLED}", STARLETTE, 0.58),
            Target(INSTRUCTIONS, f"{row}/{cases.UNSAMPLED}", STARLETTE, 0.30),
        ]
    for state in (cases.SAMPLED, cases.UNSAMPLED):
        stream, socket = f"server/{cases.STREAM}/{state}", f"server/{cases.WEBSOCKET}/{state}"
        found += [
            Target(HOT, stream, STARLETTE, 0.45),
            Target(HOT, socket, CONTRIB, 0.01),  # "next to nothing": a hundredth of what contrib takes
            Target(INSTRUCTIONS, f"server/fastapi-1000/{state}", OURS, _MOST_ROUTES, f"server/fastapi-1/{state}"),
            Target(MEMORY, f"server/{cases.IN_FLIGHT}/{state}", STARLETTE, 0.75),
        ]
    more, few = f"server/{cases.HEADERS}/{cases.SAMPLED}", f"server/{cases.BARE}/{cases.SAMPLED}"
    found.append(Target(HOT, more, OURS, _MOST_HEADERS, few))
    for shape in cases.CLIENT_SHAPES:
        found += [
            Target(HOT, f"client/{shape}/{cases.SAMPLED}", CONTRIB, 0.32),
            Target(HOT, f"client/{shape}/{cases.UNSAMPLED}", CONTRIB, 0.13),
            Target(HOT, f"client/{shape}/{cases.NO_PROVIDER}", CONTRIB, 0.05),
        ]
    return found


TARGETS = tuple(_targets())


def verdicts(results: Results) -> list[Verdict]:
    """What this run says of each target whose rows it has measured."""
    found = []
    for target in TARGETS:
        ours = results.get(target.clock, target.case, OURS)
        other = results.get(target.clock, target.against or target.case, target.peer)
        if ours is not None and other is not None and (share := ratio(ours, other)) is not None:
            found.append(Verdict(target, *share))
    return found


def find(found: list[Verdict], clock: str, case: str, peer: str) -> Verdict | None:
    """The verdict on one row against one peer."""
    for verdict in found:
        target = verdict.target
        if (target.clock, target.case, target.peer, target.against) == (clock, case, peer, None):
            return verdict
    return None
