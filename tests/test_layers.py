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

FLOORS: dict[str, int] = {
    name: floor
    for floor, names in enumerate(
        (
            "_types _version _guard",
            "_options",  # what both sides are told at construction
            "_semconv _routing",  # a scope or a request in; names and values out
            "_otel",  # how we talk to OpenTelemetry's API
            "_propagation",  # headers in, a context out, and the reverse
            "_server _client",  # one request: told what happened, never awaits
            "_log_correlation _traced",
            "middleware httpx httpx2 logging structlog testing routes",  # the shells, which await
            "_sdk _export",
            "_logs",
            "_configuration",  # setting up the SDK; the only global state
            "viewer",
            "demo",
            "cli",
            "__main__",
        )
    )
    for name in names.split()
}
"""The districts, from the ground up: a district imports only from itself and from lower floors."""
SHELLS, SDK = FLOORS["middleware"], FLOORS["_configuration"]

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
BENCHMARKS = ROOT.parent / "benchmarks"


def district(module: str) -> str:
    """The first part of a module's name."""
    return module.split(".")[0]


def floor(module: str) -> int:
    """The floor of a module's district; the package itself offers `configure()`."""
    return SDK if module == "" else FLOORS.get(district(module), -1)


@cache
def imports(module: str, typing_too: bool = False) -> frozenset[str]:
    """Absolute names of all that a module imports, inside of functions too; on demand what only type checkers see."""
    path = MODULES[module]
    package = ["asgi_trace", *module.split(".")] if module else ["asgi_trace"]
    if path.name != "__init__.py":
        package = package[:-1]
    return frozenset(_imported(ast.parse(path.read_text()), package, typing_too))


def _imported(tree: ast.AST, package: list[str], typing_too: bool) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if not typing_too and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            source = ".".join(filter(None, (base, node.module)))
            yield from (f"{source}.{alias.name}" for alias in node.names)
        yield from _imported(node, package, typing_too)


def ours(module: str) -> set[str]:
    """The modules of this package that a module imports, also for type checkers only."""
    found = set()
    for name in imports(module, typing_too=True):
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


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The first circle of a graph, as the way around it; empty when there is none."""
    done: set[str] = set()

    def visit(node: str, way: list[str]) -> list[str]:
        if node in way:
            return [*way[way.index(node) :], node]
        if node not in done:
            for behind in sorted(graph.get(node, ())):
                if found := visit(behind, [*way, node]):
                    return found
            done.add(node)
        return []

    return next(filter(None, (visit(node, []) for node in graph)), [])


def test_every_district_has_a_floor() -> None:
    """A new district is given its place, and one that is gone loses it."""
    assert {module for module in MODULES if floor(module) < 0} == set()
    assert FLOORS.keys() - {district(module) for module in MODULES} == set()


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_downwards(module: str) -> None:
    """A module knows its own district and lower floors, nothing above and nothing beside it."""
    allowed = {
        name
        for name in ours(module)
        if district(name) == district(module) or floor(name) < floor(module) + (module == "")
    }
    assert ours(module) - allowed == set()


def test_no_import_goes_in_a_circle() -> None:
    """Inside a district, too, there is an order; what only type checkers import counts."""
    assert circle({module: ours(module) for module in MODULES}) == []


def test_no_import_of_the_benchmarks_goes_in_a_circle() -> None:
    """The benchmarks keep the same rule."""
    names = {
        ".".join(path.relative_to(BENCHMARKS.parent).with_suffix("").parts): path for path in BENCHMARKS.rglob("*.py")
    }
    graph = {}
    for name, path in names.items():
        package = name.split(".")[:-1]
        found = set(_imported(ast.parse(path.read_text()), package, True))
        graph[name] = {
            module
            for module in names
            if module != name and (module in found or any(f.rpartition(".")[0] == module for f in found))
        }
    assert circle(graph) == []


def test_a_new_circle_is_found() -> None:
    """The search for circles is not blind: it finds one of three and names its way."""
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_the_floors_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    """`pytest -s -k floors` prints the house: each floor, its districts, and the order inside each."""
    for number in sorted(set(FLOORS.values()), reverse=True):
        names = [name for name, height in FLOORS.items() if height == number]
        print(number, *names)
        for name in names:
            print("   ", name, "<-", *sorted({district(m) for m in MODULES if name in map(district, ours(m))} - {name}))
    printed = capsys.readouterr().out
    assert all(f" {name}" in printed for name in FLOORS)
    with capsys.disabled():
        print()
        print(printed)


@pytest.mark.parametrize("module", [module for module in MODULES if module and floor(module) <= SHELLS])
def test_the_core_knows_the_api_and_nothing_else(module: str) -> None:
    """OpenTelemetry's API, plus the one library that a module is named after: no SDK, no gRPC, no framework."""
    assert others(module) <= API | ROOMS.get(module, set())


@pytest.mark.parametrize("module", [module for module in MODULES if SHELLS < floor(module) <= FLOORS["viewer"]])
def test_setting_up_and_looking_on_need_no_framework(module: str) -> None:
    """`configure()` and the viewer know the SDK, OTLP and gRPC; no client. The viewer draws with rich, and only its
    rooms that serve know a web framework.
    """
    known = {"opentelemetry.sdk", "opentelemetry.exporter", "opentelemetry.proto", "opentelemetry.attributes"}
    if district(module) == "viewer":
        known |= {"rich"}
    if module.startswith("viewer.serve."):
        known |= {"starlette", "uvicorn"}
    if module == "_export.http_sender":
        known |= {"urllib3"}
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


@pytest.mark.parametrize("module", ["asgi_trace", "asgi_trace.logging", "asgi_trace.routes", "asgi_trace.structlog"])
def test_importing_it_imports_nothing_heavy_and_does_nothing(module: str) -> None:
    """Neither the SDK nor httpx nor any framework; no thread is started and no provider set."""
    program = PROBE.format(module=module, heavy=HEAVY)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.splitlines() == ["[]", "['MainThread']", "ProxyTracerProvider"]
