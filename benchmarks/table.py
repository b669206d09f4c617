"""Tables of a run: one for each clock, one for the server under load, one for the promises. Markdown and plain text.

A cell of a clock's table is a peer's overhead as a multiple of ours, with half of the distance between the quartiles of
the rounds in per cent; ours is in its own unit. Where ours is not measured, or lost in the noise, cells are figures.
"""

from __future__ import annotations

from collections.abc import Sequence

from .registry import every
from .results import BARE, COLD, HOT, INSTRUCTIONS, MEMORY, OURS, UNITS, EndToEnd, Measurement, Results, ratio
from .targets import Verdict, verdicts

TITLES = {
    HOT: "Hot CPU time",
    COLD: "Cold CPU time",
    INSTRUCTIONS: "Instructions",
    MEMORY: "Memory of requests in flight",
}
CAPTIONS = {
    HOT: "CPU time over the bare application, in a tight loop with everything in the caches. It flatters everybody.",
    COLD: "CPU time over the bare application, with the caches evicted between two requests.",
    INSTRUCTIONS: "Instructions over the bare application, counted by callgrind: free of noise.",
    MEMORY: "Resident bytes over the bare application, per request, with 10,000 of them in flight.",
}

Table = list[list[str]]


def title(peer: str) -> str:
    """What a peer is called in a table."""
    found = every().get(peer)
    return found.title if found is not None else peer


def clock_table(results: Results, clock: str) -> Table:
    """Rows by peers, for one clock."""
    peers = results.peers(clock)
    others = [peer for peer in peers if peer != OURS]
    header = ["row", f"bare, {UNITS[clock]}", *([f"asgi-trace, {UNITS[clock]}"] if OURS in peers else [])]
    table = [[*header, *(title(peer) for peer in others)]]
    for case in results.cases(clock):
        found = {peer: results.get(clock, case, peer) for peer in peers}
        ours = found.get(OURS)
        first = next(each for each in found.values() if each is not None)
        row = [case, figure(first.bare)]
        if OURS in peers:
            row.append(_own(ours))
        table.append([*row, *(_cell(found[peer], ours) for peer in others)])
    return table


def _own(ours: Measurement | None) -> str:
    if ours is None:
        return "-"
    spread = f" ±{figure(ours.spread)}" if len(ours.rounds) > 1 else ""
    return figure(ours.over) + spread


def _cell(found: Measurement | None, ours: Measurement | None) -> str:
    if found is None:
        return "-"
    share = ratio(found, ours) if ours is not None and _told_apart(ours) else None
    if share is None or share[0] <= 0:
        return f"{_own(found)} {UNITS[found.clock]}"
    return f"{share[0]:,.0f}x" if share[0] >= 100 else f"{share[0]:.2f}x{_spread(*share)}"


def _told_apart(ours: Measurement) -> bool:
    """Is it more than the noise? Else a multiple of it means nothing."""
    return ours.over > 2 * ours.spread


def _spread(share: float, spread: float) -> str:
    return f" ±{spread / share:.0%}" if spread else ""


def figure(value: float) -> str:
    """A figure with about three digits that mean something."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def end_to_end_table(results: Results) -> Table:
    """Servers under load: what a request costs, and where that goes."""
    header = ["peer", "sampling", "exporter", "requests/s", "CPU µs/request", "request path", "encoding", "export"]
    return [[*header, "spans/request"], *map(_served, sorted(results.end_to_end, key=_by_sampling))]


def _served(each: EndToEnd) -> list[str]:
    name, rate, spans = title(each.peer), figure(each.requests_per_second), f"{each.spans:.2f}"
    cpu = f"{figure(each.cpu)} ±{figure(each.spread)}"
    if each.peer == BARE:
        return [name, "-", "-", rate, cpu, "-", "-", "-", spans]
    parts = [figure(part) for part in (each.main, each.encoding, each.export)]
    return [name, f"{each.sampling:.0%}", each.exporter, rate, f"+{cpu}", *parts, spans]


def _by_sampling(each: EndToEnd) -> tuple[bool, float, str]:
    return each.peer != BARE, -each.sampling, each.exporter


def target_table(results: Results) -> Table:
    """Every promise whose rows were measured, and whether it is kept."""
    table = [["clock", "row", "share of", "promised", "measured", ""]]
    for verdict in verdicts(results):
        target = verdict.target
        of = title(target.peer) if target.against is None else f"ours, {target.against.partition('/')[2]}"
        measured = f"{verdict.share:.3f}" + (f" ±{verdict.spread:.3f}" if verdict.spread else "")
        table.append([target.clock, target.case, of, f"≤ {target.limit:g}", measured, _word(verdict)])
    return table


def _word(verdict: Verdict) -> str:
    return "PASS" if verdict.kept else "**MISS**"


def markdown(table: Table) -> str:
    """As a Markdown table, figures to the right."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    lines.insert(1, "|" + "---|" + "---:|" * (len(table[0]) - 1))
    return "\n".join(lines)


def plain(table: Table) -> str:
    """As columns for a terminal."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    lines = [_line(row, widths) for row in table]
    lines.insert(1, "-" * len(lines[0]))
    return "\n".join(line.rstrip() for line in lines)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:])]  # noqa: B905
    return "  ".join([row[0].ljust(widths[0]), *cells])


def everything(results: Results) -> str:
    """All tables of a run, for a terminal."""
    parts = []
    for clock in results.clocks():
        parts += [
            f"{TITLES[clock]}. {CAPTIONS[clock]} Peers as multiples of asgi-trace.",
            plain(clock_table(results, clock)),
        ]
    if results.end_to_end:
        parts += ["End to end. CPU per request over the bare server.", plain(end_to_end_table(results))]
    if verdicts(results):
        parts += ["Promises.", plain(target_table(results)).replace("**", "")]
    if results.skipped:
        parts.append("Left out.\n" + "\n".join(f"{each.what}: {each.why}" for each in results.skipped))
    return "\n\n".join(parts)
