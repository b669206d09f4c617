from __future__ import annotations

import asyncio
import builtins
import contextvars
import json
import logging
import logging.config
import logging.handlers
import pickle
import queue
import re
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from io import StringIO
from typing import Any

import anyio
import anyio.to_thread
import httpx
import pytest
from fastapi import BackgroundTasks, Depends, FastAPI
from opentelemetry.context import Context, attach
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    TraceFlags,
    format_span_id,
    format_trace_id,
    set_span_in_context,
    use_span,
)
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_trace import TraceMiddleware, server_span
from asgi_trace._types import ASGIApp, Receive, Scope, Send
from asgi_trace.logging import JSONFormatter, TraceContextFilter, trace_context, uvicorn_log_config
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.log_capture import NO_IDS, Kept, ids_of, ids_on, kept_by, loggers_restored

shop = logging.getLogger("shop")


def ids_in(span: Span) -> tuple[str, str]:
    """The ids of a span that may not be recorded, as logs write them."""
    span_context = span.get_span_context()
    return format_trace_id(span_context.trace_id), format_span_id(span_context.span_id)


async def get(app: ASGIApp, path: str = "/", **options: Any) -> httpx.Response:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
        return await client.get(path, **options)


async def answer(send: Send, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


# The fields


def record(message: str = "paid", **extra: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "shop", "levelname": "INFO", "msg": message, **extra})


def context_of(flags: int) -> Context:
    span_context = SpanContext(0xABC, 0xDEF, False, TraceFlags(flags))
    return set_span_in_context(NonRecordingSpan(span_context))


@pytest.mark.parametrize("flags", [0, 1, 2, 3])
def test_the_filter_writes_the_ids_of_the_current_span(flags: int) -> None:
    """Ids are lower-case hex of full width, flags two digits, and every name works in a format string."""
    handler = Kept("orders")
    format_ = "%(trace_id)s %(span_id)s %(trace_flags)s %(service_name)s %(service.name)s %(message)s"

    def write() -> str:
        written = record()
        assert handler.filter(written)
        return logging.Formatter(format_).format(written)

    context = contextvars.copy_context()
    context.run(attach, context_of(flags))
    assert context.run(write) == f"{'abc':>0032} {'def':>0016} 0{flags} orders orders paid"


def test_without_a_span_the_fields_are_there() -> None:
    """Outside of a request a format string finds the same names, with values that are no ids."""
    written = record()
    assert TraceContextFilter("orders").filter(written)
    fields = {name: written.__dict__[name] for name in ("trace_id", "span_id", "trace_flags", "service.name")}
    assert fields == NO_SPAN | {"service.name": "orders"}
    assert trace_context() == NO_SPAN


def test_ids_that_a_record_carries_are_kept(spans: CapturedSpans) -> None:
    """A record that is handled in another thread, behind a queue, keeps the ids of the thread that wrote it."""
    records: queue.Queue[logging.LogRecord] = queue.Queue()
    behind = Kept()
    ahead = logging.handlers.QueueHandler(records)
    ahead.addFilter(TraceContextFilter())
    listener = logging.handlers.QueueListener(records, behind)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        ahead.handle(record("within"))
        ahead.handle(record("by hand", trace_id="mine", span_id="too"))
        await answer(send)

    listener.start()
    asyncio.run(get(TraceMiddleware(app)))
    listener.stop()
    assert behind.ids() == {"within": ids_of(spans.server), "by hand": ("mine", "too")}


NO_SPAN = {"trace_id": "0", "span_id": "0", "trace_flags": "00"}


@pytest.mark.parametrize(
    ("carried", "added"),
    [
        ({"trace_id": "mine"}, {"span_id": "0", "trace_flags": "00"}),
        ({"trace_id": f"{0xABC:032x}"}, {"span_id": f"{0xDEF:016x}", "trace_flags": "01"}),
        ({"span_id": "mine"}, {"trace_id": f"{0xABC:032x}", "trace_flags": "01"}),
        ({"trace_flags": "mine"}, {"trace_id": f"{0xABC:032x}", "span_id": f"{0xDEF:016x}"}),
        ({"service.name": "mine"}, {"service_name": "mine"}),
        ({"service_name": "mine"}, {"service.name": "orders"}),
    ],
)
def test_a_field_that_a_record_carries_is_kept_and_the_others_are_added(
    carried: dict[str, str], added: dict[str, str]
) -> None:
    """Every name is there for a format string; no span's ids stand beside the id of another trace."""
    written = record(**carried)

    def twice() -> None:
        attach(context_of(1))
        TraceContextFilter("orders").filter(written)
        first = dict(written.__dict__)
        TraceContextFilter("again").filter(written)
        assert written.__dict__ == first

    contextvars.copy_context().run(twice)
    assert {name: written.__dict__.get(name) for name in carried | added} == carried | added
    assert NO_SPAN.keys() | {"service.name", "service_name"} <= written.__dict__.keys()


def named(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch, **options: Any) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    written = record()
    TraceContextFilter(**options).filter(written)
    assert written.__dict__["service_name"] == written.__dict__["service.name"]
    return str(written.__dict__["service.name"])


def provider(name: str) -> TracerProvider:
    return TracerProvider(resource=Resource({"service.name": name}), shutdown_on_exit=False)


@pytest.mark.parametrize(
    ("environment", "options", "expected"),
    [
        ({"OTEL_SERVICE_NAME": "env"}, {"service_name": "given", "tracer_provider": provider("sdk")}, "given"),
        ({"OTEL_SERVICE_NAME": "env"}, {"tracer_provider": provider("sdk")}, "sdk"),
        ({"OTEL_SERVICE_NAME": "env", "OTEL_RESOURCE_ATTRIBUTES": "service.name=attribute"}, {}, "env"),
        ({"OTEL_SERVICE_NAME": "", "OTEL_RESOURCE_ATTRIBUTES": "a=b, service.name=my%20shop ,c=d"}, {}, "my shop"),
        ({"OTEL_RESOURCE_ATTRIBUTES": "nonsense,=,service.name="}, {}, "unknown_service"),
        ({}, {}, "unknown_service"),
    ],
)
def test_the_service_name_is_the_nearest_one(
    environment: dict[str, str], options: dict[str, Any], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The argument wins, then the provider's resource, then OTEL_SERVICE_NAME, then OTEL_RESOURCE_ATTRIBUTES."""
    assert named(environment, monkeypatch, **options) == expected


def test_a_provider_that_is_set_later_names_the_service() -> None:
    """The filter is made before the SDK is set up, as logging is, and follows it."""
    handler = Kept()
    handler.handle(record("before"))
    with capture_spans() as spans:
        handler.handle(record("after"))
        expected = spans.tracer_provider.resource.attributes["service.name"]
    before, after = (written.__dict__["service.name"] for written in handler.records)
    assert (before, after) == ("unknown_service", expected)
    assert before != after


# Where the ids are


async def raw(scope: Scope, receive: Receive, send: Send) -> None:
    shop.info("raw")
    await answer(send)


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


# When a request fails


async def raises(request: Request) -> Response:
    raise ValueError("no such order")


async def refuses(request: Request) -> Response:
    raise HTTPException(418)


async def on_refused(request: Request, exc: Exception) -> Response:
    shop.info("refused")
    return PlainTextResponse("", 418)


async def on_error(request: Request, exc: Exception) -> Response:
    shop.error("failed")
    return PlainTextResponse("", 500)


def on_error_in_thread(request: Request, exc: Exception) -> Response:
    shop.error("failed", exc_info=exc)
    return PlainTextResponse("", 500)


class Noisy(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: Any) -> Response:
        shop.info("middleware")
        try:
            response: Response = await call_next(request)
        except ValueError:
            shop.error("seen by middleware")
            raise
        return response


@pytest.mark.parametrize("handler", [on_error, on_error_in_thread])
@pytest.mark.parametrize("framework", [Starlette, FastAPI])
@pytest.mark.parametrize("placed", ["around", "add_middleware"])
def test_exception_handlers_and_middleware_have_the_ids(
    placed: str, framework: Any, handler: Any, spans: CapturedSpans
) -> None:
    """A handler of `Exception` has the ids even where it runs outside of the middleware, and so has what is inside."""
    app = framework(routes=[Route("/fails", raises), Route("/refused", refuses)], middleware=[Middleware(Noisy)])
    app.add_exception_handler(HTTPException, on_refused)
    app.add_exception_handler(Exception, handler)
    if placed == "add_middleware":
        app.add_middleware(TraceMiddleware)
    else:
        app = TraceMiddleware(app)
    with kept_by("shop") as kept:
        asyncio.run(get(app, "/fails"))
        asyncio.run(get(app, "/refused"))
    messages = ["middleware", "seen by middleware", "failed", "middleware", "refused"]
    assert [written.getMessage() for written in kept.records] == messages
    failed, refused = (ids_of(span) for span in spans)
    assert [ids_on(written) for written in kept.records] == [failed, failed, failed, refused, refused]


def outside(app: ASGIApp, write: Callable[[Exception], None]) -> ASGIApp:
    """A middleware around ours that logs what passes."""

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except Exception as exc:
            write(exc)
            shop.info("while it is handled")
            await answer(send, 500)
        shop.info("later")

    return outer


def wrapped(exc: Exception) -> None:
    try:
        raise RuntimeError("gateway") from exc
    except RuntimeError:
        shop.exception("outer")


def replaced(exc: Exception) -> None:
    try:
        raise RuntimeError("gateway")
    except RuntimeError:
        shop.exception("outer")


def grouped(exc: Exception) -> None:
    built_in = getattr(builtins, "ExceptionGroup", None)
    group = built_in or pytest.importorskip("exceptiongroup").ExceptionGroup  # anyio needs it before Python 3.11
    shop.error("outer", exc_info=group("all of them", [group("some", [KeyError(), exc])]))


@pytest.mark.parametrize(
    "write",
    [
        lambda exc: shop.exception("outer"),
        lambda exc: shop.error("outer", exc_info=exc),
        lambda exc: shop.error("outer"),
        wrapped,
        replaced,
        grouped,
    ],
)
def test_a_middleware_outside_of_ours_has_the_ids_of_the_failure(
    write: Callable[[Exception], None], spans: CapturedSpans
) -> None:
    """Whoever handles the exception of a request logs with its ids; afterwards they are gone."""

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("no such order")

    with kept_by("shop") as kept:
        asyncio.run(get(outside(TraceMiddleware(fails), write)))
    failed = ids_of(spans.server)
    assert kept.ids() == {"outer": failed, "while it is handled": failed, "later": NO_IDS}


def test_a_task_outside_of_ours_has_the_ids_of_the_failure(spans: CapturedSpans) -> None:
    """The ids go where the exception goes, also out of the task in which the request was served."""

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("no such order")

    with kept_by("shop") as kept:
        asyncio.run(get(Noisy(TraceMiddleware(fails))))
    assert kept.ids() == {"middleware": NO_IDS, "seen by middleware": ids_of(spans.server)}


def test_a_span_that_was_there_before_does_not_hide_the_failure(spans: CapturedSpans) -> None:
    """Servers leak one request's context into the next: a handler outside logs the request that failed, not that."""

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("no such order")

    with kept_by("shop") as kept, spans.tracer_provider.get_tracer("shop").start_as_current_span("leaked"):
        asyncio.run(get(outside(TraceMiddleware(fails), lambda exc: shop.exception("outer"))))
    failed, leaked = ids_of(spans.server), ids_of(spans[1])
    assert kept.ids() == {"outer": failed, "while it is handled": failed, "later": leaked}


def test_a_failure_does_not_name_the_next_request(spans: CapturedSpans) -> None:
    """What is handled while another request fails inside belongs to the trace of the current span."""

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("no such order")

    inner = TraceMiddleware(fails)

    async def calls(scope: Scope, receive: Receive, send: Send) -> None:
        current = trace_context()
        headers = [(b"traceparent", f"00-{current['trace_id']}-{current['span_id']}-01".encode())]
        try:
            await inner({"type": "http", "method": "GET", "path": "/inner", "headers": headers}, receive, send)
        except ValueError:
            shop.error("caught")
        await answer(send)

    with kept_by("shop") as kept:
        asyncio.run(get(TraceMiddleware(calls)))
    inner_span, outer_span = spans
    assert inner_span.context.trace_id == outer_span.context.trace_id
    assert kept.ids() == {"caught": ids_of(outer_span)}


def caused_by(exc: Exception) -> Exception:
    found = RuntimeError("no orders")
    found.__cause__ = exc
    return found


def in_turn(app: ASGIApp, then: Callable[[Exception], None]) -> None:
    """Two requests that fail, each in a context of its own, and what their server does after each."""

    async def serve() -> None:
        try:
            await app({"type": "http", "method": "GET", "path": "/", "headers": []}, *ends)
        except Exception as exc:
            then(exc)

    async def run() -> None:
        await asyncio.create_task(serve())
        await asyncio.create_task(serve())

    ends: Any = (None, None)
    asyncio.run(run())


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF])
def test_requests_that_share_an_exception_have_their_own_ids(sampler: Sampler) -> None:
    """An exception that has escaped from one request, and reaches the next, is logged there with the ids of that."""
    shared = ConnectionError("database down")
    served: list[tuple[str, str]] = []

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        served.append(ids_in(server_span()))
        shop.error("told", exc_info=shared)
        try:
            raise shared
        except ConnectionError as exc:
            shop.error("while it is handled")
            shop.error("wrapped", exc_info=caused_by(exc))
            logging.getLogger("uvicorn.access").info("answered")
            raise

    def server(exc: Exception) -> None:
        logging.getLogger("uvicorn.error").error("traceback", exc_info=exc)
        logging.getLogger("uvicorn.access").info("500")
        shop.error("outside", exc_info=exc)

    with capture_spans(sampler), kept_by("shop") as kept, kept_by("uvicorn") as lines:
        in_turn(TraceMiddleware(fails), server)
    first, second = served
    assert first != second
    assert [ids_on(written) for written in kept.records] == [first] * 4 + [second] * 4
    assert [ids_on(written) for written in lines.records] == [first] * 3 + [second] * 3


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF])
def test_a_leaked_request_does_not_hide_the_failure(sampler: Sampler) -> None:
    """Where a server starts a request in the context of one that goes on, its traceback is that of the failed one."""
    served: list[tuple[str, str]] = []
    inner: ASGIApp

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        served.append(ids_in(server_span()))
        raise ValueError("no such order")

    async def next_one(scope: Scope, receive: Receive, send: Send) -> None:
        with pytest.raises(ValueError, match="no such order") as caught:
            await inner({"type": "http", "method": "GET", "path": "/", "headers": []}, receive, send)
        logging.getLogger("uvicorn.error").error("traceback", exc_info=caught.value)

    async def leaks(scope: Scope, receive: Receive, send: Send) -> None:
        served.append(ids_in(server_span()))
        await asyncio.create_task(next_one(scope, receive, send))
        shop.info("goes on")
        await answer(send)

    inner = TraceMiddleware(fails)
    with capture_spans(sampler), kept_by("shop") as kept, kept_by("uvicorn") as lines:
        asyncio.run(get(TraceMiddleware(leaks)))
    leaked, failed = served
    assert leaked[0] != failed[0]
    assert lines.ids() == {"traceback": failed}
    assert kept.ids() == {"goes on": leaked}


def test_a_failure_within_does_not_name_the_access_line(spans: CapturedSpans) -> None:
    """The access line is that of the request which answers, also when it has called another one that failed."""

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise ValueError("no such order")

    inner = TraceMiddleware(fails)

    async def calls(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await inner({"type": "http", "method": "GET", "path": "/inner", "headers": []}, receive, send)
        except ValueError:
            logging.getLogger("uvicorn.access").info("answered")
            shop.exception("caught")
        await answer(send)

    with kept_by("shop") as kept, kept_by("uvicorn") as lines:
        asyncio.run(get(TraceMiddleware(calls)))
    inner_span, outer_span = spans
    assert inner_span.context.trace_id != outer_span.context.trace_id
    assert lines.ids() == {"answered": ids_of(outer_span)}
    assert kept.ids() == {"caught": ids_of(outer_span)}


def test_an_unrecorded_request_that_was_leaked_does_not_hide_the_failure() -> None:
    """Where a request has failed within the context of one that nobody records, handlers outside log the failed one."""
    served: list[tuple[str, str]] = []

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        served.append(ids_in(server_span()))
        raise ValueError("no such order")

    async def leaks(scope: Scope, receive: Receive, send: Send) -> None:
        bare = {"type": "http", "method": "GET", "path": "/", "headers": []}
        await outside(TraceMiddleware(fails), lambda exc: shop.exception("outer"))(bare, receive, send)

    with capture_spans(ALWAYS_OFF), kept_by("shop") as kept:
        asyncio.run(get(TraceMiddleware(leaks)))
    assert kept.ids()["outer"] == kept.ids()["while it is handled"] == served[0]


def test_only_servers_speak_for_a_request_without_its_exception(spans: CapturedSpans) -> None:
    """After a response that never came, the server's loggers have the request's ids and nobody else's have."""

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        return

    async def run() -> None:
        logging.getLogger("uvicorn.error").error("too early")
        await TraceMiddleware(silent)({"type": "http", "method": "GET", "path": "/", "headers": []}, *ends)
        logging.getLogger("uvicorn.error").error("no response")
        shop.info("elsewhere")
        with spans.tracer_provider.get_tracer("shop").start_as_current_span("unrelated"):
            logging.getLogger("uvicorn.error").error("another span")

    ends: Any = (None, None)
    with kept_by("shop") as kept, kept_by("uvicorn.error") as server:
        asyncio.run(run())
    request, unrelated = spans
    assert kept.ids() == {"elsewhere": NO_IDS}
    assert server.ids() == {
        "too early": NO_IDS,
        "no response": ids_of(request),
        "another span": ids_of(unrelated),
    }


@dataclass(frozen=True)
class Frozen(Exception):
    code: int


@pytest.mark.parametrize("exc", [Frozen(7), ValueError("no such order")])
def test_the_exception_stays_what_it_is(exc: Exception, spans: CapturedSpans) -> None:
    """An exception that cannot be written to is known too, and one that goes elsewhere carries nothing but numbers."""
    caught: list[Exception] = []

    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        raise exc

    with kept_by("shop") as kept:
        asyncio.run(get(outside(TraceMiddleware(fails), caught.append)))
    assert kept.ids()["while it is handled"] == ids_of(spans.server)
    assert caught == [exc]
    assert caught[0] is exc
    assert str(exc) in ("7", "no such order")
    assert b"opentelemetry" not in pickle.dumps(exc)


def test_a_chain_of_exceptions_without_end_is_followed_only_so_far() -> None:
    """Exceptions that are each other's cause do not stop the record."""
    first, second = ValueError(), KeyError()
    first.__cause__, second.__context__ = second, first
    written = record("endless", exc_info=(ValueError, first, None))
    assert TraceContextFilter().filter(written)
    assert ids_on(written) == NO_IDS


# Nothing of the user's is replaced


def test_uvicorns_configuration_leaves_the_users_logging_alone(spans: CapturedSpans) -> None:
    """Handlers, filters, formatters and the record factory of the application are what they were."""
    root = logging.getLogger()
    factory, log = logging.getLogRecordFactory(), StringIO()
    own = logging.StreamHandler(log)
    own.setFormatter(logging.Formatter("mine: %(message)s"))
    shop.addHandler(own)
    handlers, filters, level = root.handlers[:], root.filters[:], root.level
    with loggers_restored("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.config.dictConfig(uvicorn_log_config())
        assert (root.handlers, root.filters, root.level) == (handlers, filters, level)
        assert logging.getLogRecordFactory() is factory
        assert (shop.handlers, shop.disabled, own.filters) == ([own], False, [])
        shop.warning("still here")
    shop.removeHandler(own)
    assert log.getvalue() == "mine: still here\n"


def test_a_users_own_logger_joins_the_configuration(spans: CapturedSpans) -> None:
    """The configuration is a fresh dict: a logger that is added to it writes through handlers with the ids."""
    config = uvicorn_log_config(json=True, service_name="orders")
    log = StringIO()
    config["handlers"]["default"]["stream"] = log
    config["loggers"]["shop"] = {"handlers": ["default"], "level": "INFO"}
    with loggers_restored("shop", "uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.config.dictConfig(config)
        asyncio.run(get(TraceMiddleware(raw)))
    line = json.loads(log.getvalue())
    assert (line["trace_id"], line["span_id"]) == ids_of(spans.server)
    assert (line["message"], line["service.name"]) == ("raw", "orders")
    assert "shop" not in uvicorn_log_config()["loggers"]


@pytest.mark.parametrize("json_lines", [False, True])
@pytest.mark.parametrize("use_colors", [None, True, False])
def test_uvicorns_option_use_colors_works_with_either_format(json_lines: bool, use_colors: bool | None) -> None:
    """Uvicorn writes its option into both formatters, whatever they are."""
    uvicorn = pytest.importorskip("uvicorn")
    config = uvicorn_log_config(json=json_lines)
    with loggers_restored("uvicorn", "uvicorn.error", "uvicorn.access"):
        uvicorn.Config(raw, log_config=config, use_colors=use_colors)
        [handler] = logging.getLogger("uvicorn.access").handlers
        assert isinstance(handler.formatter, JSONFormatter) is json_lines
    assert config["formatters"]["access"].get("use_colors") is use_colors


# JSON


def as_json(written: logging.LogRecord) -> dict[str, Any]:
    TraceContextFilter("shop").filter(written)
    line = JSONFormatter().format(written)
    assert "\n" not in line
    parsed: dict[str, Any] = json.loads(line, parse_constant=pytest.fail)
    return parsed


def test_a_json_line_holds_the_record_and_its_extras() -> None:
    """Time in UTC, level, logger, message, service and what was passed as `extra`; no ids where there are none."""
    line = as_json(record("paid %s", args=(7,), created=0.25, order={"id": 7}, paid=True))
    assert line == {
        "timestamp": "1970-01-01T00:00:00.250000+00:00",
        "level": "INFO",
        "logger": "shop",
        "message": "paid 7",
        "service.name": "shop",
        "order": {"id": 7},
        "paid": True,
    }


def test_a_json_line_holds_the_exception_and_the_stack() -> None:
    """A traceback is one string on the same line, and the ids are those of the exception's request."""
    try:
        raise ValueError("no such order")
    except ValueError:
        line = as_json(record(exc_info=sys.exc_info(), stack_info="Stack (most recent call last):"))
    assert line["exception"].splitlines()[0] == "Traceback (most recent call last):"
    assert line["exception"].splitlines()[-1] == "ValueError: no such order"
    assert line["stack"] == "Stack (most recent call last):"


def test_a_json_line_is_written_whatever_the_record_holds() -> None:
    """Line breaks, lone surrogates and objects that JSON does not know become text."""
    line = as_json(record("a\nb \udcff", when=Frozen(7), numbers={1: {2}}))
    assert line["message"] == "a\nb \udcff"
    assert line["when"] == "7"
    assert line["numbers"] == {"1": "{2}"}


def circle() -> dict[str, Any]:
    found: dict[str, Any] = {}
    found["again"] = found
    return found


def deep() -> list[Any]:
    found: list[Any] = []
    for _ in range(100_000):
        found = [found]
    return found


class Mute:
    def __str__(self) -> str:
        raise ValueError("not ready")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ([1.5, float("inf")], "[1.5, inf]"),
        ({(1, 2): 3}, "{(1, 2): 3}"),
        (circle(), "{'again': {...}}"),
        (Mute(), "<.*Mute object at .*>"),
        ([Mute()], "<.*Mute object at .*>"),
        (deep(), "<list object at .*>"),
    ],
)
def test_a_json_line_holds_as_text_what_json_has_no_place_for(value: object, written: str) -> None:
    """The line is JSON by the letter, and the other extras of the record stay what they are."""
    line = as_json(record(value=value, order={"id": 7}))
    text = line["value"][0] if isinstance(line["value"], list) else line["value"]
    assert text == written or re.fullmatch(written, text)
    assert (line["message"], line["service.name"], line["order"]) == ("paid", "shop", {"id": 7})


def test_a_json_line_names_what_has_no_name() -> None:
    """An extra whose key is no text is there under the text of its key."""
    written = record()
    written.__dict__.update({(1, 2): 3})  # type: ignore[dict-item]
    assert as_json(written)["(1, 2)"] == 3


def test_the_fields_of_a_json_line_are_not_overwritten() -> None:
    """An extra that has the name of a field moves aside, as far as it must."""
    clash = {name: f"my {name}" for name in ("timestamp", "level", "logger", "exception", "stack", "service_name")}
    line = as_json(record(created=0.25, exc_info=(None, None, None), **clash, **{"extra.level": "another"}))
    assert line == {
        "timestamp": "1970-01-01T00:00:00.250000+00:00",
        "level": "INFO",
        "logger": "shop",
        "message": "paid",
        "service.name": "shop",
        "service_name": "my service_name",
        "exception": "NoneType: None",
        "stack": "my stack",
        "extra.timestamp": "my timestamp",
        "extra.level": "my level",
        "extra.extra.level": "another",
        "extra.logger": "my logger",
        "extra.exception": "my exception",
    }


def test_a_json_line_keeps_the_ids_that_its_author_gave() -> None:
    """Only those that say that there is no span are left out."""
    assert as_json(record(trace_id="mine"))["trace_id"] == "mine"
    assert as_json(record(span_id="mine"))["span_id"] == "mine"
    assert as_json(record(trace_id="mine")).keys() & NO_SPAN.keys() == {"trace_id"}
    assert as_json(record(span_id="mine")).keys() & NO_SPAN.keys() == {"span_id"}


def test_a_json_line_has_the_ids_of_the_span(spans: CapturedSpans) -> None:
    """The fields have the names of OpenTelemetry's convention for logs."""
    with use_span(spans.tracer_provider.get_tracer("shop").start_span("charge"), end_on_exit=True):
        line = as_json(record())
    assert (line["trace_id"], line["span_id"]) == ids_of(spans[0])
    assert line["trace_flags"] == f"{spans[0].context.trace_flags:02x}"
