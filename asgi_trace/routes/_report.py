"""From an adapter to the request: the application's own template, completed with what stands above the application."""

from __future__ import annotations

from collections.abc import Callable

from .._routing.scope import full_template, whole_template
from .._server.current import current_request
from .._types import Scope


def report(template: str, scope: Scope | None = None) -> None:
    """Set the route of the request in progress to `template` below the root path and the mounts of the application.

    `scope` is the one the application was called with, where that is not the request's own.
    """
    _set(full_template, template, scope)


def report_whole(template: str, scope: Scope | None = None) -> None:
    """The same for an application whose routes match the whole path: its `template` is complete but below Litestar."""
    _set(whole_template, template, scope)


def _set(complete: Callable[[Scope, str, str], str | None], template: str, scope: Scope | None) -> None:
    request = current_request()
    if request is None:
        return
    full = complete(request.scope if scope is None else scope, request.root_path, template)
    if full is not None:
        request.template = full
