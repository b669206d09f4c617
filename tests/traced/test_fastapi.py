"""`traced` under FastAPI's injection: endpoints, dependencies of every kind, background tasks, WebSockets."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI, Header, HTTPException, Query, WebSocket
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from asgi_trace import TraceMiddleware, server_span, traced
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import CONNECT, attributes_of, drive, websocket_scope
from ..support.frameworks import fetch
from ..support.generators import current

Seen = dict[str, int]
seen: Seen = {}


def note(name: str) -> None:
    """Remember which span is current at a place."""
    seen[name] = current()


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


async def an_async_yield(tenant: Annotated[str, Header()] = "kiosk") -> AsyncIterator[str]:
    note("set up")
    try:
        yield f"async session of {tenant}"
    finally:
        note("tear down")


def a_sync_yield(tenant: Annotated[str, Header()] = "kiosk") -> Iterator[str]:
    note("set up")
    threads.append(threading.get_ident())
    try:
        yield f"session of {tenant}"
    finally:
        threads.append(threading.get_ident())
        note("tear down")


async def a_coroutine(tenant: Annotated[str, Header()] = "kiosk") -> str:
    note("set up")
    return f"awaited for {tenant}"


def a_function(tenant: Annotated[str, Header()] = "kiosk") -> str:
    note("set up")
    return f"computed for {tenant}"


class Checker:
    """A dependency that is an object."""

    def __init__(self, answer: str) -> None:
        self.answer = answer

    def __call__(self, tenant: Annotated[str, Header()] = "kiosk") -> str:
        note("set up")
        return f"{self.answer} for {tenant}"


class AsyncChecker(Checker):
    """One whose call is awaited."""

    async def __call__(self, tenant: Annotated[str, Header()] = "kiosk") -> str:  # type: ignore[override]
        note("set up")
        return f"{self.answer} for {tenant}"


class Settings:
    """A dependency that is a class."""

    def __init__(self, tenant: Annotated[str, Header()] = "kiosk") -> None:
        note("set up")
        self.tenant = tenant

    def __str__(self) -> str:
        return f"settings of {self.tenant}"


threads: list[int] = []
DEPENDENCIES: dict[str, tuple[Callable[..., Any], str]] = {
    "async yield": (an_async_yield, "async session of"),
    "sync yield": (a_sync_yield, "session of"),
    "coroutine": (a_coroutine, "awaited for"),
    "function": (a_function, "computed for"),
    "object": (Checker("checked"), "checked for"),
    "async object": (AsyncChecker("checked"), "checked for"),
    "class": (Settings, "settings of"),
}


def application(dependency: Callable[..., Any], *, traced_endpoint: bool = False) -> FastAPI:
    """An application whose endpoint depends on `dependency` and opens a span of its own."""
    options: Any = {"telemetry": {"tracing": False}} if "telemetry" in FastAPI.__init__.__annotations__ else {}
    app = FastAPI(**options)
    app.add_middleware(TraceMiddleware)

    @traced("endpoint")
    def inside() -> None:
        note("endpoint")

    async def read(order_id: int, value: object = Depends(dependency), size: int = Query(1)) -> dict[str, Any]:
        inside()
        if order_id == 0:
            raise HTTPException(404)
        if order_id < 0:
            raise ValueError("no stock")
        return {"order": order_id, "value": str(value), "size": size}

    app.get("/orders/{order_id}")(traced(read) if traced_endpoint else read)
    return app


def named(spans: CapturedSpans) -> dict[str, ReadableSpan]:
    found = {span.name: span for span in spans}
    assert len(found) == len(spans)
    return found


@pytest.mark.parametrize("kind", DEPENDENCIES)
def test_a_decorated_dependency_is_one_span(kind: str, spans: CapturedSpans) -> None:
    """It is injected as before, its parameters validated, and its one span covers set-up and tear-down."""
    dependency, answer = DEPENDENCIES[kind]
    response = fetch(application(traced("it")(dependency)), "/orders/7?size=2", tenant="corner")
    assert response.json() == {"order": 7, "value": f"{answer} corner", "size": 2}

    it, endpoint = named(spans)["it"], named(spans)["endpoint"]
    assert seen["set up"] == it.context.span_id
    if "yield" in kind:
        assert seen["tear down"] == it.context.span_id
        assert it.end_time is not None
        assert endpoint.end_time is not None
        assert it.end_time >= endpoint.end_time
    assert it in spans.children_of(spans.server)
    if kind == "async yield":  # current for the endpoint as well
        assert spans.children_of(it) == [endpoint]
    else:
        assert set(spans.children_of(spans.server)) == {it, endpoint}
    assert seen["endpoint"] == endpoint.context.span_id


def test_a_dependency_may_be_decorated_where_it_is_named(spans: CapturedSpans) -> None:
    """`Depends(traced(database))`, without touching its definition."""
    app = FastAPI()

    @app.get("/")
    async def read(session: str = Depends(traced(an_async_yield))) -> str:
        return session

    assert fetch(app, "/", tenant="corner").json() == "async session of corner"
    assert attributes_of(named(spans)["an_async_yield"]) == {"code.function.name": f"{__name__}.an_async_yield"}


def test_the_halves_of_a_sync_dependency_may_run_in_two_threads(spans: CapturedSpans) -> None:
    """Each half has the span, neither detaches the context of the other, and the endpoint's is not touched."""
    threads.clear()
    app = application(traced("it")(a_sync_yield))
    for _ in range(20):
        fetch(app, "/orders/7")
    assert len(threads) == 40
    its = [span for span in spans if span.name == "it"]
    assert len(its) == 20
    assert all(span.parent is not None for span in its)


@pytest.mark.parametrize("kind", ["async yield", "sync yield", "coroutine", "function", "object", "class"])
def test_a_wrong_parameter_of_a_decorated_dependency_is_a_422(kind: str, spans: CapturedSpans) -> None:
    """The signature is the original's, so FastAPI refuses what it refused, before the function is called."""
    dependency, _ = DEPENDENCIES[kind]
    app = application(traced("it")(dependency))
    assert fetch(app, "/orders/seven").status_code == 422
    parameters = app.openapi()["paths"]["/orders/{order_id}"]["get"]["parameters"]
    assert {parameter["name"] for parameter in parameters} == {"order_id", "size", "tenant"}


@pytest.mark.parametrize("kind", ["async yield", "sync yield"])
@pytest.mark.parametrize(("order", "status", "error"), [(0, 404, "HTTPException"), (-1, 500, "ValueError")])
def test_an_exception_of_the_endpoint_passes_the_dependency(
    kind: str, order: int, status: int, error: str, spans: CapturedSpans
) -> None:
    """It left the dependency's function, so it is recorded there, also where it becomes a 404 that is no error."""
    app = application(traced("it")(DEPENDENCIES[kind][0]))
    assert fetch(app, f"/orders/{order}").status_code == status
    it = named(spans)["it"]
    assert str(attributes_of(it)["error.type"]).endswith(error)
    assert [event.name for event in it.events] == ["exception"]
    assert attributes_of(spans.server).get("error.type") == ("ValueError" if status == 500 else None)
    assert len(spans.server.events) == (status == 500)


def test_a_tear_down_that_raises_is_on_the_dependency(spans: CapturedSpans) -> None:
    """What the second half raises is recorded on its span, whatever the response has become by then."""

    @traced("it")
    async def broken() -> AsyncIterator[int]:
        yield 7
        raise RuntimeError("connection lost")

    @traced("sync it")
    def sync_broken() -> Iterator[int]:
        yield 7
        raise RuntimeError("connection lost")

    for dependency in (broken, sync_broken):
        fetch(application(dependency), "/orders/7")
    for name in ("it", "sync it"):
        [it] = [span for span in spans if span.name == name]
        assert attributes_of(it)["error.type"] == "RuntimeError"
        assert len(it.events) == 1


def test_dependencies_of_dependencies_nest(spans: CapturedSpans) -> None:
    """An async `yield` dependency is the parent of what is set up after it; a shared one is called once."""

    @traced
    async def database() -> AsyncIterator[str]:
        yield "database"

    @traced
    def audit(database: str = Depends(database)) -> Iterator[str]:
        yield f"audit in {database}"

    @traced
    async def session(database: str = Depends(database)) -> AsyncIterator[str]:
        yield f"session in {database}"

    app = FastAPI()

    @app.get("/")
    @traced
    async def read(audit: str = Depends(audit), session: str = Depends(session)) -> list[str]:
        return [audit, session]

    app.add_middleware(TraceMiddleware)
    assert fetch(app, "/").json() == ["audit in database", "session in database"]
    here = "test_dependencies_of_dependencies_nest."
    found = {span.name.removeprefix(here): span for span in spans if span.kind is SpanKind.INTERNAL}
    assert found.keys() == {"database", "audit", "session", "read"}
    assert {span.name for span in spans.children_of(found["database"])} == {f"{here}audit", f"{here}session"}
    assert spans.children_of(found["session"]) == [found["read"]]


@pytest.mark.skipif("scope" not in inspect.signature(Depends).parameters, reason="this FastAPI has one scope only")
def test_dependencies_of_two_scopes_leave_the_requests_span(spans: CapturedSpans) -> None:
    """One that ends with the endpoint is left before one that was entered after it; then the SERVER span is current."""
    scoped: Any = Depends
    left: list[int] = []

    async def session() -> AsyncIterator[int]:
        yield current()

    app = FastAPI()

    @app.get("/")
    async def read(
        first: int = scoped(traced("function")(session), scope="function"),
        second: int = scoped(traced("request")(session), scope="request"),
    ) -> list[int]:
        return [first, second, current()]

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, send)
        left.append(current())

    first, second, endpoint = fetch(TraceMiddleware(inside), "/").json()
    assert endpoint == second != first
    assert left == [spans.server.context.span_id]


def test_a_decorated_endpoint_keeps_its_operation(spans: CapturedSpans) -> None:
    """Name, description, parameters and response model are those of the function, in a thread and on the loop."""
    app = FastAPI()

    @app.get("/sync/{order_id}")
    @traced
    def read_sync(order_id: int, size: Annotated[int, Query(ge=1)] = 1) -> dict[str, int]:
        """Reads an order."""
        return {"order": order_id, "size": size}

    @app.get("/async/{order_id}")
    @traced
    async def read_async(order_id: int, size: Annotated[int, Query(ge=1)] = 1) -> dict[str, int]:
        """Reads an order."""
        return {"order": order_id, "size": size}

    for kind in ("sync", "async"):
        assert fetch(app, f"/{kind}/7?size=2").json() == {"order": 7, "size": 2}
        assert fetch(app, f"/{kind}/7?size=0").status_code == 422
        operation = app.openapi()["paths"][f"/{kind}/{{order_id}}"]["get"]
        assert operation["operationId"] == f"read_{kind}_{kind}__order_id__get"
        assert operation["description"] == "Reads an order."
    assert len(spans) == 2  # those of the functions alone: there is no middleware here


def test_background_tasks_are_below_the_request(spans: CapturedSpans) -> None:
    """A decorated task is called with its arguments after the response, in a thread or on the loop."""
    done: list[str] = []

    @traced
    def sync_task(name: str) -> None:
        done.append(name)

    @traced
    async def async_task(name: str) -> None:
        await asyncio.sleep(0)
        done.append(name)

    app = FastAPI()
    app.add_middleware(TraceMiddleware)

    @app.get("/")
    async def read(tasks: BackgroundTasks) -> int:
        tasks.add_task(sync_task, "sync")
        tasks.add_task(async_task, name="async")
        return 7

    assert fetch(app, "/").json() == 7
    assert done == ["sync", "async"]
    names = [span.name.rpartition(".")[2] for span in spans.children_of(spans.server)]
    assert names == ["sync_task", "async_task"]


def test_a_websocket_has_its_dependencies(spans: CapturedSpans) -> None:
    """An async `yield` dependency of a WebSocket is current for as long as it is open."""
    app = FastAPI()
    app.add_middleware(TraceMiddleware)

    @app.websocket("/feed")
    async def feed(socket: WebSocket, session: str = Depends(traced("it")(an_async_yield))) -> None:
        await socket.accept()
        note("endpoint")
        await socket.send_text(session)
        await socket.close()

    served = drive(app, websocket_scope("/feed"), [CONNECT])
    assert [message.get("text") for message in served.messages] == [None, "async session of kiosk", None]
    it = named(spans)["it"]
    assert seen["endpoint"] == seen["tear down"] == it.context.span_id
    assert spans.children_of(spans.server) == [it]


def test_two_requests_at_once_have_their_own_spans(spans: CapturedSpans) -> None:
    """Requests that are inside their dependencies at the same time do not see each other."""
    inside = 0
    all_inside = asyncio.Event()

    @traced("it")
    async def session() -> AsyncIterator[int]:
        yield current()

    @traced("sync it")
    def sync_session() -> Iterator[int]:
        yield current()

    app = FastAPI()
    app.add_middleware(TraceMiddleware)

    @app.get("/")
    async def read(session: int = Depends(session), sync_session: int = Depends(sync_session)) -> list[int]:
        nonlocal inside
        inside += 1
        if inside == 3:
            all_inside.set()
        await all_inside.wait()
        return [session, sync_session, current(), server_span().get_span_context().span_id]

    async def run() -> list[list[int]]:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            responses = await asyncio.gather(*(client.get("/") for _ in range(3)))
        return [response.json() for response in responses]

    answers = asyncio.run(run())
    assert len({number for answer in answers for number in answer}) == 9
    for session_id, sync_id, current_id, server_id in answers:
        assert current_id == session_id
        by_id = {span.context.span_id: span for span in spans}
        assert by_id[session_id].parent == by_id[server_id].context
        assert by_id[sync_id].parent == by_id[session_id].context


def test_a_cancelled_request_leaves_its_dependencies_without_an_error(spans: CapturedSpans) -> None:
    """The server stops: the tear-down runs, the spans say cancelled, and no context is left behind."""

    async def run() -> None:
        waiting = asyncio.Event()

        app = FastAPI()

        @app.get("/")
        async def read(session: str = Depends(traced("it")(an_async_yield))) -> None:
            waiting.set()
            await asyncio.sleep(3600)

        async def request() -> None:
            transport = httpx.ASGITransport(app)
            async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
                await client.get("/")

        task = asyncio.create_task(request())
        await waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    it = named(spans)["it"]
    assert attributes_of(it).get("asgi_trace.cancelled") is True
    assert "error.type" not in attributes_of(it)
    assert seen["tear down"] == it.context.span_id


@pytest.mark.parametrize("kind", DEPENDENCIES)
def test_without_a_provider_a_decorated_dependency_works(kind: str) -> None:
    """It is injected as before, and no span is current anywhere."""
    dependency, answer = DEPENDENCIES[kind]
    assert fetch(application(traced(dependency)), "/orders/7").json()["value"] == f"{answer} kiosk"
    assert set(seen.values()) == {0}


def test_an_override_finds_the_decorated_dependency() -> None:
    """`dependency_overrides` has the decorated function as its key."""
    session = traced(an_async_yield)
    app = application(session)
    app.dependency_overrides[session] = lambda: "another"
    with capture_spans() as spans:
        assert fetch(app, "/orders/7").json()["value"] == "another"
    assert "an_async_yield" not in named(spans)
