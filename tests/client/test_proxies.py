"""NO_PROXY, entry by entry, beside what httpx and httpx2 make of it themselves."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from asgi_trace._client.proxies import environment_proxies

URLS = ["http://w.wild.test/", "http://wild.test/", "http://10.1.2.3/", "http://[fe80::1]/", "http://far.test/"]


def ways(module: Any, client: Any) -> list[bool]:
    """Whether each URL is called through a proxy."""
    found = []
    for url in URLS:
        transport = client._transport_for_url(module.URL(url))
        transport = getattr(transport, "_transport", transport)
        found.append(getattr(transport._pool, "_proxy_url", None) is not None)
    return found


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
@pytest.mark.parametrize("entry", ["*.wild.test", "wild.test", ".wild.test", "10.0.0.0/8", "fe80::1", "*.wild.test/8"])
def test_an_entry_means_what_it_means_to_the_library(monkeypatch: pytest.MonkeyPatch, library: str, entry: str) -> None:
    """With or without us a request takes the same way, also for `*.name` and networks, which httpx does not know."""
    module = pytest.importorskip(library)
    transport = import_module(f"asgi_trace.{library}").TraceTransport
    monkeypatch.setenv("ALL_PROXY", "http://p.test:1")
    monkeypatch.setenv("NO_PROXY", entry)
    with module.Client() as plain, module.Client(**transport.for_client()) as traced:
        assert ways(module, traced) == ways(module, plain)


BAD = "\u00e9.test,*.\u00e9,.\u00e9,\u0663.test,[zz],[::1,::1/x,::1/129,10.0.0.0/99,10.0.0.0/\u00e9,a b,1.1.1.1/1/2"


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
@pytest.mark.parametrize("entry", [*BAD.split(","), BAD])
def test_a_bad_entry_costs_only_itself(monkeypatch: pytest.MonkeyPatch, library: str, entry: str) -> None:
    """An entry that no URL can have as its host stops neither client from being built; it is left out."""
    module = pytest.importorskip(library)
    transport = import_module(f"asgi_trace.{library}").TraceTransport
    monkeypatch.setenv("ALL_PROXY", "http://p.test:1")
    monkeypatch.setenv("NO_PROXY", f"{entry},good.test")
    assert environment_proxies() == {"all://": "http://p.test:1", "all://*good.test": None}
    with module.Client(**transport.for_client()) as client:
        assert ways(module, client) == [True] * len(URLS)
