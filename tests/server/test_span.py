"""The request's own span from anywhere inside the request, and providers that arrive late."""

from __future__ import annotations

import asyncio
import contextvars
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from fastapi import Depends, FastAPI
from opentelemetry.context import attach, detach, get_current
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import INVALID_SPAN, Span, get_current_span

from asgi_trace import TraceMiddleware, server_span, set_route
from asgi_trace._types import Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import (
    OK,
    TRACE_ID,
    TRACEPARENT,
    attributes_of,
    body,
    drive,
    http_scope,
    responding,
    serve,
    start,
    websocket_scope,
)


def mark(name: str) -> None:
    """Leave a mark on the request's span."""
    server_span().set_attribute(f"seen.{name}", True)


def marks(spans: CapturedSpans) -> set[str]:
    return {key.removeprefix("seen.") for key in attributes_of(spans.server) if key.startswith("seen.")}


def test_it_is_found_from_a_child_span(spans: CapturedSpans) -> None:
    """Business data lands on the request's span while another span is current, however deep."""
    tracer = spans.tracer_provider.get_tracer("test")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with tracer.start_as_current_span("a"), tracer.start_as_current_span("b"):
            assert server_span() is not get_current_span()
            mark("child")
        await OK(scope, receive, send)

    drive(TraceMiddleware(app))

    assert marks(spans) == {"child"}
    assert {span.name for span in spans} == {"a", "b", "GET"}


def test_it_is_found_from_threads_and_tasks(spans: CapturedSpans) -> None:
    """`to_thread` carries the context by itself, an executor when it is given one, and tasks inherit it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        await asyncio.to_thread(mark, "to_thread")
        with ThreadPoolExecutor(1) as executor:
            await loop.run_in_executor(executor, contextvars.copy_context().run, mark, "executor")
        await asyncio.create_task(asyncio.to_thread(mark, "task"))
        await sync_to_async(mark)("sync_to_async")
        await OK(scope, receive, send)

    drive(TraceMiddleware(app))

    assert marks(spans) == {"to_thread", "executor", "task", "sync_to_async"}


def test_it_is_found_in_a_plain_thread_that_is_given_the_context(spans: CapturedSpans) -> None:
    """A thread without the request's context finds nothing; one that attaches it finds the span."""
    found: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        context = get_current()

        def without() -> None:
            found.append(server_span() is INVALID_SPAN)

        def within() -> None:
            token = attach(context)
            mark("thread")
            detach(token)

        for target in (without, within):
            thread = _bare_thread(target)
            thread.start()
            thread.join()
        await OK(scope, receive, send)

    drive(TraceMiddleware(app))

    assert found == [True]
    assert marks(spans) == {"thread"}


def _bare_thread(target: Any) -> threading.Thread:
    """A thread with an empty context, on every version and build of Python."""
    return threading.Thread(target=contextvars.Context().run, args=(target,))


def test_it_is_found_in_every_part_of_fastapi(spans: CapturedSpans) -> None:
    """Sync and async endpoints and dependencies, before and after `yield`, and background tasks of a 500."""
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})

    def sync_dependency() -> Iterator[None]:
        mark("sync before")
        yield
        mark("sync after")

    async def async_dependency() -> AsyncIterator[None]:
        mark("async before")
        yield
        mark("async after")

    @app.get("/sync", dependencies=[Depends(sync_dependency), Depends(async_dependency)])
    def sync_endpoint() -> str:
        mark("endpoint")
        return "ok"

    @app.get("/async", dependencies=[Depends(sync_dependency), Depends(async_dependency)])
    async def async_endpoint() -> str:
        mark("endpoint")
        return "ok"

    for path in ("/sync", "/async"):
        spans.clear()
        drive(TraceMiddleware(app), http_scope(path))
        assert marks(spans) >= {"sync before", "async before", "endpoint"}


def test_a_task_that_outlives_the_request_cannot_hurt(spans: CapturedSpans, caplog: pytest.LogCaptureFixture) -> None:
    """Work that goes on behind the response still finds the span; writing to it changes nothing that was exported."""
    outlived: list[asyncio.Task[None]] = []

    async def behind() -> None:
        await asyncio.sleep(0.01)
        assert server_span().get_span_context().is_valid
        set_route("/late")
        server_span().set_attribute("late", True)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        outlived.append(asyncio.create_task(behind()))
        await OK(scope, receive, send)

    async def main() -> None:
        await serve(TraceMiddleware(app), http_scope())
        await outlived[0]

    asyncio.run(main())

    assert spans.server.name == "GET"
    assert "late" not in attributes_of(spans.server)
    assert all(record.levelname != "ERROR" for record in caplog.records)


def test_after_the_end_it_is_silent(spans: CapturedSpans, caplog: pytest.LogCaptureFixture) -> None:
    """A background task can ask for the ids and write to the span, which no longer hears; nothing is logged."""
    late: list[Span] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await OK(scope, receive, send)
        late.append(server_span())
        server_span().set_attribute("late", True)
        server_span().update_name("late")

    drive(TraceMiddleware(app))

    assert late[0].get_span_context() == spans.server.context
    assert not late[0].is_recording()
    assert caplog.records == []


def test_a_route_that_is_no_text_costs_nothing_but_itself(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left out with one warning, and the rest of the ending is recorded."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for template in (7, None, b"/x"):
            set_route(template)  # type: ignore[arg-type]
        await responding(start(503), body())(scope, receive, send)

    drive(TraceMiddleware(app))
    drive(TraceMiddleware(app))

    for span in spans:
        assert span.name == "GET"
        assert attributes_of(span)["error.type"] == "503"
    assert sum("set_route(" in record.message for record in caplog.records) <= 1


def test_outside_of_a_request_it_is_harmless() -> None:
    """There is no span, every call on it does nothing, and neither does `set_route()`."""
    assert server_span() is INVALID_SPAN
    server_span().set_attribute("a", 1)
    server_span().record_exception(ValueError())
    set_route("/x")


def test_each_request_has_its_own(spans: CapturedSpans) -> None:
    """Requests at the same time do not find each other's."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0)
        mark(scope["path"])
        await OK(scope, receive, send)

    traced = TraceMiddleware(app)

    async def main() -> None:
        await asyncio.gather(*(serve(traced, http_scope(f"/{number}")) for number in range(20)))

    asyncio.run(main())

    for span in spans:
        attributes = attributes_of(span)
        assert [key for key in attributes if key.startswith("seen.")] == [f"seen.{attributes['url.path']}"]


def test_in_a_mounted_application_it_is_the_one_span(spans: CapturedSpans) -> None:
    """An inner middleware does not stand in the way."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        mark("inner")
        await OK(scope, receive, send)

    drive(TraceMiddleware(TraceMiddleware(app)))

    assert marks(spans) == {"inner"}


def test_an_unsampled_request_has_one_too() -> None:
    """Its ids are right and it takes every call, though nothing is recorded."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(server_span().get_span_context().trace_id)
        mark("x")
        set_route("/x")

    with capture_spans(ALWAYS_OFF):
        drive(TraceMiddleware(app), http_scope(headers=[(b"traceparent", TRACEPARENT)]))

    assert seen == [TRACE_ID]


def test_a_socket_has_one(spans: CapturedSpans) -> None:
    """In a WebSocket it is the connection's span, and the route can be set."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        mark("socket")
        set_route("/rooms/{room}")
        await send({"type": "websocket.close"})

    drive(TraceMiddleware(app), websocket_scope())

    assert marks(spans) == {"socket"}
    assert spans.server.name == "GET /rooms/{room}"


# --- set_route ---


def test_set_route_names_the_span(spans: CapturedSpans) -> None:
    """From anywhere inside the request, and it beats what the scope says."""
    tracer = spans.tracer_provider.get_tracer("test")

    class Route:
        path_format = "/from/the/scope"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = Route()
        with tracer.start_as_current_span("child"):
            set_route("/orders/{id}")
        await OK(scope, receive, send)

    drive(TraceMiddleware(app), http_scope("/orders/7"))

    assert spans.server.name == "GET /orders/{id}"
    assert attributes_of(spans.server)["http.route"] == "/orders/{id}"


@pytest.mark.parametrize(("method", "name"), [("POST", "POST /x"), ("FOO", "HTTP /x")])
def test_the_name_is_method_and_route(spans: CapturedSpans, method: str, name: str) -> None:
    """An unknown method is called HTTP, with its route."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route("/x")
        await OK(scope, receive, send)

    drive(TraceMiddleware(app), http_scope(method=method))

    assert spans.server.name == name


def test_a_name_that_the_application_gives_stays(spans: CapturedSpans) -> None:
    """`server_span().update_name()` is the last word, a route does not undo it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route("/x")
        server_span().update_name("checkout")
        await OK(scope, receive, send)

    drive(TraceMiddleware(app))

    assert spans.server.name == "checkout"


class Hostile:
    """What no framework writes into a scope."""

    @property
    def path_format(self) -> str:
        raise RuntimeError

    path = path_format


@pytest.mark.parametrize("route", [None, object(), 5, Hostile(), "text"])
def test_a_strange_route_in_the_scope_is_no_route(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, route: object
) -> None:
    """None, an object without a path, one that raises: the response is the same, the span has no route."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = route
        await OK(scope, receive, send)

    served = drive(TraceMiddleware(app), http_scope("/a/b"))

    assert served.status == 200
    assert spans.server.name == "GET"
    assert "http.route" not in attributes_of(spans.server)
    assert not caplog.records


# --- providers that arrive late ---

LATE = """
import asyncio
import sys

from opentelemetry import trace

from asgi_trace import TraceMiddleware


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


async def send(message):
    pass


def request():
    asyncio.run(traced({"type": "http", "method": "GET", "path": "/", "headers": []}, None, send))


traced = TraceMiddleware(app)
request()
assert "opentelemetry.sdk" not in sys.modules

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
request()
print([span.name for span in exporter.get_finished_spans()])
"""


def test_a_provider_that_is_set_after_the_application_was_built_is_used() -> None:
    """The global provider counts from the moment it is there, also when requests have been served without one."""
    done = subprocess.run([sys.executable, "-c", LATE], capture_output=True, text=True, check=False, timeout=60)

    assert (done.stdout.strip(), done.stderr) == ("['GET']", "")


def test_a_test_provider_that_is_put_in_place_later_is_used() -> None:
    """One application, several captures: each gets what was served during it."""
    traced = TraceMiddleware(OK)
    drive(traced)
    for _ in range(2):
        with capture_spans() as spans:
            drive(traced)
        assert len(spans) == 1
        drive(traced)
        assert len(spans) == 1


def test_a_request_in_flight_ends_with_the_provider_it_began_with(spans: CapturedSpans) -> None:
    """A provider that changes in the middle of a request does not split it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with capture_spans() as others:
            await OK(scope, receive, send)
        assert len(others) == 0

    async def nowhere() -> Message:
        raise AssertionError

    drive(TraceMiddleware(app))

    assert len(spans) == 1
