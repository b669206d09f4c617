"""Strawberry's GraphQL in FastAPI and alone: the endpoint's route, and its errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any, cast

import pytest

pytest.importorskip("strawberry")

import strawberry
from starlette.applications import Starlette
from starlette.routing import Mount, Route, WebSocketRoute
from strawberry.asgi import GraphQL

from asgi_trace.testing import CapturedSpans

from ..support.asgi import http_scope, serve, websocket_scope
from ..support.frameworks import (
    RANDOM_REQUESTS,
    WS,
    Case,
    Places,
    ask,
    check_cardinality,
    described,
    expected,
    name_and_route,
    run,
    traced,
)

places = Places()


@strawberry.type
class Query:
    @strawberry.field
    async def order(self) -> str:
        places.note("resolver")
        return "x"

    @strawberry.field
    def item(self) -> str:
        places.note("sync resolver")
        return "x"


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(self) -> AsyncGenerator[int, None]:
        places.note("subscription")
        yield 1


@pytest.fixture(scope="module")
def app() -> Starlette:
    graphql = cast(Any, GraphQL(strawberry.Schema(Query, subscription=Subscription)))
    return Starlette(
        routes=[
            Route("/graphql", graphql),
            WebSocketRoute("/graphql", graphql),
            Mount("/tenants/{tenant}/graphql", app=graphql),
        ]
    )


def test_the_route_it_hangs_on(app: Starlette, spans: CapturedSpans) -> None:
    """Strawberry has no routes: the one it is served at names the span, over HTTP and WebSocket."""
    assert ask(traced(app), "/graphql", "DELETE") == 405
    ask(traced(app), "/graphql", WS)
    assert ask(traced(app), "/tenants/acme/graphql/", "DELETE") == 405
    assert [described(span) for span in spans] == [
        expected("DELETE", "/graphql"),
        expected("GET", "/graphql"),
        expected("DELETE", "/tenants/{tenant}/graphql/{path}"),
    ]


def test_served_alone(spans: CapturedSpans) -> None:
    """Without a router around it nothing names a route."""
    ask(traced(GraphQL(strawberry.Schema(Query))), "/graphql", "DELETE")
    assert name_and_route(spans) == expected("DELETE", None)


@RANDOM_REQUESTS
def test_random_paths_make_no_names(app: Starlette, spans: CapturedSpans, count: int) -> None:
    """However many paths are asked for, the names are those of routes and methods."""
    cases: list[Case] = [("/graphql", "POST", 200, None), ("/tenants/acme/graphql/", "POST", 200, None)]
    check_cardinality(app, spans, count, cases, most=2)


def test_the_span_is_current_everywhere(app: Starlette, spans: CapturedSpans) -> None:
    """Resolvers and subscriptions run in the request's span."""
    places.clear()
    run(query(app, "{ order item }"))
    assert places.inside(spans.server) == {"resolver", "sync resolver"}
    spans.clear()
    places.clear()
    run(subscribe(app, "subscription { count }"))
    assert places.inside(spans.server) == {"subscription"}


async def query(app: Any, text: str) -> None:
    body = json.dumps({"query": text}).encode()
    headers = [(b"host", b"shop.test"), (b"content-type", b"application/json")]
    scope = http_scope("/graphql", "POST", headers=headers)
    served = await serve(traced(app), scope, [{"type": "http.request", "body": body, "more_body": False}])
    assert served.status == 200


async def subscribe(app: Any, text: str) -> None:
    said: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    say = [
        {"type": "connection_init"},
        {"type": "subscribe", "id": "1", "payload": {"query": text}},
    ]
    said.put_nowait({"type": "websocket.connect"})

    async def send(message: Any) -> None:
        answer = json.loads(message.get("text") or "{}").get("type")
        if message["type"] == "websocket.accept" or answer == "connection_ack":
            said.put_nowait({"type": "websocket.receive", "text": json.dumps(say.pop(0))})
        elif answer == "complete":
            said.put_nowait({"type": "websocket.disconnect", "code": 1000})

    scope = websocket_scope("/graphql", subprotocols=["graphql-transport-ws"])
    await asyncio.wait_for(traced(app)(scope, said.get, send), 20)
