"""BlackSheep: the pattern of the route, asked from the application's router, and the exceptions that it answers itself.

    app = Application()
    trace_routes(app)

Call it after the application has mounted others: it follows the mounts, whose own patterns have no prefix.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import blacksheep.exceptions
from blacksheep import Application, Request, WebSocket
from blacksheep.server.routing import RouteMethod
from guardpost import AuthorizationError

from .._server.current import report_exception
from ._report import report

__all__ = ["trace_routes"]


def trace_routes(app: Application) -> None:
    """Report the route of each request and websocket of the application and of those mounted in it: `/orders/{id}`.

    An exception that the application answers with a 5xx, or closes a websocket for, is recorded on the request's span.

    Call it once, before the application starts. BlackSheep answers a 405 as it does a 404: neither has a route.
    """
    _trace(app, "")


def _trace(app: Application, prefix: str) -> None:
    async def trace_route(request: Request, handler: Callable[[Request], Awaitable[Any]]) -> Any:
        if isinstance(request, WebSocket):
            path = request.path.removeprefix(request.scope.get("root_path", "")) or "/"
            match = app.router.get_match_by_method_and_path(RouteMethod.GET_WS, path)
        else:
            match = app.router.get_match(request)
        if match is not None and match.pattern != b"*":  # the fallback's
            report(prefix + match.pattern.decode())
        try:
            return await handler(request)
        except Exception as exc:
            if not _is_refusal(exc):
                report_exception(exc)
            raise

    app.middlewares.insert(0, trace_route)
    for mount in app.mount_registry.mounted_apps:
        if isinstance(mount.handler, Application):
            _trace(mount.handler, prefix + mount.pattern.decode().rstrip("/*"))


def _is_refusal(exc: Exception) -> bool:
    """Does it stand for a response below 500? On a websocket its close would not tell."""
    if isinstance(exc, blacksheep.exceptions.HTTPException):
        return exc.status < 500
    return isinstance(exc, AuthorizationError)
