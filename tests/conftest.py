from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from asgi_trace import _origin
from asgi_trace.testing import CapturedSpans, capture_spans


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No OTEL_* or proxy variable of the machine reaches a test."""
    for name in list(os.environ):
        if name.startswith("OTEL_") or name.lower() in {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def nobody_left() -> None:
    """No request that an earlier test left behind, in the context that all tests of a process share, is remembered."""
    _origin._left.set(None)


@pytest.fixture
def spans() -> Iterator[CapturedSpans]:
    """The spans that this test's middleware and transports end."""
    with capture_spans() as captured:
        yield captured
