"""What is installed, for tests of what older versions of another package do not do."""

from __future__ import annotations

import importlib.metadata


def installed(package: str) -> tuple[int, ...]:
    """The version of a package, as far as it is numbers: (0, 35, 0)."""
    parts = importlib.metadata.version(package).split(".")
    return tuple(int(part) for part in parts if part.isdecimal())
