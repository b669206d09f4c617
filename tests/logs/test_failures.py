"""Records about a request that has failed: handlers outside of the middleware, and servers."""

from __future__ import annotations

import asyncio
import builtins
import logging
import logging.config
import logging.handlers
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from asgi_trace import TraceMiddleware, server_span
from asgi_trace._types import ASGIApp, Receive, Scope, Send
from asgi_trace.logging import TraceContextFilter, trace_context
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.log_capture import (
    NO_IDS,
    answer,
    get,
    ids_in,
    ids_of,
    ids_on,
    kept_by,
    record,
    shop,
)


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
    """Code that handles the exception of a request logs with its ids; afterwards they are gone."""

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
    """Where a request has failed within the context of an unrecorded one, handlers outside log the failed one."""
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
    """After a response that never came, the server's loggers have the request's ids and no others have."""

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


ACCESS = ("gunicorn.access", "granian.access", "hypercorn.access", "uvicorn.access")
SERVERS = ("gunicorn.error", "hypercorn.error", "uvicorn.error")


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF])
@pytest.mark.parametrize("status", [200, 500])
def test_only_access_lines_speak_for_a_request_that_was_answered(
    status: int, sampler: Sampler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the application has returned, a server's access line names the request that is over, and no other line."""
    monkeypatch.setitem(sys.modules, "granian", ModuleType("granian"))  # a server whose access lines come that late
    served: list[tuple[str, str]] = []

    async def answers(scope: Scope, receive: Receive, send: Send) -> None:
        served.append(ids_in(server_span()))
        await answer(send, status)

    async def run(spans: CapturedSpans) -> dict[str, tuple[str, str]]:
        seen = {}
        await TraceMiddleware(answers)(dict(bare), *ends)
        for name in (*ACCESS, *SERVERS, "shop", "shop.access"):
            seen[name] = ids_on(filtered(name))
        with spans.tracer_provider.get_tracer("shop").start_as_current_span("elsewhere"):
            seen["elsewhere"] = ids_on(filtered(ACCESS[0]))
        await TraceMiddleware(answers)(dict(bare), *ends)
        seen["again"] = ids_on(filtered(ACCESS[0]))
        return seen

    def filtered(name: str) -> logging.LogRecord:
        written = record(name=name)
        TraceContextFilter("orders").filter(written)
        return written

    async def send(message: Any) -> None:
        return

    bare = {"type": "http", "method": "GET", "path": "/", "headers": []}
    ends: Any = (None, send)
    with capture_spans(sampler) as spans:
        seen = asyncio.run(run(spans))
    first, again = served
    assert {name: seen[name] for name in ACCESS} == dict.fromkeys(ACCESS, first)
    assert {seen[name] for name in (*SERVERS, "shop", "shop.access")} == {NO_IDS}
    assert seen["again"] == again
    assert seen["elsewhere"] not in served


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
