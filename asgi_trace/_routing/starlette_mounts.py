"""The chain of Starlette mounts above a route: concrete `root_path` in, template out.

A mount leaves only its concrete path in the scope (`root_path`, `/tenants/acme`), so the template is found by asking
the mounts, and the mounts only, which of them took that path. What a router holds is tabulated once per router, and the
answer is remembered per concrete path; both are bounded and hold the application weakly, and both are made again when
a mount is no longer where it was found. Applications and routes are read by attribute, as Starlette and FastAPI publish
them; anything else counts as an application without routes.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

from .._types import Scope

MOST_REMEMBERED = 1024
DEEPEST = 32
REST = "/{path}"
"""What a mount's `path_format` ends with: everything below it."""


class Matched(NamedTuple):
    """Where a walk over the mounts ended."""

    prefix: str
    """The templates of the mounts, joined."""
    mount: _Child | None
    """The last mount that took a part of the path."""
    top: _Table | None
    """What the outermost router holds."""
    steps: tuple[tuple[_Table, _Child], ...] = ()
    """The mounts that took a part of the path, and where each was found."""

    def is_current(self) -> bool:
        """Are those mounts still where they were?"""
        for table, child in self.steps:  # noqa: SIM110 - asked at every request
            if not table.holds(child.place):
                return False
        return True

    def leaf(self, scope: Scope) -> str | None:
        """The template below `prefix` of the endpoint that the scope names; None when nothing matched there."""
        endpoint = scope["endpoint"]
        table = self.top if self.mount is None else self.mount.table()
        if self.mount is not None and self.mount.serves(endpoint):
            # A router as endpoint, or one that hides behind it, has found nothing.
            return REST if table is None and not self._hides_a_router(scope, None) else None
        if table is None:
            table = table_of(scope.get("app"))
        if table is None:
            return None
        template = table.leaf(endpoint, scope)
        if table.is_stale() and (again := _fresh(table)) is not None:
            table, template = again, again.leaf(endpoint, scope)
        return None if template == REST and self._hides_a_router(scope, table) else template

    def _hides_a_router(self, scope: Scope, table: _Table | None) -> bool:
        """Was the request handed to another application than those on the way here? It has written its name."""
        routes = getattr(scope.get("app"), "routes", None)
        if not isinstance(routes, list) or "path_template" in scope:  # then it is a Litestar, further up
            return False
        way = (self.top, table, *(table for table, _ in self.steps))
        return all(table is None or table.routes() is not routes for table in way)


def matched(scope: Scope) -> Matched | None:
    """Walk over the mounts that took `root_path`; None when they cannot be told."""
    base, router = scope.get("app_root_path"), scope.get("router")
    table = None if router is None else table_of(router)
    if base is None:
        return Matched("", None, table)
    root_path = scope["root_path"]
    if table is None or not root_path.startswith(base):
        return None
    taken = root_path[len(base) :]
    known = table.walks.get(taken)
    if known is None or not known.is_current():
        table = _fresh(table) or table
        known, depends_on_host = _walk(table, taken, scope)
        if known is not None and not depends_on_host:
            if len(table.walks) >= MOST_REMEMBERED:
                table.walks.clear()
            table.walks[taken] = known
    return known


def application_root(scope: Scope, before: str) -> str:
    """The root path in front of the outermost router: what the server gave, or `FastAPI(root_path=...)`.

    Any other value was written by a middleware on the way, and may be different for each request: it does not count.
    """
    base = scope.get("app_root_path")
    below_mount = base is not None and before.startswith(base + "/")  # so is the middleware that asks
    if base is None:
        base = scope.get("root_path", "")
    if base != before and not below_mount:
        owner = getattr(scope.get("router"), "dependency_overrides_provider", None)  # the FastAPI application
        if base != getattr(owner, "root_path", None):
            base = before
    return base.rstrip("/")


def _walk(top: _Table, rest: str, scope: Scope) -> tuple[Matched | None, bool]:
    prefix, depends_on_host = "", False
    steps: list[tuple[_Table, _Child]] = []
    below: _Table | None = top
    for _ in range(DEEPEST):
        below = None if below is None else _fresh(below)
        if not rest:
            return Matched(prefix, steps[-1][1] if steps else None, top, tuple(steps)), depends_on_host
        if below is None:
            below = table_of(scope.get("app"))  # a router that hides behind a middleware
            if below is None or below is top:
                break
        for child in below.children:
            if child.regex is None:
                if child.takes_host(scope):
                    taken, depends_on_host = 0, True
                    break
            elif match := child.regex.match(rest + "/"):
                taken = match.start("path") - 1
                break
        else:
            break
        steps.append((below, child))
        prefix, below, rest = prefix + child.template, child.table(), rest[taken:]
    return None, True


class _Place:
    """Where a router has an object: that one, held weakly, at that index."""

    __slots__ = ("index", "item")

    def __init__(self, index: int, item: Any) -> None:
        self.index = index
        self.item = weakref.ref(item)


class _Child:
    """A mount or host route, held weakly."""

    __slots__ = ("_route", "place", "regex", "template")

    def __init__(self, place: _Place, route: Any, regex: Any, template: str) -> None:
        self._route = weakref.ref(route)
        self.place = place
        self.regex = regex
        self.template = template

    def serves(self, endpoint: object) -> bool:
        route = self._route()
        return route is not None and route.app is endpoint

    def table(self) -> _Table | None:
        route = self._route()
        return table_of(route) if route is not None and route.routes else None

    def takes_host(self, scope: Scope) -> bool:
        route = self._route()
        question = {"type": scope["type"], "headers": scope["headers"]}
        return route is not None and bool(route.matches(question)[1])


class _Table:
    """What one router holds: its mounts and hosts in order, and its routes by the identity of their endpoint."""

    __slots__ = ("_leaves", "_owner", "_size", "children", "walks")

    def __init__(self, owner: Any, routes: Any) -> None:
        self._owner = weakref.ref(owner, partial(_forget, id(owner)))
        self._leaves: dict[int, list[tuple[_Place, weakref.ref[Any]]]] = {}
        self._size = len(routes)
        self.children: list[_Child] = []
        self.walks: dict[str, Matched] = {}
        for index, item in enumerate(routes):
            for route in _flat(item):
                if hasattr(route, "host_regex"):
                    self.children.append(_Child(_Place(index, item), route, None, ""))
                elif getattr(route, "endpoint", None) is not None:
                    leaf = (_Place(index, item), weakref.ref(route))
                    self._leaves.setdefault(id(route.endpoint), []).append(leaf)
                elif hasattr(route, "routes") and hasattr(route, "path_regex"):
                    template = route.path_format[: -len(REST)]
                    self.children.append(_Child(_Place(index, item), route, route.path_regex, template))

    def owner(self) -> Any:
        return self._owner()

    def routes(self) -> Any:
        return getattr(self._owner(), "routes", None)

    def fits(self, owner: object, routes: list[Any]) -> bool:
        return self._size == len(routes) and self._owner() is owner

    def is_stale(self) -> bool:
        return self._size == _STALE

    def holds(self, place: _Place) -> bool:
        """Is the object still there? If not, another one was put in its place, and the whole table is stale."""
        owner: Any = self._owner()
        try:
            if owner.routes[place.index] is place.item():
                return True
        except (AttributeError, IndexError):  # the router has gone, or has fewer routes
            pass
        self._size = _STALE
        return False

    def leaf(self, endpoint: object, scope: Scope) -> str | None:
        """The template of this endpoint here, or below a mount or host that takes no part of the path."""
        for child in self.children:
            if not child.template and child.serves(endpoint) and self.holds(child.place):
                return REST if child.regex is not None and child.table() is None else None
        routes = list(self._routes_to(endpoint, DEEPEST))
        if len(routes) > 1:
            routes = _first_match(routes, scope)
        return routes[0].path_format if routes else None

    def _routes_to(self, endpoint: object, depth: int) -> Iterator[Any]:
        for place, reference in self._leaves.get(id(endpoint), ()):
            route = reference()
            if self.holds(place) and route is not None and route.endpoint is endpoint:
                yield route
        for child in self.children if depth else ():
            table = None if child.template or not self.holds(child.place) else child.table()
            if table is not None:
                yield from table._routes_to(endpoint, depth - 1)


def _first_match(routes: list[Any], scope: Scope) -> list[Any]:
    """Of the routes that share one endpoint, those that match as the router has it: the method's first."""
    path, root_path = scope["path"], scope.get("root_path", "")
    if path.startswith(root_path + "/"):
        path = path[len(root_path) :]
    routes = [route for route in routes if route.path_regex.match(path)]
    method = scope.get("method")
    return sorted(routes, key=lambda route: method not in (getattr(route, "methods", None) or (method,)))


def _flat(item: Any) -> Iterator[Any]:
    """A route; or those of FastAPI's included router, in its place and with their prefix."""
    contexts = getattr(item, "effective_route_contexts", None)
    if contexts is None:
        yield item
        return
    for context in contexts():
        prefixed = getattr(context, "starlette_route", None)
        yield context if prefixed is None else prefixed


_STALE = -1
_tables: dict[int, _Table] = {}


def _forget(key: int, _: object) -> None:
    _tables.pop(key, None)


def table_of(owner: Any) -> _Table | None:
    """The table of something that has `routes`, built once, and again when it is stale or their number has changed."""
    table = _tables.get(id(owner))
    routes = getattr(owner, "routes", None)
    if not isinstance(routes, list):
        return None
    if table is None or not table.fits(owner, routes):
        try:
            table = _tables[id(owner)] = _Table(owner, routes)
        except TypeError:  # it cannot be held weakly (Litestar): not an object of Starlette's
            return None
    return table


def _fresh(table: _Table) -> _Table | None:
    """The table, or another one when a mount in it has been replaced by something else."""
    if not table.is_stale() and all(table.holds(child.place) for child in table.children):
        return table
    owner = table.owner()
    return None if owner is None else table_of(owner)
