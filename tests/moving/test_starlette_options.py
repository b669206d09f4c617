"""The options of Starlette's own middleware: each row of the page is what a run of both sides shows."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_trace import TraceMiddleware
from asgi_trace._types import Scope
from tests.support.asgi import http_scope
from tests.support.moving import Cases, Pair, without_row
from tests.support.moving_server import Build, shown

from .shop import StarletteMiddleware

HEADING = "Options of Starlette's `OpenTelemetryMiddleware`"
OPTIONS = Cases(HEADING)


def application() -> Starlette:
    async def read_order(request: object) -> PlainTextResponse:
        return PlainTextResponse("kettle")

    return Starlette(routes=[Route(path, read_order) for path in ("/orders/{order}", "/health", "/orders")])


def behind(middleware: Any, **options: Any) -> Build:
    """The application with this middleware, added as the documentation of both says."""

    def build(spans: Any, meters: Any) -> Starlette:
        app = application()
        app.add_middleware(middleware, tracer_provider=spans, meter_provider=meters, **options)
        return app

    return build


@OPTIONS("`app`")
def app() -> Pair:
    sides = [shown(behind(each), http_scope("/orders/7")) for each in (StarletteMiddleware, TraceMiddleware)]
    there, here = ((side.names, side.served[0].messages) for side in sides)
    assert here[0] == ["GET /orders/{order}"]
    return there, here


def traced(middleware: Any, *scopes: Scope, **options: Any) -> list[bool]:
    """Whether each request has a span."""
    return [len(shown(behind(middleware, **options), scope).spans) > 0 for scope in scopes]


@OPTIONS('`excluded_urls="a,b"` or a sequence')
def excluded_urls() -> Pair:
    requests = [http_scope("/health"), http_scope("/orders/7"), http_scope("/orders", query_string=b"health")]
    with pytest.raises(ValueError, match="write a list"):
        TraceMiddleware(application(), exclude="health,orders/")
    both = ["health", "orders/"]
    assert traced(StarletteMiddleware, *requests[:2], excluded_urls="health,orders/") == [False, False]
    assert traced(TraceMiddleware, *requests[:2], exclude=both) == [False, False]
    there = traced(StarletteMiddleware, *requests, excluded_urls=["health", "shop.test:8000/orders/"])
    here = traced(TraceMiddleware, *requests, exclude=["health", "shop.test:8000/orders/"])
    assert there == [False, False, False]
    assert here == [False, True, True]
    return there, here


@OPTIONS("`tracer_provider`")
def tracer_provider() -> Pair:
    there, here = (len(shown(behind(each)).spans) for each in (StarletteMiddleware, TraceMiddleware))
    assert here == 1
    return there, here


@OPTIONS("`meter_provider`")
def meter_provider() -> Pair:
    there, here = (list(shown(behind(each)).metrics) for each in (StarletteMiddleware, TraceMiddleware))
    assert there == []
    assert here == ["http.server.request.duration"]
    return there, here


@pytest.mark.parametrize("row", OPTIONS.titles())
def test_a_row_says_what_a_run_shows(row: str) -> None:
    """An option that the page calls the same shows the same with both libraries, and any other one does not."""
    OPTIONS.check(row)


def test_every_option_has_a_row() -> None:
    """Each parameter of Starlette's middleware stands in the table."""
    assert without_row(HEADING, inspect.signature(StarletteMiddleware).parameters) == set()
