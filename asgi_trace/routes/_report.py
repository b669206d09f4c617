"""From an adapter to the request: the application's own template, completed with what stands above the application."""

from __future__ import annotations

from typing import Any

from opentelemetry.context import get_value
from opentelemetry.trace import Span

from .._current import REQUEST_KEY
from .._types import Scope
from . import full_template


def report(template: str, scope: Scope | None = None) -> None:
    """Set the route of the request in progress to `template` below the root path and the mounts of the application.

    `scope` is the one the application was called with, where that is not the request's own. For an application whose
    routes match the whole path, `set_route()` is right instead.
    """
    request: Any = get_value(REQUEST_KEY)
    if request is None or isinstance(request, Span):
        return
    full = full_template(request.scope if scope is None else scope, request.root_path, template)
    if full is not None:
        request.template = full
