"""Django, and django-ninja above it: the route of the resolver match, joined over every `include()`.

    MIDDLEWARE = ["asgi_trace.routes.django.TraceRoutes", ...]

It stands first, so that it also learns the route of a request that another middleware answers after the match.
Exceptions come from Django's signal, which is sent for those that it answers with its 500.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.core.signals import got_request_exception  # type: ignore[import-untyped]
from django.http import HttpRequest, HttpResponseBase  # type: ignore[import-untyped]

from .._server.current import report_exception
from ._report import report

__all__ = ["TraceRoutes"]


class TraceRoutes:
    """Middleware that reports the route of each request: `/orders/<int:id>/`; a `re_path` keeps its expression.

    The view's 404 and 405 have a route, a path that nothing matches has none. An exception that Django answers with
    its 500 is recorded on the request's span.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self._get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)
        signal: Any = got_request_exception  # its methods are not annotated
        signal.connect(_on_exception)  # as often as one likes: it is the same function

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        """Answer as the rest of the application does."""
        if self._is_async:
            return self._answer(request)
        try:
            response: HttpResponseBase = self._get_response(request)
        finally:
            _report_match(request)
        return response

    async def _answer(self, request: HttpRequest) -> HttpResponseBase:
        try:
            response: HttpResponseBase = await self._get_response(request)
        finally:  # also when the client left and Django cancelled the view
            _report_match(request)
        return response


def _report_match(request: HttpRequest) -> None:
    if request.resolver_match is not None:
        report("/" + request.resolver_match.route)


def _on_exception(**_: object) -> None:
    exc = sys.exc_info()[1]  # the signal does not name it
    if exc is not None:
        report_exception(exc)
