"""What is recorded of libraries that are not installed beside the tests belongs to the page."""

from __future__ import annotations

import pytest

from tests.support.moving import PAGE, table
from tests.support.moving_recorded import recorded

HEADINGS = {
    "logfire": (
        "Options of `logfire.configure`",
        "Options of Logfire's instrumentations",
        "Spans and logs of your own, from Logfire",
        "Variables of Logfire",
        "Spans and metrics of a server, from Logfire",
    ),
    "ddtrace": ("Set-up and options of ddtrace", "Variables of ddtrace", "Spans, ids and headers of ddtrace"),
}
LISTS = {"all options", "all variables"}
"""What is recorded to see that no row is missing."""


@pytest.mark.parametrize("library", HEADINGS)
def test_every_row_is_recorded(library: str) -> None:
    """Each row of a library's tables is recorded, and nothing is recorded that has no row."""
    rows = {row for heading in HEADINGS[library] for row in table(heading)}
    assert rows == recorded(library)["rows"].keys() - LISTS


@pytest.mark.parametrize(("library", "name"), [("logfire", "Logfire"), ("ddtrace", "ddtrace")])
def test_the_page_names_the_recorded_version(library: str, name: str) -> None:
    """The page says which version showed what it says."""
    assert f"{name} {recorded(library)['versions'][library]}" in PAGE.text
