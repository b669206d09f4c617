"""Falcon: the URI template of the resource that was found.

    app = falcon.asgi.App(middleware=[TraceRoutes()])

Falcon matches the whole path, `root_path` included, so its templates are complete as they are.
"""

from __future__ import annotations

from typing import Any

from falcon.asgi import Request

from .._current import set_route

__all__ = ["TraceRoutes"]


class TraceRoutes:
    """Middleware that reports the route of each request and websocket: `/orders/{id:int}`.

    A 405 has a route. A 404, a static route and a sink have none: Falcon names no template for them.
    """

    async def process_resource(self, req: Request, *_: Any) -> None:
        """Falcon has found the resource of a request."""
        set_route(req.uri_template or "")

    async def process_resource_ws(self, req: Request, *_: Any) -> None:
        """Falcon has found the resource of a websocket."""
        set_route(req.uri_template or "")
