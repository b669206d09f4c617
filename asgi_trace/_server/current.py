"""The request that the current context belongs to: found from a child span, a dependency, a thread or a mounted app."""

from __future__ import annotations

from typing import Any, Protocol

from opentelemetry.context import create_key, get_value
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span

from .._guard import Guard
from .._types import Scope

REQUEST_KEY = create_key("asgi-trace-request")
"""Where a Context keeps the request in progress, or only its SERVER span when that is not recorded."""

_guard = Guard()


class CurrentRequest(Protocol):
    """What an application can reach of its request."""

    span: Span
    scope: Scope
    root_path: str
    template: str | None
    reported: BaseException | None
    ended: bool


def current_request() -> CurrentRequest | None:
    """The request in progress or just ended; None outside of one, and where only its span is kept."""
    found: Any = get_value(REQUEST_KEY)
    request: CurrentRequest | None = None if isinstance(found, Span) else found
    return request


def server_span() -> Span:
    """The SERVER span of the request in progress, whichever span is current now.

        server_span().set_attribute("shop.order", 7)

    Works wherever the context is: endpoints, dependencies, threads that were started with it, child spans. Outside of a
    request, and in an excluded one, it is `INVALID_SPAN`; after its end, as in a background task, it is one that is not
    recorded, with the same ids. Every call on either is harmless.
    """
    found: Any = get_value(REQUEST_KEY)
    if found is None or isinstance(found, Span):
        return found or INVALID_SPAN
    span: Span = found.span
    return NonRecordingSpan(span.get_span_context()) if found.ended else span


def set_route(template: str) -> None:
    """Set route and name of the request's SERVER span, for a framework that does not put the match into the scope.

        set_route("/orders/{id}")  # the span is called "GET /orders/{id}" and has this `http.route`

    `template` is taken as it is, so it must be the route's pattern (`/orders/{id}`), never the path; it beats what the
    scope says. Outside of a request, or after its span has ended, nothing happens. What is not a string is left out,
    with one warning.
    """
    if not isinstance(template, str):
        advice = "write the route's pattern, like set_route('/orders/{id}')"  # type: ignore[unreachable]
        _guard.warn("set_route", f"set_route({template!r}): {advice}")
        return
    request = current_request()
    if request is not None:
        request.template = template


def report_exception(exc: BaseException) -> None:
    """Report the exception that the application is about to answer with an error response of its own.

    When that response's status is 500 or above, its SERVER span and metrics get the exception's class as `error.type`
    and the span its event and message; below 500 the exception was handled, and nothing is recorded. Call it from the
    error handler, before or after the response. The last exception counts, unless another one escapes from the
    application. On a WebSocket it counts as well unless that is refused, or closed with a code, for the client's fault.
    Outside of a request, or after its span has ended, nothing happens.
    """
    request = current_request()
    if request is not None and not request.ended:
        request.reported = exc
