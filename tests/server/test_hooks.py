"""`on_request` and `on_response`: real objects in, and nothing that they do can hurt a request."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import Span, StatusCode

from asgi_trace import TraceMiddleware, set_route
from asgi_trace._types import Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import OK, attributes_of, body, drive, http_scope, responding, start, websocket_scope


def test_on_request_gets_span_and_scope_before_the_application(spans: CapturedSpans) -> None:
    """It runs once, at the start of the recorded span, with the scope that the application will get."""
    order: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        order.append(scope)
        await OK(scope, receive, send)

    def on_request(span: Span, scope: Scope) -> None:
        assert span.is_recording()
        assert isinstance(span, ReadableSpan)
        assert (span.attributes or {})["url.path"] == "/orders"
        span.set_attribute("tenant", "acme")
        order.append(scope)

    scope = http_scope("/orders")
    drive(TraceMiddleware(app, on_request=on_request), scope)

    assert len(order) == 2
    assert all(seen is scope for seen in order)
    assert attributes_of(spans.server)["tenant"] == "acme"


def test_on_response_gets_the_message_that_starts_the_response(spans: CapturedSpans) -> None:
    """It runs once, with status and headers at hand, while the span is open."""
    seen: list[Message] = []

    def on_response(span: Span, scope: Scope, message: Message) -> None:
        span.set_attribute("answer", message["status"])
        seen.append(message)

    drive(TraceMiddleware(responding(start(404, [(b"x-id", b"1")]), body(b"x", True), body()), on_response=on_response))

    assert seen == [start(404, [(b"x-id", b"1")])]
    assert attributes_of(spans.server)["answer"] == 404


def test_on_response_sees_an_accepted_and_a_denied_socket(spans: CapturedSpans) -> None:
    """For a WebSocket it is `websocket.accept`, or the start of the denial."""
    seen: list[str] = []

    def on_response(span: Span, scope: Scope, message: Message) -> None:
        seen.append(message["type"])

    denial = {"type": "websocket.http.response.start", "status": 401, "headers": []}
    for messages in ([{"type": "websocket.accept"}, {"type": "websocket.send", "text": "x"}], [denial]):
        drive(TraceMiddleware(responding(*messages), on_response=on_response), websocket_scope())

    assert seen == ["websocket.accept", "websocket.http.response.start"]


@pytest.mark.parametrize("hook", ["on_request", "on_response"])
def test_a_hook_that_raises_a_cancellation_is_a_broken_hook(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, hook: str
) -> None:
    """Nothing was cancelled: the request is served, and its span is complete."""

    def raises(*arguments: object) -> None:
        raise asyncio.CancelledError

    options: dict[str, Any] = {hook: raises}
    served = drive(TraceMiddleware(OK, **options))

    assert (served.status, served.exception) == (200, None)
    assert "asgi_trace" not in served.scope
    assert attributes_of(spans.server)["http.response.status_code"] == 200
    assert [record.message for record in caplog.records] == [f"the hook {hook} failed; the request goes on without it"]


def test_on_response_is_not_called_without_a_response(spans: CapturedSpans) -> None:
    """An exception before the start has no response to hook on to."""
    seen: list[object] = []
    drive(TraceMiddleware(responding(ValueError()), on_response=lambda *arguments: seen.append(arguments)))

    assert seen == []
    assert len(spans) == 1


@pytest.mark.parametrize("option", ["on_request", "on_response"])
def test_a_hook_that_raises_changes_nothing_and_is_logged_once(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, option: str
) -> None:
    """Three requests: three clean answers and spans, one error in the log with the hook's traceback, then DEBUG."""
    caplog.set_level(logging.DEBUG, "asgi_trace")

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError("in the hook")

    traced = TraceMiddleware(OK, **{option: broken})  # type: ignore[arg-type]
    bare = drive(OK)
    for _ in range(3):
        assert drive(traced).messages == bare.messages

    assert [span.status.status_code for span in spans] == [StatusCode.UNSET] * 3
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.DEBUG, logging.DEBUG]
    assert f"the hook {option} failed" in caplog.records[0].getMessage()
    assert "ZeroDivisionError: in the hook" in caplog.text


def test_each_middleware_logs_for_itself(spans: CapturedSpans, caplog: pytest.LogCaptureFixture) -> None:
    """Once means once per middleware and kind of failure: one that is known does not hide another."""

    def broken(*arguments: object) -> None:
        raise ZeroDivisionError

    for _ in range(2):
        drive(TraceMiddleware(OK, on_request=broken, on_response=broken))

    assert [record.levelno for record in caplog.records] == [logging.ERROR] * 4


def test_hooks_are_not_called_for_a_span_that_nobody_records() -> None:
    """An unsampled request does not pay for them."""
    called: list[object] = []
    with capture_spans(ALWAYS_OFF):
        traced = TraceMiddleware(
            OK, on_request=lambda *a: called.append(a), on_response=lambda *a: called.append(a), response_header="x-id"
        )
        drive(traced)

    assert called == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_name_that_a_hook_gives_stays(spans: CapturedSpans, fails: bool) -> None:
    """The span keeps the hook's name though a route is found later; the route is recorded all the same."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route("/orders/{id}")
        if fails:
            raise ValueError("no order")
        await OK(scope, receive, send)

    drive(TraceMiddleware(app, on_request=lambda span, scope: span.update_name("checkout")))

    assert spans.server.name == "checkout"
    assert attributes_of(spans.server)["http.route"] == "/orders/{id}"


def test_any_callable_is_a_hook(spans: CapturedSpans) -> None:
    """Methods, partials and objects with `__call__` will do."""

    class Hook:
        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, *arguments: object) -> None:
            self.calls += 1

        def method(self, *arguments: object) -> None:
            self.calls += 1

    hook = Hook()
    for each in (hook, hook.method, partial(hook.method, "x")):
        drive(TraceMiddleware(OK, on_request=each, on_response=each))

    assert hook.calls == 6


def test_an_awaitable_object_is_no_hook() -> None:
    """An object whose `__call__` is a coroutine function is refused at construction, as it would never run."""

    class Awaited:
        async def __call__(self, *arguments: object) -> None:
            pass

    with pytest.raises(TypeError, match="on_request"):
        TraceMiddleware(OK, on_request=Awaited())
