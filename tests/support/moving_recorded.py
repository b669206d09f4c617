"""Tables about a library that is not installed beside the tests: what it showed stands in a file.

The file is what the library's probe in `tests/moving/` printed in an environment of its own. The campaign
`tests/campaigns/test_moving.py` runs the probe again and compares.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from .moving import Cases, Pair

FOLDER = Path(__file__).parents[1] / "moving"


@cache
def recorded(library: str) -> dict[str, Any]:
    """The `versions` of a library, and its `rows`: the first cell of a row, and what the library showed."""
    found: dict[str, Any] = json.loads((FOLDER / f"{library}.json").read_text(encoding="utf-8"))
    return found


def shown_by(library: str, row: str) -> Any:
    """What the library showed for one row."""
    return recorded(library)["rows"][row]


class RecordedCases(Cases):
    """`Cases` whose functions run our side only; the other side is what the library showed."""

    def __init__(self, heading: str, library: str) -> None:
        super().__init__(heading)
        self.library = library

    def ours(self, title: str) -> Callable[[Callable[[], object]], Callable[[], object]]:
        """The case of the row that begins with this cell: what our side shows, in values that JSON has."""

        def register(function: Callable[[], object]) -> Callable[[], object]:
            def pair() -> Pair:
                return shown_by(self.library, title), json.loads(json.dumps(function()))

            self(title)(pair)
            return function

        return register
