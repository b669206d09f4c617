"""Sanic: the path of the matched route, and the exceptions that Sanic answers itself, from the signals that it sends.

    app = Sanic("orders")
    trace_routes(app)

Sanic matches the whole path, `root_path` included, so its templates are complete as they are.
"""

from __future__ import annotations

from typing import Any

from sanic import Sanic
from sanic.exceptions import SanicException

from .._server.current import report_exception, set_route

__all__ = ["trace_routes"]


def trace_routes(app: Sanic[Any, Any]) -> None:
    """Report the route of each of the application's requests and websockets: `/orders/<id:int>`, blueprints included.

    An exception that Sanic answers with a 5xx, or closes a websocket for, is recorded on the request's span.

    Call it once, before the application starts. A request without a match (404, 405) has no route.
    """
    app.add_signal(_on_match, "http.routing.after")
    app.add_signal(_on_exception, "http.lifecycle.exception")
    app.add_signal(_on_exception, "websocket.handler.exception")


async def _on_match(route: Any, **_: object) -> None:
    set_route("/" + route.path)


async def _on_exception(exception: BaseException, **_: object) -> None:
    if not isinstance(exception, SanicException) or exception.status_code >= 500:
        report_exception(exception)
