"""A transport of httpx in a client of httpx2, or the reverse: a TypeError that says what to import, no more."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from asgi_trace.testing import CapturedSpans

from ..support.http_clients import Kit
from ..support.transports import parent, send_through, within

httpx = pytest.importorskip("httpx")
httpx2 = pytest.importorskip("httpx2")


def other(kit: Kit) -> Kit:
    """The same kind of client of the other library."""
    return Kit("httpx" if kit.name == "httpx2" else "httpx2", kit.is_async)


def advice(kit: Kit) -> str:
    """What a message must say to be of help to a user of `kit`'s library: the import to write."""
    return rf"from asgi_trace\.{kit.name} import {'Async' if kit.is_async else ''}TraceTransport"


async def _gets(kit: Kit, client: Any) -> None:
    await kit.call(client.get(kit.base))


async def _streams(kit: Kit, client: Any) -> None:
    async with kit.stream(client, "POST", kit.base, content=b"abc"):
        pass


async def _sends(kit: Kit, client: Any) -> None:
    await kit.call(client.send(client.build_request("GET", kit.base), stream=True))


async def _redirects(kit: Kit, client: Any) -> None:
    await kit.call(client.get(kit.base, follow_redirects=True, auth=("user", "secret")))


@pytest.mark.parametrize("use", [_gets, _streams, _sends, _redirects])
@pytest.mark.parametrize("options", [{}, {"exclude": "svc"}, {"propagate_to": ()}])
def test_a_client_of_the_other_library_fails_at_its_first_send(
    local: Kit,
    spans: CapturedSpans,
    meter: tuple[MeterProvider, InMemoryMetricReader],
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    use: Callable[[Kit, Any], Any],
) -> None:
    """Nothing is on the wire, recorded or logged before the TypeError, whether the call would be traced or not."""
    provider, reader = meter

    async def scenario(kit: Kit) -> None:
        sent: list[Any] = []
        theirs = other(kit)
        transport = kit.Transport(kit.transport_of(sent.append), meter_provider=provider, **options)
        async with within(parent(1)):
            before = otel_context.get_current()
            for _ in range(2):
                with pytest.raises(TypeError, match=advice(theirs)):
                    await use(theirs, theirs.Client(transport=transport))
            assert otel_context.get_current() is before
        assert sent == []
        assert len(spans) == 0
        assert reader.get_metrics_data() is None

    with caplog.at_level(logging.WARNING, logger="asgi_trace"):
        local.run(scenario)
    assert [record for record in caplog.records if record.name == "asgi_trace"] == []


def test_a_mount_or_a_class_of_ones_own_of_the_other_library_fails_as_well(local: Kit, spans: CapturedSpans) -> None:
    """A mount is a transport like any other, and a subclass of ours has the advice for ours."""

    async def scenario(kit: Kit) -> None:
        theirs = other(kit)
        kind = type("Own", (kit.Transport,), {})
        mounts = {"all://svc.test": kind(kit.transport_of(lambda request: None))}
        with pytest.raises(TypeError, match=advice(theirs)):
            await _gets(theirs, theirs.Client(mounts=mounts))
        request = theirs.library.Request("GET", kit.base)
        raw = list(request.headers.raw)
        with pytest.raises(TypeError, match=advice(theirs)):
            await send_through(kit, kit.Transport(), request)
        assert (request.headers.raw, request.extensions) == (raw, {})
        assert len(spans) == 0

    local.run(scenario)


INNER: dict[str, Callable[[Kit], Any]] = {
    "network": lambda kit: kit.Network(),
    "the class itself": lambda kit: kit.Network,
    "mock": lambda kit: kit.library.MockTransport(lambda request: None),
    "application": lambda kit: (
        kit.library.ASGITransport(lambda scope, receive, send: None)
        if kit.is_async
        else kit.library.WSGITransport(lambda environ, start: [])
    ),
    "one's own": lambda kit: kit.transport_of(lambda request: None),
    "ours": lambda kit: kit.Transport(),
    "ours around another": lambda kit: kit.Transport(kit.transport_of(lambda request: None)),
}


@pytest.mark.parametrize("inner", list(INNER))
def test_an_inner_transport_of_the_other_library_is_refused(local: Kit, inner: str) -> None:
    """It raises at construction, also in `for_client()`, whether it is the main transport or a mount."""
    transport = INNER[inner](other(local))
    mounts: dict[str, Any] = {"all://svc.test": transport}
    with pytest.raises(TypeError, match=advice(other(local))):
        local.Transport(transport)
    for arguments in ({"transport": transport}, {"mounts": mounts}):
        with pytest.raises(TypeError, match=advice(other(local))):
            local.Transport.for_client(**arguments)


def test_a_transport_of_the_other_kind_is_no_mount(local: Kit) -> None:
    """`for_client()` takes no traced transport of an async client for a sync one, nor the reverse."""
    across = Kit(local.name, not local.is_async)
    with pytest.raises(TypeError, match=r"handle_(async_)?request\(\)"):
        local.Transport.for_client(mounts={"all://": across.Transport()})


def test_what_is_of_both_libraries_or_of_none_is_taken(local: Kit, spans: CapturedSpans) -> None:
    """A transport that inherits from both libraries, and one that inherits from none, work inside of either."""

    async def scenario(kit: Kit) -> None:
        def handle_request(self: Any, request: Any) -> Any:
            return kit.library.Response(200)

        async def handle_async_request(self: Any, request: Any) -> Any:
            return kit.library.Response(200)

        methods = {"handle_request": handle_request, "handle_async_request": handle_async_request}
        both = (kit.Base, other(kit).Base)
        for bases in (both, both[::-1], ()):
            inner = type("Inner", bases, dict(methods))()
            await send_through(kit, kit.Transport(inner), kit.library.Request("GET", kit.base))
        assert len(spans) == 3

    local.run(scenario)


def test_a_request_of_ones_own_class_is_taken(local: Kit, spans: CapturedSpans) -> None:
    """A subclass of the library's request is sent like any other."""

    async def scenario(kit: Kit) -> None:
        own = type("Own", (kit.library.Request,), {})
        transport = kit.Transport(kit.transport_of(lambda request: kit.library.Response(200)))
        await send_through(kit, transport, own("GET", kit.base))
        assert len(spans) == 1

    local.run(scenario)


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_the_advice_is_a_line_that_works(library: str) -> None:
    """What the messages say to import is there."""
    module = import_module(f"asgi_trace.{library}")
    assert module.TraceTransport._library.transport == "TraceTransport"
    assert module.AsyncTraceTransport._library.transport == "AsyncTraceTransport"
