"""Fixtures of the client side: servers of both protocol versions, and each library, sync and async."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from asgi_trace._client import call
from asgi_trace._client.coexistence import CONTRIB

from ..support.http_clients import Kit, http1_server, http2_server
from ..support.transports import IDS, KITS


@pytest.fixture(autouse=True)
def nothing_on_its_way() -> Iterator[None]:
    """After each test no request is taken to be on its way."""
    yield
    assert call._on_the_way == {}


@pytest.fixture(autouse=True)
def no_contrib(monkeypatch: pytest.MonkeyPatch) -> None:
    """contrib's instrumentation of httpx counts as not imported, whatever other tests of this process have imported.

    Where it is there, our transports look for its spans at each send.
    """
    monkeypatch.delitem(sys.modules, CONTRIB, raising=False)


@pytest.fixture
def attached() -> Iterator[Any]:
    """A function that attaches a context until the test ends."""
    tokens: list[Any] = []
    yield lambda context: tokens.append(otel_context.attach(context))
    for token in reversed(tokens):
        otel_context.detach(token)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, str]]:
    """The base URL for each protocol version."""
    with http1_server() as http1, http2_server() as http2:
        yield {"1.1": http1, "2": http2}


@pytest.fixture(params=["1.1", "2"])
def version(request: pytest.FixtureRequest) -> str:
    """The protocol version on the wire."""
    found: str = request.param
    return found


@pytest.fixture(params=KITS, ids=IDS)
def kit(request: pytest.FixtureRequest, servers: dict[str, str], version: str) -> Kit:
    """One library, sync or async, with a server of one protocol version."""
    library, is_async = request.param
    return Kit(library, is_async, servers[version], version)


@pytest.fixture(params=KITS, ids=IDS)
def local(request: pytest.FixtureRequest) -> Kit:
    """One library, sync or async, for transports that do without a network."""
    library, is_async = request.param
    return Kit(library, is_async)


@pytest.fixture
def meter() -> Iterator[tuple[MeterProvider, InMemoryMetricReader]]:
    """A meter provider and what it has measured."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider, reader
    provider.shutdown()
