"""Print the lowest declared version of every dependency of the package and of the extras that users install.

One constraint a line for pip. OpenTelemetry's packages among the tests' tools are included, since they are released
together; the other tools of the tests are not: nobody installs them with the package.
"""

from __future__ import annotations

import re
from pathlib import Path

EXTRAS = ("httpx", "httpx2", "otlp", "view", "demo")


def requirements(text: str, name: str) -> list[str]:
    """The strings of the list `name = [...]` in a pyproject.toml. Python 3.10 has no parser for it."""
    found = re.search(rf"^{name} = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise SystemExit(f"pyproject.toml has no list {name!r}")
    return re.findall(r'"([^"]+)"', found[1])


def main() -> None:
    """Print the constraints."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    named = requirements(text, "dependencies")
    for extra in EXTRAS:
        named += requirements(text, extra)
    named += [each for each in requirements(text, "test") if each.startswith("opentelemetry")]
    for each in dict.fromkeys(named):
        if lowest := re.fullmatch(r"([\w-]+)>=([\w.]+)(?:,.*)?", each):
            print(f"{lowest[1]}=={lowest[2]}")


if __name__ == "__main__":
    main()
