"""Logfire and ddtrace, run in environments of their own: do they still show what the page about moving in says?

`python -m benchmarks install-peers logfire ddtrace` makes the environments, and
`python -m pytest -m campaign tests/campaigns/test_moving.py` prints a table of the rows; about five minutes. Nothing
leaves the loopback. Where a new version shows something else, write it down and mend the page:
`.../bin/python tests/moving/logfire_probe.py > tests/moving/logfire.json`.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks.environments import python

from ..moving.probe import NOT_INSTALLED
from ..support.moving_recorded import FOLDER, recorded
from .table import Table

pytestmark = pytest.mark.campaign


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """Collects the counts, and prints them at the end."""
    made = Table("What other libraries show", ("library", "version", "rows", "as recorded", "not installed", "other"))
    yield made
    made.show(request.config)


@pytest.mark.parametrize("library", ["logfire", "ddtrace"])
def test_other_libraries_show_what_was_recorded(library: str, table: Table) -> None:
    """Each row of a library's tables shows what the file says, with the version that is installed."""
    interpreter = python(library)
    if interpreter is None:
        pytest.skip(f"python -m benchmarks install-peers {library}")
    command = [str(interpreter), str(FOLDER / f"{library}_probe.py")]
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    rows, known = shown["rows"], recorded(library)["rows"]
    missing = {row for row, value in rows.items() if value == NOT_INSTALLED}
    same = {row for row, value in rows.items() if value == known.get(row)}
    other = {row: (value, known.get(row)) for row, value in rows.items() if row not in same | missing}
    table.add(library, shown["versions"][library], len(rows), len(same), len(missing), len(other))
    assert rows.keys() == known.keys()
    assert other == {}, f"{library} {shown['versions']}: shown, recorded"
