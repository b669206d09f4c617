"""What the README says of other tracing libraries is what they do, in the published measurements and in a run."""

from __future__ import annotations

import re

import pytest

from tests.support.pages import ROOT, Page, pages

README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("\n## Beside its peers\n")[2].partition("\n## ")[0]
ROWS = re.findall(r"`((?:server|client)/[\w-]+(?:/[\w-]+)?)`", SECTION)
RESULTS = (ROOT / "benchmarks" / "RESULTS.md").read_text(encoding="utf-8")
COMPARED = ("Hot CPU time", "Cold CPU time", "Instructions")


def shares(clock: str, row: str) -> dict[str, float]:
    """Our cost as a share of each library's, by its title; without those that lack the row, or cost too little."""
    table = RESULTS.partition(f"\n## {clock}\n")[2].partition("\n## ")[0]
    header = next(line for line in table.splitlines() if line.startswith("| row |"))
    titles = [cell.strip() for cell in header.strip("|").split("|")]
    line = next((line for line in table.splitlines() if line.startswith(f"| {row} |")), None)
    if line is None:
        return {}
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    found = {}
    for title, cell in zip(titles, cells, strict=True):
        if share := re.search(r"\((-?[\d,.]+)[ )]", cell):
            found[title] = float(share[1].replace(",", ""))
    return found


@pytest.mark.parametrize("row", ROWS)
def test_named_rows_cost_less_than_with_any_peer(row: str) -> None:
    """A row that the README names is published, and costs more with every other library, by each clock that has it."""
    by_clock = {clock: found for clock in COMPARED if (found := shares(clock, row))}
    assert "Instructions" in by_clock
    most = {clock: max(found.values()) for clock, found in by_clock.items()}
    assert all(share < 1 for share in most.values()), most


def test_every_kind_of_row_is_named() -> None:
    """The README names rows of the server and of the client, and they are looked up in a table that has peers."""
    assert {"server/bare/sampled", "client/get/sampled"} <= set(ROWS)
    assert len(shares("Instructions", "server/bare/sampled")) >= 6
    assert not any(title.startswith(("asgi-trace", "bare")) for title in shares("Hot CPU time", "server/bare/sampled"))


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_rows_that_a_page_names_are_published(page: Page) -> None:
    """A row of the benchmarks that a page names stands in the published tables."""
    rows = {code for code in page.inline_code() if re.fullmatch(r"(?:server|client)/[\w-]+/[\w-]+", code)}
    assert {row for row in rows if f"| {row} |" not in RESULTS} == set()
