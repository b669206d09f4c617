"""Flask behind `asgiref.wsgi.WsgiToAsgi`: the rule of the matched route, from the signal that a request has started.

    app = Flask(__name__)
    trace_routes(app)
    asgi_app = TraceMiddleware(WsgiToAsgi(app))

The signal comes before every `before_request` function, so a request that one of those answers has its route too.
"""

from __future__ import annotations

from flask import Flask, request, request_started

from ._report import report

__all__ = ["trace_routes"]


def trace_routes(app: Flask) -> None:
    """Report the route of each of the application's requests: `/orders/<int:id>`, blueprints included.

    Call it once. A request without a rule (404, 405) has no route.
    """
    request_started.connect(_on_request, app)


def _on_request(app: Flask, **_: object) -> None:
    if request.url_rule is not None:
        report(request.url_rule.rule)
