"""Nothing is left behind: no memory, no cycle, no context, no complaint, whatever way the requests end."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.context import get_current
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler
from opentelemetry.trace import INVALID_SPAN

from asgi_trace import TraceMiddleware, server_span
from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send

from ..support.asgi import (
    CONNECT,
    GONE,
    OK,
    REQUEST,
    TRACEPARENT,
    body,
    http_scope,
    responding,
    serve,
    start,
    websocket_scope,
)


class Gone(Exception):
    """Known by its name as a client that left."""


Gone.__name__ = "ClientDisconnect"


async def waits_for_the_client(scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())
    await send(body(b"x", True))
    assert await receive() == GONE
    raise asyncio.CancelledError


def failing_send(message: Message) -> None:
    if message["type"] == "http.response.body":
        raise ConnectionResetError


def fresh(error: type[BaseException]) -> ASGIApp:
    """Raises a new exception each time: one object raised again and again would collect tracebacks by itself."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error("x")

    return app


def fresh_after(error: type[BaseException], *messages: Message) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await responding(*messages)(scope, receive, send)
        raise error("x")

    return app


ACCEPT: Message = {"type": "websocket.accept"}
NUMBERS = iter(range(10**9))
WAYS: dict[str, tuple[ASGIApp, Callable[[], Any], list[Any], Any]] = {
    "ok": (OK, http_scope, [REQUEST], None),
    "a stream": (responding(start(), *[body(b"x", True)] * 20, body()), http_scope, [], None),
    "an error": (fresh(ValueError), http_scope, [], None),
    "an error in the middle": (fresh_after(ValueError, start(), body(b"x", True)), http_scope, [], None),
    "a 500 and its error": (fresh_after(ValueError, start(500), body()), http_scope, [], None),
    "a failed background task": (fresh_after(ValueError, start(), body()), http_scope, [], None),
    "cancelled": (fresh(asyncio.CancelledError), http_scope, [], None),
    "never answered": (responding(), http_scope, [], None),
    "client gone": (waits_for_the_client, http_scope, [GONE], None),
    "client gone, said by exception": (fresh(Gone), http_scope, [], None),
    "a failed send": (OK, http_scope, [], failing_send),
    "a socket": (responding(ACCEPT, {"type": "websocket.close"}), websocket_scope, [CONNECT], None),
    "a failed socket": (fresh_after(ValueError, ACCEPT), websocket_scope, [CONNECT], None),
    "a malformed scope": (OK, lambda: http_scope(headers=[5], client=5), [], None),
    "a caller": (OK, lambda: http_scope(headers=[(b"traceparent", TRACEPARENT)]), [], None),
    "every host another": (OK, lambda: http_scope(headers=[(b"host", str(next(NUMBERS)).encode())]), [], None),
    "every peer another": (OK, lambda: http_scope(client=(f"10.0.{next(NUMBERS) % 256}.1", 1)), [], None),
}
ALL_METRICS = ("http.server.request.duration", "http.server.active_requests", "http.server.response.body.size")


def middleware(app: ASGIApp, sampler: Sampler, *, measured: bool) -> TraceMiddleware:
    options: dict[str, Any] = {}
    if measured:
        options["meter_provider"] = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
        options["metrics"] = ALL_METRICS
    return TraceMiddleware(
        app,
        tracer_provider=TracerProvider(sampler=sampler, shutdown_on_exit=False),
        trust="10.0.0.0/8",
        trusted_proxies="10.0.0.0/8",
        response_header="x-trace-id",
        capture_request_headers="x-id",
        **options,
    )


def grown(work: Callable[[int], None], count: int) -> int:
    """By how many memory blocks Python grows over a quarter of `count` rounds, after as many as a warm-up needs.

    The least of the four quarters: what requests leave behind grows in each of them, and what the interpreter, its
    caches or threads of other tests allocate once does not.
    """
    work(300)
    growth = []
    for _ in range(4):
        gc.collect()
        before = sys.getallocatedblocks()
        work(count // 4)
        gc.collect()
        growth.append(sys.getallocatedblocks() - before)
    return min(growth)


@pytest.mark.parametrize("measured", [False, True], ids=["spans", "spans and metrics"])
def test_twenty_thousand_requests_leave_no_memory_behind(measured: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Every way to end, again and again, thousands aborted among them: nothing stays allocated."""
    caplog.set_level(logging.CRITICAL, "asgi_trace")
    ways = [(middleware(app, ParentBased(ALWAYS_ON), measured=measured), *rest) for app, *rest in WAYS.values()]

    def work(count: int) -> None:
        async def main() -> None:
            for _ in range(count):
                for traced, scope, script, on_send in ways:
                    await serve(traced, scope(), script, on_send)

        asyncio.run(main())

    assert grown(work, 20_000 // len(ways)) < 75


def test_unsampled_requests_leave_no_memory_behind() -> None:
    """Nor do twenty thousand requests that nobody records."""
    traced = middleware(OK, ALWAYS_OFF, measured=False)

    def work(count: int) -> None:
        async def main() -> None:
            for _ in range(count):
                await serve(traced, http_scope())

        asyncio.run(main())

    assert grown(work, 20_000) < 75


def test_this_package_itself_holds_nothing() -> None:
    """No allocation made in the package's own files is still there when the requests are over."""
    ways = [(middleware(app, ParentBased(ALWAYS_ON), measured=True), *rest) for app, *rest in WAYS.values()]

    async def main(count: int) -> None:
        for _ in range(count):
            for traced, scope, script, on_send in ways:
                await serve(traced, scope(), script, on_send)

    ours = tracemalloc.Filter(True, "*/asgi_trace/*")
    asyncio.run(main(50))
    gc.collect()
    tracemalloc.start()
    asyncio.run(main(100))
    gc.collect()
    snapshot = tracemalloc.take_snapshot().filter_traces([ours])
    tracemalloc.stop()

    # 100 new hosts and peers are remembered by caches that are bounded, the counters of the metrics are created once.
    assert sum(trace.size for trace in snapshot.traces) < 200_000


def test_a_request_is_no_cycle() -> None:
    """What a request needs is freed when it is over, without waiting for the garbage collector."""
    spans: list[weakref.ref[object]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        spans.append(weakref.ref(server_span()))
        await OK(scope, receive, send)

    traced = middleware(app, ALWAYS_ON, measured=True)

    async def main() -> None:
        for _ in range(100):
            await serve(traced, http_scope())

    gc.collect()
    gc.disable()
    try:
        asyncio.run(main())
        alive = [span for span in spans if span() is not None]
    finally:
        gc.enable()

    assert len(spans) == 100
    assert alive == []


@pytest.mark.parametrize("way", WAYS)
def test_spans_and_applications_are_freed_whatever_the_ending(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """After a collection no span, no scope and no application is alive, and the context is as it was."""
    caplog.set_level(logging.CRITICAL, "asgi_trace")  # a record that is kept would hold the traceback
    app, scope, script, on_send = WAYS[way]

    class Watched:
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            references.append(weakref.ref(server_span()))
            await app(scope, receive, send)

    references: list[weakref.ref[Any]] = []
    watched = Watched()
    references.append(weakref.ref(watched))

    async def main(traced: ASGIApp) -> None:
        before = get_current()
        for _ in range(3):
            await serve(traced, scope(), script, on_send)
        assert get_current() is before

    asyncio.run(main(middleware(watched, ALWAYS_ON, measured=False)))
    del watched
    gc.collect()

    assert [reference() for reference in references if reference() not in (None, INVALID_SPAN)] == []


def test_nobody_complains_about_contexts(caplog: pytest.LogCaptureFixture) -> None:
    """No "Failed to detach context", no "created in a different Context": not in tasks, not after a cancellation."""
    caplog.set_level(logging.DEBUG, "opentelemetry")
    caplog.set_level(logging.DEBUG, "asyncio")

    async def main() -> None:
        for name, (app, scope, script, on_send) in WAYS.items():
            if name == "a malformed scope":
                continue
            traced = middleware(app, ALWAYS_ON, measured=True)
            await asyncio.create_task(_quiet(serve(traced, scope(), script, on_send)))
            task = asyncio.create_task(_quiet(serve(traced, scope(), [10], on_send)))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

    async def _quiet(work: Any) -> None:
        await work

    asyncio.run(main())
    gc.collect()

    said = [record.getMessage() for record in caplog.records if record.name.startswith(("opentelemetry", "asgi_trace"))]
    assert said == []
