"""Flask behind `asgiref.wsgi.WsgiToAsgi`: the rule of the matched route, from the signal that a request has started.

    app = Flask(__name__)
    trace_routes(app)
    asgi_app = TraceMiddleware(WsgiToAsgi(app))

The signal comes before every `before_request` function, so a request that one of those answers has its route too.
Another signal tells the exceptions that Flask answers with its 500.
"""

from __future__ import annotations

from flask import Flask, got_request_exception, request, request_started

from .._server.current import report_exception
from ._report import report

__all__ = ["trace_routes"]


def trace_routes(app: Flask) -> None:
    """Report the route of each of the application's requests: `/orders/<int:id>`, blueprints included.

    An exception that Flask answers with its 500 (or the handler for that) is recorded on the request's span.

    Call it once. A request without a rule (404, 405) has no route.
    """
    request_started.connect(_on_request, app)
    got_request_exception.connect(_on_exception, app)


def _on_request(app: Flask, **_: object) -> None:
    if request.url_rule is not None:
        report(request.url_rule.rule)


def _on_exception(app: Flask, exception: BaseException, **_: object) -> None:
    report_exception(exception)
