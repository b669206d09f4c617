"""What is public is what `__all__` says, and all of it is explained."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import pydoc
import re
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

import asgi_trace

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # those of the frameworks

PUBLIC = [
    "asgi_trace",
    "asgi_trace.httpx",
    "asgi_trace.httpx2",
    "asgi_trace.logging",
    "asgi_trace.middleware",
    "asgi_trace.routes",
    "asgi_trace.routes.blacksheep",
    "asgi_trace.routes.connexion",
    "asgi_trace.routes.django",
    "asgi_trace.routes.falcon",
    "asgi_trace.routes.flask",
    "asgi_trace.routes.litestar",
    "asgi_trace.routes.quart",
    "asgi_trace.routes.sanic",
    "asgi_trace.structlog",
    "asgi_trace.testing",
]


PRIVATE = ("asgi_trace.__main__", "asgi_trace.cli", "asgi_trace.demo", "asgi_trace.viewer")
"""What runs behind the command and `configure()`, and may change."""


def load(name: str) -> ModuleType:
    """A public module; a framework that is not installed skips its own."""
    try:
        return importlib.import_module(name)
    except ImportError as exc:
        pytest.importorskip(str(exc.name))
        raise


def defined_in(module: ModuleType) -> set[str]:
    """The functions and classes without an underscore that a module defines itself."""
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isfunction(value) or inspect.isclass(value))
        and value.__module__ == module.__name__
    }


def kind(name: str) -> tuple[int, str]:
    """The order that ruff checks: constants, classes, the rest."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_the_names_of_the_package_are_these() -> None:
    """Everything that most people need is in the package itself."""
    names = {"TraceMiddleware", "__version__", "configure", "server_span", "set_route", "traced"}

    assert names <= set(asgi_trace.__all__)
    for name in asgi_trace.__all__:
        assert getattr(asgi_trace, name) is not None


def test_there_is_no_other_public_module() -> None:
    """What has no underscore is public, or runs behind the command `asgi-trace`."""
    found = {"asgi_trace"} | {name for _, name, _ in pkgutil.walk_packages(asgi_trace.__path__, "asgi_trace.")}

    assert {name for name in found if "._" not in name and not name.startswith(PRIVATE)} == set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_all_is_explicit_and_sorted_and_true(name: str) -> None:
    """`__all__` names what the module defines, without duplicates, in order, and nothing that is missing."""
    module = load(name)
    exported = list(module.__all__)

    assert exported == sorted(set(exported), key=kind)
    assert defined_in(module) <= set(exported)
    assert all(hasattr(module, each) for each in exported)
    assert not any(each.startswith("_") and each != "__version__" for each in exported)


def explained(module: ModuleType) -> Iterator[tuple[str, Any]]:
    for name in module.__all__:
        value = getattr(module, name)
        if inspect.isfunction(value) or inspect.isclass(value):
            yield name, value
        if inspect.isclass(value) and value.__module__.startswith("asgi_trace"):
            yield from methods(name, value)


CALLED = ("__aenter__", "__aexit__", "__call__", "__enter__", "__exit__")
"""Methods that help() shows under names which say nothing of what they do."""


def methods(name: str, value: type) -> Iterator[tuple[str, Any]]:
    """The public methods and properties of a class, those that it inherits from a class of this package included."""
    for attribute in dir(value):
        member = inspect.getattr_static(value, attribute)
        function = getattr(member, "fget", None) or getattr(member, "__func__", member)
        is_public = attribute in CALLED or not attribute.startswith("_")
        if is_public and inspect.isfunction(function) and function.__module__.startswith("asgi_trace"):
            yield f"{name}.{attribute}", function


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_thing_has_a_docstring(name: str) -> None:
    """Modules, functions, classes and their public methods say what they do."""
    module = load(name)

    assert module.__doc__
    for what, value in explained(module):
        assert inspect.getdoc(value), f"{name}.{what} is not explained"


def test_what_configure_returns_is_explained() -> None:
    """It is no name of the package, and a user meets it all the same."""
    from asgi_trace._configuration.tracing import Tracing

    assert {name for name, _ in methods("Tracing", Tracing)} >= {"Tracing.lost", "Tracing.shutdown"}
    assert all(inspect.getdoc(value) for _, value in methods("Tracing", Tracing))


def test_help_shows_every_name() -> None:
    """`help(asgi_trace)` says what each name is, `configure` too, which is imported late."""
    text = pydoc.render_doc(asgi_trace, renderer=pydoc.plaintext)  # type: ignore[attr-defined]

    for name in set(asgi_trace.__all__) - {"__version__"}:
        assert re.search(rf"^ {{4}}(class )?{name}\(", text, re.MULTILINE), name
        summary = (inspect.getdoc(getattr(asgi_trace, name)) or "").splitlines()[0]
        assert summary in text


def optional(value: Any) -> list[str]:
    """The parameters that a caller writes by name, or may leave out: their names alone do not explain them."""
    parameters = inspect.signature(value).parameters.values()
    return [
        each.name
        for each in parameters
        if each.kind is each.KEYWORD_ONLY or (each.default is not each.empty and each.kind is not each.VAR_KEYWORD)
    ]


@pytest.mark.parametrize("name", PUBLIC)
def test_every_optional_parameter_is_in_the_docstring(name: str) -> None:
    """What may be given to a public function or class, and need not, is explained by name."""
    module = load(name)
    for what in module.__all__:
        value = getattr(module, what)
        if inspect.isclass(value) or inspect.isfunction(value):
            text = f"{inspect.getdoc(value)} {inspect.getdoc(value.__init__) if inspect.isclass(value) else ''}"
            missing = [each for each in optional(value) if not re.search(rf"\b{each}\b", text)]
            assert not missing, f"{name}.{what}"


def test_an_unknown_name_is_an_attribute_error() -> None:
    """The package looks up `configure` late, and nothing else."""
    with pytest.raises(AttributeError, match="has no attribute 'configuer'"):
        _ = asgi_trace.configuer


def test_the_version_is_the_packages() -> None:
    """`__version__` looks like one."""
    assert asgi_trace.__version__.split(".")[0].isdigit()


def test_configure_is_found_without_being_imported_before() -> None:
    """`from asgi_trace import *` works, and brings every name."""
    program = "from asgi_trace import *\nprint(configure.__name__, TraceMiddleware.__name__, server_span.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)

    assert done.stdout.split() == ["configure", "TraceMiddleware", "server_span"]
