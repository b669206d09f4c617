"""Connexion: the paths of a specification's operations, and the exceptions that it answers itself."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

pytest.importorskip("connexion")

import connexion  # type: ignore[import-untyped]
from connexion.exceptions import ProblemException  # type: ignore[import-untyped]
from connexion.lifecycle import ConnexionResponse  # type: ignore[import-untyped]
from connexion.options import SwaggerUIOptions  # type: ignore[import-untyped]
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_trace.routes.connexion import trace_routes
from asgi_trace.testing import CapturedSpans

from ..support.frameworks import (
    RANDOM_REQUESTS,
    Case,
    Failure,
    Places,
    ask,
    check,
    check_cardinality,
    check_failures,
    check_places,
    expected,
    name_and_route,
    traced,
)

places = Places()


async def get_order(order: int, **_: Any) -> dict[str, int]:
    places.note("handler")
    await asyncio.to_thread(places.note, "thread")
    return {"order": order}


def get_customer(name: str, **_: Any) -> dict[str, str]:
    places.note("sync handler")
    return {"name": name}


def parameter(name: str, kind: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": {"type": kind}}


def operation(name: str, *parameters: dict[str, Any]) -> dict[str, Any]:
    return {
        "operationId": f"{__name__}.{name}",
        "parameters": list(parameters),
        "responses": {"200": {"description": "OK"}},
    }


SPECIFICATION: dict[str, Any] = {
    "openapi": "3.0.0",
    "info": {"title": "shop", "version": "1"},
    "servers": [{"url": "/api"}],
    "paths": {
        "/orders/{order}": {"get": operation("get_order", parameter("order", "integer"))},
        "/customers/{name}": {"get": operation("get_customer", parameter("name", "string"))},
    },
}


def build(*, adapter: bool = True) -> Any:
    app = connexion.AsyncApp(__name__, swagger_ui_options=SwaggerUIOptions(swagger_ui=False))
    if adapter:
        trace_routes(app)
    app.add_api(SPECIFICATION)
    return app


@pytest.fixture(scope="module")
def app() -> Any:
    return build()


CASES: list[Case] = [
    ("/api/orders/7", "GET", 200, "/api/orders/{order}"),
    ("/api/orders/seven", "GET", 404, None),
    ("/api/orders/7", "POST", 405, None),
    ("/api/customers/acme", "GET", 200, "/api/customers/{name}"),
    ("/api/openapi.json", "GET", 200, "/api/openapi.json"),
    ("/api/missing", "GET", 404, None),
    ("/missing", "GET", 404, None),
]


@pytest.mark.parametrize("root_path", ["", "/prefix"])
def test_the_path_of_the_operation(app: Any, spans: CapturedSpans, root_path: str) -> None:
    """The route is the path in the specification behind base path and root path; what is no operation has none."""
    check(traced(app), spans, CASES, prefix=root_path, template=root_path, root_path=root_path)


def test_mounted_in_starlette(app: Any, spans: CapturedSpans) -> None:
    """Below a Starlette mount the mount's template stands in front."""
    outer = traced(Starlette(routes=[Mount("/tenants/{tenant}", app=cast(Any, app))]))
    assert ask(outer, "/tenants/orders/api/orders/7") == 200
    assert name_and_route(spans) == expected("GET", "/tenants/{tenant}/api/orders/{order}")


def test_without_the_adapter(spans: CapturedSpans) -> None:
    """The mount that Connexion's own middleware leaves in the scope is not taken for the route."""
    assert ask(traced(build(adapter=False)), "/api/orders/7") == 200
    assert name_and_route(spans) == expected("GET", None)


@RANDOM_REQUESTS
def test_random_paths_make_no_names(app: Any, spans: CapturedSpans, count: int) -> None:
    """However many paths are asked for, the names are those of routes and methods."""
    check_cardinality(app, spans, count, CASES, most=3)


def test_the_span_is_current_everywhere(app: Any, spans: CapturedSpans) -> None:
    """Handlers and their threads run in the request's span."""
    requests = {("/api/orders/7", "GET"): {"handler", "thread"}, ("/api/customers/acme", "GET"): {"sync handler"}}
    check_places(app, spans, places, requests)


async def fail(kind: str, **_: Any) -> None:
    raise {
        "fails": ValueError("on purpose"),
        "overloaded": KeyError("later"),
        "handled": LookupError("not here"),
        "conflict": ProblemException(status=409, title="no"),
    }[kind]


def build_failing(kind: type[Any], *, adapter: bool) -> Any:
    def not_here(request: Any, exc: Exception) -> Any:
        return ConnexionResponse(status_code=404, body="not here")

    async def later(request: Any, exc: Exception) -> Any:
        return ConnexionResponse(status_code=503, body="later")

    app = kind(__name__, swagger_ui_options=SwaggerUIOptions(swagger_ui=False))
    if adapter:
        trace_routes(app)
    app.add_error_handler(LookupError, not_here)
    app.add_error_handler(KeyError, later)
    path = {"get": operation("fail", parameter("kind", "string"))}
    app.add_api({**SPECIFICATION, "paths": {"/{kind}": path}})
    return app


FAILURES: list[Failure] = [
    ("/api/fails", "GET", 500, "ValueError", "on purpose"),
    ("/api/overloaded", "GET", 503, "KeyError", "'later'"),
    ("/api/handled", "GET", 404, None, None),
    ("/api/conflict", "GET", 409, None, None),
    ("/api/conflict", "POST", 405, None, None),
    ("/missing", "GET", 404, None, None),
]


def test_exceptions_that_connexion_answers(spans: CapturedSpans) -> None:
    """An exception that becomes a 5xx is recorded; one that becomes a 4xx is not."""
    app, plain = (build_failing(connexion.AsyncApp, adapter=adapter) for adapter in (True, False))
    check_failures(app, spans, FAILURES, plain=plain)


def test_exceptions_of_its_flask_application(spans: CapturedSpans) -> None:
    """They leave Flask and pass the same way."""
    pytest.importorskip("a2wsgi")
    app, plain = (build_failing(connexion.FlaskApp, adapter=adapter) for adapter in (True, False))
    check_failures(app, spans, FAILURES, plain=plain)
