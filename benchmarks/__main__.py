"""`python -m benchmarks`: run the ladder, write the report, hold the gate, install the peers."""

from __future__ import annotations

import argparse
import sys
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from pathlib import Path

from . import cases, environments, gate, ladder, report, table
from .clocks import end_to_end
from .peers import BARE, MAIN, Peer
from .progress import Progress
from .registry import every
from .results import COLD, CONFIGURED, HOT, INSTRUCTIONS, MEMORY, Results
from .vendors import REQUIREMENTS

END_TO_END = "end-to-end"
CLOCKS = (INSTRUCTIONS, HOT, COLD, END_TO_END, MEMORY)
_SERVED = ("asgi-trace", CONFIGURED, "starlette", "contrib", "contrib-quiet")
_ROUNDS, _QUICK_ROUNDS = 12, 6


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What tracing costs per request: asgi-trace and its peers in one run."
    )
    _ladder_options(parser)
    commands = parser.add_subparsers(dest="command")
    written = commands.add_parser("report", help="run everything and write RESULTS.md and overhead.svg")
    _ladder_options(written)
    written.add_argument("--from", dest="source", metavar="PATH", help="render a run that --json has kept")
    gated = commands.add_parser(
        "gate", help="fail when the request path takes 3 %% more instructions than the baseline"
    )
    gated.add_argument("--update", action="store_true", help="make what is counted now the baseline of this build")
    install = commands.add_parser("install-peers", help="make the vendors' environments, outside of the repository")
    install.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(REQUIREMENTS)}")
    return parser


def _ladder_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="few rows and rounds, less than a minute")
    parser.add_argument("--case", metavar="GLOB", action="append", default=[], help="rows, like 'server/bare/*'")
    parser.add_argument("--peer", metavar="GLOB", action="append", default=[], help="peers, like 'contrib*'")
    parser.add_argument("--clock", choices=CLOCKS, action="append", default=[], help="clocks; all unless given")
    parser.add_argument("--rounds", type=_positive, metavar="N", help=f"rounds of the CPU clocks ({_ROUNDS})")
    parser.add_argument("--json", metavar="PATH", help="keep the run in a file; - is stdout, instead of the tables")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("write 1 or more")
    return number


def run(options: argparse.Namespace) -> Results:
    """Run what the options ask for."""
    progress = Progress()
    results = Results()
    rounds = options.rounds or (_QUICK_ROUNDS if options.quick else _ROUNDS)
    peers = ladder.available(_chosen_peers(options), results, progress)
    plan = ladder.Plan(_chosen_rows(options), peers, rounds, results, progress, options.quick and not options.case)
    clocks = options.clock or ([INSTRUCTIONS, HOT, COLD] if options.quick else list(CLOCKS))
    source = environments.source()
    for clock in (clock for clock in CLOCKS if clock in clocks):
        if clock == INSTRUCTIONS:
            ladder.count_instructions(plan)
        elif clock == MEMORY:
            ladder.memory(plan)
        elif clock == END_TO_END:
            served = [peer for peer in _SERVED if peer in {each.name for each in peers}]
            end_to_end.measure(served, max(2, rounds // 4), 1.0, results, progress)
        else:
            ladder.cpu_time(clock, plan)
    progress.clear()
    if environments.source() != source:
        results.skip(
            "the package", "its files changed during the run: figures of different rounds are of different code"
        )
    results.meta = _meta(rounds)
    return results


def _chosen_rows(options: argparse.Namespace) -> list[cases.Case]:
    rows = [case for case in cases.CASES if not options.case or any(case in cases.matching(g) for g in options.case)]
    if not rows:
        raise SystemExit(f"no row matches {' '.join(options.case)}; rows are {cases.CASES[0].name}, ...")
    if options.quick and not options.case:
        return [case for case in rows if case.name in cases.QUICK]
    return rows


def _chosen_peers(options: argparse.Namespace) -> list[Peer]:
    peers = [peer for peer in every().values() if peer is not BARE]
    if options.quick and not options.peer:
        return [peer for peer in peers if peer.environment == MAIN]
    return [peer for peer in peers if not options.peer or any(fnmatchcase(peer.name, glob) for glob in options.peer)]


def _meta(rounds: int) -> dict[str, object]:
    versions = environments.versions()
    for peer in every().values():
        if peer.environment != MAIN and environments.python(peer.environment) is not None:
            versions.update(environments.versions_in(peer.environment, peer.packages[:1]))
    return {
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": environments.machine(),
        "versions": versions,
        "rounds": rounds,
        "load": end_to_end.load_tool(),
    }


def _keep(results: Results, where: str | None) -> None:
    if where == "-":
        print(results.to_json())
    elif where:
        Path(where).write_text(results.to_json(), encoding="utf-8")


def _report(options: argparse.Namespace) -> int:
    if options.source:
        results = Results.from_json(Path(options.source).read_text(encoding="utf-8"))
    else:
        results = run(options)
        _keep(results, options.json)
    for path in report.write(results):
        print(f"wrote benchmarks/{path.name}")
    return 0


def _say(text: str) -> None:
    print(text, flush=True)


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    options = arguments().parse_args(argv)
    if options.command == "gate":
        return gate.run(_say, Progress(), update=options.update)
    if options.command == "install-peers":
        unknown = sorted(set(options.names) - set(REQUIREMENTS))
        if unknown:
            raise SystemExit(f"no such peer: {', '.join(unknown)}; write some of {', '.join(REQUIREMENTS)}")
        return 0 if environments.install(options.names or list(REQUIREMENTS), _say) else 1
    if options.command == "report":
        return _report(options)
    results = run(options)
    _keep(results, options.json)
    if options.json != "-":
        print(table.everything(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
