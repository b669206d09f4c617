"""The tables of a run: rows are rows, columns are peers, cells are figures and ratios."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table as RichTable

from . import cases
from .registry import every
from .results import BARE, COLD, CONFIGURED, HOT, INSTRUCTIONS, MEMORY, SDK_PROVIDER, UNITS, Measurement, Results, ratio

TITLES = {
    INSTRUCTIONS: "Instructions",
    HOT: "Hot CPU time",
    COLD: "Cold CPU time",
    MEMORY: "Memory of requests in flight",
}
CAPTIONS = {
    INSTRUCTIONS: "Instructions over the bare application, counted by callgrind: without noise.",
    HOT: "CPU time over the bare application, in a tight loop with warm caches, which flatters every peer.",
    COLD: "CPU time over the bare application, with the caches evicted between two requests.",
    MEMORY: "Resident bytes over the bare application, per request, with 10,000 of them in flight.",
}
SHARES = (
    "In brackets: what asgi-trace costs as a share of what this peer costs, with `configure()` where that was measured."
)

Table = list[list[str]]


def title(peer: str) -> str:
    """The name of a peer in a table."""
    found = every().get(peer)
    return found.title if found is not None else peer


def clock_table(results: Results, clock: str) -> Table:
    """Rows by peers, for one clock."""
    peers = results.peers(clock)
    table = [["row", f"bare, {UNITS[clock]}", *map(title, peers)]]
    for case in results.cases(clock):
        found = [results.get(clock, case, peer) for peer in peers]
        bare = next(each.bare for each in found if each is not None)
        table.append([case, figure(bare), *(_cell(each, results.ours(clock, case)) for each in found)])
    return table


def _cell(found: Measurement | None, ours: Measurement | None) -> str:
    if found is None:
        return "-"
    spread = f" ±{figure(found.spread)}" if len(found.rounds) > 1 else ""
    own = found.peer in (SDK_PROVIDER, CONFIGURED)
    told_apart = found.over > 2 * found.spread  # a share of what is lost in the noise means nothing
    share = ratio(ours, found) if ours is not None and not own and told_apart else None
    if share is None:
        return figure(found.over) + spread
    return f"{figure(found.over)}{spread} ({share[0]:.3f}{f' ±{share[1]:.3f}' if spread else ''})"


def figure(value: float) -> str:
    """A figure with about three digits that mean something."""
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def extras_table(results: Results) -> Table:
    """What one thing more costs with `configure()`: the instructions of a row over those of the plain one."""
    table = [["with", "sampled, instructions", "unsampled, instructions"]]
    for shape in cases.EXTRAS:
        cells = []
        for state in (cases.SAMPLED, cases.UNSAMPLED):
            found = results.get(INSTRUCTIONS, f"server/{shape}/{state}", CONFIGURED)
            plain = results.get(INSTRUCTIONS, f"server/{cases.BARE}/{state}", CONFIGURED)
            cells.append(f"{found.over - plain.over:+,.0f}" if found is not None and plain is not None else "-")
        if cells != ["-", "-"]:
            table.append([shape, *cells])
    return table


def end_to_end_table(results: Results) -> Table:
    """Servers under load: what a request costs, and where that goes."""
    header = ["peer", "sampling", "requests/s", "CPU µs", "of it request path", "instructions", "spans/request"]
    table = [header]
    ours = {each.sampling: each for each in results.end_to_end if each.peer == CONFIGURED}
    for each in sorted(results.end_to_end, key=lambda each: (each.peer != BARE, -each.sampling)):
        sign = "" if each.peer == BARE else "+"
        own = ours.get(each.sampling) if each.peer not in (BARE, SDK_PROVIDER, CONFIGURED) else None
        counted = "-" if each.instructions is None else f"{sign}{figure(each.instructions)}"
        cpu = f"{sign}{figure(each.cpu)} ±{figure(each.spread)}"
        if own is not None:
            cpu += f" ({own.cpu / each.cpu:.3f})"
            counted += (
                f" ({own.instructions / each.instructions:.3f})" if own.instructions and each.instructions else ""
            )
        rate = "-" if each.peer == BARE else f"{each.sampling:.0%}"
        figures = [figure(each.requests_per_second), cpu, figure(each.request_path), counted, f"{each.spans:.2f}"]
        table.append([title(each.peer), rate, *figures])
    return table


def sections(results: Results) -> list[tuple[str, str, Table]]:
    """Title, caption and table of everything that was measured."""
    found = [(TITLES[clock], f"{CAPTIONS[clock]} {SHARES}", clock_table(results, clock)) for clock in results.clocks()]
    extras = extras_table(results)
    if len(extras) > 1:
        caption = "What the row costs more than `server/bare` of the same state, with `configure()`."
        found.append(("One thing more", caption, extras))
    if results.end_to_end:
        caption = (
            "uvicorn on one core, the load (16 connections) and an OTLP/gRPC receiver on the other, a Starlette "
            "application, batches, a queue of 65,536 spans. CPU and instructions of the server's process per request, "
            "over the bare server and with the export of every span; the request path is the event loop's thread. "
            "In brackets: what asgi-trace with `configure()` costs as a share of what this peer costs."
        )
        found.append(("End to end", caption, end_to_end_table(results)))
    return found


def markdown(table: Table) -> str:
    """As a Markdown table, figures to the right."""
    lines = ["| " + " | ".join(row) + " |" for row in table]
    lines.insert(1, "|" + "---|" + "---:|" * (len(table[0]) - 1))
    return "\n".join(lines)


def show(results: Results) -> None:
    """Print all tables of a run; wide where the output is not a terminal."""
    terminal = Console(highlight=False)
    console = terminal if terminal.is_terminal else Console(width=240, highlight=False)
    for heading, caption, table in sections(results):
        drawn = RichTable(title=heading, caption=caption, title_justify="left", caption_justify="left")
        for number, name in enumerate(table[0]):
            drawn.add_column(name, justify="right" if number else "left", no_wrap=number == 0)
        for row in table[1:]:
            drawn.add_row(*row)
        console.print(drawn)
    for each in results.skipped:
        console.print(f"left out: {each.what}: {each.why}", markup=False)
