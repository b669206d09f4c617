"""What is wrong with a shell block of a page: syntax, commands and options that do not exist, missing files.

The commands of this project are parsed by their own parsers, those of ASGI servers are compared with their `--help`;
what a machine may or may not have (docker, curl) is taken as it is. An unknown command is wrong, so that a misspelt one
is found.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import io
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec

from packaging.requirements import InvalidRequirement, Requirement

from asgi_trace import cli
from benchmarks.__main__ import arguments as benchmark_arguments

from .pages import ROOT, located

ELSEWHERE = {
    ".", "apt-get", "cat", "cd", "curl", "cp", "ddtrace-run", "docker", "echo", "export", "git", "kill", "kubectl",
    "ls", "mkdir", "opentelemetry-bootstrap", "opentelemetry-instrument", "otelcol-contrib", "pre-commit", "source",
    "twine", "unset",
}  # fmt: skip
SERVERS = {"daphne", "fastapi", "granian", "gunicorn", "hypercorn", "litestar", "uvicorn"}
TOOLS = {"mypy": "mypy", "pyright": "pyright", "ruff": "ruff", "build": "build", "venv": "venv", "http": "http"}
_SEPARATORS = {"&&", "||", ";", "|", "&", "(", ")"}


def problems(text: str) -> list[str]:
    """What is wrong with the shell text, one sentence each."""
    syntax = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    if syntax.returncode:
        return [syntax.stderr.strip()]
    found = []
    for words in _commands(text):
        try:
            _check(words)
        except (ValueError, SyntaxError) as exc:
            found.append(f"{shlex.join(words)}: {exc}")
    return found


def _commands(text: str) -> list[list[str]]:
    commands: list[list[str]] = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        current: list[str] = []
        skip = False
        for word in lexer:
            if skip:
                skip = False
            elif word in _SEPARATORS:
                commands.append(current)
                current = []
            elif word.startswith((">", "<")):
                skip = True
            else:
                current.append(word)
        commands.append(current)
    return [command for command in commands if command]


def _check(words: list[str]) -> None:
    while words and re.match(r"\w+=", words[0]):
        words = words[1:]
    if not words:
        return
    command, rest = words[0], words[1:]
    path, _, name = command.rpartition("/")
    if path.startswith((".ci", "./.ci")):
        place = located(command.removeprefix("./"))
        if place is not None and not place.exists():
            raise ValueError("no such file")
    elif re.fullmatch(r"python(3(\.\d+)?)?", name):
        _python(rest)
    elif name in _CHECKS:
        _CHECKS[name](rest)
    elif name in SERVERS:
        _server(name, rest)
    elif name not in ELSEWHERE and name not in TOOLS and not re.fullmatch("[A-Z]+", name):  # COMMAND stands for any
        raise ValueError("an unknown command; tests/support/shell_commands.py says how commands are checked")


def _python(rest: list[str]) -> None:
    while rest and rest[0] == "-W":
        rest = rest[2:]
    if rest[:1] == ["-c"]:
        compile(rest[1], "<page>", "exec")
    elif rest[:1] == ["-m"]:
        module, arguments = rest[1], rest[2:]
        if module in SERVERS:
            _server(module, arguments)
        elif module in _CHECKS:
            _CHECKS[module](arguments)
        elif module not in TOOLS and find_spec(module) is None:
            raise ValueError(f"no module {module}")


def _parsed(parser: argparse.ArgumentParser, arguments: list[str]) -> None:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            parser.parse_args([re.sub(r"^\.\.\.$", "x", argument) for argument in arguments])
    except SystemExit as exc:
        if exc.code:
            raise ValueError(said.getvalue()) from None


def _asgi_trace(arguments: list[str]) -> None:
    own, _, under = _split(arguments, "--")
    _parsed(cli.parser(), own)
    if under:
        _check(under)


def _split(words: list[str], at: str) -> tuple[list[str], str, list[str]]:
    place = words.index(at) if at in words else len(words)
    return words[:place], at, words[place + 1 :]


def _pip(arguments: list[str]) -> None:
    if not arguments or arguments[0] not in {"install", "uninstall", "wheel", "download"}:
        raise ValueError("not a command of pip")
    extras = set(importlib.metadata.metadata("asgi-trace").get_all("Provides-Extra", []))
    for argument in arguments[1:]:
        if argument.startswith("-") or argument == ".":
            continue
        try:
            wanted = Requirement(re.sub(r"^\.(?=\[)", "asgi-trace", argument))
        except InvalidRequirement as exc:
            raise ValueError(str(exc)) from None
        if wanted.name == "asgi-trace" and not wanted.extras <= extras:
            raise ValueError(f"no such extra: {sorted(wanted.extras - extras)}")


def _pytest(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for option in ("-n", "--dist", "-k", "-m", "-p", "--maxfail"):
        parser.add_argument(option)
    for option in ("-q", "-x", "-s", "-v", "--pdb", "--lf"):
        parser.add_argument(option, action="store_true")
    parser.add_argument("paths", nargs="*")
    _parsed(parser, arguments)
    options, _ = parser.parse_known_args(arguments)
    if options.m not in {None, "campaign", "not campaign"}:
        raise ValueError(f"no such marker: {options.m}")
    for path in options.paths:
        place = located(path.partition("::")[0])
        if place is not None and not place.exists():
            raise ValueError(f"no such test: {path}")
    if options.k is not None:
        _collect(tuple(arguments))


@cache
def _collect(arguments: tuple[str, ...]) -> None:
    """Raise ValueError when the arguments of pytest select no test."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", *arguments]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if ran.returncode:
        raise ValueError(f"selects no test: pytest {' '.join(arguments)}\n{ran.stdout[-500:]}")


@cache
def _help(module: str) -> str:
    command = [sys.executable, "-m", module, "--help"]
    environment = {"PATH": "/usr/bin:/bin", "COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True).stdout


def _server(module: str, arguments: list[str]) -> None:
    if find_spec(module) is None or module in {"fastapi", "litestar"}:  # their options depend on the subcommand
        return
    known = set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", _help(module)))
    for argument in arguments:
        option = argument.partition("=")[0]
        if re.match(r"--?[a-z]", option) and option not in known:
            raise ValueError(f"{module} has no option {option}")


_CHECKS: dict[str, Callable[[list[str]], None]] = {
    "asgi-trace": _asgi_trace,
    "asgi_trace": _asgi_trace,
    "benchmarks": lambda arguments: _parsed(benchmark_arguments(), arguments),
    "pip": _pip,
    "pytest": _pytest,
}
