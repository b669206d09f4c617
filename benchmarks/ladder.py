"""Runs the ladder: interleaved, shuffled rounds over rows and peers, each paired with the bare application.

Within a round the rows come in a random order, and within a row the peers do, with the bare application between them;
so whatever the machine does meanwhile hits everybody. The rounds are spread over three generations of measuring
processes with different hash seeds, because a process keeps the memory layout that it was born with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from statistics import median
from subprocess import SubprocessError

from . import cases, environments
from .cases import Case
from .clocks import instructions
from .peers import BARE, MAIN, ON, UNTOUCHED, Peer, mode_for
from .processes import Worker, WorkerError, Workers, cores, shuffled
from .progress import Progress
from .results import COLD, INSTRUCTIONS, MEMORY, Measurement, Results

GENERATIONS = 3
_BATCH_SECONDS = 0.004
_COLD_SAMPLES = 8
_BARE_BATCHES = 3
_MOST_UNITS = 500
IN_FLIGHT = 10_000


@dataclass
class Plan:
    """Who is measured in which rows, how often."""

    rows: list[Case]
    peers: list[Peer]
    rounds: int
    results: Results
    progress: Progress
    quick: bool = False

    def of(self, clock: str) -> list[tuple[Case, list[Peer]]]:
        """The rows of a clock, with the peers that can do them."""
        chosen = [case for case in self.rows if _has(clock, case)]
        if self.quick and clock == INSTRUCTIONS:
            chosen = [case for case in chosen if case.name in cases.QUICK_COUNTED]
        return [(case, [peer for peer in self.peers if peer.measures(case)]) for case in chosen]


def _has(clock: str, case: Case) -> bool:
    if clock == MEMORY:
        return case.shape == cases.IN_FLIGHT
    if clock == COLD:
        return case.shape not in (cases.IN_FLIGHT, cases.STREAM, cases.WEBSOCKET)  # a long unit warms itself up
    return case.shape != cases.IN_FLIGHT


# --- CPU time ---


class _Block:
    """One row in one round: every peer once, the bare application of each environment several times."""

    def __init__(self, clock: str, plan: Plan, workers: Workers, units: dict[tuple[str, str], int]) -> None:
        self._clock, self._plan, self._workers, self._units = clock, plan, workers, units

    def run(self, case: Case, peers: Sequence[Peer], seed: int) -> dict[str, tuple[float, float]]:
        """Overhead and bare cost of each peer, in microseconds. Peers that fail are noted and left out."""
        surroundings = list(dict.fromkeys(peer.environment for peer in peers))
        turns: list[tuple[Peer, str | None]] = [(peer, None) for peer in peers]
        passes = 1 if self._clock == COLD else _passes(case)
        turns += [(BARE, environment) for environment in surroundings for _ in range(_BARE_BATCHES // passes)]
        order = [turn for number in range(passes) for turn in shuffled(turns, seed * passes + number)]
        spent: dict[str, list[float]] = defaultdict(list)
        bare: dict[str, list[float]] = defaultdict(list)
        for peer, environment in order:
            try:
                cost = self._cost(case, peer, environment)
            except WorkerError as exc:
                self._plan.results.skip(f"{peer.name} {case.name}", str(exc))
                continue
            if environment is None:
                spent[peer.name].append(cost)
            else:
                bare[environment].append(cost)
        found = {}
        for peer in peers:
            if peer.name in spent and bare[peer.environment]:
                alone = median(bare[peer.environment])
                found[peer.name] = (median(spent[peer.name]) - alone) * 1e6, alone * 1e6
        return found

    def _cost(self, case: Case, peer: Peer, environment: str | None) -> float:
        if self._clock == COLD:
            samples: list[float] = self._workers.ask(peer, case, environment, do="cold", n=_COLD_SAMPLES)["samples"]
            return median(samples)
        units = self._calibrated(case, peer, environment)
        seconds: float = self._workers.ask(peer, case, environment, do="hot", n=units)["seconds"]
        return seconds / units

    def _calibrated(self, case: Case, peer: Peer, environment: str | None) -> int:
        key = (case.name, peer.name)
        if key not in self._units:
            probe = 1 if case.long else 5
            seconds = self._workers.ask(peer, case, environment, do="hot", n=probe)["seconds"] / probe
            budget = _BATCH_SECONDS * (2 if case.routes > 100 else 1)
            self._units[key] = max(1, min(_MOST_UNITS, int(budget / max(seconds, 1e-7))))
        return self._units[key]


def _passes(case: Case) -> int:
    """How often a round repeats a row: more often where what is measured is small beside the bare application."""
    return 3 if case.routes or case.shape in (cases.GET, cases.GET_STREAMED) else 1


def cpu_time(clock: str, plan: Plan) -> None:
    """Measure hot or cold CPU time of every row, and put it into the results."""
    rows = plan.of(clock)
    over: dict[tuple[str, str], list[float]] = defaultdict(list)
    alone: dict[tuple[str, str], list[float]] = defaultdict(list)
    generations = min(GENERATIONS, plan.rounds)
    plan.progress.stage(clock, plan.rounds * len(rows))
    units: dict[tuple[str, str], int] = {}
    for generation in range(generations):
        with Workers(seed=generation) as workers:
            block = _Block(clock, plan, workers, units)
            for number in range(generation, plan.rounds, generations):
                for case, peers in shuffled(rows, number):
                    for name, (cost, bare) in block.run(case, peers, number).items():
                        over[case.name, name].append(cost)
                        alone[case.name, name].append(bare)
                    plan.progress.step(case.name)
    for case, peers in rows:
        for peer in peers:
            key = (case.name, peer.name)
            if over[key]:
                found = Measurement(clock, case.name, peer.name, median(alone[key]), over[key])
                plan.results.measurements.append(found)


# --- instructions ---


def count_instructions(plan: Plan, seeds: Sequence[int] = (0,)) -> None:
    """Count the instructions of every row and put them into the results; of several hash seeds, the fewest.

    Where objects lie in memory depends on the length of a path, and CPython's caches collide by address: that only ever
    adds instructions, about one per cent.
    """
    reason = instructions.missing()
    if reason is not None:
        plan.results.skip(INSTRUCTIONS, reason)
        plan.progress.say(f"instructions: skipped, {reason}")
        return
    wanted: dict[tuple[str, str], list[tuple[Case, Peer]]] = defaultdict(list)
    for case, peers in plan.of(INSTRUCTIONS):
        for peer in peers:
            wanted[peer.environment, _mode(peer, case, peer.environment)].append((case, peer))
        for environment in dict.fromkeys(peer.environment for peer in peers):
            wanted[environment, _mode(BARE, case, environment)].append((case, BARE))
    parts = [(key, part) for key, rows in wanted.items() for part in _parts(rows)]
    counted: dict[tuple[str, tuple[str, str]], instructions.Count] = {}
    plan.progress.stage(INSTRUCTIONS, len(parts) * len(seeds))
    with ThreadPoolExecutor(len(cores())) as pool:  # counts do not care who else runs
        futures = {pool.submit(_count, rows, *key, seed): key[0] for key, rows in parts for seed in seeds}
        for future in as_completed(futures):
            environment = futures[future]
            try:
                for key, found in future.result().items():
                    known = counted.get((environment, key))
                    if known is None or found.instructions < known.instructions:
                        counted[environment, key] = found
            except (SubprocessError, OSError) as exc:
                plan.results.skip(f"{environment} {INSTRUCTIONS}", str(exc))
            plan.progress.step(environment)
    for case, peers in plan.of(INSTRUCTIONS):
        for peer in peers:
            cost = counted.get((peer.environment, (case.name, peer.name)))
            bare = counted.get((peer.environment, (case.name, BARE.name)))
            if cost is not None and bare is not None:
                plan.results.measurements.append(_difference(case, peer, cost, bare))


def _parts(rows: list[tuple[Case, Peer]]) -> list[list[tuple[Case, Peer]]]:
    """The rows of one kind of process, one part for each core; the rows of a shape stay together."""
    shapes = list(dict.fromkeys((case.side, case.shape) for case, _ in rows))
    parts = [shapes[number :: len(cores())] for number in range(len(cores()))]
    return [[row for row in rows if (row[0].side, row[0].shape) in part] for part in parts if part]


def _count(
    rows: list[tuple[Case, Peer]], environment: str, mode: str, seed: int
) -> dict[tuple[str, str], instructions.Count]:
    vendor = next((peer for _, peer in rows if peer.environment == environment != MAIN), None)
    return instructions.count(rows, environment, mode, vendor, seed)


def _difference(case: Case, peer: Peer, cost: instructions.Count, bare: instructions.Count) -> Measurement:
    detail = {"allocations": cost.allocations - bare.allocations, "frames": cost.frames - bare.frames}
    over = cost.instructions - bare.instructions
    return Measurement(INSTRUCTIONS, case.name, peer.name, bare.instructions, [over], detail)


# --- memory ---


def memory(plan: Plan) -> None:
    """Measure the memory of requests in flight, each time in a new process."""
    rows = plan.of(MEMORY)
    turns: list[tuple[Case, Peer, str]] = []
    for case, peers in rows:
        turns += [(case, BARE, environment) for environment in dict.fromkeys(peer.environment for peer in peers)]
        turns += [(case, peer, peer.environment) for peer in peers]
    plan.progress.stage(MEMORY, len(turns))
    held: dict[tuple[str, str, str], float] = {}
    with ThreadPoolExecutor(len(cores())) as pool:  # memory does not care who else runs
        futures = {pool.submit(_held, *turn): turn for turn in turns}
        for future in as_completed(futures):
            case, peer, environment = futures[future]
            try:
                held[case.name, peer.name, environment] = future.result()
            except WorkerError as exc:
                plan.results.skip(f"{peer.name} {case.name}", str(exc))
            plan.progress.step(f"{case.name} {peer.name}")
    for case, peers in rows:
        for peer in peers:
            cost = held.get((case.name, peer.name, peer.environment))
            bare = held.get((case.name, BARE.name, peer.environment))
            if cost is not None and bare is not None:
                plan.results.measurements.append(Measurement(MEMORY, case.name, peer.name, bare, [cost - bare]))


def _held(case: Case, peer: Peer, environment: str) -> float:
    worker = Worker(environment, _mode(peer, case, environment))
    try:
        held: float = worker.ask(do="memory", peer=peer.name, case=case.name, n=IN_FLIGHT)["bytes"]
        return held
    finally:
        worker.close()


def _mode(peer: Peer, case: Case, environment: str) -> str:
    """The kind of process that holds that peer; the bare application of a vendor has one that nobody touches."""
    if peer is BARE:
        return ON if environment == MAIN else UNTOUCHED
    return mode_for(peer, case)


def available(peers: Sequence[Peer], results: Results, progress: Progress) -> list[Peer]:
    """The peers that can be measured here; the others are noted by name."""
    found = []
    for peer in peers:
        reason = environments.missing(peer)
        if reason is None:
            found.append(peer)
        else:
            results.skip(peer.name, reason)
            progress.say(f"{peer.name}: skipped, {reason}")
    return found
