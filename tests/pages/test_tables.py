"""The tables of the pages are whole: they have every option, argument, extra and district, and nothing else."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import inspect
import re
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import pytest

from asgi_trace import TraceMiddleware, cli, configure
from asgi_trace._configuration.sdk_settings import BATCH_SIZE, LARGEST_BATCH, QUEUE_SIZE
from asgi_trace._options.capture_headers import _MOST_BYTES
from asgi_trace._options.text import MOST_DESCRIPTION, MOST_STACK_TRACE, MOST_TEXT
from asgi_trace._propagation.baggage import MAX_BYTES, MAX_MEMBERS
from asgi_trace._propagation.tracestate import MAX_SENT
from asgi_trace.httpx import TraceTransport
from asgi_trace.viewer.options import GRPC_PORT, HTTP_PORT, PAGE_PORT
from asgi_trace.viewer.receive.store import MAX_MEMORY, MAX_TRACES
from tests.support.pages import PACKAGE, Page, located, pages

PAGES = {page.name: page for page in pages()}


def rows(page: str, first: str) -> list[list[str]]:
    """The cells of the table whose first column has this title."""
    lines = PAGES[page].text.splitlines()
    head = next(number for number, line in enumerate(lines) if re.match(rf"\| ?{re.escape(first)} ?\|", line))
    table = []
    for line in lines[head + 2 :]:
        if not line.startswith("|"):
            break
        table.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))])
    return table


def names(cell: str) -> list[str]:
    """What stands between backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def written(page: str, first: str) -> dict[str, str]:
    """The options of a table and their defaults as written. Options in one cell share what stands beside them."""
    return {name: cells[1].strip("`") for cells in rows(page, first) for name in names(cells[0])}


OPTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("README.md", "option"): TraceMiddleware,
    ("asgi_trace/_client/README.md", "option"): TraceTransport,
    ("asgi_trace/_configuration/README.md", "argument"): configure,
}


@pytest.mark.parametrize(("page", "first"), OPTIONS)
def test_every_option_stands_in_its_table(page: str, first: str) -> None:
    """The table of options has those of the signature, with their defaults."""
    parameters = inspect.signature(OPTIONS[page, first]).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items() if name != "app"}
    table = written(page, first)
    assert table.keys() == defaults.keys()
    literal = {name: text for name, text in table.items() if re.match(r"[(\"\d]|None$|True$|False$", text)}
    assert {name: eval(text) for name, text in literal.items()} == {name: defaults[name] for name in literal}
    assert all(defaults[name] is None for name in table.keys() - literal.keys())  # said in words


FIGURES: dict[str, list[int | str]] = {
    "asgi_trace/_server/README.md": [
        MOST_TEXT,
        MOST_DESCRIPTION,
        MOST_STACK_TRACE,
        MAX_SENT,
        MAX_BYTES,
        MAX_MEMBERS,
        _MOST_BYTES,
    ],
    "asgi_trace/_configuration/README.md": [QUEUE_SIZE, BATCH_SIZE, LARGEST_BATCH],
    "asgi_trace/viewer/README.md": [MAX_TRACES, f"{MAX_MEMORY >> 20} MB", GRPC_PORT, HTTP_PORT, PAGE_PORT],
}


@pytest.mark.parametrize("page", FIGURES)
def test_limits_are_those_of_the_code(page: str) -> None:
    """A limit, a size or a port that a page names is the one that the code has."""
    text = PAGES[page].text
    for figure in FIGURES[page]:
        spellings = {str(figure), f"{figure:,}" if isinstance(figure, int) else figure}
        assert any(re.search(rf"(?<![\d,]){spelling}(?!\d|,\d)", text) for spelling in spellings), figure


def options_of(command: str) -> set[str]:
    """The options of a command of `asgi-trace`."""
    (commands,) = (action for action in cli.parser()._actions if isinstance(action, argparse._SubParsersAction))
    actions = commands.choices[command]._actions
    return {option for action in actions for option in action.option_strings if option.startswith("--")} - {"--help"}


@pytest.mark.parametrize(
    ("page", "first", "command"),
    [("asgi_trace/demo/README.md", "option", "demo"), ("asgi_trace/viewer/README.md", "", "view")],
)
def test_every_option_of_a_command_stands_in_its_table(page: str, first: str, command: str) -> None:
    """The tables of `asgi-trace demo` and `asgi-trace view` have all their options."""
    found = {name.split()[0] for cells in rows(page, first) for name in names(cells[0]) if name.startswith("--")}
    assert found == options_of(command)


def test_every_extra_stands_in_its_table() -> None:
    """The README's table has the extras that users install, and no others."""
    extras = set(importlib.metadata.metadata("asgi-trace").get_all("Provides-Extra", []))
    assert {name for cells in rows("README.md", "extra") for name in names(cells[0])} == extras - {
        "bench",
        "lint",
        "test",
    }


def test_every_district_stands_on_the_map() -> None:
    """The map of the package names every folder and module of it, and none that is not there."""
    here = {path.name + "/" * path.is_dir() for path in PACKAGE.iterdir()} - {"__pycache__/", "README.md"}
    modules = {name for name in here if name.endswith((".py", "/"))} - {"__init__.py"}
    assert {name for cells in rows("asgi_trace/README.md", "district") for name in names(cells[0])} == modules


def test_every_page_is_reached_from_the_readme() -> None:
    """A reader who starts at the README and follows links comes to every page."""
    reached: set[str] = set()
    waiting = ["README.md"]
    while waiting:
        name = waiting.pop()
        if name in reached or name not in PAGES:
            continue
        reached.add(name)
        folder = name.rpartition("/")[0].split("/") if "/" in name else []
        for link in PAGES[name].links():
            parts = list(folder)
            for part in link.partition("#")[0].split("/"):
                parts = parts[:-1] if part == ".." else [*parts, part]
            waiting.append("/".join(parts))
    assert PAGES.keys() - reached == set(), "link these pages from the README"


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_paths_in_sentences_exist(page: Page) -> None:
    """A file that a page names in a sentence exists: from the root, from the package or from the page."""
    folder = page.name.rpartition("/")[0]
    missing = []
    for code in page.inline_code():
        if not re.fullmatch(
            r"[\w.-]+(?:/[\w.-]+)*(?:\.py|\.md|\.svg|\.toml)|(?:tests|asgi_trace|benchmarks)(?:/\w+)+/?", code
        ):
            continue
        places = [located(code), PACKAGE / code, located(f"{folder}/{code}")]
        if not any(place is None or place.exists() for place in places):
            missing.append(code)
    assert missing == []


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_names_of_the_package_exist(page: Page) -> None:
    """A dotted name of the package in a sentence can be imported, or is a name that the package writes on spans."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    for name in page.inline_code():
        if re.fullmatch(r"asgi_trace(?:\.\w+)+", name) and f'"{name}"' not in sources:
            assert _is_importable(name), name


def _is_importable(name: str) -> bool:
    module, _, attribute = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ImportError:
        return hasattr(importlib.import_module(module), attribute)
    return True


def test_every_variable_that_is_read_is_documented() -> None:
    """Each variable that the package reads stands in the page of variables, by itself or under a pattern with a `*`."""
    page = PAGES["asgi_trace/_configuration/README.md"]
    named = [code.partition("=")[0] for code in page.inline_code()]
    patterns = [name for name in named if re.fullmatch(r"(?:OTEL|ASGI_TRACE)_[A-Z][A-Z0-9_*]+", name)]
    literal = r'"((?:OTEL|ASGI_TRACE)_[A-Z0-9_]+)"'
    read = {name for path in PACKAGE.rglob("*.py") for name in re.findall(literal, path.read_text(encoding="utf-8"))}
    assert len(read) > 80
    unnamed = {name for name in read if not any(fnmatchcase(name, pattern) for pattern in patterns)}
    assert unnamed == {"OTEL_PYTHON_CONTEXT"}  # the API's own; we ask it whether a shortcut is possible
