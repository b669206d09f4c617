"""Falcon: the URI template of the resource that was found, and the exceptions that Falcon answers itself.

    app = falcon.asgi.App(middleware=[TraceRoutes()])
    app.set_error_reporter(report_error)  # Falcon 4.4 and later

Falcon matches the whole path, `root_path` included, so its templates are complete as they are, but below Litestar.
"""

from __future__ import annotations

from typing import Any

from falcon import HTTPError, HTTPStatus
from falcon.asgi import Request

from .._server.current import report_exception
from ._report import report_whole

__all__ = ["TraceRoutes", "report_error"]


class TraceRoutes:
    """Middleware that reports the route of each request and websocket: `/orders/{id:int}`.

    A 405 has a route. A 404, a static route and a sink have none: Falcon names no template for them.
    """

    async def process_resource(self, req: Request, *_: Any) -> None:
        """Falcon has found the resource of a request."""
        _report_template(req)

    async def process_resource_ws(self, req: Request, *_: Any) -> None:
        """Falcon has found the resource of a websocket."""
        _report_template(req)


def _report_template(req: Request) -> None:
    if req.uri_template:
        report_whole(req.uri_template, req.scope)


def report_error(req: Request, error: Exception, params: dict[str, Any], handled: bool) -> None:
    """Error reporter that records an exception on the request's span when it is answered with a 5xx.

    It changes nothing about how the application answers. An application has one reporter: one of your own calls this.
    """
    if not isinstance(error, (HTTPError, HTTPStatus)) or error.status_code >= 500:
        report_exception(error)
