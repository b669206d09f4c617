"""Complete responses of every shape, as raw ASGI, through frameworks and with every option."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus
from time import time_ns
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind, StatusCode
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
    OK,
    Steps,
    body,
    drive,
    http_scope,
    milliseconds,
    responding,
    start,
)
from ..support.endings import (
    Ending,
    ending_of,
    traced,
)

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
