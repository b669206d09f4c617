"""Flask behind a WSGI adapter: rules of requests, and the exceptions that it answers itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest

pytest.importorskip("flask")
pytest.importorskip("asgiref")

from asgiref.wsgi import WsgiToAsgi
from flask import Blueprint, Flask, Response, abort
from starlette.applications import Starlette
from starlette.routing import Mount

from asgi_trace._types import ASGIApp
from asgi_trace.routes.flask import trace_routes
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
    routes,
    traced,
)

to_asgi = cast("Callable[[Flask], ASGIApp]", WsgiToAsgi)


def build(directory: Path) -> Flask:
    app = Flask(__name__, static_folder=str(directory), static_url_path="/static")
    shop = Blueprint("shop", __name__, url_prefix="/shops/<shop>")

    @app.get("/items/<int:item>")
    def item(item: int) -> str:
        return str(item)

    @shop.get("/orders/<order>")
    def order(shop: str, order: str) -> str:
        return order

    app.register_blueprint(shop)
    return app


@pytest.fixture(scope="module")
def flask_app(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    app = build(tmp_path_factory.mktemp("static"))
    trace_routes(app)
    return app


@pytest.fixture
def app(flask_app: Flask) -> ASGIApp:
    return to_asgi(flask_app)


CASES: list[Case] = [
    ("/items/7", "GET", 200, "/items/<int:item>"),
    ("/items/seven", "GET", 404, None),
    ("/items/7", "POST", 405, None),
    ("/shops/acme/orders/7", "GET", 200, "/shops/<shop>/orders/<order>"),
    ("/static/missing", "GET", 404, "/static/<path:filename>"),
    ("/missing", "GET", 404, None),
]


def test_the_rule_is_the_route(app: ASGIApp, spans: CapturedSpans) -> None:
    """The route is the rule with the prefix of its blueprint; what no rule matches has none."""
    check(traced(app), spans, CASES)


def test_behind_a_root_path_and_mounted(app: ASGIApp, spans: CapturedSpans) -> None:
    """A root path and the template of a mount stand in front of the rule."""
    ask(traced(app), "/prefix/items/7", root_path="/prefix")
    outer = traced(Starlette(routes=[Mount("/tenants/{tenant}", app=app)]))
    ask(outer, "/tenants/items/items/7")
    ask(outer, "/tenants/acme/missing")
    assert routes(spans) == [
        "/prefix/items/<int:item>",
        "/tenants/{tenant}/items/<int:item>",
        "/tenants/{tenant}/{path}",
    ]


def test_a_request_that_a_hook_answers(tmp_path: Path, spans: CapturedSpans) -> None:
    """A `before_request` that answers, as authentication does, leaves the route known."""
    app = build(tmp_path)

    @app.before_request
    def refuse() -> tuple[str, int]:
        return "no", 401

    trace_routes(app)
    assert ask(traced(to_asgi(app)), "/items/7") == 401
    assert name_and_route(spans) == expected("GET", "/items/<int:item>")


@RANDOM_REQUESTS
def test_random_paths_make_no_names(app: ASGIApp, spans: CapturedSpans, count: int) -> None:
    """However many paths are asked for, the names are those of routes and methods."""
    check_cardinality(app, spans, count, CASES, most=3)


def test_the_span_is_current_everywhere(spans: CapturedSpans) -> None:
    """Hooks, endpoints and streams, which run in threads, run in the request's span."""
    places = Places()
    app = Flask(__name__)

    def stream() -> Iterator[bytes]:
        places.note("stream")
        yield b"x"

    @app.before_request
    def before() -> None:
        places.note("before_request")

    @app.get("/")
    def endpoint() -> Response:
        places.note("endpoint")
        return Response(stream())

    check_places(to_asgi(app), spans, places, {("/", "GET"): {"before_request", "endpoint", "stream"}})


def build_failing(*, overloaded: bool = False) -> Flask:
    app = Flask(__name__)

    @app.get("/fails")
    def fails() -> str:
        raise ValueError("on purpose")

    @app.get("/aborts/<int:status>")
    def aborts(status: int) -> str:
        abort(status)

    @app.get("/handled")
    def handled() -> str:
        raise LookupError("not here")

    @app.get("/expected")
    def is_expected() -> str:
        raise TimeoutError("too slow")

    @app.errorhandler(TimeoutError)
    def too_slow(exc: TimeoutError) -> tuple[str, int]:
        return "too slow", 503

    @app.errorhandler(LookupError)
    def not_here(exc: LookupError) -> tuple[str, int]:
        return "not here", 404

    if overloaded:

        @app.errorhandler(500)
        def answer(exc: Exception) -> tuple[str, int]:
            return "later", 503

    return app


FAILURES: list[Failure] = [
    ("/fails", "GET", 500, "ValueError", "on purpose"),
    ("/aborts/403", "GET", 403, None, None),
    ("/aborts/502", "GET", 502, "502", None),
    ("/expected", "GET", 503, "503", None),
    ("/handled", "GET", 404, None, None),
    ("/missing", "GET", 404, None, None),
]


def test_exceptions_that_flask_answers(spans: CapturedSpans) -> None:
    """An exception that becomes a 500, in a thread as it is, is recorded; one that the application handles is not."""
    app = build_failing()
    trace_routes(app)
    check_failures(to_asgi(app), spans, FAILURES, plain=to_asgi(build_failing()))


def test_the_handler_of_the_500(spans: CapturedSpans) -> None:
    """An application's own answer for what it did not expect leaves the exception known."""
    app = build_failing(overloaded=True)
    trace_routes(app)
    plain = to_asgi(build_failing(overloaded=True))
    check_failures(to_asgi(app), spans, [("/fails", "GET", 503, "ValueError", "on purpose")], plain=plain)
