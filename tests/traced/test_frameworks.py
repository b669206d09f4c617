"""`traced` where other frameworks take a function: Starlette, Litestar, pytest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from asgi_trace import TraceMiddleware, traced
from asgi_trace.testing import CapturedSpans

from ..support.asgi import CONNECT, attributes_of, drive, websocket_scope
from ..support.frameworks import fetch, get, run, running
from ..support.generators import current


def last_part(name: str) -> str:
    return name.rpartition(".")[2]


# Starlette


@traced
def sync_endpoint(request: Request) -> Response:
    return PlainTextResponse(str(current()), background=BackgroundTask(sync_task, 7))


@traced
async def async_endpoint(request: Request) -> Response:
    return PlainTextResponse(str(current()), background=BackgroundTask(async_task, count=7))


@traced
def sync_task(count: int) -> None:
    assert count == 7


@traced
async def async_task(count: int) -> None:
    assert count == 7


class Orders(HTTPEndpoint):
    @traced
    async def get(self, request: Request) -> Response:
        return PlainTextResponse(str(current()))

    @traced
    def post(self, request: Request) -> Response:
        return PlainTextResponse(str(current()))


@traced
async def numbers() -> AsyncIterator[str]:
    for _ in range(2):
        yield f"{current()} "


async def streaming_endpoint(request: Request) -> Response:
    return StreamingResponse(numbers())


@traced
async def feed(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text(str(current()))
    await socket.close()


STARLETTE = Starlette(
    routes=[
        Route("/sync", sync_endpoint),
        Route("/async", async_endpoint),
        Route("/class", Orders),
        Route("/stream", streaming_endpoint),
        WebSocketRoute("/feed", feed),
    ]
)
STARLETTE.add_middleware(TraceMiddleware)
ENDPOINTS = {
    ("GET", "/sync"): ["sync_endpoint", "sync_task"],
    ("GET", "/async"): ["async_endpoint", "async_task"],
    ("GET", "/class"): ["get"],
    ("POST", "/class"): ["post"],
    ("GET", "/stream"): ["numbers"],
}


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
def test_starlettes_endpoints_and_background_tasks(method: str, path: str, spans: CapturedSpans) -> None:
    """Functions, methods of a class, a streamed body and tasks are children of the request, and current inside."""
    response = fetch(STARLETTE, path, method)
    children = spans.children_of(spans.server)
    assert [last_part(span.name) for span in children] == ENDPOINTS[method, path]
    assert {int(number) for number in response.text.split()} == {children[0].context.span_id}


def test_starlettes_websocket_endpoint(spans: CapturedSpans) -> None:
    """A decorated endpoint is called with its WebSocket."""
    served = drive(STARLETTE, websocket_scope("/feed"), [CONNECT])
    [inside] = [int(message["text"]) for message in served.messages if "text" in message]
    [child] = spans.children_of(spans.server)
    assert (child.name, child.context.span_id) == ("feed", inside)


def test_starlettes_lifespan(spans: CapturedSpans) -> None:
    """The span of a lifespan lasts from start to stop, and no request is below it."""
    from contextlib import asynccontextmanager

    @asynccontextmanager
    @traced("lifespan")
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        yield

    app = Starlette(routes=[Route("/async", async_endpoint)], lifespan=lifespan)
    wrapped = TraceMiddleware(app)

    async def live() -> None:
        async with running(wrapped):
            await get(wrapped, "/async")

    run(live())
    lasting = spans[-1]
    assert lasting.name == "lifespan"
    assert spans.server.parent is None


# Litestar


async def an_async_yield() -> AsyncGenerator[int, None]:
    yield current()


def a_sync_yield() -> Generator[int, None, None]:
    yield current()


async def a_coroutine() -> int:
    return current()


def a_function() -> int:
    return current()


inferred = pytest.mark.filterwarnings("ignore:.*[Ii]nferred")  # the other way is newer than what we support
PROVIDERS: dict[str, tuple[Callable[..., Any], dict[str, bool]]] = {
    "async yield": (an_async_yield, {}),
    "sync yield": (a_sync_yield, {}),
    "coroutine": (a_coroutine, {}),
    "function": (a_function, {"sync_to_thread": False}),
    "function in a thread": (a_function, {"sync_to_thread": True}),
}


@inferred
@pytest.mark.parametrize("kind", PROVIDERS)
def test_litestars_providers_and_handlers(kind: str, spans: CapturedSpans) -> None:
    """A provider is one span; that of an async `yield` is current for the handler, which has one of its own."""
    litestar: Any = pytest.importorskip("litestar")
    provider, options = PROVIDERS[kind]

    @traced("handler")
    async def read(order_id: int, session: int) -> dict[str, int]:
        return {"order": order_id, "session": session, "handler": current()}

    provide = litestar.di.Provide(traced("it")(provider), **options)
    app = litestar.Litestar([litestar.get("/orders/{order_id:int}")(read)], dependencies={"session": provide})
    answer = fetch(TraceMiddleware(app), "/orders/7").json()
    found = {span.name: span for span in spans}
    it, handler = found["it"], found["handler"]
    assert answer == {"order": 7, "session": it.context.span_id, "handler": handler.context.span_id}
    if kind == "async yield":
        assert spans.children_of(it) == [handler]
    else:
        assert set(spans.children_of(spans.server)) == {it, handler}


@inferred
def test_litestars_dependencies_that_are_cleaned_up_at_once(spans: CapturedSpans) -> None:
    """Several are set up and torn down in tasks of their own: none of them detaches a context of another."""
    litestar: Any = pytest.importorskip("litestar")

    async def read(first: int, second: int, third: int) -> list[int]:
        return [first, second, third]

    dependencies = {
        "first": litestar.di.Provide(traced("first")(an_async_yield)),
        "second": litestar.di.Provide(traced("second")(an_async_yield)),
        "third": litestar.di.Provide(traced("third")(a_sync_yield)),
    }
    app = litestar.Litestar([litestar.get("/")(read)], dependencies=dependencies)
    answer = fetch(TraceMiddleware(app), "/").json()
    found = {span.name: span.context.span_id for span in spans}
    assert answer == [found["first"], found["second"], found["third"]]
    assert all("error.type" not in attributes_of(span) for span in spans)


# pytest

FIXTURES = """
import pytest
from asgi_trace import traced
from asgi_trace.testing import capture_spans

with_spans = capture_spans()


@pytest.fixture(scope="session", autouse=True)
def spans():
    with with_spans as captured:
        yield captured


@pytest.fixture
@traced
def database(request):
    yield f"database of {request.node.name}"


@pytest.fixture
@traced
def basket(database, count=2):
    return database, count


@pytest.fixture
@traced
async def session(database):
    yield f"session in {database}"


def test_fixtures(basket, spans):
    assert basket == ("database of test_fixtures", 2)
    assert [span.name for span in spans] == ["basket"]


def test_after(spans):
    assert [span.name for span in spans] == ["basket", "database"]


@pytest.mark.anyio
async def test_async_fixture(session, spans):
    assert session.startswith("session in database of test_async_fixture")


@traced
@pytest.mark.parametrize("number", [1, 2])
def test_decorated(number, database):
    assert number in (1, 2)
"""


def test_pytests_fixtures(tmp_path: Path) -> None:
    """Fixtures are requested by name and torn down, sync and async, and a test itself can be decorated."""
    (tmp_path / "test_fixtures.py").write_text(FIXTURES)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-W", "error"]
    done = subprocess.run(
        [*command, str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "5 passed" in done.stdout or "6 passed" in done.stdout, done.stdout + done.stderr
