"""Where a record is written within a request: endpoints, threads, tasks, dependencies, background work."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import logging.config
import logging.handlers
from collections.abc import Awaitable, Callable

import anyio
import anyio.to_thread
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.log_capture import (
    NO_IDS,
    answer,
    get,
    ids_of,
    kept_by,
    raw,
    shop,
)


def test_records_of_every_logger_below_the_handler_have_the_ids(spans: CapturedSpans) -> None:
    """On a handler, the filter sees what loggers further down write, and nothing before or after the request."""

    async def run() -> None:
        logging.getLogger("shop").info("before")
        await get(TraceMiddleware(raw))
        logging.getLogger("shop.cart").info("after")

    with kept_by("shop") as kept:
        asyncio.run(run())
    assert kept.ids() == {"before": NO_IDS, "raw": ids_of(spans.server), "after": NO_IDS}


def test_a_record_inside_a_child_span_has_the_childs_id(spans: CapturedSpans) -> None:
    """The span id is that of the span in which the record is written."""
    tracer = spans.tracer_provider.get_tracer("shop")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with tracer.start_as_current_span("charge"):
            shop.info("charged")
        await answer(send)

    with kept_by("shop") as kept:
        asyncio.run(get(TraceMiddleware(app)))
    [child] = spans.children_of(spans.server)
    assert kept.ids() == {"charged": ids_of(child)}


def test_unsampled_and_excluded_requests_have_ids_too() -> None:
    """Logs stay connected to the caller's trace where nothing is recorded, and the flags say so."""
    headers = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with kept_by("shop") as kept:
        with capture_spans(ALWAYS_OFF):
            asyncio.run(get(TraceMiddleware(raw), headers=headers))
        with capture_spans():
            asyncio.run(get(TraceMiddleware(raw, exclude="^/$"), headers=headers))
    for written in kept.records:
        assert written.__dict__["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
        assert written.__dict__["trace_flags"] == "00"
        assert len(written.__dict__["span_id"]) == 16
    assert len(kept.records) == 2


def in_thread_anyio() -> Awaitable[None]:
    return anyio.to_thread.run_sync(shop.info, "from there")


def in_thread_asyncio() -> Awaitable[None]:
    return asyncio.to_thread(shop.info, "from there")


def in_executor() -> Awaitable[None]:
    run = contextvars.copy_context().run
    return asyncio.get_running_loop().run_in_executor(None, run, shop.info, "from there")


def in_task() -> Awaitable[None]:
    async def work() -> None:
        shop.info("from there")

    return asyncio.create_task(work())


@pytest.mark.parametrize("hop", [in_thread_anyio, in_thread_asyncio, in_executor, in_task])
def test_threads_and_tasks_have_the_ids(hop: Callable[[], Awaitable[None]], spans: CapturedSpans) -> None:
    """A thread or a task that is started with the request's context logs with its ids."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await hop()
        await answer(send)

    with kept_by("shop") as kept:
        asyncio.run(get(TraceMiddleware(app)))
    assert kept.ids() == {"from there": ids_of(spans.server)}


def test_a_task_that_outlives_the_request_keeps_its_ids(spans: CapturedSpans) -> None:
    """Work that goes on after the response is logged with the request that started it."""

    async def run() -> None:
        going_on = asyncio.Event()

        async def work() -> None:
            await going_on.wait()
            shop.info("late")

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            tasks.append(asyncio.create_task(work()))
            await answer(send)

        tasks: list[asyncio.Task[None]] = []
        await get(TraceMiddleware(app))
        going_on.set()
        await tasks[0]

    with kept_by("shop") as kept:
        asyncio.run(run())
    assert kept.ids() == {"late": ids_of(spans.server)}


def starlette_app() -> ASGIApp:
    def sync_endpoint(request: Request) -> Response:
        shop.info("sync endpoint")
        return PlainTextResponse("", background=BackgroundTask(sync_background))

    async def async_endpoint(request: Request) -> Response:
        shop.info("async endpoint")
        return PlainTextResponse("", background=BackgroundTask(async_background))

    return Starlette(routes=[Route("/sync", sync_endpoint), Route("/async", async_endpoint)])


def sync_background() -> None:
    shop.info("sync background")


async def async_background() -> None:
    shop.info("async background")


def fastapi_app() -> ASGIApp:
    app = FastAPI(telemetry={"tracing": False}) if has_own_telemetry() else FastAPI()

    def sync_dependency() -> str:
        shop.info("sync dependency")
        return ""

    async def async_dependency() -> str:
        shop.info("async dependency")
        return ""

    @app.get("/sync")
    def sync_endpoint(tasks: BackgroundTasks, value: str = Depends(sync_dependency)) -> str:
        shop.info("sync endpoint")
        tasks.add_task(sync_background)
        return value

    @app.get("/async")
    async def async_endpoint(tasks: BackgroundTasks, value: str = Depends(async_dependency)) -> str:
        shop.info("async endpoint")
        tasks.add_task(async_background)
        return value

    return app


def has_own_telemetry() -> bool:
    return "telemetry" in FastAPI.__init__.__annotations__


@pytest.mark.parametrize("framework", [starlette_app, fastapi_app])
@pytest.mark.parametrize("path", ["/sync", "/async"])
def test_endpoints_dependencies_and_background_tasks_have_the_ids(
    framework: Callable[[], ASGIApp], path: str, spans: CapturedSpans
) -> None:
    """What a framework runs for a request, in a thread or on the loop, also after the response, has its ids."""
    with kept_by("shop") as kept:
        asyncio.run(get(TraceMiddleware(framework()), path))
    kinds = ("dependency", "endpoint", "background") if framework is fastapi_app else ("endpoint", "background")
    assert kept.ids() == {f"{path[1:]} {kind}": ids_of(spans.server) for kind in kinds}
