"""Django and django-ninja: the route of the resolver match, and the exceptions that Django answers itself."""

from __future__ import annotations

import asyncio
import warnings
from types import ModuleType
from typing import Any

import pytest

pytest.importorskip("django")

from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_trace.testing import CapturedSpans

from ..support.asgi import http_scope
from ..support.frameworks import (
    RANDOM_REQUESTS,
    Case,
    Failure,
    ask,
    check,
    check_cardinality,
    check_failures,
    check_places,
    check_under_uvicorn,
    expected,
    name_and_route,
    routes,
    run,
    traced,
)


@pytest.fixture(scope="module")
def project() -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what Django and django-ninja import
        from . import _django_project

    return _django_project


CASES: list[Case] = [
    ("/items/7/", "GET", 200, "/items/<int:item>/"),
    ("/items/7", "GET", 301, None),
    ("/get/7", "GET", 200, "/get/<name>"),
    ("/get/7", "POST", 405, "/get/<name>"),
    ("/shops/shops/orders/7", "GET", 200, "/shops/<shop>/orders/<order>"),
    ("/shops/acme/old/7", "GET", 200, r"/shops/<shop>/old/(?P<order>\d+)$"),
    ("/fails", "GET", 500, "/fails"),
    ("/missing", "GET", 404, None),
]
NINJA_CASES: list[Case] = [
    ("/api/orders/7", "GET", 200, "/api/orders/<int:order>"),
    ("/api/orders/7", "DELETE", 405, "/api/orders/<int:order>"),
    ("/api/customers/acme", "GET", 200, "/api/customers/<name>"),
    ("/api/openapi.json", "GET", 200, "/api/openapi.json"),
    ("/api/missing", "GET", 404, None),
]


def test_the_joined_route_of_the_match(project: ModuleType, spans: CapturedSpans) -> None:
    """The route is joined over `include()`, known for refused methods and failing views, unknown where none matched."""
    check(traced(project.application), spans, CASES)


def test_django_ninja(project: ModuleType, spans: CapturedSpans) -> None:
    """django-ninja's operations are Django's routes: the same middleware reports them."""
    pytest.importorskip("ninja")
    check(traced(project.application), spans, NINJA_CASES)


def test_behind_a_root_path_and_mounted(project: ModuleType, spans: CapturedSpans) -> None:
    """A root path and the template of a mount stand in front of the route."""
    ask(traced(project.application), "/prefix/items/7/", root_path="/prefix")
    outer = traced(Starlette(routes=[Mount("/tenants/{tenant}", app=project.application)]))
    ask(outer, "/tenants/items/items/7/")
    ask(outer, "/tenants/acme/missing")
    assert routes(spans) == [
        "/prefix/items/<int:item>/",
        "/tenants/{tenant}/items/<int:item>/",
        "/tenants/{tenant}/{path}",
    ]


def test_a_client_that_leaves(project: ModuleType, spans: CapturedSpans) -> None:
    """A view that Django cancels because the client has gone has its route."""

    async def leave() -> None:
        incoming = [{"type": "http.request", "body": b""}]

        async def receive() -> Any:
            if incoming:
                return incoming.pop()
            await in_view.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            raise AssertionError("nobody is there")

        await traced(project.application)(http_scope("/slow"), receive, send)

    in_view = asyncio.Event()

    async def slow(request: Any) -> None:
        in_view.set()
        await asyncio.sleep(20)

    from django.urls import clear_url_caches, path  # type: ignore[import-untyped]

    project.urlpatterns.append(path("slow", slow))
    clear_url_caches()
    try:
        run(leave())
    finally:
        project.urlpatterns.pop()
        clear_url_caches()
    assert name_and_route(spans) == expected("GET", "/slow")


def test_in_a_synchronous_stack(project: ModuleType) -> None:
    """Outside of a request, in a synchronous stack, the middleware answers as if it were not there."""
    from django.test import RequestFactory  # type: ignore[import-untyped]

    from asgi_trace.routes.django import TraceRoutes

    response = project.HttpResponse("x")
    assert TraceRoutes(lambda request: response)(RequestFactory().get("/")) is response


@RANDOM_REQUESTS
def test_random_paths_make_no_names(project: ModuleType, spans: CapturedSpans, count: int) -> None:
    """However many paths are asked for, the names are those of routes and methods."""
    cases = [*CASES, *(NINJA_CASES if project.NINJA else ())]
    check_cardinality(project.application, spans, count, cases, most=15)


def test_the_span_is_current_everywhere(project: ModuleType, spans: CapturedSpans) -> None:
    """Views, threads and streams run in the request's span."""
    requests = {
        ("/everywhere", "GET"): {"view", "sync_to_async", "stream"},
        ("/everywhere/sync", "GET"): {"sync view"},
    }
    if project.NINJA:
        requests["/api/customers/acme", "GET"] = {"ninja operation"}
    check_places(project.application, spans, project.places, requests)


def test_under_uvicorn(project: ModuleType, spans: CapturedSpans) -> None:
    """A real server's scopes have the same routes."""
    check_under_uvicorn(
        project.application,
        spans,
        [
            ("/shops/acme/orders/7", "GET", 200, "/shops/<shop>/orders/<order>"),
            ("/get/7", "GET", 200, "/get/<name>"),
            ("/missing", "GET", 404, None),
        ],
    )


FAILURES: list[Failure] = [
    ("/fails", "GET", 500, "ValueError", "on purpose"),
    ("/fails/async", "GET", 500, "ValueError", "on purpose"),
    ("/raises/http404", "GET", 404, None, None),
    ("/raises/denied", "GET", 403, None, None),
    ("/raises/suspicious", "GET", 400, None, None),
    ("/missing", "GET", 404, None, None),
]
NINJA_FAILURES: list[Failure] = [
    ("/api/fails", "GET", 500, "ValueError", "on purpose"),
    ("/api/refuses", "GET", 409, None, None),
    ("/api/expected", "GET", 503, "503", None),
    ("/api/handled", "GET", 404, None, None),
    ("/api/orders/seven", "GET", 404, None, None),
]


def test_exceptions_that_django_answers(project: ModuleType, spans: CapturedSpans) -> None:
    """An exception that becomes a 500 is recorded, from a thread too; those that Django answers with a 4xx are not."""
    check_failures(project.application, spans, FAILURES)


def test_exceptions_that_ninja_leaves_to_django(project: ModuleType, spans: CapturedSpans) -> None:
    """An operation's exception is Django's; those that django-ninja or its handlers answer are none."""
    pytest.importorskip("ninja")
    check_failures(project.application, spans, NINJA_FAILURES)


def test_the_handler_of_the_500(project: ModuleType, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `handler500` with an answer of its own leaves the exception known."""
    from django.urls import clear_url_caches

    monkeypatch.setattr(project, "handler500", project.answer_later, raising=False)
    clear_url_caches()
    check_failures(project.application, spans, [("/fails", "GET", 503, "ValueError", "on purpose")])
