"""`for_client()`: the transports of a client that keeps the proxies of the environment."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from asgi_trace._client.proxies import environment_proxies
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of
from ..support.http_clients import Kit
from ..support.transports import (
    Answer,
)

httpx = pytest.importorskip("httpx")
from asgi_trace.httpx import TraceTransport  # noqa: E402


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, {}),
        ({"HTTP_PROXY": "http://p:1", "HTTPS_PROXY": "p:2"}, {"http://": "http://p:1", "https://": "http://p:2"}),
        ({"all_proxy": "socks5://p"}, {"all://": "socks5://p"}),
        ({"ALL_PROXY": "p", "NO_PROXY": "a.test, *"}, {}),
        (
            {"ALL_PROXY": "p", "NO_PROXY": "a.test,.b.test,*.c.test,10.0.0.1,10.0.0.0/8,::1,[::2],localhost,d.test:81"},
            {
                "all://": "http://p",
                "all://*a.test": None,
                "all://*.b.test": None,
                "all://*.c.test": None,
                "all://10.0.0.1": None,
                "all://10.0.0.0/8": None,
                "all://[::1]": None,
                "all://[::2]": None,
                "all://localhost": None,
                "all://*d.test:81": None,
            },
        ),
        ({"NO_PROXY": "http://e.test,fe80::/10,not a host,,f/g"}, {"http://e.test": None, "all://[fe80::]/10": None}),
    ],
)
def test_the_environment_names_proxies(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: dict[str, str | None]
) -> None:
    """HTTP_PROXY and its relatives become patterns as the library's own; names in NO_PROXY cover those below them."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert environment_proxies() == expected


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_the_environment_is_read_as_the_library_reads_it(monkeypatch: pytest.MonkeyPatch, library: str) -> None:
    """A client of `for_client()` takes the way through the proxies that the library's own client takes."""
    module = pytest.importorskip(library)
    transport: Any = getattr(import_module(f"asgi_trace.{library}"), "TraceTransport")  # noqa: B009
    for name, value in {
        "HTTP_PROXY": "http://p.test:1",
        "ALL_PROXY": "http://q.test:2",
        "NO_PROXY": "localhost,.a.test,b.test,10.0.0.1,::1",
    }.items():
        monkeypatch.setenv(name, value)

    def ways(client: Any) -> list[str]:
        urls = ["http://localhost", "https://x.a.test", "http://a.test", "http://b.test", "https://c.b.test"]
        urls += ["http://10.0.0.1", "http://[::1]:8", "http://far.test", "https://far.test", "http://cb.test"]
        found = []
        for url in urls:
            chosen = client._transport_for_url(module.URL(url))
            chosen = getattr(chosen, "_transport", chosen)
            proxy = getattr(chosen._pool, "_proxy_url", None)
            found.append("direct" if proxy is None else f"{proxy.host!r}:{proxy.port}")
        return found

    with module.Client() as plain, module.Client(**transport.for_client()) as traced:
        assert ways(plain) == ways(traced)
        assert len(set(ways(traced))) == 3


def test_for_client_means_what_the_client_means(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of one's own replaces those of the environment, which count only when the environment is trusted."""
    monkeypatch.setenv("HTTP_PROXY", "http://p.test")
    assert list(TraceTransport.for_client()["mounts"]) == ["http://"]
    assert list(TraceTransport.for_client(proxy="http://q.test")["mounts"]) == ["all://"]
    assert TraceTransport.for_client(trust_env=False)["mounts"] == {}
    own = Answer()
    arguments = TraceTransport.for_client(mounts={"all://": own}, limits=httpx.Limits(max_connections=1))
    assert arguments["mounts"]["all://"]._transport is own
    with pytest.raises(TypeError, match="colour"):
        TraceTransport.for_client(colour="red")


def test_every_transport_of_a_client_has_the_clients_settings(local: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """`verify`, `cert`, `trust_env`, `http1`, `http2` and `limits` reach the main transport and that of every proxy."""
    monkeypatch.setenv("HTTP_PROXY", "http://p.test")
    monkeypatch.setenv("NO_PROXY", "direct.test")
    built: list[dict[str, Any]] = []

    def keep(self: object, **settings: Any) -> None:
        built.append(settings)

    library = local.Transport._library
    network = type("Network", (library.network,), {"__init__": keep})
    monkeypatch.setattr(local.Transport, "_library", library._replace(network=network))
    limits = local.library.Limits(max_connections=1)
    given = {"verify": "ca.pem", "cert": "me.pem", "http1": False, "http2": True, "limits": limits}
    usual = {"verify": True, "cert": None, "trust_env": True, "http1": True, "http2": False}
    for arguments, proxies, expected in (
        ({}, ["http://p.test"], usual),
        (given, ["http://p.test"], {**usual, **given}),
        ({**given, "trust_env": False, "proxy": "http://q.test"}, ["http://q.test"], {**given, "trust_env": False}),
    ):
        built.clear()
        mounts = local.Transport.for_client(**arguments)["mounts"]
        assert built == [*({**expected, "proxy": proxy} for proxy in proxies), expected]
        assert mounts.get("all://*direct.test") is None  # the client's main transport, and its connections


def test_the_proxies_of_the_environment_are_kept(
    kit: Kit, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`for_client()` keeps the proxies of the environment and their exceptions, and traces what goes through them."""
    monkeypatch.setenv("HTTP_PROXY", kit.base)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,.direct.test")

    async def scenario(kit: Kit) -> None:
        arguments = kit.Transport.for_client(http1=kit.version == "1.1", http2=kit.version == "2")
        transport = arguments.pop("transport")
        assert list(arguments["mounts"]) == ["http://", "all://127.0.0.1", "all://*.direct.test"]
        async with kit.client(transport, **arguments) as client:
            await kit.call(client.get(f"{kit.base}/chunks"))
            if kit.version == "1.1":
                await kit.call(client.get("http://far.test/chunks"))
        near, *far = spans
        assert attributes_of(near)["server.port"] == int(kit.base.rpartition(":")[2])
        for span in far:
            assert attributes_of(span)["server.address"] == "far.test"
            assert attributes_of(span)["server.port"] == 80
            assert attributes_of(span)["network.peer.port"] == int(kit.base.rpartition(":")[2])
            assert attributes_of(span)["http.response.status_code"] == 200

    kit.run(scenario)


def test_mounts_are_wrapped_once(local: Kit, spans: CapturedSpans) -> None:
    """`for_client()` traces each mount with the same options, leaves None and what is traced already as they are."""

    async def scenario(kit: Kit) -> None:
        inner = kit.transport_of(lambda request: kit.library.Response(200))
        traced_already = kit.Transport(inner)
        mounts = {"all://a.test": inner, "all://b.test": None, "all://c.test": traced_already}
        arguments = kit.Transport.for_client(transport=inner, mounts=mounts, redact="badge")
        assert arguments["mounts"]["all://b.test"] is None
        assert arguments["mounts"]["all://c.test"] is traced_already
        again = kit.Transport.for_client(**arguments)
        assert again == arguments
        async with kit.client(**arguments) as client:
            for host in ("a", "b", "c", "d"):
                await kit.call(client.get(f"http://{host}.test/?badge=1"))
        assert [attributes_of(span)["url.full"] for span in spans] == [
            "http://a.test/?badge=REDACTED",
            "http://b.test/?badge=REDACTED",
            "http://c.test/?badge=1",
            "http://d.test/?badge=REDACTED",
        ]

    local.run(scenario)
