"""Fixtures for the tests of metrics."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ..support.metrics import Meters


@pytest.fixture
def meters() -> Iterator[Meters]:
    """Instruments that are read back."""
    made = Meters()
    yield made
    made.provider.shutdown()
