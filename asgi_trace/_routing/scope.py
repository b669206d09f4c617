"""The template of the route that a framework matched, read from what it has written into the scope.

Nothing is matched again and nothing is imported: a framework that is in use has left its objects in the scope, and
they are read by name (`route`, `endpoint`, `app_root_path`, `path_template`). What is not understood has no route; a
concrete path never stands in for one (semantic conventions, `http.route`). Frameworks that write nothing have an
adapter each, in `asgi_trace.routes`.
"""

from __future__ import annotations

from typing import Any

from .._routing.litestar_mounts import is_whole, mount_path
from .._routing.starlette_mounts import REST, Matched, application_root, matched
from .._types import Scope

__all__ = ["full_template", "read_route", "whole_template"]


def read_route(scope: Scope, root_path_before: str) -> str | None:
    """Return the full template of the route that served this scope, or None when none is known. Never raises.

    Ask once the response is under way: routers have written by then. `root_path_before` is the scope's `root_path`
    as it was before the application saw it. The template includes the root path and every mount.
    """
    try:
        if not ("endpoint" in scope or "route" in scope or "path_template" in scope or "fastapi" in scope):
            return None  # nothing routed, or nothing that tells
        route = scope.get("route")
        # The fast path: Starlette and FastAPI without a mount. Every mount that they enter writes `app_root_path`.
        if route is not None and "app_root_path" not in scope and "path_template" not in scope:
            included = scope.get("fastapi")
            if included is not None:
                route = _with_prefix(route, included)
            template = getattr(route, "path_format", None)
            if template.__class__ is str:
                if scope.get("root_path") or root_path_before:
                    return application_root(scope, root_path_before) + template  # pyright: ignore[reportOperatorIssue]
                return template or None
        return _search(scope, root_path_before)
    except Exception:
        return None


def full_template(scope: Scope, root_path_before: str, template: str) -> str | None:
    """Put the root path and the mounts above it in front of an application's own `template`. Never raises.

    None when the mounts cannot be told.
    """
    try:
        found = matched(scope)
        if found is None:
            return None
        below_litestar = mount_path(scope) if scope.get("path_template") == "" else ""
        prefix = None if below_litestar is None else found.prefix + below_litestar
        return None if prefix is None else _join(application_root(scope, root_path_before), prefix, template)
    except Exception:
        return None


def whole_template(scope: Scope, root_path_before: str, template: str) -> str | None:
    """Complete the `template` of an application that matches the whole path: Litestar alone cuts it. Never raises.

    None when Litestar's mount cannot be told.
    """
    try:
        if scope.get("path_template") != "":
            return template
        found, mounted_at = matched(scope), mount_path(scope)
        if found is None or mounted_at is None:
            return None
        above = found.prefix if found.mount is not None and found.mount.serves(scope["litestar_app"]) else ""
        return _join(application_root(scope, root_path_before), above + mounted_at, template)
    except Exception:
        return None


def _with_prefix(route: Any, included: Any) -> Any:
    """FastAPI: what knows the prefix of `include_router()`, when it belongs to this very route."""
    context = included.get("effective_route_context")
    return context if context is not None and context.original_route is route else route


def _search(scope: Scope, before: str) -> str | None:
    """Everything but a plain route of the outermost router."""
    found = matched(scope)
    if found is None:
        return None
    root, template = application_root(scope, before), scope.get("path_template")
    if isinstance(template, str):  # Litestar
        if not template:
            return _below_litestar(scope, root, found)
        return _join(root, found.prefix, template) if is_whole(scope) else None
    return _join(root, found.prefix, _leaf(scope, found))


def _leaf(scope: Scope, found: Matched) -> str | None:
    """The template below the mounts; None when nothing matched there."""
    route: Any = scope.get("route")
    included = scope.get("fastapi")
    if included is not None and "frontend_path" in included:
        return _frontend(scope, included["frontend_path"])
    endpoint = scope.get("endpoint")
    if endpoint is None:
        return None
    if getattr(route, "endpoint", None) is endpoint:  # a mount or host, left from the way here, has no endpoint
        template = (route if included is None else _with_prefix(route, included)).path_format
        return template if isinstance(template, str) else None
    return found.leaf(scope)


def _below_litestar(scope: Scope, root: str, found: Matched) -> str | None:
    """An application mounted in Litestar, which may be mounted itself, or be what mounts."""
    mounted_at, litestar, endpoint = mount_path(scope), scope["litestar_app"], scope.get("endpoint")
    if mounted_at is None:
        return None
    below_mount = found.mount is not None and (found.mount.serves(litestar) or found.mount.serves(endpoint))
    leaf = _leaf(scope, found)
    if leaf is None and scope.get("app") is litestar and (below_mount or "router" not in scope):
        leaf = REST  # the mounted application shows no routes
    prefix = found.prefix + mounted_at if below_mount else mounted_at + found.prefix
    return _join(root, prefix, leaf)


def _frontend(scope: Scope, rest: str) -> str | None:
    """`FastAPI.frontend()` leaves only the file's path: what stands before it is the configured prefix."""
    own = scope["path"].removeprefix(scope.get("root_path", ""))
    return own[: len(own) - len(rest)].rstrip("/") + REST if own.endswith(rest) else None


def _join(root: str, prefix: str, template: str | None) -> str | None:
    if template is None:
        return None
    if template and not template.startswith("/"):
        template = "/" + template
    return root + prefix + template or None
