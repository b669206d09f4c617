"""Whatever fails in here, the request goes on: every function of the package, and every call into the SDK, is made to
raise, one at a time, in every kind of request.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from types import FunctionType
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from starlette.requests import ClientDisconnect

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Message

from ..support.actions import App, listening
from ..support.asgi import GONE, RECEIVE, REQUEST, TRACEPARENT, body, drive, http_scope, start, websocket_scope

NAMES = (
    "_options.capture_headers _options.exclude _options.redact"
    " _otel.exceptions _otel.metrics _otel.tracers"
    " _propagation.baggage _propagation.propagator _propagation.traceparent"
    " _routing.litestar_mounts _routing.scope _routing.starlette_mounts"
    " _semconv.client _semconv.http _semconv.server"
    " _server.coexistence _server.config _server.current _server.disconnect _server.exchange _server.excluded_span"
    " _server.failed_request _server.flush _server.forwarded _server.metrics _server.networks _server.request"
    " _server.response_header _server.start _server.trust _server.websocket"
    " middleware routes"
)
MODULES = [importlib.import_module(f"asgi_trace.{name}") for name in NAMES.split()]
SHELLS = {
    "TraceMiddleware.__call__",
    "TraceMiddleware._failed",
    "_restored",
    "Exchange.end",
    "Request.receive",
    "Request.send",
    "Request._last",
    "CountedBodies.receive",
    "CountedBodies.send",
    "WebSocket.receive",
    "WebSocket.send",
    "WebSocket._shake",
}
"""What the messages themselves pass through, and what is nothing but a guard: they cannot fail without being broken."""


def functions() -> Iterator[tuple[str, Any, str]]:
    """Every function of the modules above: what to call it, where it lives, and under which name."""
    for module in MODULES:
        for name, value in vars(module).items():
            if isinstance(value, FunctionType) and value.__module__ == module.__name__:
                yield f"{module.__name__}.{name}", module, name
            elif inspect.isclass(value) and value.__module__ == module.__name__:
                for attribute, method in vars(value).items():
                    if isinstance(method, (FunctionType, property)):
                        yield f"{module.__name__}.{name}.{attribute}", value, attribute


TARGETS = {
    label: (owner, name)
    for label, owner, name in functions()
    if not label.endswith(tuple(f".{shell}" for shell in SHELLS))
}


def broken(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one function raise, wherever it has been imported to."""
    owner, name = TARGETS[label]
    original = vars(owner)[name]

    def chaos(*arguments: object, **keywords: object) -> Any:
        raise RuntimeError(f"chaos in {label}")

    if inspect.ismodule(owner):
        for module in MODULES:
            for bound, value in list(vars(module).items()):
                if value is original:
                    monkeypatch.setattr(module, bound, chaos)
    else:
        monkeypatch.setattr(owner, name, property(chaos) if isinstance(original, property) else chaos)


class Scenario(NamedTuple):
    """One way to use the middleware, in which as much of it as possible takes part."""

    scope: Callable[[], dict[str, Any]]
    actions: list[Any]
    options: dict[str, Any]
    script: list[Message]
    on_send: Callable[[Message], None] | None = None


def broken_pipe(message: Message) -> None:
    """A server whose client has left when the body is sent."""
    if message["type"] in ("http.response.body", "websocket.send"):
        raise BrokenPipeError


def busy_scope(**keys: Any) -> dict[str, Any]:
    headers = [
        (b"host", b"shop.test"),
        (b"traceparent", TRACEPARENT),
        (b"tracestate", b"a=1"),
        (b"baggage", b"a=1"),
        (b"forwarded", b"for=1.2.3.4;proto=https;host=shop.test"),
        (b"cookie", b"secret"),
        (b"user-agent", b"test"),
    ]
    return http_scope(**{"path": "/orders/7", "headers": headers, "query_string": b"sig=1&q=2", **keys})


ALL = ("http.server.request.duration", "http.server.active_requests")
SIZES = (*ALL, "http.server.request.body.size", "http.server.response.body.size")
BUSY: dict[str, Any] = {
    "exclude": "^/health",
    "trust": "127.0.0.1",
    "trusted_proxies": "127.0.0.1",
    "capture_request_headers": ["cookie"],
    "capture_response_headers": ["x-id"],
    "redact": "token",
    "on_request": lambda span, scope: None,
    "on_response": lambda span, scope, message: None,
    "response_header": "x-trace-id",
    "metrics": ALL,
}
ANSWER = [RECEIVE, start(200, [(b"x-id", b"1")]), body(b"x", True), body(b"y")]
SOCKET = [
    RECEIVE,
    {"type": "websocket.accept"},
    RECEIVE,
    {"type": "websocket.send", "text": "x"},
    {"type": "websocket.close"},
]
CONNECTED: list[Message] = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "x"}]
SCENARIOS = {
    "traced": Scenario(busy_scope, ANSWER, BUSY, [REQUEST]),
    "plain": Scenario(http_scope, ANSWER, {}, [REQUEST]),
    "sized": Scenario(busy_scope, ANSWER, {**BUSY, "metrics": SIZES, "response_header": "server-timing"}, [REQUEST]),
    "untrusted": Scenario(busy_scope, ANSWER, {**BUSY, "trust": False}, [REQUEST]),
    "excluded": Scenario(busy_scope, ANSWER, {**BUSY, "exclude": "orders"}, [REQUEST]),
    "no forwarded": Scenario(lambda: busy_scope(headers=[(b"x-forwarded-for", b"1.2.3.4")]), ANSWER, BUSY, [REQUEST]),
    "500": Scenario(busy_scope, [start(500), body(), ValueError], BUSY, []),
    "error": Scenario(busy_scope, [RECEIVE, ValueError], BUSY, [REQUEST]),
    "background": Scenario(busy_scope, [*ANSWER, ValueError], BUSY, []),
    "cancelled": Scenario(busy_scope, [asyncio.CancelledError], BUSY, []),
    "gone": Scenario(busy_scope, [RECEIVE, start(200), ClientDisconnect], BUSY, [GONE]),
    "gone while sending": Scenario(busy_scope, ANSWER, BUSY, [REQUEST], broken_pipe),
    "gone while sending to a socket": Scenario(websocket_scope, SOCKET, BUSY, CONNECTED, broken_pipe),
    "never answered": Scenario(busy_scope, [], BUSY, []),
    "method": Scenario(lambda: busy_scope(method="FOO", path="/\xfc"), ANSWER, BUSY, [REQUEST]),
    "routed": Scenario(lambda: busy_scope(app_root_path="", root_path="/a", router=object()), ANSWER, BUSY, [REQUEST]),
    "socket": Scenario(lambda: websocket_scope(headers=busy_scope()["headers"]), SOCKET, BUSY, CONNECTED),
    "handshake": Scenario(websocket_scope, SOCKET, {**BUSY, "websocket": "handshake"}, CONNECTED),
    "refused socket": Scenario(websocket_scope, [{"type": "websocket.close"}], BUSY, CONNECTED),
    "failing socket": Scenario(websocket_scope, [*SOCKET[:2], ValueError], BUSY, CONNECTED),
    "lifespan": Scenario(
        lambda: {"type": "lifespan"}, [RECEIVE, {"type": "lifespan.shutdown.complete"}], {}, [{"type": "x"}]
    ),
}


def without_our_header(messages: list[Message]) -> list[Message]:
    """A failure may cost the response header that tells the trace id, and nothing else."""
    ours = (b"x-trace-id", b"server-timing")
    return [
        {**m, "headers": [h for h in m["headers"] if h[0] not in ours]} if m.get("headers") else {**m, "headers": []}
        for m in messages
    ]


def survives(
    scenario: Scenario,
    patch: Callable[[], None],
    meters: MeterProvider,
    provider: TracerProvider,
    *,
    clean: bool = True,
) -> None:
    bare_app, on_send = App(scenario.actions), scenario.on_send
    bare = drive(bare_app, scenario.scope(), [*scenario.script, GONE], on_send)
    options = {**scenario.options, "meter_provider": meters, "tracer_provider": provider}
    app = App(scenario.actions)
    traced: ASGIApp = TraceMiddleware(app, **options)
    patch()
    served = drive(traced, scenario.scope(), [*scenario.script, GONE], on_send)
    assert (app.calls, app.received) == (1, bare_app.received)
    assert without_our_header(served.messages) == without_our_header(bare.messages)
    assert type(served.exception) is type(bare.exception)
    assert not clean or served.scope.keys() == bare.scope.keys()


@pytest.mark.parametrize("name", SCENARIOS)
def test_no_failure_of_our_own_reaches_the_request(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any one function of the package raising, every kind of request goes on as if we were not there."""
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "metrics$")
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "logs/dup")
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    provider = TracerProvider(shutdown_on_exit=False)
    with listening() as complaints:
        survives(SCENARIOS[name], lambda: None, meters, provider)
        assert not complaints.records
        for label in TARGETS:
            with monkeypatch.context() as patched:
                patch = partial(broken, label, patched)
                survives(
                    SCENARIOS[name], patch, meters, provider, clean=label != "asgi_trace._server.coexistence.release"
                )


FOREIGN = [
    "opentelemetry.sdk.trace.Tracer.start_span",
    "opentelemetry.sdk.trace.TracerProvider.get_tracer",
    "opentelemetry.sdk.trace.TracerProvider.force_flush",
    "opentelemetry.sdk.trace._Span.end",
    "opentelemetry.sdk.trace._Span.is_recording",
    "opentelemetry.sdk.trace._Span.record_exception",
    "opentelemetry.sdk.trace._Span.set_attribute",
    "opentelemetry.sdk.trace._Span.set_attributes",
    "opentelemetry.sdk.trace._Span.set_status",
    "opentelemetry.sdk.trace._Span.update_name",
    "opentelemetry.sdk.trace._Span.get_span_context",
    "opentelemetry.sdk.metrics._internal.instrument._Histogram.record",
    "opentelemetry.sdk.metrics._internal.instrument._UpDownCounter.add",
    "opentelemetry._logs._internal.ProxyLogger.emit",
]


@pytest.mark.parametrize("target", FOREIGN)
def test_no_failure_of_the_sdk_reaches_the_request(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds when the SDK, a span processor or an exporter raises."""
    monkeypatch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "logs/dup")
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    provider = TracerProvider(shutdown_on_exit=False)

    def chaos(*arguments: object, **keywords: object) -> Any:
        raise RuntimeError(f"chaos in {target}")

    def patch() -> None:
        patched.setattr(target, chaos)

    with listening():
        for scenario in SCENARIOS.values():
            with monkeypatch.context() as patched:
                survives(scenario, patch, meters, provider)
