"""How a request ends and what its span then says: every ending, crossed with statuses and failures, as raw ASGI."""

from __future__ import annotations

import asyncio
import builtins
import contextvars
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from time import time_ns
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans

from ..support.asgi import (
    GONE,
    OK,
    RECEIVE,
    REQUEST,
    Served,
    Steps,
    attributes_of,
    body,
    drive,
    http_scope,
    milliseconds,
    responding,
    serve,
    start,
)

ExceptionGroup: Any = getattr(builtins, "ExceptionGroup", None) or pytest.importorskip("exceptiongroup").ExceptionGroup
BaseExceptionGroup: Any = (
    getattr(builtins, "BaseExceptionGroup", None) or pytest.importorskip("exceptiongroup").BaseExceptionGroup
)
GROUP = "ExceptionGroup" if hasattr(builtins, "ExceptionGroup") else "exceptiongroup.ExceptionGroup"

ENDING_KEYS = ("asgi_trace.client_disconnected", "asgi_trace.cancelled")


class Ending(NamedTuple):
    """What a span says of the end of its request."""

    code: int | None
    status: StatusCode = StatusCode.UNSET
    error: str | None = None
    events: int = 0
    mark: str | None = None


def ending_of(span: ReadableSpan) -> Ending:
    attributes = attributes_of(span)
    marks = [key for key in ENDING_KEYS if key in attributes]
    assert all(attributes[key] is True for key in marks)
    assert len(marks) < 2
    code = attributes.get("http.response.status_code")
    assert code is None or type(code) is int
    return Ending(
        code,
        span.status.status_code,
        attributes.get("error.type"),
        len(span.events),
        marks[0] if marks else None,
    )


def traced(
    app: ASGIApp,
    scope: Scope | None = None,
    script: Any = (REQUEST,),
    on_send: Callable[[], Callable[[Message], Awaitable[None] | None]] | None = None,
) -> Served:
    """Serve it through the middleware, after seeing that the server cannot tell whether the middleware is there."""
    scope = http_scope() if scope is None else scope
    bare = drive(app, dict(scope), list(script), on_send and on_send())
    served = drive(TraceMiddleware(app), dict(scope), list(script), on_send and on_send())
    assert served.messages == bare.messages
    assert served.received == bare.received
    assert type(served.exception) is type(bare.exception)
    assert served.result == bare.result
    assert served.scope.keys() == bare.scope.keys()
    return served


# --- complete responses ---


EARLY_HINT = {"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]}
PUSH = {"type": "http.response.push", "path": "/style.css", "headers": []}
DEBUG = {"type": "http.response.debug", "info": {"template": "t"}}
TRAILERS = {"type": "http.response.trailers", "headers": [(b"x-sum", b"1")]}
PATHSEND = {"type": "http.response.pathsend", "path": "/srv/file"}

COMPLETE: dict[str, Callable[[int], list[Message]]] = {
    "one body": lambda status: [start(status), body(b"ok")],
    "an empty body": lambda status: [start(status), {"type": "http.response.body"}],
    "many chunks": lambda status: [start(status), *[body(b"x", True)] * 1000, body(b"x")],
    "chunks, and an empty end": lambda status: [start(status), body(b"x", True), body()],
    "server-sent events": lambda status: [
        start(status, [(b"content-type", b"text/event-stream")]),
        *[body(b"data: 1\n\n", True)] * 1000,
        body(),
    ],
    "trailers": lambda status: [start(status, trailers=True), body(b"ok"), TRAILERS],
    "trailers in two parts": lambda status: [
        start(status, trailers=True),
        body(b"x", True),
        body(b"y"),
        {**TRAILERS, "more_trailers": True},
        {**TRAILERS, "more_trailers": False},
    ],
    "pathsend": lambda status: [start(status), PATHSEND],
    "zerocopysend": lambda status: [
        start(status),
        {"type": "http.response.zerocopysend", "file": 3, "count": 5, "more_body": True},
        {"type": "http.response.zerocopysend", "file": 3, "offset": 5},
    ],
    "a body and a pathsend": lambda status: [start(status), body(b"x", True), PATHSEND],
    "early hints": lambda status: [EARLY_HINT, EARLY_HINT, start(status), body(b"ok")],
    "a push": lambda status: [start(status), PUSH, body(b"ok")],
    "debug information": lambda status: [DEBUG, start(status), body(b"ok")],
}


@pytest.mark.parametrize("status", [200, 204, 302, 404, 500, 503])
@pytest.mark.parametrize("shape", COMPLETE)
def test_a_complete_response_is_one_span_without_events(spans: CapturedSpans, shape: str, status: int) -> None:
    """Whatever a complete response consists of, it is one SERVER span; only 5xx is an error, and is its own type."""
    traced(responding(*COMPLETE[shape](status)))

    assert [span.kind for span in spans] == [SpanKind.SERVER]
    if status < 500:
        assert ending_of(spans[0]) == Ending(status)
    else:
        assert ending_of(spans[0]) == Ending(status, StatusCode.ERROR, str(status))
    assert spans[0].status.description is None


@pytest.mark.parametrize("method", ["HEAD", "GET"])
def test_a_head_request_and_a_204_end_like_any_other(spans: CapturedSpans, method: str) -> None:
    """A response that has no body on the wire still ends with the application's last message."""
    traced(responding(start(204), body()), http_scope(method=method))

    assert ending_of(spans.server) == Ending(204)
    assert spans.server.name == method


@pytest.mark.parametrize("status", [HTTPStatus.CREATED, HTTPStatus.BAD_GATEWAY])
def test_a_status_from_the_enumeration_is_recorded_as_a_number(spans: CapturedSpans, status: HTTPStatus) -> None:
    """`HTTPStatus.CREATED` is recorded as 201, and `HTTPStatus.BAD_GATEWAY` as 502 with the error type "502"."""
    traced(responding(start(status), body()))

    expected = Ending(201) if status == 201 else Ending(502, StatusCode.ERROR, "502")
    assert ending_of(spans.server) == expected


@pytest.mark.parametrize(
    ("steps", "last", "at_least"),
    [
        pytest.param([start(), body(b"x"), 30], 1, 0, id="a background task"),
        pytest.param([start(503), body(b"x"), 30], 1, 0, id="a background task after 503"),
        pytest.param([20, start(), body(b"x"), 30], 2, 20, id="a slow start"),
        pytest.param([start(), body(b"x", True), 20, body(b"y"), 30], 3, 20, id="a stream"),
        pytest.param([start(trailers=True), body(b"x"), 20, TRAILERS, 30], 3, 20, id="trailers"),
        pytest.param([start(), 20, PATHSEND, 30], 2, 20, id="pathsend"),
        pytest.param(
            [start(trailers=True), body(), {**TRAILERS, "more_trailers": True}, 20, TRAILERS, 30],
            4,
            20,
            id="trailers in two parts",
        ),
        pytest.param([start(500), body(b"oops"), 30, ValueError()], 1, 0, id="a 500 and its exception"),
    ],
)
def test_the_span_lasts_to_the_last_message(spans: CapturedSpans, steps: list[Any], last: int, at_least: int) -> None:
    """The span covers a stream and its trailers to the last message, and nothing of what is done behind it."""
    app = Steps(*steps)
    drive(TraceMiddleware(app))

    assert app.saw_the_end(spans.server, last)
    assert milliseconds(spans.server) >= at_least - 1


def test_below_500_the_span_is_exported_while_the_background_task_still_runs(spans: CapturedSpans) -> None:
    """A background task does not hold back the span of its response."""
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await OK(scope, receive, send)
        seen.append(len(spans))

    drive(TraceMiddleware(app))

    assert seen == [1]


def test_messages_after_the_end_change_nothing(spans: CapturedSpans) -> None:
    """A second end, a late chunk or a second start reaches the server, which complains itself; the span stands."""
    traced(responding(start(), body(b"x"), body(b"y", True), body(b"z"), start(500), TRAILERS))

    assert ending_of(spans.server) == Ending(200)


def test_a_body_before_the_start_is_left_to_the_server(spans: CapturedSpans) -> None:
    """A body without a start is passed on; the span has no status code, as none was sent."""
    traced(responding(body(b"x")))

    assert ending_of(spans.server) == Ending(None)


def test_a_message_that_is_none_reaches_the_server(spans: CapturedSpans) -> None:
    """What is no message at all is passed on as well, so the server's own complaint is what the developer sees."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send("nonsense")  # type: ignore[arg-type]

    bare, served = drive(app), drive(TraceMiddleware(app))

    assert repr(served.exception) == repr(bare.exception)
    assert spans.server.status.status_code is StatusCode.ERROR


def test_the_last_message_may_be_sent_from_another_task(spans: CapturedSpans, caplog: pytest.LogCaptureFixture) -> None:
    """A response that ends in a task of its own, in another context, ends the span just the same."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def finish() -> None:
            await send(body(b"ok"))

        await send(start())
        await contextvars.Context().run(asyncio.ensure_future, finish())

    traced(app)

    assert ending_of(spans.server) == Ending(200)
    assert not caplog.records


# --- frameworks that answer for the application ---


def shop() -> Starlette:
    """Its errors are handled, by the framework or by handlers of its own."""

    async def not_found(request: Request) -> Response:
        raise HTTPException(404)

    async def out_of_stock(request: Request) -> Response:
        raise LookupError("no stock")

    async def broken(request: Request) -> Response:
        raise ZeroDivisionError("broken")

    async def stream(request: Request) -> Response:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"a"
            await asyncio.sleep(0.02)
            yield b"b"

        async def background() -> None:
            request.app.state.began = time_ns()
            await asyncio.sleep(0.01)

        return StreamingResponse(chunks(), background=BackgroundTask(background))

    async def teapot(request: Request, exc: Exception) -> Response:
        return PlainTextResponse("handled", 418)

    async def unavailable(request: Request, exc: Exception) -> Response:
        return PlainTextResponse("handled", 503)

    routes = [Route("/404", not_found), Route("/418", out_of_stock), Route("/503", broken), Route("/stream", stream)]
    return Starlette(routes=routes, exception_handlers={LookupError: teapot, ZeroDivisionError: unavailable})


class PassesOn(BaseHTTPMiddleware):
    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


FRAMES: dict[str, Callable[[Starlette], ASGIApp]] = {
    "alone": lambda app: TraceMiddleware(app),
    "around BaseHTTPMiddleware": lambda app: TraceMiddleware(PassesOn(app)),
    "inside BaseHTTPMiddleware": lambda app: PassesOn(TraceMiddleware(app)),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
@pytest.mark.parametrize(("path", "ending"), [("/nowhere", 404), ("/404", 404), ("/418", 418)])
def test_handled_exceptions_below_500_are_no_errors(
    spans: CapturedSpans, frame: Callable[[Starlette], ASGIApp], path: str, ending: int
) -> None:
    """A 404 of the router, an HTTPException, and an exception that a handler turned into 418 leave no error behind."""
    drive(frame(shop()), http_scope(path))

    assert ending_of(spans.server) == Ending(ending)


def test_a_handled_exception_that_becomes_a_5xx_is_an_error(spans: CapturedSpans) -> None:
    """The code is the error type where the exception itself stays inside of the framework."""
    drive(TraceMiddleware(shop()), http_scope("/503"))

    assert ending_of(spans.server) == Ending(503, StatusCode.ERROR, "503")


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_stream_with_a_background_task_lasts_as_long_as_the_stream(
    spans: CapturedSpans, frame: Callable[[Starlette], ASGIApp]
) -> None:
    """Also through a middleware that pumps the response from task to task, in either order."""
    app = shop()
    served = drive(frame(app), http_scope("/stream"))

    assert [message["type"] for message in served.messages].count("http.response.start") == 1
    assert ending_of(spans.server) == Ending(200)
    assert milliseconds(spans.server) >= 19
    assert spans.server.end_time is not None
    assert spans.server.end_time <= app.state.began


# --- options ---

OPTIONS: list[dict[str, Any]] = [
    {"response_header": "x-id"},
    {"capture_response_headers": "x-id", "capture_request_headers": "x-id"},
    {"on_request": lambda span, scope: None, "on_response": lambda span, scope, message: None},
    {"trust": False, "trusted_proxies": "127.0.0.1", "exclude": "^/health", "redact": "token"},
    {"metrics": ()},
    {"websocket": "handshake"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options))
@pytest.mark.parametrize("measured", [False, True], ids=["", "measured"])
def test_options_do_not_change_how_a_request_ends(
    spans: CapturedSpans, options: dict[str, Any], measured: bool
) -> None:
    """With any option, trailers still end the span, an exception behind a 500 is still recorded, and so on."""
    sizes = ("http.server.request.duration", "http.server.request.body.size", "http.server.response.body.size")
    options = dict(options)
    if measured:
        reader = InMemoryMetricReader()
        options = {"metrics": sizes, **options, "meter_provider": MeterProvider([reader], shutdown_on_exit=False)}
    endings = []
    every: list[tuple[int, Steps]] = [
        (3, Steps(start(trailers=True), body(b"x"), 5, TRAILERS, 5)),
        (3, Steps(start(), body(b"x", True), 5, body(), 5, KeyError())),
        (2, Steps(start(500), 5, body(), 5, ValueError())),
        (1, Steps(5, ValueError())),
    ]
    for last, app in every:
        spans.clear()
        drive(TraceMiddleware(app, **options))
        endings.append(ending_of(spans.server))
        assert app.saw_the_end(spans.server, last)
        assert len(spans.of_kind(SpanKind.INTERNAL)) == (KeyError in map(type, app.steps))

    error = Ending(500, StatusCode.ERROR, "ValueError", 1)
    assert endings == [Ending(200), Ending(200), error, error]


# --- failures, crossed with the moment and the status ---


class ClientDisconnect(Exception):
    """What frameworks raise when the client has gone: known by its name."""


MOMENTS = {
    "before the start": 0,
    "after the start": 1,
    "in the body": 2,
    "after the last byte": 3,
}
ERROR, UNSET = StatusCode.ERROR, StatusCode.UNSET
GONE_MARK, CANCELLED_MARK = "asgi_trace.client_disconnected", "asgi_trace.cancelled"
CANCELLED_ERROR = "asyncio.exceptions.CancelledError"


async def fail(failure: str, receive: Receive) -> None:
    if failure in ("error", "error behind a disconnect"):
        if failure != "error":
            assert await receive() == GONE
        raise ValueError("no stock")
    if failure == "group":
        raise ExceptionGroup("two", [ValueError("a"), KeyError("b")])
    if failure in ("cancelled", "cancelled behind a disconnect"):
        if failure != "cancelled":
            assert await receive() == GONE
        raise asyncio.CancelledError
    if failure == "disconnect raised":
        raise ClientDisconnect
    if failure == "disconnects in a group":
        raise ExceptionGroup("gone", [ClientDisconnect(), ExceptionGroup("inner", [ClientDisconnect()])])
    if failure == "disconnect seen":
        assert await receive() == GONE
    assert failure in ("returns", "disconnect seen")


def broken_off(status: int, failure: str, *, started: bool) -> Ending:
    """What the span says of a response that the server has not got in full."""
    answered: tuple[StatusCode, str | None] = (ERROR, str(status)) if started and status >= 500 else (UNSET, None)
    sent = status if started else None
    return {
        "error": Ending(sent or 500, ERROR, "ValueError", 1),
        "group": Ending(sent or 500, ERROR, GROUP, 1),
        "cancelled": Ending(sent, ERROR, CANCELLED_ERROR, 0, CANCELLED_MARK),
        "returns": Ending(sent or 500, ERROR, "incomplete_response"),
        "disconnect raised": Ending(sent, *answered, mark=GONE_MARK),
        "disconnects in a group": Ending(sent, *answered, mark=GONE_MARK),
        "disconnect seen": Ending(sent, *answered, mark=GONE_MARK),
        "cancelled behind a disconnect": Ending(sent, *answered, mark=GONE_MARK),
        "error behind a disconnect": Ending(sent, ERROR, "ValueError", 1, GONE_MARK),
    }[failure]


def complete(status: int, failure: str) -> tuple[Ending, Ending | None]:
    """What the span says of a response that the server has in full, and what its background child does."""
    fails = {"error": "ValueError", "error behind a disconnect": "ValueError", "group": GROUP}
    cancelled = failure in ("cancelled", "cancelled behind a disconnect")
    if status >= 500:
        named = failure in fails
        return Ending(status, ERROR, fails.get(failure, str(status)), int(named)), None
    if failure in fails:
        return Ending(status), Ending(None, ERROR, fails[failure], 1)
    return Ending(status), Ending(None, ERROR, CANCELLED_ERROR, 0, CANCELLED_MARK) if cancelled else None


FAILURES = [
    "error",
    "group",
    "cancelled",
    "returns",
    "disconnect raised",
    "disconnects in a group",
    "disconnect seen",
    "cancelled behind a disconnect",
    "error behind a disconnect",
]


@pytest.mark.parametrize("status", [200, 404, 503])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("failure", FAILURES)
def test_failures_are_told_apart_at_every_moment(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, failure: str, moment: str, status: int
) -> None:
    """Exceptions, cancellation, a client that leaves and a response left unfinished each say what they are, once."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == REQUEST
        for message in (start(status), body(b"x", True), body(b"y"))[: MOMENTS[moment]]:
            await send(message)
        await fail(failure, receive)

    traced(app, script=(REQUEST, GONE))

    if moment == "after the last byte":
        server, background = complete(status, failure)
    else:
        server, background = broken_off(status, failure, started=moment != "before the start"), None
    assert ending_of(spans.server) == server
    assert [ending_of(span) for span in spans.of_kind(SpanKind.INTERNAL)] == ([background] if background else [])
    assert len(spans) == 1 + bool(background)
    assert [record for record in caplog.records if record.name != "asyncio"] == []


def breaking(kind: str, error: BaseException, at: int) -> Callable[[], Callable[[Message], None]]:
    """A server whose `send` raises at the nth message of that kind."""

    def made() -> Callable[[Message], None]:
        seen = 0

        def on_send(message: Message) -> None:
            nonlocal seen
            seen += message["type"] == kind
            if message["type"] == kind and seen == at:
                raise error

        return on_send

    return made


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("wrapped", [False, True], ids=["as it is", "as the framework's own"])
@pytest.mark.parametrize(("kind", "at"), [("http.response.body", 1), ("http.response.body", 2)])
def test_a_send_that_fails_means_that_the_client_has_gone(
    spans: CapturedSpans, kind: str, at: int, wrapped: bool, status: int
) -> None:
    """An OSError out of the server's `send` is a client that has left, in the middle of a body or at its last byte."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            for message in (start(status), body(b"x", True), body(b"y")):
                await send(message)
        except OSError as exc:
            if wrapped:
                raise RuntimeError("the response is broken") from exc
            raise

    traced(app, on_send=breaking(kind, ConnectionResetError("gone"), at))

    answered: tuple[StatusCode, str | None] = (ERROR, str(status)) if status >= 500 else (UNSET, None)
    if wrapped:
        assert ending_of(spans.server) == Ending(status, ERROR, "RuntimeError", 1, GONE_MARK)
    else:
        assert ending_of(spans.server) == Ending(status, *answered, mark=GONE_MARK)


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("wrapped", [False, True], ids=["as it is", "as the framework's own"])
def test_a_start_that_cannot_be_sent_has_no_status(spans: CapturedSpans, wrapped: bool, status: int) -> None:
    """A client that has left before the response started has got no status code, whatever the application meant."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send(start(status))
        except OSError as exc:
            if wrapped:
                raise ClientDisconnect from exc
            raise

    traced(app, on_send=breaking("http.response.start", ConnectionResetError("gone"), 1))

    assert ending_of(spans.server) == Ending(None, UNSET, mark=GONE_MARK)


class Opaque(Exception):
    """An exception that cannot be looked into."""

    @property
    def exceptions(self) -> tuple[Exception, ...]:
        raise RuntimeError("no parts")


def test_an_exception_that_cannot_be_looked_into_still_ends_the_span(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """What cannot be told is an error of no known type: the span ends, the gauge falls, the exception goes on."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    options: dict[str, Any] = {"meter_provider": meters, "metrics": "http.server.active_requests"}
    served = drive(TraceMiddleware(responding(Opaque()), **options))

    assert type(served.exception) is Opaque
    assert ending_of(spans.server)[1:3] == (ERROR, "_OTHER")
    assert [point.value for point in points_of(reader)["http.server.active_requests"]] == [0]
    assert [record.message for record in caplog.records] == ["ending a request failed; the request goes on without it"]
    meters.shutdown()


def test_a_nursery_that_was_cancelled_is_a_cancellation(spans: CapturedSpans) -> None:
    """A group of nothing but cancellations, however nested, is one: no event, named by what is in it."""

    class Cancelled(BaseException):
        """As trio calls it."""

    group = BaseExceptionGroup("nursery", [Cancelled(), BaseExceptionGroup("inner", [Cancelled()])])
    traced(responding(start(), group))
    assert ending_of(spans.server) == Ending(200, ERROR, f"{__name__}.{Cancelled.__qualname__}", mark=CANCELLED_MARK)

    spans.clear()
    traced(responding(start(), BaseExceptionGroup("nursery", [Cancelled(), ValueError()])))
    assert ending_of(spans.server) == Ending(200, ERROR, GROUP.replace("Exc", "BaseExc"), 1)


@pytest.mark.parametrize("shown", ["in the message", "in the cause", "in a part"])
def test_an_exception_with_undecodable_text_is_recorded_readably(spans: CapturedSpans, shown: str) -> None:
    """Lone surrogates, as in the name of a file, come out as `?`: an exporter would leave the whole text out."""
    broken = ValueError("file \udcff")
    exc: BaseException = {
        "in the message": broken,
        "in the cause": RuntimeError("é"),
        "in a part": ExceptionGroup("several", [broken]),
    }[shown]
    if shown == "in the cause":
        exc.__cause__ = broken
    traced(responding(exc))

    (event,) = spans.server.events
    recorded = dict(event.attributes or {})
    assert "file ?" in str(recorded["exception.stacktrace"])
    assert recorded["exception.message"] == {"in the message": "file ?", "in the cause": "é"}.get(shown, str(exc))
    for value in recorded.values():
        str(value).encode()


def test_a_group_with_a_real_error_in_it_is_an_error(spans: CapturedSpans) -> None:
    """A client that left while something else failed does not hide what failed."""
    traced(responding(start(), ExceptionGroup("both", [ClientDisconnect(), ValueError()])))

    assert ending_of(spans.server) == Ending(200, ERROR, GROUP, 1)


def test_an_oserror_of_the_application_is_its_own_failure(spans: CapturedSpans) -> None:
    """A missing file in the middle of a body is an error: it did not come out of `send`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        Path("/nowhere/at/all").read_bytes()

    traced(app)

    assert ending_of(spans.server) == Ending(200, ERROR, "FileNotFoundError", 1)


def test_an_oserror_of_the_application_after_the_client_has_left_is_its_own_failure(spans: CapturedSpans) -> None:
    """A database that cannot be reached is an error, also when the client has not waited for it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert await receive() == GONE
        raise ConnectionRefusedError("database")

    traced(app, script=[GONE])

    assert ending_of(spans.server) == Ending(None, ERROR, "ConnectionRefusedError", 1, GONE_MARK)


def test_a_last_message_that_cannot_be_sent_is_a_client_gone_though_the_application_swallows_it(
    spans: CapturedSpans,
) -> None:
    """An application that returns in peace after its last `send` failed has not left its response unfinished."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        try:
            await send(body(b"x"))
        except OSError:
            return

    traced(app, on_send=breaking("http.response.body", BrokenPipeError(), 1))

    assert ending_of(spans.server) == Ending(200, mark=GONE_MARK)


@pytest.mark.parametrize("status", [200, 499, 500])
@pytest.mark.parametrize("failure", [None, ClientDisconnect(), ValueError("no stock")])
def test_an_answer_to_a_client_that_had_left_is_not_counted(
    spans: CapturedSpans, status: int, failure: Exception | None
) -> None:
    """What is answered after the client has left was never sent: no code, and no error but a real one.

    Frameworks answer 500 to their own disconnect exception before they raise it on.
    """

    app = Steps(RECEIVE, RECEIVE, start(status), body(), *([] if failure is None else [failure]))
    traced(app, script=[REQUEST, GONE])

    if isinstance(failure, ValueError):
        assert ending_of(spans.server) == Ending(None, ERROR, "ValueError", 1, GONE_MARK)
    else:
        assert ending_of(spans.server) == Ending(None, mark=GONE_MARK)
    assert app.saw_the_end(spans.server, 1)
    assert len(spans) == 1


def test_a_last_message_that_the_server_refuses_leaves_the_response_unfinished(spans: CapturedSpans) -> None:
    """A server that complains about the last message (the length is wrong) has not completed the response."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        with suppress(RuntimeError):
            await send(body(b"x"))

    traced(app, on_send=breaking("http.response.body", RuntimeError("shorter than Content-Length"), 1))

    assert ending_of(spans.server) == Ending(200, ERROR, "incomplete_response")


def test_a_client_that_leaves_during_the_response_is_seen_though_it_was_finished(spans: CapturedSpans) -> None:
    """A client that leaves in the middle is marked also when the application sends the rest into the void."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        assert await receive() == GONE
        await send(body())

    traced(app, script=[GONE])

    assert ending_of(spans.server) == Ending(200, mark=GONE_MARK)


def test_a_disconnect_after_the_complete_response_is_no_news(spans: CapturedSpans) -> None:
    """Servers report a disconnect to whoever listens after the response: that is every request's fate."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await OK(scope, receive, send)
        assert await receive() == GONE

    traced(app)

    assert ending_of(spans.server) == Ending(200)


def test_the_span_of_a_client_that_left_ends_when_it_left(spans: CapturedSpans) -> None:
    """What is done for a client after it has left, background tasks included, does not lengthen the span."""

    app = Steps(start(), body(b"x", True), RECEIVE, 10)
    drive(TraceMiddleware(app), script=[0.02, GONE])

    assert ending_of(spans.server) == Ending(200, mark=GONE_MARK)
    assert app.saw_the_end(spans.server, 2)
    assert milliseconds(spans.server) >= 19


def test_a_cancelled_send_of_the_last_message_is_still_a_complete_response(spans: CapturedSpans) -> None:
    """The server that cancels the sender of the last byte has got it: what came before is not undone."""

    async def slow_to_return(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise asyncio.CancelledError

    drive(TraceMiddleware(OK), on_send=slow_to_return)

    assert ending_of(spans.server) == Ending(200)


def test_the_exception_event_is_recorded_once_with_its_stack(spans: CapturedSpans) -> None:
    """An escaping exception is one event with class, message and traceback; its message describes the status."""
    traced(responding(start(), ValueError("no stock")))

    (event,) = spans.server.events
    attributes = dict(event.attributes or {})
    assert event.name == "exception"
    assert attributes["exception.type"] == "ValueError"
    assert attributes["exception.message"] == "no stock"
    assert "asgi.py" in str(attributes["exception.stacktrace"])
    assert spans.server.status.description == "no stock"


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_that_cannot_be_printed_still_ends_the_span(spans: CapturedSpans) -> None:
    """An exception whose `__str__` fails is an error of its class, and reaches the server as it was."""
    served = traced(responding(Unprintable()))

    assert type(served.exception) is Unprintable
    assert spans.server.status.status_code is ERROR
    assert attributes_of(spans.server)["error.type"] == f"{__name__}.Unprintable"


def test_a_500_with_the_exception_behind_it_keeps_the_class(spans: CapturedSpans) -> None:
    """The exception that a framework re-raises after its 500 page is recorded, at the time when the page was sent."""
    app = Steps(start(500), body(b"oops"), 10, ValueError("no stock"))
    traced(app)

    assert ending_of(spans.server) == Ending(500, ERROR, "ValueError", 1)
    assert app.saw_the_end(spans.server, 1)


def test_the_same_exception_object_reaches_the_server(spans: CapturedSpans) -> None:
    """Whatever is raised is raised on, the very object; cancellation too."""
    for exc in (ValueError("a"), asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(3), GeneratorExit()):
        assert drive(TraceMiddleware(responding(exc))).exception is exc
    assert len(spans) == 5


def test_a_cancelled_task_is_recorded_and_cancelled(spans: CapturedSpans) -> None:
    """A task that the server cancels ends as cancelled, and its span says so without inventing a response."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(10)

    async def main() -> bool:
        task = asyncio.ensure_future(TraceMiddleware(app)(http_scope(), _never, _nowhere))
        await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    assert ending_of(spans.server) == Ending(None, ERROR, CANCELLED_ERROR, 0, CANCELLED_MARK)


async def _never() -> Message:
    await asyncio.sleep(10)
    raise AssertionError


async def _nowhere(message: Message) -> None:
    pass


# --- background work ---


def test_a_background_failure_leaves_the_delivered_200_clean(spans: CapturedSpans) -> None:
    """It is recorded exactly once, on a child with the route's name that starts where the response ended."""
    traced(Steps(start(), body(b"ok"), 10, KeyError("mail")))

    server, (child,) = spans.server, spans.of_kind(SpanKind.INTERNAL)
    assert ending_of(server) == Ending(200)
    assert child.name == "GET background"
    assert child.parent is not None
    assert child.parent.span_id == server.context.span_id
    assert ending_of(child) == Ending(None, ERROR, "KeyError", 1)
    assert child.status.description == "'mail'"
    assert child.start_time == server.end_time
    assert milliseconds(child) >= 9


def test_background_spans_have_the_request_as_parent(spans: CapturedSpans) -> None:
    """What a background task traces belongs to the request's trace, below its span."""
    tracer = spans.tracer_provider.get_tracer("test")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await OK(scope, receive, send)
        with tracer.start_as_current_span("mail"):
            pass

    traced(app)

    (mail,) = spans.children_of(spans.server)
    assert mail.name == "mail"


# --- coroutines that nobody finishes ---


def _suspended(app: ASGIApp) -> Coroutine[Any, Any, None]:
    """A request that waits for its client, in a context that is gone; nobody will wake it up."""

    @asyncio.coroutines.types.coroutine  # type: ignore[attr-defined, untyped-decorator]
    def receive() -> Any:
        yield

    request = TraceMiddleware(app)(http_scope(), receive, _nowhere)
    assert isinstance(request, Coroutine)
    contextvars.copy_context().run(request.send, None)
    return request


async def _waits(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()


async def _converts(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await receive()
    except GeneratorExit:
        raise RuntimeError("cleaning up failed") from None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("app", [_waits, _converts], ids=["as it is", "turned into another exception"])
def test_a_request_closed_by_the_garbage_collector_is_silent(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, app: ASGIApp
) -> None:
    """It is closed in a context that is not its own: no complaint about detaching, and the span ends as cancelled."""
    before = get_current_span()
    request = _suspended(app)
    del request
    gc.collect()

    assert [record.getMessage() for record in caplog.records] == []
    assert get_current_span() is before
    assert len(spans) == 1
    if app is _waits:
        assert ending_of(spans[0]) == Ending(None, ERROR, "GeneratorExit", 0, CANCELLED_MARK)


def test_a_stream_left_by_its_client_is_closed_quietly(spans: CapturedSpans, caplog: pytest.LogCaptureFixture) -> None:
    """A generator that is collected after its request keeps the request's span as parent, and logs nothing."""
    caplog.set_level(logging.DEBUG, "opentelemetry")
    tracer = spans.tracer_provider.get_tracer("test")
    parents: list[object] = []

    async def events() -> Any:
        try:
            while True:
                with tracer.start_as_current_span("event"):
                    parents.append(get_current_span())
                yield b"data: 1\n\n"
        finally:
            parents.append("closed")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start())
        stream = events()
        await send(body(await stream.__anext__(), True))
        assert await receive() == GONE

    traced(app, script=[GONE])
    gc.collect()

    assert parents[-1] == "closed"
    assert [span.name for span in spans.children_of(spans.server)] == ["event"]
    assert [record.getMessage() for record in caplog.records] == []


# --- whatever the ending, it is the end ---


@pytest.mark.parametrize("status", [200, 503])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("failure", FAILURES)
def test_each_ending_is_measured_once_and_as_its_span(
    spans: CapturedSpans, failure: str, moment: str, status: int
) -> None:
    """One point of the histogram with the span's own duration and error type, and no request left on the gauge."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for message in (start(status), body(b"x", True), body(b"y"))[: MOMENTS[moment]]:
            await send(message)
        await fail(failure, receive)

    instruments = ("http.server.request.duration", "http.server.active_requests")
    drive(TraceMiddleware(app, meter_provider=meters, metrics=instruments), script=[GONE])

    points = points_of(reader)
    (duration,), (active,) = points["http.server.request.duration"], points["http.server.active_requests"]
    span = spans.server
    attributes = attributes_of(span)
    assert duration.count == 1
    assert duration.sum == pytest.approx(milliseconds(span) / 1000)
    for key in ("error.type", "http.response.status_code"):
        assert duration.attributes.get(key) == attributes.get(key)
    assert active.value == 0


def points_of(reader: InMemoryMetricReader) -> dict[str, Any]:
    data = reader.get_metrics_data()
    assert data is not None
    metrics = data.resource_metrics[0].scope_metrics[0].metrics
    return {metric.name: list(metric.data.data_points) for metric in metrics}


def test_each_ending_leaves_the_context_and_the_scope_as_they_were(spans: CapturedSpans) -> None:
    """After a request, however it ended, the server's context holds no span and its scope none of our keys."""
    endings: list[ASGIApp] = [OK, responding(), responding(ValueError()), responding(start(500), body())]

    async def main() -> None:
        for app in endings:
            scope = http_scope()
            keys = set(scope)
            await serve(TraceMiddleware(app), scope)
            assert set(scope) == keys
            assert not get_current_span().get_span_context().is_valid

    asyncio.run(main())
    assert len(spans) == len(endings)


def test_the_same_scope_served_twice_is_two_requests(spans: CapturedSpans) -> None:
    """A scope that a server or a test uses again is traced again."""
    scope = http_scope()
    app = TraceMiddleware(OK)
    for _ in range(2):
        drive(app, scope)

    assert len(spans.of_kind(SpanKind.SERVER)) == 2
