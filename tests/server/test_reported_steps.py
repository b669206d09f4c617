"""What the log says of a step of ours that fails in a request: which one it was, once as ERROR and then as DEBUG."""

from __future__ import annotations

import asyncio
import logging
from pkgutil import resolve_name
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans

from ..support.asgi import CONNECT, RECEIVE, REQUEST, Steps, body, drive, http_scope, responding, start, websocket_scope

OK = Steps(RECEIVE, start(), body(b"ok"))
FAILS = responding(ValueError("no stock"))
FAILS_LATE = responding(start(), body(), ValueError("late"))
UNANSWERED = responding()
SOCKET = Steps(RECEIVE, {"type": "websocket.accept"}, {"type": "websocket.close"})


class Step(NamedTuple):
    """A step that raises, the request in which it does, and what the log says."""

    target: str
    text: str
    app: ASGIApp = OK
    scope: Scope = http_scope()
    options: dict[str, Any] | None = None


SIZES = {"metrics": ("http.server.active_requests", "http.server.response.body.size")}
HANDSHAKE = {"websocket": "handshake"}
STEPS = [
    Step("asgi_trace._propagation.propagator.Propagation.receive", "starting a request"),
    Step("asgi_trace._server.start.time_ns", "starting a request"),
    Step("asgi_trace._server.start._new", "starting a request"),
    Step("asgi_trace._server.start.server_facts", "starting a request"),
    Step("asgi_trace._server.start.RequestMetrics.__init__", "recording a metric"),
    Step("asgi_trace._otel.metrics.Metrics.started", "recording a metric", options=SIZES),
    Step("asgi_trace._otel.metrics.Metrics.finished", "recording a metric"),
    Step("asgi_trace._server.start.CountedBodies.__init__", "recording a metric", options=SIZES),
    Step("asgi_trace._server.metrics.body_size", "counting a body", options=SIZES),
    Step("asgi_trace._server.exchange.read_route", "describing the end of a request"),
    Step("asgi_trace._server.exchange.read_route", "describing the end of a request", app=FAILS),
    Step("opentelemetry.sdk.trace.Span.end", "ending a span", app=FAILS),
    Step("asgi_trace._server.request.Request._last", "following a response"),
    Step("asgi_trace._server.websocket.WebSocket._turn", "following a WebSocket", SOCKET, websocket_scope()),
    Step("asgi_trace._server.websocket.WebSocket._outcome", "ending a handshake", SOCKET, websocket_scope(), HANDSHAKE),
    Step("asgi_trace._server.request.Request.returned", "ending a request", app=UNANSWERED),
    Step("asgi_trace._server.request.Request.failed", "ending a request", app=FAILS),
    Step("asgi_trace._server.exchange.Exchange.background", "ending a request", app=FAILS_LATE),
    Step("asgi_trace._server.exchange.failed_call", "looking whether the client has left", app=FAILS),
    Step("asgi_trace.middleware.remember_failure", "remembering a failed request", app=FAILS),
    Step("asgi_trace.middleware.remember_end", "remembering a request", app=UNANSWERED),
]


def _texts(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """What is said of the step; at INFO an older SDK's own way of measuring may be named."""
    said = [each for each in caplog.records if each.name == "asgi_trace" and each.levelno != logging.INFO]
    return [(record.levelname, record.getMessage()) for record in said]


@pytest.mark.parametrize("step", [pytest.param(each, id=f"{each.target}: {each.text}") for each in STEPS])
def test_the_log_says_which_step_failed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, spans: CapturedSpans, step: Step
) -> None:
    """One ERROR with the step's name and its exception, then DEBUG; what follows from it is not said."""
    owner, _, name = step.target.rpartition(".")
    original: Any = getattr(resolve_name(owner), name)
    waiting: list[Exception] = []

    def broken(*arguments: Any, **named: Any) -> Any:
        """It fails at its first call in a request."""
        if waiting:
            raise waiting.pop()
        return original(*arguments, **named)

    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    middleware = TraceMiddleware(step.app, meter_provider=meters, **(step.options or {}))
    script = [CONNECT] if step.scope["type"] == "websocket" else [REQUEST]
    drive(middleware, dict(step.scope), script)
    monkeypatch.setattr(step.target, broken)
    with caplog.at_level(logging.DEBUG, logger="asgi_trace"):
        for _ in range(2):
            waiting[:] = [ZeroDivisionError(step.target)]
            drive(middleware, dict(step.scope), script)
            assert waiting == []
    monkeypatch.undo()
    text = f"{step.text} failed; the request goes on without it"
    assert _texts(caplog) == [("ERROR", text), ("DEBUG", text)]
    for record in caplog.records:
        assert record.exc_info is not None
        assert record.exc_info[0] is ZeroDivisionError


@pytest.mark.parametrize("hook", ["on_request", "on_response"])
@pytest.mark.parametrize("exc", [RuntimeError("broken"), asyncio.CancelledError()], ids=repr)
def test_the_log_names_the_hook_that_failed(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, hook: str, exc: BaseException
) -> None:
    """Its option stands in the one ERROR, and the response is as without it."""

    def failing(*arguments: object) -> None:
        raise exc

    options: Any = {hook: failing}
    with caplog.at_level(logging.ERROR, logger="asgi_trace"):
        assert drive(TraceMiddleware(OK, **options)).status == 200
    assert _texts(caplog) == [("ERROR", f"the hook {hook} failed; the request goes on without it")]


class _Unflushable(TracerProvider):
    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        raise OSError("disk full")


LIFESPAN: Scope = {"type": "lifespan", "asgi": {"version": "3.0"}}


async def _stops(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


def test_a_provider_that_cannot_be_flushed_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """One WARNING with the provider and the exception, and the server hears of the end."""
    provider = _Unflushable(shutdown_on_exit=False)
    served = drive(TraceMiddleware(_stops, tracer_provider=provider), dict(LIFESPAN))
    assert [message["type"] for message in served.messages][-1] == "lifespan.shutdown.complete"
    (record,) = [record for record in caplog.records if record.name == "asgi_trace"]
    assert (record.levelname, record.getMessage()) == ("WARNING", f"flushing {provider!r} failed")
    assert record.exc_info is not None
    assert record.exc_info[0] is OSError


def test_a_flush_that_cannot_begin_is_said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that can start no more threads stops all the same, with one ERROR."""

    def broken(*arguments: Any, **named: Any) -> Any:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("asgi_trace._server.flush.Thread", broken)
    provider = TracerProvider(shutdown_on_exit=False)
    served = drive(TraceMiddleware(_stops, tracer_provider=provider), dict(LIFESPAN))
    assert [message["type"] for message in served.messages][-1] == "lifespan.shutdown.complete"
    assert _texts(caplog) == [("ERROR", "flushing failed; the request goes on without it")]


@pytest.mark.parametrize("touch", ["receives", "sends"])
def test_a_lifespan_that_has_begun_is_not_answered_for(spans: CapturedSpans, touch: str) -> None:
    """An application that has received or sent something has failed, whatever its exception says of scopes."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if touch == "receives":
            await receive()
        else:
            await send({"type": "lifespan.startup.complete"})
        raise ValueError("unknown scope type 'lifespan'")

    commands: list[Message] = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    served = drive(TraceMiddleware(app), dict(LIFESPAN), commands)
    assert isinstance(served.exception, ValueError)
    assert served.received == (touch == "receives")


def test_an_untrusted_address_of_a_header_is_said_with_the_remedy(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """What to write instead is in the one WARNING: the server's option, ours, and a callable."""
    middleware = TraceMiddleware(OK, trust="10.0.0.0/8")
    scope = http_scope(client=("10.0.0.1", 0))
    scope["headers"] = [*scope["headers"], (b"traceparent", b"00-" + b"1" * 32 + b"-" + b"2" * 16 + b"-01")]
    for _ in range(2):
        drive(middleware, dict(scope))
    ((level, text),) = _texts(caplog)
    assert level == "WARNING"
    for part in ("so these callers are untrusted", "--no-proxy-headers", "trusted_proxies", "trust= a callable"):
        assert part in text
