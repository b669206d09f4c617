"""The request that the current context belongs to: found from a child span, a dependency, a thread or a mounted app."""

from __future__ import annotations

from typing import Protocol

from opentelemetry.context import create_key, get_value
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span

from .._guard import Guard

REQUEST_KEY = create_key("asgi-trace-request")
"""Where a Context keeps the `Traced` request, or the bare SERVER span when nobody needs to know more of it."""


_guard = Guard()


class Traced(Protocol):
    """What an application can reach of its request."""

    span: Span
    template: str | None
    reported: BaseException | None
    ended: bool


def server_span() -> Span:
    """The SERVER span of the request in progress, whichever span is current now.

    Works wherever the context is: endpoints, dependencies, threads that were started with it, child spans. Outside of a
    request, and in an excluded one, it is `INVALID_SPAN`; after its end, as in a background task, it is one that is not
    recorded, with the same ids. Every call on either is harmless.
    """
    request = get_value(REQUEST_KEY)
    if request is None or isinstance(request, Span):
        return request or INVALID_SPAN
    span: Span = request.span  # type: ignore[attr-defined]
    return NonRecordingSpan(span.get_span_context()) if request.ended else span  # type: ignore[attr-defined]


def set_route(template: str) -> None:
    """Set route and name of the request's SERVER span, for a framework that keeps the match to itself.

    `template` is taken as it is, so it must be the route's pattern (`/orders/{id}`), never the path; it beats what the
    scope says. Outside of a request, or after its span has ended, nothing happens. What is no text is left out, with
    one warning.
    """
    if not isinstance(template, str):
        advice = "write the route's pattern, like set_route('/orders/{id}')"  # type: ignore[unreachable]
        _guard.warn("set_route", f"set_route({template!r}): {advice}")
        return
    request = get_value(REQUEST_KEY)
    if request is not None and not isinstance(request, Span):
        request.template = template  # type: ignore[attr-defined]


def report_exception(exc: BaseException) -> None:
    """Tell which exception the application is about to answer with an error response of its own, instead of raising it.

    When that response's status is 500 or above, its SERVER span and metrics get the exception's class as `error.type`
    and the span its event and message; below 500 the exception was handled, and nothing is recorded. Call it from the
    error handler, before or after the response. The last exception counts, unless another one escapes from the
    application. On a WebSocket it counts as well unless that is refused, or closed with a code, for the client's fault.
    Outside of a request, or after its span has ended, nothing happens.
    """
    request = get_value(REQUEST_KEY)
    if request is not None and not isinstance(request, Span) and not request.ended:  # type: ignore[attr-defined]
        request.reported = exc  # type: ignore[attr-defined]
