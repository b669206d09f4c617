"""The table that a campaign prints at its end."""

from __future__ import annotations

import pytest
import rich.table
from rich.console import Console


class Table:
    """Collects rows and prints them, also where pytest captures what tests print."""

    def __init__(self, title: str, columns: tuple[str, ...]) -> None:
        self._table = rich.table.Table(title=title, title_justify="left", caption_justify="left")
        for number, column in enumerate(columns):
            self._table.add_column(column, justify="left" if number < 2 else "right", no_wrap=True)

    def add(self, *cells: object) -> None:
        """One more row."""
        self._table.add_row(*map(str, cells))

    def note(self, text: str) -> None:
        """A sentence below the table, once."""
        known = self._table.caption
        if text not in str(known or ""):
            self._table.caption = f"{known}\n{text}" if known else text

    def show(self, config: pytest.Config) -> None:
        """Print all of them."""
        capture = config.pluginmanager.getplugin("capturemanager")
        assert capture is not None
        with capture.global_and_fixture_disabled():
            console = Console()
            print()
            (console if console.is_terminal else Console(width=160)).print(self._table)
