"""The tables of the page about moving in, and the runs that hold them true.

    OPTIONS = Cases("Options of `OpenTelemetryMiddleware`")


    @OPTIONS("`tracer_provider`")
    def tracer_provider() -> Pair:
        return names_with_the_other_library(), names_with_ours()


    @pytest.mark.parametrize("row", OPTIONS.titles())
    def test_options(row: str) -> None:
        OPTIONS.check(row)

A row without a case fails, and so does a case without a row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from .pages import pages

PAGE = next(page for page in pages() if page.name == "asgi_trace/MOVING_IN.md")

Pair = tuple[object, object]
"""What the other library showed, and what ours did."""


def table(heading: str) -> dict[str, dict[str, str]]:
    """The first table below the heading: the first cell of each row, and the row's other cells by their titles."""
    lines = iter(PAGE.text.splitlines())
    for line in lines:
        if re.fullmatch(rf"#{{2,4}} {re.escape(heading)}", line):
            break
    else:
        raise LookupError(f"{PAGE.name} has no heading {heading!r}")
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])])
        elif rows or line.startswith("#"):
            break
    if not rows:
        raise LookupError(f"{PAGE.name} has no table below {heading!r}")
    titles = rows[0][1:]
    found = {cells[0]: dict(zip(titles, cells[1:], strict=True)) for cells in rows[2:]}
    assert len(found) == len(rows) - 2, f"two rows of {heading!r} have the same first cell"
    return found


def names(cell: str) -> list[str]:
    """What stands between backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def without_row(heading: str, expected: Iterable[str]) -> set[str]:
    """Those of the expected names (options, variables) that the first column of the table does not have."""
    return set(expected) - {re.split(r"[=( ]", name)[0] for title in table(heading) for name in names(title)}


Case = TypeVar("Case", bound=Callable[..., object])


class Rows(Generic[Case]):
    """One function for each row of the table below a heading: a case, registered under the row's first cell."""

    def __init__(self, heading: str) -> None:
        self.heading = heading
        self.rows = table(heading)
        self.functions: dict[str, Case] = {}

    def __call__(self, title: str) -> Callable[[Case], Case]:
        """The case of the row that begins with this cell."""
        assert title not in self.functions, title

        def register(function: Case) -> Case:
            self.functions[title] = function
            return function

        return register

    def titles(self) -> list[str]:
        """Each row and each case, once: what a test is parametrized over, at the end of its module."""
        return list(dict.fromkeys([*self.rows, *self.functions]))


class Cases(Rows[Callable[[], Pair]]):
    """One function for each row of a table. It runs both sides and returns what each of them showed.

    Where the row's column `same?` says `yes`, both are equal. Where it says what is different, they differ, and the
    function itself asserts how.
    """

    def check(self, title: str) -> None:
        """Run the row's case, and hold its last cell against what was shown."""
        assert title in self.rows, f"a case without a row in {self.heading!r}"
        assert title in self.functions, f"a row of {self.heading!r} without a case"
        said = self.rows[title]["same?"]
        there, here = self.functions[title]()
        if said == "yes":
            assert here == there
        else:
            assert said, "say `yes`, or what is different"
            assert here != there, f"nothing differs, the row may say yes: {here}"


class Columns(Rows[Callable[[str], str]]):
    """One function for each row of a table whose columns are libraries. It says what a library shows, as a cell's text.

    The columns other than `here` say `yes` where they show what we do.
    """

    def check(self, title: str) -> None:
        """Run the row's case for each column, and hold the cells against what was shown."""
        assert title in self.functions, f"a row of {self.heading!r} without a case"
        columns = list(next(iter(self.rows.values())))
        shown = {column: self.functions[title](column) for column in columns}
        here = shown["here"]
        cells = {
            column: "yes" if text == here != NOTHING and column != "here" else text for column, text in shown.items()
        }
        assert self.rows.get(title) == cells, f"| {title} | {' | '.join(cells.values())} |"


NOTHING = "none"
"""The text of a cell for what a library does not have."""


def listed(texts: Iterable[str]) -> str:
    """A cell with these texts between backticks."""
    return ", ".join(f"`{text}`" for text in texts) or NOTHING
