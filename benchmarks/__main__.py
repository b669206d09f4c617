"""`python -m benchmarks`: measure rows, write the report, compare with the baseline, install the peers."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

from . import cases, end_to_end, environments, gate, ladder, report, tables
from .peers import BARE, MAIN, Peer
from .registry import every
from .results import COLD, CONFIGURED, HOT, INSTRUCTIONS, MEMORY, SDK_PROVIDER, Results
from .vendors import REQUIREMENTS

END_TO_END = "end-to-end"
CLOCKS: dict[str, Callable[[ladder.Plan], None]] = {
    INSTRUCTIONS: ladder.count_instructions,
    HOT: partial(ladder.cpu_time, HOT),
    COLD: partial(ladder.cpu_time, COLD),
    MEMORY: ladder.memory,
}
_SERVED = (SDK_PROVIDER, CONFIGURED, "starlette", "contrib", "contrib-quiet")
_EXAMPLES = f"""
groups of rows: {", ".join(cases.GROUPS)}

  python -m benchmarks --quick
  python -m benchmarks --group extras --clock instructions --peer asgi-trace-configured
  python -m benchmarks --case server/bare/sampled --clock instructions --clock hot --peer 'asgi*' --peer starlette
  python -m benchmarks --clock end-to-end --peer asgi-trace-configured --peer starlette
"""


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="What tracing costs per request: asgi-trace and its peers in one run.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _choices(parser)
    commands = parser.add_subparsers(dest="command")
    written = commands.add_parser("report", help="run everything and write RESULTS.md and overhead.svg")
    _choices(written)
    written.add_argument("--from", dest="source", metavar="PATH", help="render a run that --json has kept")
    gated = commands.add_parser("gate", help="fail when the request path takes 2 %% more instructions than accepted")
    gated.add_argument("--update", action="store_true", help="make what is counted now the baseline of this build")
    install = commands.add_parser("install-peers", help="make the vendors' environments, outside of the repository")
    install.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(REQUIREMENTS)}")
    return parser


def _choices(parser: argparse.ArgumentParser) -> None:
    many = partial(parser.add_argument, action="append", default=[])
    parser.add_argument("--quick", action="store_true", help="few rows and rounds, no vendors")
    many("--case", metavar="GLOB", help="rows, like 'server/bare/*'")
    many("--group", choices=sorted(cases.GROUPS), help="rows that are often wanted together")
    many("--peer", metavar="GLOB", help="peers, like 'contrib*'")
    many("--clock", choices=[*CLOCKS, END_TO_END], help="clocks; all unless given")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="rounds of the CPU clocks (12)")
    parser.add_argument("--json", metavar="PATH", help="keep the run in a file; - is stdout, instead of the tables")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("write 1 or more")
    return number


def run(options: argparse.Namespace) -> Results:
    """Run what the options ask for."""
    results = Results()
    rounds = options.rounds or (6 if options.quick else 12)
    peers = ladder.available(_chosen_peers(options), results)
    plan = ladder.Plan(_chosen_rows(options), peers, rounds, results)
    quick_clocks = [INSTRUCTIONS, HOT, COLD] if options.quick else [*CLOCKS, END_TO_END]
    clocks = options.clock or quick_clocks
    for clock, measure in CLOCKS.items():
        if clock in clocks:
            measure(plan)
    if END_TO_END in clocks:
        served = [peer.name for peer in peers if peer.name in _SERVED]
        end_to_end.measure(served, max(2, rounds // 4), 1.0, results)
    results.meta = _meta(rounds)
    return results


def _chosen_rows(options: argparse.Namespace) -> list[cases.Case]:
    groups = options.group or (["quick"] if options.quick and not options.case else [])
    rows = cases.chosen([*options.case, *(pattern for group in groups for pattern in cases.GROUPS[group])])
    if not rows:
        raise SystemExit(f"no row matches {' '.join(options.case)}; rows are {cases.CASES[0].name}, ...")
    return rows


def _chosen_peers(options: argparse.Namespace) -> list[Peer]:
    peers = [peer for peer in every().values() if peer is not BARE]
    if options.quick and not options.peer:
        return [peer for peer in peers if peer.environment == MAIN]
    return [peer for peer in peers if not options.peer or any(fnmatchcase(peer.name, glob) for glob in options.peer)]


def _meta(rounds: int) -> dict[str, object]:
    versions = environments.versions()
    for vendor in REQUIREMENTS:
        versions |= environments.version_of(vendor)
    date = datetime.now(timezone.utc).date().isoformat()
    return {"date": date, "machine": environments.machine(), "versions": versions, "rounds": rounds}


def _report(options: argparse.Namespace) -> int:
    if options.source:
        results = Results.from_json(Path(options.source).read_text(encoding="utf-8"))
    else:
        results = run(options)
        _keep(results, options.json)
    for path in report.write(results):
        print(f"wrote benchmarks/{path.name}")
    return 0


def _keep(results: Results, where: str | None) -> None:
    if where == "-":
        print(results.to_json())
    elif where:
        Path(where).write_text(results.to_json(), encoding="utf-8")


def main(argv: list[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    options = arguments().parse_args(argv)
    say = partial(print, flush=True)
    if options.command == "gate":
        return gate.run(say, update=options.update)
    if options.command == "install-peers":
        unknown = sorted(set(options.names) - set(REQUIREMENTS))
        if unknown:
            raise SystemExit(f"no such peer: {', '.join(unknown)}; write some of {', '.join(REQUIREMENTS)}")
        return 0 if environments.install(options.names or list(REQUIREMENTS), say) else 1
    if options.command == "report":
        return _report(options)
    results = run(options)
    _keep(results, options.json)
    if options.json != "-":
        tables.show(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
