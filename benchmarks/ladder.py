"""Measures every row for every peer, each paired with the bare application of the same round.

Within a round the rows come in a random order, and within a row the peers and the bare application do, so what the
machine does meanwhile affects all of them alike. The rounds are spread over three generations of measuring processes
with different hash seeds, because a process keeps the memory layout that it started with.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median
from subprocess import SubprocessError
from typing import TypeVar

from rich.console import Console
from rich.progress import track

from . import callgrind, cases, environments
from .cases import Case
from .children import Child, ChildError
from .peers import BARE, Peer
from .results import COLD, INSTRUCTIONS, MEMORY, Measurement, Results
from .worker import peer_of

Item = TypeVar("Item")
Turn = tuple[Case, Peer, str]
"""A row, a peer (the bare application is one) and the kind of process that measures it."""
Costs = dict[Turn, dict[int, float]]
"""What a unit costs, by the number of the round; rounds that failed are missing."""

GENERATIONS = 3
_BARE_BATCHES = 3
CONSOLE = Console(stderr=True, highlight=False)


def steps(items: Iterable[Item], label: str, total: int | None = None) -> Iterable[Item]:
    """The items, with a progress bar on a terminal."""
    return track(items, label, total=total, console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal)


def shuffled(items: Iterable[Item], seed: int) -> list[Item]:
    """The same items in an order that the seed decides."""
    listed = list(items)
    return random.Random(seed).sample(listed, len(listed))


@dataclass
class Plan:
    """Which peers are measured in which rows, how often."""

    rows: list[Case]
    peers: list[Peer]
    rounds: int
    results: Results

    def of(self, clock: str) -> dict[Case, list[Turn]]:
        """The rows of a clock, with the peers that can do them and the bare application beside each."""
        found = {}
        for case in (case for case in self.rows if _has(clock, case)):
            peers = [peer for peer in self.peers if peer.measures(case)]
            turns = [(case, peer, peer.process(case)) for peer in peers]
            turns += [(case, BARE, process) for process in dict.fromkeys(peer.bare_process for peer in peers)]
            found[case] = turns
        return found


def _has(clock: str, case: Case) -> bool:
    if clock == COLD:
        return case.shape != cases.IN_FLIGHT and not case.long  # a long unit warms itself up
    return (case.shape == cases.IN_FLIGHT) == (clock == MEMORY)


def available(peers: Sequence[Peer], results: Results) -> list[Peer]:
    """The peers that can be measured here; the others are noted by name."""
    reasons = {peer: environments.missing(peer) for peer in peers}
    for peer, reason in reasons.items():
        if reason is not None:
            results.skip(peer.name, reason)
            CONSOLE.print(f"{peer.name}: skipped, {reason}", markup=False)
    return [peer for peer, reason in reasons.items() if reason is None]


def _keep(clock: str, plan: Plan, costs: Costs) -> None:
    """Put into the results what each peer costs over the bare application of the same round."""
    for case, turns in plan.of(clock).items():
        for peer in (peer for _, peer, _ in turns if peer is not BARE):
            spent = costs.get((case, peer, peer.process(case)), {})
            bare = costs.get((case, BARE, peer.bare_process), {})
            rounds = sorted(spent.keys() & bare.keys())
            if rounds:
                over = [spent[number] - bare[number] for number in rounds]
                alone = median(bare[number] for number in rounds)
                plan.results.measurements.append(Measurement(clock, case.name, peer.name, alone, over))


# --- CPU time ---


def cpu_time(clock: str, plan: Plan) -> None:
    """Measure hot or cold CPU time of every row, in microseconds."""
    costs: Costs = defaultdict(dict)
    rows = plan.of(clock)
    for generation in range(min(GENERATIONS, plan.rounds)):
        rounds = range(generation, plan.rounds, GENERATIONS)
        work = [(number, turns) for number in rounds for turns in shuffled(rows.values(), number)]
        with ExitStack() as stack:
            running: dict[str, Child] = {}
            for number, turns in steps(work, f"{clock}, {generation + 1} of {GENERATIONS}"):
                for turn in turns:
                    if turn[2] not in running:
                        running[turn[2]] = stack.enter_context(_worker(turn[2], generation))
                for turn, cost in _block(clock, plan.results, running, turns, number).items():
                    costs[turn][number] = cost
    _keep(clock, plan, costs)


def _block(clock: str, results: Results, running: dict[str, Child], turns: list[Turn], seed: int) -> dict[Turn, float]:
    """One row in one round: what a unit costs, the bare application as the median of several batches."""
    taken: dict[Turn, list[float]] = defaultdict(list)
    batches = [turn for turn in turns for _ in range(_BARE_BATCHES if turn[1] is BARE else 1)]
    for case, peer, process in shuffled(batches, seed):
        try:
            found = running[process].ask(clock=clock, peer=peer.name, case=case.name)["found"]
            taken[case, peer, process].append(found * 1e6)
        except ChildError as exc:
            results.skip(f"{peer.name} {case.name}", str(exc))
    return {turn: median(figures) for turn, figures in taken.items()}


def _worker(process: str, seed: int = 0) -> Child:
    environment = process.partition("/")[0]
    variables = {**peer_of(environment).variables, "PYTHONHASHSEED": str(seed)}
    return Child("benchmarks.worker", process, python=str(environments.python(environment)), variables=variables)


# --- instructions ---


def count_instructions(plan: Plan, seeds: Sequence[int] = (0,)) -> None:
    """Count the instructions of every row; of several hash seeds, the fewest.

    Where objects lie in memory depends on the length of a path, and CPython's caches collide by address: that only ever
    adds instructions, about one per cent.
    """
    reason = callgrind.missing()
    if reason is not None:
        plan.results.skip(INSTRUCTIONS, reason)
        CONSOLE.print(f"instructions: skipped, {reason}")
        return
    costs: Costs = defaultdict(dict)
    with ThreadPoolExecutor(len(environments.cores())) as pool:  # other processes do not change a count
        futures = {pool.submit(callgrind.count, part, seed): part for part in _parts(plan) for seed in seeds}
        for future in steps(as_completed(futures), INSTRUCTIONS, len(futures)):
            part = futures[future]
            try:
                counted = future.result()
            except (SubprocessError, OSError) as exc:
                plan.results.skip(f"{part[0][2]} {INSTRUCTIONS}", str(exc))
                continue
            for turn in part:
                if (found := counted.get((turn[0].name, turn[1].name))) is not None:
                    costs[turn][0] = min(found, costs[turn].get(0, found))
    _keep(INSTRUCTIONS, plan, costs)


def _parts(plan: Plan) -> Iterator[list[Turn]]:
    """What each process counts: the rows of one kind of process, spread over the cores by their shape."""
    rows = plan.of(INSTRUCTIONS)
    shapes = list(dict.fromkeys((case.side, case.shape) for case in rows))
    wanted: dict[tuple[str, int], list[Turn]] = defaultdict(list)
    for case, turns in rows.items():
        core = shapes.index((case.side, case.shape)) % len(environments.cores())
        for turn in turns:
            wanted[turn[2], core].append(turn)
    yield from wanted.values()


# --- memory ---


def memory(plan: Plan) -> None:
    """Measure the memory of requests in flight, each time in a new process, in bytes."""
    costs: Costs = defaultdict(dict)
    turns = [turn for turns in plan.of(MEMORY).values() for turn in turns]
    with ThreadPoolExecutor(len(environments.cores())) as pool:  # other processes do not change the memory of one
        futures = {pool.submit(_held, *turn): turn for turn in turns}
        for future in steps(as_completed(futures), MEMORY, len(futures)):
            try:
                costs[futures[future]][0] = future.result()
            except ChildError as exc:
                plan.results.skip(f"{futures[future][1].name} {futures[future][0].name}", str(exc))
    _keep(MEMORY, plan, costs)


def _held(case: Case, peer: Peer, process: str) -> float:
    with _worker(process) as worker:
        held: float = worker.ask(clock=MEMORY, peer=peer.name, case=case.name)["found"]
        return held
