"""What every test of `traced` proves beside its own: no context is ever detached where it was not attached."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from ..support.generators import Log


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """OpenTelemetry says nothing ("Failed to detach context"), and neither does this package."""
    yield
    said = [record for record in caplog.records if record.name.startswith(("opentelemetry", "asgi_trace"))]
    assert [record.getMessage() for record in said if record.levelno >= logging.WARNING] == []


@pytest.fixture
def log() -> Log:
    """What a generator of the test sees."""
    return Log()
