"""The template of a route, read from scopes as frameworks leave them, and never from a concrete path."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import weakref
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_trace import TraceMiddleware
from asgi_trace._routing import starlette_mounts
from asgi_trace._routing.scope import full_template, read_route, whole_template
from asgi_trace._types import ASGIApp, Receive, Scope, Send
from asgi_trace.routes._report import report
from asgi_trace.testing import CapturedSpans

from ..support.asgi import OK, drive, http_scope


class Route:
    """A route as Starlette publishes it."""

    def __init__(self, path: str, endpoint: Any) -> None:
        self.path_format = path
        self.path_regex = pattern(path)
        self.endpoint = endpoint


class Mount:
    """A mount as Starlette publishes it."""

    def __init__(self, path: str, app: Any) -> None:
        self.path_format = path + "/{path}"
        self.path_regex = pattern(path, "/(?P<path>.*)")
        self.app = app

    @property
    def routes(self) -> Any:
        return getattr(self.app, "routes", [])


class Router:
    """A router that counts how often somebody looks through its routes."""

    def __init__(self, *routes: Any) -> None:
        self._routes = Counted(routes)

    @property
    def routes(self) -> Counted:
        return self._routes

    @property
    def walks(self) -> int:
        return self._routes.walks


class Counted(list[Any]):
    walks = 0
    looks = 0

    def __iter__(self) -> Any:
        self.walks += 1
        return super().__iter__()

    def __getitem__(self, index: Any) -> Any:
        self.looks += 1
        return super().__getitem__(index)


def pattern(path: str, rest: str = "") -> re.Pattern[str]:
    return re.compile("^" + re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path) + rest + "$")


def endpoint() -> None: ...


def scope_below(router: Any, root_path: str, path: str, found: Any, **more: Any) -> dict[str, Any]:
    """What a router leaves in the scope of a request that went through mounts to `found`."""
    return {
        "type": "http",
        "method": "GET",
        "path": root_path + path,
        "headers": [],
        "router": router,
        "app_root_path": "",
        "root_path": root_path,
        "endpoint": found,
        **more,
    }


def test_a_plain_route_is_read_without_a_look_at_the_others() -> None:
    """The template comes from the route in the scope: no router is looked through, however many routes it has."""
    router = Router(*(Route(f"/other/{number}", endpoint) for number in range(1000)))
    scope = {"type": "http", "path": "/items/7", "route": Route("/items/{id}", endpoint), "router": router}
    assert read_route(scope, "") == "/items/{id}"
    assert router.walks == 0


def test_mounts_are_looked_through_once() -> None:
    """A router is tabulated at its first request; later ones, also with other parameters, don't look at its routes."""
    inner = Router(*(Route(f"/other/{number}", endpoint) for number in range(100)), Route("/items/{id}", endpoint))
    outer = Router(*(Route(f"/other/{number}", endpoint) for number in range(100)), Mount("/tenants/{tenant}", inner))
    route = Route("/items/{id}", endpoint)
    for tenant in ("acme", "tenants", "items", "acme"):
        scope = scope_below(outer, f"/tenants/{tenant}", "/items/7", endpoint, route=route)
        assert read_route(scope, "") == "/tenants/{tenant}/items/{id}"
        assert outer.walks == 1
        assert inner.walks <= 1


@pytest.mark.parametrize("count", [10, 1000])
def test_the_cost_below_mounts_does_not_grow_with_the_routes(count: int) -> None:
    """Once a mount is known, a request only looks whether it is still where it was found."""
    others = [Route(f"/other/{number}", object()) for number in range(count)]
    mounts = [Mount(f"/mount/{number}", Router()) for number in range(count)]
    inner = Router(*others, *mounts, Route("/items/{id}", endpoint))
    outer = Router(*others, *mounts, Mount("/tenants/{tenant}", inner))
    route = Route("/items/{id}", endpoint)
    for known in (False, True, True):
        outer.routes.looks = inner.routes.looks = 0
        scope = scope_below(outer, "/tenants/acme", "/items/7", endpoint, route=route)
        assert read_route(scope, "") == "/tenants/{tenant}/items/{id}"
        if known:
            assert (outer.routes.looks, inner.routes.looks) == (1, 0)
    assert (outer.walks, inner.walks) == (1, 1)


def test_a_route_in_the_place_of_another() -> None:
    """Where only the endpoint is known, a route that another one has replaced is not found any more."""
    old = [Route("/items/{id}", endpoint), Mount("/tenants/{tenant}", Router(Route("/items/{id}", endpoint)))]
    router = Router(*old)
    top = {"type": "http", "method": "GET", "path": "/items/7", "router": router, "endpoint": endpoint}
    assert read_route(top, "") == "/items/{id}"
    assert read_route(scope_below(router, "/tenants/acme", "/items/7", endpoint), "") == "/tenants/{tenant}/items/{id}"
    router.routes[0] = Route("/things/{thing}", endpoint)
    assert read_route(top, "") == "/things/{thing}"
    router.routes[1] = Mount("/tenants/{name}", Router(Route("/items/{id}", endpoint)))
    assert read_route(scope_below(router, "/tenants/acme", "/items/7", endpoint), "") == "/tenants/{name}/items/{id}"


def test_without_a_route_in_the_scope() -> None:
    """An older Starlette leaves only the endpoint: a router's table leads from it to the template."""

    def other() -> None: ...

    inner = Router(Route("/items/{id}", endpoint), Route("/other/{id}", other), Route("/again/{id}", other))
    outer = Router(Mount("/tenants/{tenant}", inner), Route("/top/{id}", other))
    for root_path, path, found, template in (
        ("/tenants/acme", "/items/7", endpoint, "/tenants/{tenant}/items/{id}"),
        ("/tenants/acme", "/other/7", other, "/tenants/{tenant}/other/{id}"),
        ("/tenants/acme", "/again/7", other, "/tenants/{tenant}/again/{id}"),
        ("", "/top/7", other, "/top/{id}"),
        ("/tenants/acme", "/missing", inner, None),
        ("/tenants/acme", "/missing", object(), None),
    ):
        assert read_route(scope_below(outer, root_path, path, found), "") == template
    assert (outer.walks, inner.walks) == (1, 1)

    shared = Router(Route("/again/{id}", other), Route("/other/{id}", other))
    below = {"type": "http", "method": "GET", "path": "/other/7", "root_path": "/prefix", "app_root_path": "/prefix"}
    scope = {**below, "router": shared, "endpoint": other}  # a server that leaves the prefix out of the path
    assert read_route(scope, "/prefix") == "/prefix/other/{id}"

    def late() -> None: ...

    inner.routes.append(Route("/late/{id}", late))
    assert read_route(scope_below(outer, "/tenants/acme", "/late/7", late), "") == "/tenants/{tenant}/late/{id}"


def test_what_is_remembered_is_bounded() -> None:
    """Ten thousand tenants leave no more than a fixed number of entries."""
    router = Router(Mount("/tenants/{tenant}", Router(Route("/items/{id}", endpoint))))
    for number in range(10_000):
        scope = scope_below(router, f"/tenants/{number}", "/items/7", endpoint)
        assert read_route(scope, "") == "/tenants/{tenant}/items/{id}"
    table = starlette_mounts.table_of(router)
    assert table is not None
    assert len(table.walks) <= starlette_mounts.MOST_REMEMBERED


def test_what_is_remembered_does_not_keep_an_application_alive() -> None:
    """A router, its mounts and its endpoints are collected when the application lets go of them."""

    class Handler:
        def __init__(self, router: Any) -> None:
            self.router = router  # as an endpoint that refers to its application does

    router = Router()
    handler = Handler(router)
    mount = Mount("/tenants/{tenant}", Router(Route("/items/{id}", handler)))
    router.routes.append(mount)
    assert read_route(scope_below(router, "/tenants/acme", "/items/7", handler), "") == "/tenants/{tenant}/items/{id}"
    alive: list[weakref.ref[Any]] = [weakref.ref(router), weakref.ref(handler), weakref.ref(mount)]
    keys = {id(router), id(mount)}
    del router, handler, mount
    gc.collect()
    assert [reference() for reference in alive] == [None, None, None]
    assert not keys & starlette_mounts._tables.keys()


class Hostile:
    """Every attribute raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)


class Strange:
    """Every attribute is there, and none is what it should be."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.value


SECRET = "s3cret-7f"
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(f"/{SECRET}/x")
    | st.binary(max_size=4)
    | st.builds(Hostile)
    | st.just(endpoint)
    | st.builds(Mount, st.just("/a/{b}"), st.builds(Router)),
    lambda inner: (
        st.builds(Strange, inner)
        | st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["effective_route_context", "frontend_path", "x"]), inner, max_size=3)
        | st.builds(lambda routes: SimpleNamespace(routes=routes), st.lists(inner, max_size=3))
    ),
    max_leaves=6,
)
KEYS = ["app", "app_root_path", "endpoint", "fastapi", "litestar_app", "path_template", "route", "route_handler"]


@given(st.dictionaries(st.sampled_from([*KEYS, "router", "root_path", "raw_path", "headers"]), values))
def test_nothing_in_a_scope_can_break_the_reader(more: dict[str, Any]) -> None:
    """Whatever objects stand in the scope, the answer is a template or None."""
    scope = {"type": "http", "method": "GET", "path": f"/{SECRET}/x", **more}
    for complete in (full_template, whole_template):
        answer = complete(scope, "", "/items/{id}")
        assert answer is None or isinstance(answer, str)
    for answer in (read_route(scope, ""), read_route(scope, "/x")):
        assert answer is None or isinstance(answer, str)


@given(
    st.lists(st.sampled_from(["/a/{x}", "/b", "/{y}", "/c/{z}/d", ""]), min_size=1, max_size=4),
    st.text(st.characters(blacklist_characters="/\n"), min_size=1, max_size=8),
    st.booleans(),
    st.booleans(),
)
def test_no_part_of_a_path_becomes_part_of_a_route(
    templates: list[str], value: str, by_endpoint: bool, known: bool
) -> None:
    """Through any chain of mounts the route is made of templates alone, whatever the parameters' values are."""
    value = f"{SECRET}-{value}"
    below: Any = Router(Route("/items/{id}", endpoint))
    for template in reversed(templates):
        below = Router(Mount(template, below))
    root_path = "".join(re.sub(r"{\w+}", lambda _: value, template) for template in templates)
    scope = scope_below(below, root_path, f"/items/{value}", endpoint if known else object())
    if not by_endpoint:
        scope["route"] = Route("/items/{id}", endpoint)
    answer = read_route(scope, "")
    assert answer == ("".join(templates) + "/items/{id}" if known else None)


def test_what_cannot_be_told_has_no_route() -> None:
    """Mounts nested without end, objects that are no routes, and a Litestar mount that fits no path: None."""
    below: Any = Router(object(), Route("/items/{id}", endpoint))
    for _ in range(starlette_mounts.DEEPEST + 1):
        below = Router(Mount("/{x}", below))
    scope = scope_below(below, "/7" * (starlette_mounts.DEEPEST + 1), "/items/7", endpoint)
    assert read_route(scope, "") is None

    def handler_function() -> None: ...

    handler = SimpleNamespace(fn=handler_function)
    app = SimpleNamespace(routes=[SimpleNamespace(route_handler=handler, path=path) for path in ("/one", "/two")])
    scope = {"type": "http", "path_template": "", "route_handler": handler, "litestar_app": app, "app": app}
    assert read_route({**scope, "raw_path": b"/two/x"}, "") == "/two/{path}"
    assert read_route({**scope, "raw_path": b"/three/x"}, "") is None


@pytest.mark.parametrize(
    ("raw_path", "root_path", "path", "route"),
    [
        (b"/items/7", "", "/items/7", "/items/{id}"),
        (b"/items/7/", "", "/items/7", "/items/{id}"),
        (b"//items//7", "", "/items/7", "/items/{id}"),
        (b"/items/%C3%A9?q=/a/b", "", "/items/\u00e9", "/items/{id}"),
        (b"/items/%ff", "", "/items/\udcff", "/items/{id}"),
        (b"/prefix/items/7", "/prefix", "/items/7", "/prefix/items/{id}"),
        (b"/items/7", "/prefix", "/items/7", "/prefix/items/{id}"),
        (b"", "", "/items/7", "/items/{id}"),
        (None, "", "/items/7", "/items/{id}"),
        (b"/", "", "/items/7", "/items/{id}"),
        (b"/mounted/items/7/", "", "/items/7", None),
        (b"/prefix/mounted/items/7/", "/prefix", "/items/7", None),
        (b"/mounted/", "", "/", None),
    ],
)
def test_a_litestar_that_has_matched_a_part_of_the_path(
    raw_path: bytes | None, root_path: str, path: str, route: str | None
) -> None:
    """Where something has cut the path that Litestar matched, its template is not the whole one: no route."""
    scope = {"type": "http", "path": path, "root_path": root_path, "path_template": "/items/{id}"}
    assert read_route({**scope, "raw_path": raw_path}, root_path) == route


def test_the_template_of_an_application_that_matches_the_whole_path() -> None:
    """It is complete, but below a Litestar, which cuts the path: there its mount is put in front, where it is known."""
    assert whole_template({"type": "http", "root_path": "/prefix"}, "/prefix", "/prefix/items") == "/prefix/items"

    def handler_function() -> None: ...

    handler = SimpleNamespace(fn=handler_function)
    app = SimpleNamespace(routes=[SimpleNamespace(route_handler=handler, path=path) for path in ("/one", "/two")])
    scope = {"type": "http", "path_template": "", "route_handler": handler, "litestar_app": app, "app": app}
    assert whole_template({**scope, "raw_path": b"/two/x"}, "", "/x") == "/two/x"
    assert whole_template({**scope, "raw_path": b"/three/x"}, "", "/x") is None
    assert whole_template({**scope, "raw_path": None}, "", "/x") is None


def test_an_adapter_outside_of_a_recorded_request(spans: CapturedSpans) -> None:
    """Adapters report into the request in progress; without one, or one that cannot be completed, nothing happens."""
    report("/nowhere")
    scope = http_scope("/elsewhere", app_root_path="/gone")  # the mounts of this one cannot be told
    drive(TraceMiddleware(reporting("/items/{id}")), scope)
    drive(TraceMiddleware(reporting("/items/{id}")), http_scope("/items/7"))
    assert [span.name for span in spans] == ["GET", "GET /items/{id}"]


def reporting(template: str) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        report(template)
        await OK(scope, receive, send)

    return app


@pytest.mark.parametrize(
    ("before", "written", "root"),
    [
        ("", "", ""),
        ("/prefix", "/prefix", "/prefix"),
        ("/prefix/", "/prefix/", "/prefix"),
        ("", "/tenant-7", ""),
        ("/prefix", "/prefix/tenant-7", "/prefix"),
        ("/prefix", "", "/prefix"),
    ],
)
def test_the_root_path(before: str, written: str, root: str) -> None:
    """The root path that the server gave stands in front; one that was written on the way does not count."""
    scope = {"type": "http", "path": "/items/7", "root_path": written, "route": Route("/items/{id}", endpoint)}
    assert read_route(scope, before) == root + "/items/{id}"


def test_the_root_path_of_a_fastapi_application() -> None:
    """The one that the application is configured with counts, also where the scope had none."""
    router = Router()
    router.dependency_overrides_provider = SimpleNamespace(root_path="/shop")  # type: ignore[attr-defined]
    route = Route("/items/{id}", endpoint)
    scope = {"type": "http", "path": "/items/7", "root_path": "/shop", "route": route, "router": router}
    assert read_route(scope, "") == "/shop/items/{id}"


def test_full_template() -> None:
    """An adapter's template gets the mounts and the root path in front, or is None when those cannot be told."""
    router = Router(Mount("/tenants/{tenant}", endpoint))
    scope = scope_below(router, "/prefix/tenants/acme", "/x", endpoint, app_root_path="/prefix")
    assert full_template(scope, "/prefix", "/items/<id>") == "/prefix/tenants/{tenant}/items/<id>"
    assert full_template(scope, "/prefix", "items/<id>") == "/prefix/tenants/{tenant}/items/<id>"
    assert full_template({"type": "http"}, "", "/items/<id>") == "/items/<id>"
    assert full_template({**scope, "root_path": "/prefix/elsewhere"}, "/prefix", "/items/<id>") is None
    assert full_template({**scope, "root_path": "/prefix/tenants/acme/deeper"}, "/prefix", "/items/<id>") is None
    assert full_template({**scope, "root_path": "/elsewhere"}, "/prefix", "/items/<id>") is None


def test_the_reader_imports_no_framework() -> None:
    """The package and its reader are imported without any framework; an adapter brings its own, when asked for."""
    frameworks = "blacksheep connexion django falcon fastapi flask litestar quart sanic starlette"
    code = (
        "import sys, asgi_trace, asgi_trace.routes, asgi_trace.routes._report\n"
        f"print([name for name in {frameworks.split()} if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": "."}
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.parametrize("framework", ["blacksheep", "connexion", "django", "falcon", "flask", "quart", "sanic"])
def test_an_adapter_without_its_framework(framework: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Importing the adapter of a framework that is not installed fails with the framework's name."""
    for name in [name for name in sys.modules if name.split(".")[0] == framework]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, framework, None)
    monkeypatch.delitem(sys.modules, f"asgi_trace.routes.{framework}", raising=False)
    with pytest.raises(ModuleNotFoundError, match=f"{framework}|asgiref"):
        __import__(f"asgi_trace.routes.{framework}")
