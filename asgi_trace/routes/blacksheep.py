"""BlackSheep: the pattern of the route, asked from the application's router, which remembers its last answers.

    app = Application()
    trace_routes(app)

Call it after the application has mounted others: it follows the mounts, whose own patterns have no prefix.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from blacksheep import Application, Request, WebSocket
from blacksheep.server.routing import RouteMethod

from ._report import report

__all__ = ["trace_routes"]


def trace_routes(app: Application) -> None:
    """Report the route of each request and websocket of the application and of those mounted in it: `/orders/{id}`.

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
        return await handler(request)

    app.middlewares.insert(0, trace_route)
    for mount in app.mount_registry.mounted_apps:
        if isinstance(mount.handler, Application):
            _trace(mount.handler, prefix + mount.pattern.decode().rstrip("/*"))
