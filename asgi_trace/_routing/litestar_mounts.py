"""Where Litestar has mounted the application that it handed a request to.

Litestar names the template of a route in the scope, but for an `@asgi(is_mount=True)` handler it is empty: the path is
that of the one among the application's routes that leads to this handler. It is remembered per handler function.
A Litestar in a Litestar that shares its scope writes over all of this: what has mounted it can be told no more.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote
from weakref import WeakKeyDictionary

from .._types import Scope

_known: WeakKeyDictionary[Any, dict[int, tuple[str, ...]]] = WeakKeyDictionary()


def mount_path(scope: Scope) -> str | None:
    """The path of the mount that took this request; of several that lead to it, the longest that fits."""
    handler = scope["route_handler"]
    paths = _paths(scope["litestar_app"], handler)
    if len(paths) == 1:
        return paths[0]
    path = unquote(scope["raw_path"].decode("latin-1")).removeprefix(scope.get("root_path", "")) + "/"
    return max((known for known in paths if path.startswith(known + "/")), key=len, default=None)


def is_whole(scope: Scope) -> bool:
    """Did Litestar match the whole path below `root_path`, or a part that was left when the scope came to it?

    Litestar writes the path that it has matched into the scope; `raw_path` stays as the client sent it.
    """
    matched, raw_path = scope["path"], scope.get("raw_path")
    if not raw_path or raw_path == matched.encode("utf-8", "replace"):
        return True
    path = unquote(raw_path.partition(b"?")[0].decode("latin-1"))
    if root_path := scope.get("root_path"):
        path = path.split(root_path, maxsplit=1)[-1]
    parts = [part for part in path.split("/") if part]
    rest = [part for part in matched.split("/") if part]
    return len(parts) == len(rest) or parts[len(parts) - len(rest) :] != rest


def _paths(app: Any, handler: Any) -> tuple[str, ...]:
    """The mount paths of a handler, which has no parameters in them."""
    known = _known.setdefault(handler.fn, {})
    paths = known.get(id(handler))
    if paths is None:
        routes = (route for route in app.routes if getattr(route, "route_handler", None) is handler)
        paths = known[id(handler)] = tuple(route.path.rstrip("/") for route in routes)
    return paths
