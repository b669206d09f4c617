"""Connexion: the path of the operation in the specification, from a middleware behind Connexion's own routing.

A second middleware, inside of the one that answers exceptions, reports those.

app = connexion.AsyncApp(__name__)
trace_routes(app)
app.add_api("openapi.yaml")
"""

from __future__ import annotations

from typing import Any

from connexion import AsyncApp, FlaskApp  # type: ignore[import-untyped]
from connexion.middleware import ConnexionMiddleware, MiddlewarePosition  # type: ignore[import-untyped]
from connexion.middleware.abstract import RoutedAPI, RoutedMiddleware  # type: ignore[import-untyped]

from .._server.current import report_exception
from .._types import ASGIApp, Receive, Scope, Send
from ._report import report

__all__ = ["trace_routes"]


def trace_routes(app: AsyncApp | FlaskApp | ConnexionMiddleware) -> None:
    """Report the route of each operation, base path included: `/api/orders/{id}`.

    An exception that Connexion answers with a 5xx is recorded on the request's span.

    Call it once, before the application starts. A request without an operation (404, 405) has no route.
    """
    add: Any = app.add_middleware  # Connexion's annotation says an instance where it takes a class
    add(_ReportExceptions, MiddlewarePosition.BEFORE_ROUTING)
    add(_TraceOperations, MiddlewarePosition.BEFORE_SECURITY)


class _Operations(RoutedAPI[ASGIApp]):  # type: ignore[misc]
    """The operations of one API, each of which reports its path and goes on."""

    def __init__(self, specification: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(specification, *args, **kwargs)  # pyright: ignore[reportUnknownMemberType]
        self.add_paths()

    def make_operation(self, operation: Any) -> ASGIApp:
        template = self.base_path + operation.path

        async def reporting(scope: Scope, receive: Receive, send: Send) -> None:
            report(template, scope)
            await self.next_app(scope, receive, send)

        return reporting


class _TraceOperations(RoutedMiddleware[_Operations]):  # type: ignore[misc]
    """Connexion calls it with the operation id that it has found."""

    api_cls = _Operations


class _ReportExceptions:
    """Stands where every exception passes that Connexion's error handlers answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as exc:
            report_exception(exc)
            raise
