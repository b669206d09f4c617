"""What every test finds: a clean environment, signals that arrive, no request left over, captured spans."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from asgi_trace._server import failed_request
from asgi_trace.testing import CapturedSpans, capture_spans

# How long an example takes says something about the machine, and whoever changes the code is not to be blamed for an
# example that chance found today: finding more of them is the campaigns' work.
settings.register_profile("asgi-trace", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("asgi-trace")


@pytest.fixture(scope="session", autouse=True)
def signals_arrive() -> None:
    """A shell ignores SIGINT for what it runs in the background, and children inherit that: those of tests must not."""
    for signum, handler in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
        if signal.getsignal(signum) is signal.SIG_IGN:
            signal.signal(signum, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No OTEL_* or proxy variable of the machine reaches a test."""
    for name in list(os.environ):
        if name.startswith("OTEL_") or name.lower() in {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}:
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def no_last_request() -> None:
    """No request of an earlier test is remembered in the context that all tests of a process share."""
    failed_request._last.set(None)


@pytest.fixture
def spans() -> Iterator[CapturedSpans]:
    """The spans that this test's middleware and transports end."""
    with capture_spans() as captured:
        yield captured
