"""The house has floors: imports point downwards, and each library is known in its own room only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import asgi_trace

ROOT = Path(asgi_trace.__file__).parent

RANKS: dict[str, int] = {
    name: rank
    for rank, names in {
        # pure: what may be known without a request
        0: "_baggage _context _current _deferred _endpoint _environment _flush _guard _options _origin _pem"
        " _proxies _tracestate _types _version _w3c redaction trust",
        # the questions: what is in a scope, what to call it, where to record it
        1: "_errors _exclusion _forwarded _header_capture _lifespan _log_fields _masking _measured _metrics"
        " _propagation _response_header"
        " _semconv _semconv_client _semconv_server _silence _tracers routes routes._litestar routes._mounts",
        # one request: told what happened, never awaits
        2: "_call _exchange _inbound _neighbours _outbound _request _socket",
        # the shells, which await
        3: "_transport httpx httpx2 logging middleware structlog testing routes._report routes.blacksheep"
        " routes.connexion routes.django routes.falcon routes.flask routes.litestar routes.quart routes.sanic",
        # setting up the SDK; the only global state
        4: "_collector _config _exporter _providers _resource _settings _stopping",
        7: "__main__ cli",
    }.items()
    for name in names.split()
}
FLOORS = {"sdk": 4, "viewer": 5, "demo": 6}
"""Whole packages that stand on one floor."""

API = {
    f"opentelemetry.{name}"
    for name in ("_logs", "baggage", "context", "metrics", "propagate", "propagators", "trace", "util")
}
GRPC = {"grpc", "google"}
ROOMS: dict[str, set[str]] = {
    "httpx": {"httpx"},
    "httpx2": {"httpx2"},
    "testing": {"opentelemetry.sdk"},
    "routes.blacksheep": {"blacksheep", "guardpost"},
    "routes.connexion": {"connexion"},
    "routes.django": {"django", "asgiref"},
    "routes.falcon": {"falcon"},
    "routes.flask": {"flask"},
    "routes.litestar": {"litestar"},
    "routes.quart": {"quart"},
    "routes.sanic": {"sanic"},
}
"""Who may know more than OpenTelemetry's API."""


def modules() -> dict[str, Path]:
    """Every module of the package, without `asgi_trace.` in front; the package itself is the empty name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def rank(module: str) -> int:
    if module == "":
        return 4  # it offers `configure`
    return FLOORS.get(module.split(".")[0], RANKS.get(module, -1))


@cache
def imports(module: str) -> frozenset[str]:
    """Absolute names of all that a module imports when it runs, inside of functions too; not for type checkers only."""
    path = MODULES[module]
    package = ["asgi_trace", *module.split(".")] if module else ["asgi_trace"]
    if path.name != "__init__.py":
        package = package[:-1]
    return frozenset(_imported(ast.parse(path.read_text()), package))


def _imported(tree: ast.AST, package: list[str]) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            yield from (f"{source}.{alias.name}" for alias in node.names)
        yield from _imported(node, package)


def ours(module: str) -> set[str]:
    """The modules of this package that a module imports."""
    found = set()
    for name in imports(module):
        if name == "asgi_trace" or name.startswith("asgi_trace."):
            inner = name.removeprefix("asgi_trace").removeprefix(".")
            found.add(inner if inner in MODULES else inner.rpartition(".")[0])
    return found - {module}


def others(module: str) -> set[str]:
    """The libraries that a module imports; OpenTelemetry by its parts."""
    found = set()
    for name in imports(module):
        top, *rest = name.split(".")
        if top == "opentelemetry":
            found.add(f"{top}.{rest[0]}")
        elif top not in sys.stdlib_module_names and top != "asgi_trace":
            found.add(top)
    return found


def test_every_module_has_a_floor() -> None:
    """A new module is given its place in the house, and one that is gone loses it."""
    assert {module for module in MODULES if rank(module) < 0} == set()
    assert RANKS.keys() - MODULES.keys() == set()


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module: str) -> None:
    """No module knows anything of a floor above its own."""
    assert {name: rank(name) for name in ours(module) if rank(name) > rank(module)} == {}


def test_nothing_imports_in_a_circle() -> None:
    """On one floor, too, there is an order."""
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join([*way, module])
        if module not in done:
            for name in ours(module):
                visit(name, (*way, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


@pytest.mark.parametrize("module", [module for module in MODULES if rank(module) < 4])
def test_the_core_knows_the_api_and_nothing_else(module: str) -> None:
    """OpenTelemetry's API, plus the one library that a module is named after: no SDK, no gRPC, no framework."""
    assert others(module) <= API | ROOMS.get(module, set())


@pytest.mark.parametrize("module", [module for module in MODULES if rank(module) in (4, 5)])
def test_setting_up_and_looking_on_need_no_framework(module: str) -> None:
    """`configure()` and the viewer know the SDK, OTLP and gRPC; no web framework, no client."""
    known = {"opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto", "opentelemetry.attributes"}
    assert others(module) <= API | GRPC | known


HEAVY = [*(f"opentelemetry.{name}" for name in ("sdk", "exporter", "proto", "semconv")), *GRPC, "httpx", "httpx2"]
HEAVY += ["anyio", "asgiref", "django", "fastapi", "starlette", "trio", "uvicorn"]
PROBE = """
import sys
import threading

import {module}

heavy = {heavy}
print([name for name in heavy if name in sys.modules])
print([thread.name for thread in threading.enumerate()])
from opentelemetry import trace
print(type(trace.get_tracer_provider()).__name__)
"""


@pytest.mark.parametrize(
    "module", ["asgi_trace", "asgi_trace.logging", "asgi_trace.redaction", "asgi_trace.routes", "asgi_trace.trust"]
)
def test_importing_it_imports_nothing_heavy_and_does_nothing(module: str) -> None:
    """Neither the SDK nor httpx nor any framework; no thread is started and no provider set."""
    program = PROBE.format(module=module, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.splitlines() == ["[]", "['MainThread']", "ProxyTracerProvider"]
