"""What happens seldom in the life of a request, and must not be seen by the application or its caller."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import Span, StatusCode, get_current_span

from asgi_trace import TraceMiddleware
from asgi_trace._server import exchange, request
from asgi_trace._types import Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans

from ..support.asgi import CONNECT, OK, attributes_of, body, drive, http_scope, responding, start, websocket_scope


def test_a_clock_that_is_set_back_gives_a_span_of_no_length(
    spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A request that seems to end before it began has a duration of 0, not a negative one."""
    for module in (exchange, request):
        monkeypatch.setattr(module, "time_ns", lambda: 1)
    drive(TraceMiddleware(responding(start(503), body())))

    assert spans.server.start_time == spans.server.end_time


class _FailsAtTheEnd(SpanProcessor):
    def on_end(self, span: ReadableSpan) -> None:
        raise OSError("disk full")


@pytest.mark.parametrize("status", [200, 500])
def test_a_span_processor_that_fails_costs_no_response(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """What a span processor raises at a span's end is reported, and the response is the application's."""
    spans.tracer_provider.add_span_processor(_FailsAtTheEnd())
    served = drive(TraceMiddleware(responding(start(status), body(b"ok"))))

    assert (served.status, served.exception) == (status, None)
    assert "disk full" in caplog.text


@pytest.mark.parametrize("exception", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_a_hook_that_ends_the_process_ends_the_span(spans: CapturedSpans, exception: BaseException) -> None:
    """What is meant to end the process passes the hook, is on the span, and the scope can be served again."""

    def hook(span: Span, scope: Any) -> None:
        raise exception

    scope = http_scope()
    before = dict(scope)
    served = drive(TraceMiddleware(OK, on_request=hook), scope)

    assert served.exception is exception
    assert attributes_of(spans.server)["error.type"] == type(exception).__name__
    assert spans.server.status.status_code is StatusCode.ERROR
    assert scope == before


class _Unwritable(dict[str, Any]):
    def __setitem__(self, key: str, value: Any) -> None:
        if key.startswith(("asgi_trace", "fastapi", "starlette", "opentelemetry")):
            raise TypeError("read-only")
        super().__setitem__(key, value)


def test_a_scope_that_takes_no_marks_is_served(spans: CapturedSpans, caplog: pytest.LogCaptureFixture) -> None:
    """A server whose scope cannot be written to gets its response and its span, and one report."""
    served = drive(TraceMiddleware(OK), _Unwritable(http_scope()))

    assert (served.status, len(spans.finished)) == (200, 1)
    assert "marking a request as traced" in caplog.text


@pytest.mark.parametrize("status", [200, 500])
def test_marks_that_the_application_removed_are_not_missed(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    """An application that clears its scope, wholly or in part, is served as often as it likes, and nothing is said."""
    removals: list[Callable[[Scope], object]] = [
        lambda scope: scope.clear(),
        lambda scope: scope.pop("starlette.opentelemetry"),
        lambda scope: [scope.pop(key) for key in list(scope) if key not in http_scope()][:1],
        lambda scope: [scope.pop(key) for key in [key for key in scope if key not in http_scope()][:1]],
        lambda scope: [scope.pop(key) for key in [key for key in scope if key not in http_scope()][1:2]],
    ]
    for remove in removals:

        async def app(scope: Scope, receive: Receive, send: Send, remove: Any = remove) -> None:
            await responding(start(status), body(b"ok"))(scope, receive, send)
            remove(scope)

        spans.clear()
        served = drive(TraceMiddleware(app))
        assert served.exception is None
        assert attributes_of(spans.server).get("error.type") == (None if status == 200 else "500")
    assert caplog.records == []


class _Raises(TextMapPropagator):
    @property
    def fields(self) -> set[str]:
        return set()

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        raise LookupError("no such header")

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        raise LookupError("no such header")


@pytest.mark.parametrize("headers", [[], [(b"traceparent", "00-text-in-place-of-bytes-01")]], ids=["none", "no bytes"])
@pytest.mark.parametrize("propagator", [None, _Raises()], ids=["W3C", "one that raises"])
def test_the_span_of_an_excluded_request_can_be_looked_at(
    propagator: Any, headers: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """An excluded request has a span without a record, whose context and text can be asked for, whatever was sent."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        span = get_current_span()
        seen.extend((span.is_recording(), span.get_span_context().trace_flags & 1, repr(span)))
        await OK(scope, receive, send)

    middleware = TraceMiddleware(app, exclude="^/health$", **({} if propagator is None else {"propagator": propagator}))
    served = drive(middleware, http_scope("/health", headers=headers))

    assert served.status == 200
    assert seen[:2] == [False, 0]
    assert seen[2].startswith("ExcludedSpan(")


class _Odd(dict[str, Any]):
    """A message that a server made of something of its own."""

    def get(self, key: str, default: Any = None) -> Any:
        raise RuntimeError("not like that")


async def _reading(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    if scope["type"] == "http":
        await send(start())
        await send(body(b"ok"))
    else:
        await send({"type": "websocket.accept"})
        await receive()
        await send({"type": "websocket.close"})


@pytest.mark.parametrize(
    ("scope", "script", "report"),
    [
        (http_scope(), [_Odd(type="http.request", body=b"")], "counting a body"),
        (websocket_scope(), [CONNECT, _Odd(type="websocket.disconnect")], "following a WebSocket"),
    ],
    ids=["http", "websocket"],
)
def test_a_message_that_cannot_be_read_reaches_the_application(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, scope: Scope, script: list[Message], report: str
) -> None:
    """A message of the server's that raises when it is looked at is reported, and handed on as it is."""
    provider = MeterProvider([InMemoryMetricReader()])
    served = drive(
        TraceMiddleware(_reading, meter_provider=provider, metrics="http.server.request.body.size"), scope, script
    )

    assert served.exception is None
    assert served.received == len(script)
    assert report in caplog.text
    assert len(spans.finished) == 1


@pytest.mark.parametrize(("status", "is_error"), [(200, False), (404, False), (500, True)])
def test_a_cancellation_after_the_last_byte_takes_nothing_from_the_response(
    spans: CapturedSpans, status: int, is_error: bool
) -> None:
    """The server has everything when its `send` is cancelled: the span is that of a complete response."""

    def on_send(message: Message) -> None:
        if message["type"] == "http.response.body":
            raise asyncio.CancelledError

    served = drive(TraceMiddleware(responding(start(status), body(b"ok"))), on_send=on_send)

    assert isinstance(served.exception, asyncio.CancelledError)
    assert attributes_of(spans.server)["http.response.status_code"] == status
    assert (spans.server.status.status_code is StatusCode.ERROR) is is_error


@pytest.mark.parametrize("measured", [False, True])
def test_a_background_task_that_fails_without_a_provider_is_the_servers_business(
    caplog: pytest.LogCaptureFixture, measured: bool
) -> None:
    """Unsampled requests have no child for what fails after the response; the exception goes to the server."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

    with caplog.at_level(logging.WARNING):
        app = responding(start(), body(b"ok"), ValueError("late"))
        meters = MeterProvider([InMemoryMetricReader()]) if measured else None
        provider = TracerProvider(sampler=ALWAYS_OFF)
        served = drive(TraceMiddleware(app, tracer_provider=provider, meter_provider=meters))

    assert isinstance(served.exception, ValueError)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("scope", "messages", "status"),
    [
        (http_scope(), [start(), body(b"ok")], 200),
        (websocket_scope(), [{"type": "websocket.accept"}], 101),
    ],
    ids=["http", "websocket"],
)
def test_a_message_that_another_task_sends_again_is_the_last_one(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, scope: Scope, messages: list[Message], status: int
) -> None:
    """After a middleware's OSError a task of the application completes the response: it has ended, and only once."""
    tasks: list[asyncio.Task[None]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async def again() -> None:
            await send(messages[-1])

        try:
            for message in messages:
                await send(message)
        except OSError:
            tasks.append(asyncio.ensure_future(again()))

    traced = TraceMiddleware(app, websocket="handshake")

    async def outer(scope: Scope, receive: Receive, send: Send) -> None:
        failures = [OSError("the cache is away")]

        async def cached(message: Message) -> None:
            if message == messages[-1] and failures:
                raise failures.pop()
            await send(message)

        await traced(scope, receive, cached)

    served = drive(outer, scope)

    assert served.exception is None
    assert served.messages == messages
    assert [task.done() for task in tasks] == [True]
    assert attributes_of(spans.server)["http.response.status_code"] == status
    assert "asgi_trace.client_disconnected" not in attributes_of(spans.server)
    assert caplog.records == []
