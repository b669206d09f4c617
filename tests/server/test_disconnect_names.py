"""Names that decide after a client has left: the frameworks' own exceptions, and what looks like a server's `send`."""

from __future__ import annotations

import asyncio
from functools import partial
from types import FunctionType
from typing import Any

import pytest

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans

from ..support.asgi import CONNECT, GONE, REQUEST, attributes_of, body, drive, http_scope, start, websocket_scope
from ..support.connection import Connection, run
from ..support.endings import ERROR, GONE_MARK, UNSET, Ending, ExceptionGroup, ending_of
from ..support.websockets import opened, outcome

FRAMEWORKS = [
    ("blacksheep.exceptions", "MessageAborted"),
    ("blacksheep.server.websocket", "WebSocketDisconnectError"),
    ("django.core.handlers.asgi", "RequestAborted"),
    ("falcon.errors", "WebSocketDisconnected"),
    ("litestar.exceptions", "WebSocketDisconnect"),
    ("starlette.requests", "ClientDisconnect"),
    ("starlette.websockets", "WebSocketDisconnect"),
    ("starlette.websockets", "WebSocketDisconnected"),
    ("starlette", "ClientDisconnect"),
]
OTHERS = [
    ("shop.errors", "ClientDisconnect"),
    ("notstarlette.requests", "ClientDisconnect"),
    ("shop.starlette", "ClientDisconnect"),
    ("starlette.requests", "clientdisconnect"),
    ("starlette.exceptions", "HTTPException"),
    ("django.core.handlers.asgi", "ClientDisconnect"),
]


def named(module: str, name: str) -> type[Exception]:
    """A class of that name, as the package has it."""
    return type(name, (Exception,), {"__module__": module})


def raising_after_a_disconnect(exc: Exception) -> ASGIApp:
    """An application that hears of the disconnect, and whose framework then raises."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
        await receive()
        raise exc

    return app


def ended(spans: CapturedSpans, exc: Exception) -> Ending:
    """How the span of a request ends whose client has left, before `exc` is raised."""
    spans.clear()
    drive(TraceMiddleware(raising_after_a_disconnect(exc)), http_scope(), [GONE])
    return ending_of(spans.server)


@pytest.mark.parametrize(("module", "name"), FRAMEWORKS)
def test_a_frameworks_own_exception_says_only_that_the_client_has_left(
    spans: CapturedSpans, module: str, name: str
) -> None:
    """After a disconnect it is no error: alone, derived from, or in a group of none but such."""
    kind = named(module, name)
    derived = type("OfTheApplication", (kind,), {"__module__": "shop.errors"})
    group = ExceptionGroup("tasks", [kind(), ExceptionGroup("more", [derived()])])
    for exc in (kind(), derived(), group):
        assert ended(spans, exc) == Ending(None, mark=GONE_MARK)

    spans.clear()
    script = [CONNECT, {"type": "websocket.disconnect", "code": 1001}]
    drive(TraceMiddleware(raising_after_a_disconnect(kind())), websocket_scope(), script)
    assert outcome(spans.server) == opened(close=1001)


@pytest.mark.parametrize(("module", "name"), OTHERS)
def test_another_packages_exception_is_an_error_though_the_client_has_left(
    spans: CapturedSpans, module: str, name: str
) -> None:
    """The package and the name both count: what only resembles a framework's class has failed by itself."""
    kind = named(module, name)
    framework = named(*FRAMEWORKS[5])
    for exc, error in (
        (kind(), f"{module}.{name}"),
        (ExceptionGroup("tasks", [framework(), kind()]), None),
    ):
        ending = ended(spans, exc)
        assert (ending.status, ending.events, ending.mark) == (ERROR, 1, GONE_MARK)
        if error is not None:
            assert ending.error == error


# --- whose `send` it is, where `receive` knows nothing ---


async def _answers(scope: Scope, receive: Receive, send: Send) -> None:
    for message in (start(), body(b"x", True), body(b"y")):
        await send(message)


def _of_module(module: str, send: Send) -> Send:
    """A `send` that a package has put around another one."""

    async def wrapped(message: Message) -> None:
        await send(message)

    renamed: Any = FunctionType(
        wrapped.__code__, {"__name__": module, "__builtins__": __builtins__}, None, None, wrapped.__closure__
    )
    renamed.__module__ = module
    function: Send = renamed
    return function


@pytest.mark.parametrize(
    ("module", "is_evidence"),
    [
        ("daphne.http_protocol", True),
        ("granian.asgi", True),
        ("gunicorn.asgi.protocol", True),
        ("hypercorn.protocol.http_stream", True),
        ("mangum.protocols.http", True),
        ("uvicorn.protocols.http.h11_impl", True),
        ("uvicorn", True),
        ("uvicorn_worker.middleware", False),
        ("shop.uvicorn", False),
        ("Uvicorn.protocols", False),
        ("starlette.middleware.gzip", False),
    ],
)
def test_a_servers_package_is_its_own_evidence(spans: CapturedSpans, module: str, is_evidence: bool) -> None:
    """An OSError of a server's `send` means that the client has left, also where that holds another `send`."""
    connection = Connection(REQUEST, gone=True, deaf=True)
    app = TraceMiddleware(_answers)

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        await app(scope, receive, _of_module(module, send))

    assert type(run(server, http_scope(), connection)) is BrokenPipeError
    assert (GONE_MARK in attributes_of(spans.server)) is is_evidence
    assert spans.server.status.status_code is (UNSET if is_evidence else ERROR)


def _gone(message: Message) -> None:
    raise BrokenPipeError("the client has left")


class Holder:
    """Has something under one name, and a `send` of its own."""

    def __init__(self, name: str, value: object) -> None:
        setattr(self, name, value)

    async def pass_on(self, message: Message) -> None:
        _gone(message)


async def _with_arguments(first: object, message: Message, **more: object) -> None:
    _gone(message)


async def _with_send(send: object, message: Message) -> None:
    _gone(message)


def _closing_over_original_send(original_send: object) -> Send:
    async def wrapped(message: Message) -> None:
        if original_send is not None:
            _gone(message)

    return wrapped


def _closing_over_on_send(on_send: object) -> Send:
    async def wrapped(message: Message) -> None:
        if on_send is not None:
            _gone(message)

    return wrapped


SENDS: list[tuple[str, Send, bool]] = [
    ("an attribute send", Holder("send", print).pass_on, False),
    ("an attribute _send", Holder("_send", print).pass_on, False),
    ("an attribute __send__", Holder("__send__", print).pass_on, False),
    ("an attribute original_send", Holder("original_send", print).pass_on, False),
    ("an attribute _next_send_", Holder("_next_send_", print).pass_on, False),
    ("an attribute asgi_on_send", Holder("asgi_on_send", print).pass_on, False),
    ("an attribute on_send", Holder("on_send", print).pass_on, True),
    ("an attribute _on_send", Holder("_on_send", print).pass_on, True),
    ("an attribute on_first_send", Holder("on_first_send", print).pass_on, True),
    ("an attribute resend", Holder("resend", print).pass_on, True),
    ("an attribute send_bytes", Holder("send_bytes", print).pass_on, True),
    ("a send that is no function", Holder("send", "yes").pass_on, True),
    ("an argument send", partial(_with_send, print), False),
    ("an argument by name", partial(_with_arguments, None, inner_send=print), False),
    ("an argument by another name", partial(_with_arguments, print), True),
    ("an object that holds one", partial(_with_arguments, Holder("_send", print)), False),
    ("a closure over one", _closing_over_original_send(print), False),
    ("a closure over a hook", _closing_over_on_send(print), True),
]


@pytest.mark.parametrize(("send", "is_evidence"), [pytest.param(s, e, id=name) for name, s, e in SENDS])
def test_a_send_that_has_another_one_at_hand_is_a_middlewares(
    spans: CapturedSpans, send: Send, is_evidence: bool
) -> None:
    """Its OSError may be a failure of its own; where it has none to pass the message to, the client has left."""

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> None:
        with pytest.raises(BrokenPipeError):
            await TraceMiddleware(_answers)(http_scope(), receive, send)

    asyncio.run(main())
    assert (GONE_MARK in attributes_of(spans.server)) is is_evidence
    assert spans.server.status.status_code is (UNSET if is_evidence else ERROR)


@pytest.mark.parametrize(
    ("code", "left"), [(1000, True), (1001, True), (1006, True), (1011, True), (1012, False), (1013, True)]
)
def test_only_a_restart_of_the_service_is_no_client_that_left(spans: CapturedSpans, code: int, left: bool) -> None:
    """Servers that stop cancel their WebSockets and hand out 1012; any other code is the client's own."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        raise asyncio.CancelledError

    drive(TraceMiddleware(app), websocket_scope(), [{"type": "websocket.disconnect", "code": code}])
    attributes = attributes_of(spans.server)
    assert attributes.get("asgi_trace.websocket.close_code") == (code if left else None)
    assert ("error.type" in attributes) is not left


@pytest.mark.parametrize(("code", "recorded"), [(None, 1006), (1001, 1001), ("odd", 1005)])
def test_the_code_of_an_oserror_is_the_close_code(spans: CapturedSpans, code: Any, recorded: int) -> None:
    """A server whose exception says with which code the client has closed is believed; else it is 1006."""
    exc = ConnectionResetError("gone")
    if code is not None:
        exc.code = code  # type: ignore[attr-defined]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "news"})

    def broken(message: Message) -> None:
        if message["type"] == "websocket.send":
            raise exc

    drive(TraceMiddleware(app), websocket_scope(), [CONNECT], broken)
    assert outcome(spans.server) == opened(sent=1, close=recorded)
