"""Sanic: the path of the matched route, from the signal that the router sends.

    app = Sanic("orders")
    trace_routes(app)

Sanic matches the whole path, `root_path` included, so its templates are complete as they are.
"""

from __future__ import annotations

from typing import Any

from sanic import Sanic

from .._current import set_route

__all__ = ["trace_routes"]


def trace_routes(app: Sanic[Any, Any]) -> None:
    """Report the route of each of the application's requests and websockets: `/orders/<id:int>`, blueprints included.

    Call it once, before the application starts. A request without a match (404, 405) has no route.
    """
    app.add_signal(_on_match, "http.routing.after")


async def _on_match(route: Any, **_: object) -> None:
    set_route("/" + route.path)
