"""Quart: the rule of the matched route, from the signals that a request or a websocket sends when it starts.

    app = Quart(__name__)
    trace_routes(app)

The signals come before every `before_request` function, so a request that one of those answers has its route too.
Two other signals tell the exceptions that Quart answers with its 500, or closes a websocket for.
"""

from __future__ import annotations

from quart import Quart, request, websocket
from quart.signals import got_request_exception, got_websocket_exception, request_started, websocket_started

from .._server.current import report_exception
from ._report import report

__all__ = ["trace_routes"]


def trace_routes(app: Quart) -> None:
    """Report the route of each of the application's requests and websockets: `/orders/<int:id>`, blueprints included.

    An exception that Quart answers with its 500 (or the handler for that) is recorded on the request's span.

    Call it once. A request without a rule (404, 405) has no route.
    """
    request_started.connect(_on_request, app)
    websocket_started.connect(_on_websocket, app)
    got_request_exception.connect(_on_exception, app)
    got_websocket_exception.connect(_on_exception, app)


async def _on_request(app: Quart, **_: object) -> None:  # a plain function would be sent to a thread
    if request.url_rule is not None:
        report(request.url_rule.rule)


async def _on_websocket(app: Quart, **_: object) -> None:
    if websocket.url_rule is not None:
        report(websocket.url_rule.rule)


async def _on_exception(app: Quart, exception: BaseException, **_: object) -> None:
    report_exception(exception)
