"""Asks real frameworks for real routes: in process, under uvicorn, and at random."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from typing import Any, TypeAlias, TypeVar

import httpx
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import StatusCode, get_current_span

from asgi_trace import TraceMiddleware
from asgi_trace._types import Message
from asgi_trace.testing import CapturedSpans

from .asgi import CONNECT, REQUEST, Served, drive, http_scope, serve, websocket_scope
from .servers import SECONDS, uvicorn_serving

WS = "WEBSOCKET"
"""The method of a case that opens a socket."""

Case: TypeAlias = tuple[str, str, int, "str | None"]
"""Path, method, the status that it is answered with (101 or 403 for a socket), and the route."""

Failure: TypeAlias = tuple[str, str, int, "str | None", "str | None"]
"""Path, method, status, and of the span error type and description; without a description it has no exception."""

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
RANDOM_REQUESTS = pytest.mark.parametrize("count", [1_000, pytest.param(10_000, marks=pytest.mark.campaign)])

T = TypeVar("T")


def traced(app: Any) -> TraceMiddleware:
    """The application in the middleware; frameworks have types of their own for ASGI."""
    return TraceMiddleware(app)


def starlette_names_its_route() -> bool:
    """Does this version of Starlette put the route that it matched into the scope? Older ones put the endpoint only."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def endpoint(request: Any) -> PlainTextResponse:
        return PlainTextResponse("x")

    return "route" in drive(Starlette(routes=[Route("/", endpoint)])).scope


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run in an event loop of its own."""

    async def main() -> T:
        return await asyncio.wait_for(work, 120)

    return asyncio.run(main())


async def get(
    app: Any, path: str, method: str = "GET", *, root_path: str = "", host: str = "shop.test", **keys: Any
) -> Served:
    """One request, or a socket whose client says "hello" and waits for the close."""
    keys |= {"root_path": root_path, "headers": [(b"host", host.encode())]}
    if method == WS:
        closed = threading.Event()
        return await serve(app, websocket_scope(path, **keys), _client(closed), lambda message: _see(message, closed))
    return await serve(app, http_scope(path, method, **keys), (REQUEST,))


def fetch(app: Any, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    """The response to one request in an event loop of its own; an exception that escapes is answered with 500."""

    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            return await client.request(method, path, headers=headers)

    return run(main())


def _client(closed: threading.Event) -> Iterator[Message | float]:
    yield CONNECT
    yield {"type": "websocket.receive", "text": "hello"}
    for _ in range(int(SECONDS * 1000)):
        if closed.is_set():
            break
        yield 0.001
    yield {"type": "websocket.disconnect", "code": 1000}


def _see(message: Message, closed: threading.Event) -> None:
    if message["type"] == "websocket.close":
        closed.set()


def status_of(served: Served) -> int | None:
    """The response's status; of a socket 101 when it was accepted, 403 when it was refused."""
    for message in served.messages:
        if "status" in message:
            return int(message["status"])
        if message["type"] in ("websocket.accept", "websocket.close"):
            return 101 if message["type"] == "websocket.accept" else 403
    return None


def ask(app: Any, path: str, method: str = "GET", **options: str) -> int | None:
    """The status of one request in an event loop of its own."""
    return status_of(run(get(app, path, method, **options)))


def described(span: ReadableSpan) -> tuple[str, object]:
    """A span's name and route."""
    return span.name, (span.attributes or {}).get("http.route")


def expected(method: str, route: str | None) -> tuple[str, str | None]:
    """Name and route of the span of a request with a known method."""
    method = "GET" if method == WS else method
    return (f"{method} {route}" if route else method), route


def name_and_route(spans: CapturedSpans) -> tuple[str, object]:
    """Name and route of the one SERVER span."""
    return described(spans.server)


def routes(spans: CapturedSpans) -> list[object]:
    """The route of each span."""
    return [described(span)[1] for span in spans]


def check(
    app: Any,
    spans: CapturedSpans,
    cases: Sequence[Case],
    *,
    prefix: str = "",
    template: str = "",
    root_path: str = "",
    start: Any = None,
) -> None:
    """Ask for each case below `prefix`, where routes have `template` in front. `start` is to be started before."""

    async def ask_all() -> list[int | None]:
        async with running(start) if start is not None else nullcontext():
            return [
                status_of(await get(app, prefix + path, method, root_path=root_path)) for path, method, _, _ in cases
            ]

    statuses = run(ask_all())
    seen = [
        (path, method, status, *described(span))
        for (path, method, _, _), status, span in zip(cases, statuses, spans, strict=True)
    ]
    assert seen == [
        (path, method, status, *expected(method, route and template + route)) for path, method, status, route in cases
    ]


def check_under_uvicorn(app: Any, spans: CapturedSpans, cases: Sequence[Case]) -> None:
    """Ask for each case over the wire; a socket's client closes at once."""
    client = pytest.importorskip("websockets.sync.client")
    with uvicorn_serving(traced(app), lifespan="auto", ws="websockets-sansio") as server:
        for path, method, status, _ in cases:
            if method == WS:
                with client.connect(f"ws://127.0.0.1:{server.port}{path}", proxy=None):
                    assert status == 101
            else:
                assert server.get(path).status == status
    assert [described(span) for span in spans] == [expected(method, route) for _, method, _, route in cases]


def check_failures(
    app: Any, spans: CapturedSpans, failures: Sequence[Failure], *, plain: Any = None, start: Any = None
) -> None:
    """Ask for each: the span says why, once, and the answer is that of the application that nobody traces (`plain`)."""

    async def ask_all(application: Any, lifespan: Any) -> list[Served]:
        async with running(lifespan) if lifespan is not None else nullcontext():
            return [await get(application, path, method) for path, method, *_ in failures]

    served = run(ask_all(traced(app), start))
    untraced = run(ask_all(app if plain is None else plain, None if start is None else plain or start))
    seen = [
        (path, method, status_of(answer), *_explained(span))
        for (path, method, *_), answer, span in zip(failures, served, spans, strict=True)
    ]
    assert seen == [
        (path, method, status, error, message, [] if message is None else [(error, message)])
        for path, method, status, error, message in failures
    ]
    assert [_received(answer) for answer in served] == [_received(answer) for answer in untraced]
    assert [answer.exception for answer in served] == [None] * len(failures)


def _received(served: Served) -> list[Message]:
    """The messages that reached the server; Sanic's headers are an iterator."""
    return [{key: list(value) if key == "headers" else value for key, value in m.items()} for m in served.messages]


def _explained(span: ReadableSpan) -> tuple[object, str | None, list[tuple[object, object]]]:
    """Error type, description and recorded exceptions of a span, whose status must fit."""
    error = (span.attributes or {}).get("error.type")
    assert span.status.status_code is (StatusCode.UNSET if error is None else StatusCode.ERROR)
    events = [event.attributes or {} for event in span.events]
    return error, span.status.description, [(e["exception.type"], e["exception.message"]) for e in events]


@asynccontextmanager
async def running(app: Any) -> AsyncIterator[None]:
    """The application between its startup and its shutdown."""
    incoming: asyncio.Queue[Message] = asyncio.Queue()
    outgoing: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    task = asyncio.ensure_future(app(scope, incoming.get, outgoing.put))
    for phase in ("startup", "shutdown"):
        incoming.put_nowait({"type": f"lifespan.{phase}"})
        assert (await asyncio.wait_for(outgoing.get(), SECONDS))["type"] == f"lifespan.{phase}.complete"
        if phase == "startup":
            yield
    await task


class Places:
    """Notes which span is current in which place of an application."""

    def __init__(self) -> None:
        self._span_ids: dict[str, int] = {}
        self._noted = threading.Condition()

    def note(self, place: str) -> None:
        """We are here now."""
        with self._noted:
            self._span_ids[place] = get_current_span().get_span_context().span_id
            self._noted.notify_all()

    async def wait(self, *places: str) -> None:
        """Wait until all of them have been noted."""
        while not self._span_ids.keys() >= set(places):
            await asyncio.sleep(0.001)

    def __contains__(self, place: str) -> bool:
        return place in self._span_ids

    def inside(self, span: ReadableSpan) -> set[str]:
        """The places where this span was current; raises AssertionError when another was, or none, in any."""
        outside = [place for place, span_id in self._span_ids.items() if span_id != span.context.span_id]
        assert not outside
        return set(self._span_ids)

    def clear(self) -> None:
        """Forget the places so far."""
        self._span_ids.clear()


def check_places(
    app: Any, spans: CapturedSpans, places: Places, requests: dict[tuple[str, str], set[str]], *, start: Any = None
) -> None:
    """Each request, `(path, method)`, goes through these places, and in all of them its span is the current one."""

    async def ask_all() -> None:
        async with running(start) if start is not None else nullcontext():
            for (path, method), through in requests.items():
                places.clear()
                spans.clear()
                await get(traced(app), path, method)
                await places.wait(*through)  # what the framework runs after the call
                assert places.inside(spans.server) == through

    run(ask_all())


def check_cardinality(
    app: Any, spans: CapturedSpans, count: int, cases: Iterable[Case], *, most: int, start: Any = None, host: str = ""
) -> None:
    """Requests at random, made from the cases, have at most so many routes, and names of them and of methods alone."""

    async def flood() -> None:
        async with running(start) if start is not None else nullcontext():
            for method, path in _random_requests(count, [path for path, *_ in cases]):
                await get(traced(app), path, method, host=host)

    run(flood())
    assert len(spans) == count
    found = {route for route in routes(spans) if route is not None}
    names = {span.name for span in spans}
    assert len(found) <= most, found
    assert len(names) <= (most + 1) * (len(METHODS) + 1)
    assert names <= {f"{method}{after}" for method in (*METHODS, "HTTP") for after in ("", *(f" {r}" for r in found))}


def _random_requests(count: int, paths: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Random methods and paths: the given ones with their parts replaced, lengthened and mixed."""
    chance = random.Random(count)
    known = [path.strip("/").split("/") for path in paths]
    methods = (*METHODS, "BREW", "get", "PROPFIND")
    for number in range(count):
        parts = list(chance.choice(known))
        for _ in range(chance.randrange(4)):
            place = chance.randrange(len(parts) + 1)
            new = chance.choice([f"{number}", f"user-{number}", f"%C3%A9{number}", chance.choice(chance.choice(known))])
            if chance.random() < 0.6 and place < len(parts):
                parts[place] = new
            else:
                parts.insert(place, new)
        yield chance.choice(methods), "/" + "/".join(parts) + chance.choice(["", "", "", "/", "//"])
