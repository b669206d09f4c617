"""Groups of exceptions: one with a single member counts as that member, wherever it is recorded."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.trace import SpanKind, StatusCode

from asgi_trace import TraceMiddleware
from asgi_trace._semconv.http import sole_member
from asgi_trace._types import ASGIApp, Receive, Scope, Send
from asgi_trace.routes import report_exception
from asgi_trace.testing import CapturedSpans

from ..support.asgi import CONNECT, OK, attributes_of, body, drive, http_scope, responding, start, websocket_scope

ExceptionGroup: Any = getattr(builtins, "ExceptionGroup", None) or pytest.importorskip("exceptiongroup").ExceptionGroup
BaseExceptionGroup: Any = (
    getattr(builtins, "BaseExceptionGroup", None) or pytest.importorskip("exceptiongroup").BaseExceptionGroup
)
PREFIX = "" if hasattr(builtins, "ExceptionGroup") else "exceptiongroup."


class Grouped(NamedTuple):
    """A group, and what is recorded as type and description."""

    exc: BaseException
    error: str
    description: str


MEMBER = ValueError("no such sku")
TWO = ExceptionGroup("two of them", [ValueError("a"), KeyError("b")])
GROUPS = {
    "one": Grouped(ExceptionGroup("a task group", [MEMBER]), "ValueError", "no such sku"),
    "one in one": Grouped(ExceptionGroup("outer", [ExceptionGroup("inner", [MEMBER])]), "ValueError", "no such sku"),
    "one in one in one": Grouped(
        BaseExceptionGroup("a", [ExceptionGroup("b", [ExceptionGroup("c", [MEMBER])])]), "ValueError", "no such sku"
    ),
    "one that ends the process": Grouped(BaseExceptionGroup("a", [SystemExit("stop")]), "SystemExit", "stop"),
    "two": Grouped(TWO, f"{PREFIX}ExceptionGroup", str(TWO)),
    "two in one": Grouped(ExceptionGroup("outer", [TWO]), f"{PREFIX}ExceptionGroup", str(TWO)),
    "a real error beside a cancellation": Grouped(
        both := BaseExceptionGroup("both", [asyncio.CancelledError(), MEMBER]), f"{PREFIX}BaseExceptionGroup", str(both)
    ),
}


def reporting(exc: BaseException) -> ASGIApp:
    """An application whose framework reports the exception and answers 500."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            raise exc
        except BaseException as caught:
            report_exception(caught)
        await responding(start(500), body())(scope, receive, send)

    return app


def accepting(exc: BaseException) -> ASGIApp:
    """A WebSocket that fails after it was accepted."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        raise exc

    return app


def after_the_response(exc: BaseException) -> ASGIApp:
    """A background task that fails."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await OK(scope, receive, send)
        raise exc

    return app


PLACES: dict[str, tuple[Callable[[BaseException], ASGIApp], Callable[[], dict[str, Any]], SpanKind]] = {
    "before the response": (responding, http_scope, SpanKind.SERVER),
    "in the response": (lambda exc: responding(start(), body(b"x", True), exc), http_scope, SpanKind.SERVER),
    "behind a 500": (lambda exc: responding(start(500), body(), exc), http_scope, SpanKind.SERVER),
    "reported": (reporting, http_scope, SpanKind.SERVER),
    "in the background": (after_the_response, http_scope, SpanKind.INTERNAL),
    "on a WebSocket": (accepting, websocket_scope, SpanKind.SERVER),
}


@pytest.mark.parametrize("grouped", GROUPS.values(), ids=GROUPS)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_group_of_one_counts_as_its_member(spans: CapturedSpans, place: Any, grouped: Grouped) -> None:
    """Type and description are the member's, at every place; the event keeps the group and its stack."""
    build, scope, kind = place
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    drive(TraceMiddleware(build(grouped.exc), meter_provider=meters), scope(), script=[CONNECT])

    (span,) = spans.of_kind(kind)
    assert attributes_of(span)["error.type"] == grouped.error
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, grouped.description)
    (event,) = span.events
    recorded = dict(event.attributes or {})
    assert str(recorded["exception.type"]).endswith("Group")
    assert "Traceback" in str(recorded["exception.stacktrace"])
    assert "sub-exception" in str(recorded["exception.stacktrace"])
    if scope is http_scope:
        data = reader.get_metrics_data()
        assert data is not None
        (point,) = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
        assert (point.attributes or {}).get("error.type") == (grouped.error if kind is SpanKind.SERVER else None)


def test_a_group_that_names_itself_is_followed_only_so_far() -> None:
    """A class of groups that has itself as its member does not stop the request."""

    class Endless(ExceptionGroup):  # type: ignore[misc]
        @property
        def exceptions(self) -> tuple[Exception, ...]:
            return (self,)

    exc = Endless("endless", [ValueError()])
    assert sole_member(exc) is exc
