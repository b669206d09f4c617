"""Names of the server's spans: at the start, at the end, and of what fails after the response."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import SpanKind, StatusCode

from asgi_trace import TraceMiddleware, set_route
from asgi_trace._types import ASGIApp, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import CONNECT, OK, RECEIVE, Steps, attributes_of, body, drive, http_scope, start, websocket_scope
from ..support.endings import CANCELLED_ERROR, CANCELLED_MARK
from ..support.transports import Watching

METHODS = [("GET", "GET"), ("QUERY", "QUERY"), ("get", "HTTP"), ("BREW", "HTTP"), ("", "HTTP"), (None, "HTTP")]


@pytest.mark.parametrize(("method", "name"), METHODS)
@pytest.mark.parametrize("decision", [Decision.DROP, Decision.RECORD_AND_SAMPLE])
@pytest.mark.parametrize("keys", [{}, {"raw_path": None}])
def test_a_sampler_sees_the_method_as_the_name(
    method: Any, name: str, decision: Decision, keys: dict[str, Any]
) -> None:
    """A span starts as `{method}`, or as `HTTP` for a method that is not known, whatever happened to the one before."""
    sampler = Watching(decision)
    with capture_spans(sampler) as spans:
        middleware = TraceMiddleware(OK)
        for _ in range(2):
            drive(middleware, http_scope(method=method, **keys))
    assert [seen["name"] for seen in sampler.seen] == [name, name]
    assert [span.name for span in spans] == ([name] * 2 if decision is Decision.RECORD_AND_SAMPLE else [])


def routed(app: ASGIApp, template: str | None) -> ASGIApp:
    """The application behind a route."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        if template is not None:
            set_route(template)
        await app(scope, receive, send)

    return wrapped


@pytest.mark.parametrize(("method", "name"), METHODS)
@pytest.mark.parametrize("template", [None, "/orders/{id}"])
@pytest.mark.parametrize("status", [200, 404, 500])
def test_a_route_is_added_to_the_name(
    spans: CapturedSpans, method: Any, name: str, template: str | None, status: int
) -> None:
    """A span ends as `{method} {route}`, a success and a failure alike."""
    app = Steps(start(status), body())
    drive(TraceMiddleware(routed(app, template)), http_scope("/orders/7", method=method))
    assert spans.server.name == (name if template is None else f"{name} {template}")


@pytest.mark.parametrize(("method", "name"), METHODS)
@pytest.mark.parametrize("template", [None, "/orders/{id}"])
@pytest.mark.parametrize("exc", [KeyError("mail"), asyncio.CancelledError()], ids=repr)
def test_what_fails_after_the_response_has_a_name_of_its_own(
    spans: CapturedSpans, method: Any, name: str, template: str | None, exc: BaseException
) -> None:
    """Its span is `{method} {route} background`, below the request's and an ERROR; a cancellation is marked."""
    app = Steps(start(), body(b"ok"), exc)
    drive(TraceMiddleware(routed(app, template)), http_scope("/orders/7", method=method))
    (child,) = spans.of_kind(SpanKind.INTERNAL)
    assert child.name == (f"{name} background" if template is None else f"{name} {template} background")
    assert child.parent == spans.server.context
    assert child.status.status_code is StatusCode.ERROR
    attributes = attributes_of(child)
    is_cancelled = isinstance(exc, asyncio.CancelledError)
    assert attributes["error.type"] == (CANCELLED_ERROR if is_cancelled else "KeyError")
    assert attributes.get(CANCELLED_MARK) is (True if is_cancelled else None)
    assert len(child.events) == (0 if is_cancelled else 1)


def test_the_route_of_the_scope_names_what_fails_later(spans: CapturedSpans) -> None:
    """A framework's match that stands in the scope is as good as `set_route()`."""

    class Route:
        path_format = "/orders/{id}"

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = Route()
        await OK(scope, receive, send)
        raise KeyError("mail")

    drive(TraceMiddleware(app), http_scope("/orders/7"))
    (child,) = spans.of_kind(SpanKind.INTERNAL)
    assert (spans.server.name, child.name) == ("GET /orders/{id}", "GET /orders/{id} background")


@pytest.mark.parametrize("template", [None, "/rooms/{id}"])
def test_a_socket_that_fails_after_its_handshake_has_a_name_of_its_own(
    spans: CapturedSpans, template: str | None
) -> None:
    """With `websocket="handshake"` what fails later is `GET {route} background`."""
    app = Steps(RECEIVE, {"type": "websocket.accept"}, KeyError("room"))
    drive(TraceMiddleware(routed(app, template), websocket="handshake"), websocket_scope("/rooms/7"), [CONNECT])
    (child,) = spans.of_kind(SpanKind.INTERNAL)
    assert child.name == ("GET background" if template is None else f"GET {template} background")
