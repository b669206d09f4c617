"""What is no evidence that the client left: names of classes, and the clients of other connections."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind
from starlette.requests import ClientDisconnect
from starlette.websockets import WebSocketDisconnect

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send
from asgi_trace.routes import report_exception
from asgi_trace.testing import CapturedSpans

from ..support.asgi import (
    CONNECT,
    OK,
    attributes_of,
    body,
    http_scope,
    responding,
    start,
    websocket_scope,
)
from ..support.connection import Connection, run
from ..support.endings import (
    ERROR,
    GONE_MARK,
    GROUP,
    UNSET,
    Ending,
    ExceptionGroup,
    ending_of,
)


async def _swallowed(request: Awaitable[object]) -> None:
    with suppress(OSError):
        await request


def points(reader: InMemoryMetricReader) -> list[dict[str, Any]]:
    """The labels of the duration's points."""
    data = reader.get_metrics_data()
    assert data is not None
    found = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
    return [dict(point.attributes or {}) for point in found]


class ClientDisconnected(Exception):
    """Of the client of a message broker."""


class RequestAborted(ConnectionError):
    """Of a library that calls another service."""


async def _send_to_another(scope: Scope, receive: Receive, send: Send) -> None:
    await Connection(gone=True).send({"type": "websocket.send", "text": "news"})


async def _send_to_another_by_starlette(scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await _send_to_another(scope, receive, send)
    except OSError:
        raise WebSocketDisconnect(1006) from None


def _raising(exc: BaseException) -> ASGIApp:
    return responding(exc)


INNOCENT: dict[str, tuple[ASGIApp, str]] = {
    "a broker's client": (_raising(ClientDisconnected()), f"{__name__}.ClientDisconnected"),
    "another service": (_raising(RequestAborted()), f"{__name__}.RequestAborted"),
    "a socket of another connection": (_send_to_another, "BrokenPipeError"),
    "the framework's word for that": (_send_to_another_by_starlette, "starlette.websockets.WebSocketDisconnect"),
    "a framework's class out of nowhere": (_raising(ClientDisconnect()), "starlette.requests.ClientDisconnect"),
    "a group of them": (
        _raising(ExceptionGroup("gone", [ClientDisconnect(), ClientDisconnected()])),
        GROUP,
    ),
    "a group of one": (_raising(ExceptionGroup("gone", [ClientDisconnect()])), "starlette.requests.ClientDisconnect"),
}


async def _before(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def _in_the_body(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await send(start())
    await send(body(b"x", True))
    await app(scope, receive, send)


async def _behind_a_500(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await app(scope, receive, send)
    except Exception:
        await responding(start(500), body())(scope, receive, send)
        raise


async def _reported(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    try:
        await app(scope, receive, send)
    except Exception as exc:
        report_exception(exc)
        await responding(start(500), body())(scope, receive, send)


async def _in_the_background(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await OK(scope, receive, send)
    await app(scope, receive, send)


async def _on_a_socket(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await app(scope, receive, send)


async def _before_it_is_accepted(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await app(scope, receive, send)


PLACES: dict[str, tuple[Any, int | None]] = {
    "before the response": (_before, 500),
    "in the response": (_in_the_body, 200),
    "behind a 500": (_behind_a_500, 500),
    "reported": (_reported, 500),
    "in the background": (_in_the_background, None),
    "on a WebSocket": (_on_a_socket, 101),
    "before a WebSocket is accepted": (_before_it_is_accepted, 500),
}


@pytest.mark.parametrize(("app", "error"), INNOCENT.values(), ids=INNOCENT)
@pytest.mark.parametrize("place", PLACES)
def test_the_name_of_a_class_is_no_evidence(spans: CapturedSpans, place: str, app: ASGIApp, error: str) -> None:
    """While its own client is there, an exception is an error with its class and its event, wherever it is raised."""
    position, code = PLACES[place]
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    scope = websocket_scope() if "WebSocket" in place else http_scope()
    run(TraceMiddleware(partial(position, app), meter_provider=meters), scope, Connection(CONNECT))

    (span,) = spans.of_kind(SpanKind.INTERNAL if place == "in the background" else SpanKind.SERVER)
    assert ending_of(span) == Ending(code, ERROR, error, 1)
    if scope["type"] == "http":
        expected = (200, None) if place == "in the background" else (code, error)
        assert [(point["http.response.status_code"], point.get("error.type")) for point in points(reader)] == [expected]


def test_each_connections_own_send_is_evidence(spans: CapturedSpans) -> None:
    """The same code with another connection's object is not this one's; with this one's it is, whatever it closes over.

    Three ways in which servers hand out `send`: a method, a partial of one for all, and a closure.
    """

    def closure(gone: bool) -> Send:
        async def send_bytes(message: Message) -> None:
            if gone:
                raise ConnectionResetError

        return send_bytes

    async def for_all(connection: Connection, message: Message) -> None:
        if connection.gone:
            raise ConnectionResetError

    makers: list[Callable[[bool], Send]] = [
        lambda gone: Connection(gone=gone).send,
        lambda gone: partial(for_all, Connection(gone=gone)),
        closure,
    ]
    for make in makers:
        others = make(True)

        async def broadcasts(scope: Scope, receive: Receive, send: Send, others: Send = others) -> None:
            await others({"type": "websocket.send"})

        async def answers_itself(scope: Scope, receive: Receive, send: Send) -> None:
            await send(start())

        for app, gone, marked in ((broadcasts, False, False), (answers_itself, True, True)):
            spans.clear()
            asyncio.run(_swallowed(TraceMiddleware(app)(http_scope(), Connection().receive, make(gone))))
            assert (GONE_MARK in attributes_of(spans.server)) is marked
            assert spans.server.status.status_code is (UNSET if marked else ERROR)
