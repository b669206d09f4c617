"""The blocks of the pages that are no Python: commands and options exist, YAML, TOML and JSON can be read, and every
environment variable that a page names is read by a library that is installed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import opentelemetry
import pytest

from tests.support import shell_commands
from tests.support.pages import PACKAGE, Block, Page, pages

# tomli is what pytest itself needs on Python 3.10.
tomllib: Any = import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
yaml: Any = import_module("yaml")  # it brings no types

PAGES = pages()
# Read by other languages' SDKs, by servers or by vendors' libraries, which are not installed here.
READ_ELSEWHERE = frozenset[str]()


def _read_yaml(text: str) -> list[str]:
    for document in yaml.safe_load_all(text):
        if isinstance(document, dict) and "service" in document and "receivers" in document:
            return collector_problems(document)
        if isinstance(document, dict) and "services" in document:
            return compose_problems(document)
    return []


def _read_toml(text: str) -> list[str]:
    tomllib.loads(text)
    return []


def _read_json(text: str) -> list[str]:
    for line in text.splitlines() if text.startswith("{") and "}\n{" in text else [text]:
        json.loads(line)
    return []


def _read_environment(text: str) -> list[str]:
    lines = [line.partition(" #")[0].strip() for line in text.splitlines()]
    return [
        f"{line}: write NAME=value" for line in lines if line and line[0] != "#" and not re.match(r"[A-Z_0-9]+=", line)
    ]


def _nothing(_: str) -> list[str]:
    return []


CHECKS: dict[str, Callable[[str], list[str]]] = {
    "": _nothing,  # what a command prints
    "text": _nothing,
    "diff": _nothing,
    "nginx": _nothing,
    "promql": _nothing,
    "python": _nothing,  # test_examples.py runs it
    "shell": shell_commands.problems,
    "bash": shell_commands.problems,
    "env": _read_environment,
    "json": _read_json,
    "toml": _read_toml,
    "yaml": _read_yaml,
}


def collector_problems(settings: dict[str, Any]) -> list[str]:
    """What an OpenTelemetry Collector would refuse at its start: parts of a pipeline that are not there, parts that no
    pipeline names, and sampling policies or routing keys that do not exist."""
    wrong = []
    used: dict[str, set[str]] = {"receivers": set(), "processors": set(), "exporters": set()}
    for name, pipeline in settings["service"]["pipelines"].items():
        if name.partition("/")[0] not in {"traces", "metrics", "logs"}:
            wrong.append(f"no such signal: {name}")
        for kind, parts in pipeline.items():
            used[kind] |= set(parts)
            wrong += [f"{name}: {kind} has no {part}" for part in parts if part not in settings.get(kind, {})]
    for kind, names in used.items():
        wrong += [f"{kind}: no pipeline names {part}" for part in settings.get(kind, {}) if part not in names]
    extensions = set(settings.get("extensions", {}))
    if extensions != set(settings["service"].get("extensions", [])):
        wrong.append("extensions and service.extensions differ")
    for name, options in settings.get("exporters", {}).items():
        if name.partition("/")[0] == "loadbalancing":
            if options.get("routing_key") not in {"traceID", "service", "metric", "resource", "streamID", "attributes"}:
                wrong.append(f"{name}: no such routing_key: {options.get('routing_key')}")
            if not options.get("resolver", {}).keys() <= {"static", "dns", "k8s", "aws_cloud_map"}:
                wrong.append(f"{name}: no such resolver")
    for name, options in settings.get("processors", {}).items():
        if name.partition("/")[0] == "tail_sampling":
            wrong += _policy_problems(name, options)
    return wrong


def compose_problems(settings: dict[str, Any]) -> list[str]:
    """What Docker Compose, or the started program, would refuse: commands, services that are not there, no text."""
    wrong = []
    for name, service in settings["services"].items():
        wrong += shell_commands.problems(service.get("command", ""))
        wrong += [
            f"{name}: no service {other}"
            for other in service.get("depends_on", [])
            if other not in settings["services"]
        ]
        wrong += [f"{name}: {port} is not a string" for port in service.get("ports", []) if not isinstance(port, str)]
        for variable, value in service.get("environment", {}).items():
            if not isinstance(value, str):
                wrong.append(f"{name}: {variable} is not a string")
        if not {"image", "build"} & service.keys():
            wrong.append(f"{name}: neither image nor build")
    return wrong


POLICIES = {
    "always_sample", "and", "attribute", "boolean_attribute", "bytes_limiting", "composite", "drop", "latency", "not",
    "numeric_attribute", "ottl_condition", "probabilistic", "rate_limiting", "span_count", "status_code",
    "string_attribute", "trace_state",
}  # fmt: skip


def _policy_problems(name: str, options: dict[str, Any]) -> Iterator[str]:
    if not options.keys() <= {
        "decision_wait",
        "num_traces",
        "expected_new_traces_per_sec",
        "decision_cache",
        "policies",
    }:
        yield f"{name}: no such option: {sorted(options)}"
    for policy in options["policies"]:
        if policy["type"] not in POLICIES:
            yield f"{name}: no such policy: {policy['type']}"
        elif policy["type"] != "always_sample" and policy["type"] not in policy:
            yield f"{name}: {policy['name']} has no settings under {policy['type']}"


def wrong_with(block: Block) -> list[str]:
    """What is wrong with a block, one sentence each."""
    check = CHECKS.get(block.language)
    if check is None:
        return [f"no check for blocks of {block.language!r}: name one in tests/pages/test_blocks.py"]
    try:
        return check(block.text)
    except (ValueError, KeyError, yaml.YAMLError) as exc:
        return [str(exc)]


BLOCKS = [block for page in PAGES for block in page.blocks() if block.language != "python"]


@pytest.mark.parametrize("block", BLOCKS, ids=[block.place for block in BLOCKS])
def test_blocks_can_be_read(block: Block) -> None:
    """A block of a page parses, and its commands, options, extras and files exist."""
    assert not wrong_with(block), block.place


OWN_COMMANDS = ("asgi-trace ", "python -m ", "pip install ", "pytest -", ".ci/")


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_commands_in_sentences_exist(page: Page) -> None:
    """A command of this project in a sentence or a table has the options and files that it names."""
    commands = [code for code in page.inline_code() if code.startswith(OWN_COMMANDS)]
    assert [wrong for command in commands for wrong in shell_commands.problems(command)] == []


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_no_block_escapes_the_checks(page: Page) -> None:
    """Every fence of a page begins at the line's start and is closed, so that no block is left out of the tests."""
    fences = re.findall(r"^[ \t>]*(?:```|~~~).*$", page.text, re.MULTILINE)
    assert len(fences) == 2 * len(page.blocks())


@cache
def _variables_that_are_read() -> frozenset[str]:
    """The variables in the sources of this package and of what is installed of OpenTelemetry."""
    folders = [PACKAGE, *(Path(folder) for folder in opentelemetry.__path__)]
    names: set[str] = set()
    for folder in folders:
        for path in folder.rglob("*.py"):
            names.update(re.findall(r"\b(?:OTEL|ASGI_TRACE)_[A-Z0-9_]*[A-Z0-9]\b", path.read_text(encoding="utf-8")))
    return frozenset(names) | READ_ELSEWHERE


def _variables_of(page: Page) -> set[str]:
    """Whole names only: `OTEL_BSP_*`, `OTEL_BSP_...` and `{FASTAPI,ASGI}` stand for several."""
    text = "\n".join([*page.inline_code(), *(block.text for block in page.blocks())])
    return set(re.findall(r"(?<![\w.])(?:OTEL|ASGI_TRACE)_[A-Z0-9_]*[A-Z0-9](?![\w*]|_?(?:\*|\.\.\.|\{|…))", text))


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_variables_exist(page: Page) -> None:
    """Every environment variable that a page names stands in the source of a library that reads it."""
    unknown = _variables_of(page) - _variables_that_are_read()
    # Pieced together from a framework's name where they are read.
    unknown = {name for name in unknown if not re.fullmatch(r"OTEL_PYTHON_[A-Z_]+_EXCLUDED_URLS", name)}
    assert not unknown


GOOD_COLLECTOR = """
receivers: {otlp: {protocols: {grpc: {}}}}
processors: {batch: {}}
exporters: {debug: {}}
service: {pipelines: {traces: {receivers: [otlp], processors: [batch], exporters: [debug]}}}
"""

WRONG = {
    "an unknown language": ("fortran", "end"),
    "a syntax error of the shell": ("shell", "if true; then"),
    "an unknown command": ("shell", "asgi-trase demo"),
    "an option that asgi-trace does not have": ("shell", "pip install . && asgi-trace demo --browser"),
    "an option behind the command's own": ("shell", "asgi-trace view -- uvicorn orders:app --worker 3"),
    "an option of a server": ("bash", "OTEL_SERVICE_NAME=a gunicorn orders:app --worker-klass asgi"),
    "an extra that does not exist": ("shell", "pip install 'asgi-trace[otpl]'"),
    "an extra of the clone": ("shell", ".venv/bin/pip install -e '.[tests]'"),
    "a test that does not exist": ("shell", "python -m pytest -q tests/nowhere"),
    "a marker": ("shell", "python -m pytest -m slow"),
    "an option of the benchmarks": ("shell", "python -m benchmarks --clocks hot"),
    "a group of the benchmarks": ("shell", "cd x; python -m benchmarks --group nothing"),
    "a module": ("shell", "python -m asgi_tracing"),
    "a program": ("shell", "python -c 'import json; print(json.dumps('"),
    "YAML": ("yaml", "a: [1"),
    "TOML": ("toml", "a = "),
    "JSON": ("json", "{'a': 1}"),
    "an environment": ("env", "OTEL_SERVICE_NAME orders"),
    "a pipeline's part that is not there": ("yaml", GOOD_COLLECTOR.replace("[batch]", "[batches]")),
    "a signal": ("yaml", GOOD_COLLECTOR.replace("traces", "spans")),
    "a command of Compose": ("yaml", "services: {a: {build: ., command: uvicorn orders:app --threads 3}}"),
    "a service of Compose": ("yaml", "services: {a: {build: ., depends_on: [b]}}"),
    "a number in Compose": ("yaml", "services: {a: {build: ., environment: {OTEL_TRACES_SAMPLER_ARG: 0.1}}}"),
    "a routing key": (
        "yaml",
        GOOD_COLLECTOR.replace("debug: {}", "loadbalancing: {routing_key: traceId}").replace("debug", "loadbalancing"),
    ),
    "a policy": (
        "yaml",
        GOOD_COLLECTOR.replace("batch: {}", "tail_sampling: {policies: [{name: a, type: slow}]}").replace(
            "batch", "tail_sampling"
        ),
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_found(name: str) -> None:
    """A mistake of each kind in a block is found, so that the tests above mean something."""
    language, text = WRONG[name]
    assert wrong_with(Block("page.md", 1, language, text))


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("shell", "OTEL_SERVICE_NAME=orders asgi-trace view --open -- uvicorn orders:app --port 8000  # and look\n"),
        ("shell", "python3 -m venv .venv && .venv/bin/pip install '.[demo]' \\\n  && .venv/bin/asgi-trace demo"),
        ("shell", "python -m pytest -q tests/pages -k links > log.txt; .ci/run"),
        ("shell", "python -m benchmarks --case 'server/fastapi*' --clock hot"),
        ("yaml", GOOD_COLLECTOR),
        ("env", "# one\nOTEL_SERVICE_NAME=orders\n"),
        ("json", '{"a": 1}\n{"b": 2}\n'),
    ],
)
def test_what_is_right_passes(language: str, text: str) -> None:
    """Commands and settings that work are not complained of."""
    assert wrong_with(Block("page.md", 1, language, text)) == []
