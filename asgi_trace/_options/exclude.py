"""Which requests leave no trace: the option `exclude`, and the variables that exclude URLs.

Patterns of the option are searched in the path, those of the environment in `scheme://host/path`, as elsewhere in
OpenTelemetry. Where a server or a mount has a root path, both are searched with it and without it: `^/health$` works
behind a prefix and below a mount.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .._guard import Guard, guarded_decision
from .._types import Scope
from .checks import plain_function
from .patterns import compile_patterns, environment_patterns

__all__ = ["any_search", "exclusion", "other_path", "request_exclusion"]

_ADVICE = "patterns like '^/health$', one function"
_SERVER_VARIABLES = (
    "OTEL_PYTHON_EXCLUDED_URLS",
    "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS",
    "OTEL_PYTHON_STARLETTE_EXCLUDED_URLS",
    "OTEL_PYTHON_ASGI_EXCLUDED_URLS",
    "OTEL_PYTHON_DJANGO_EXCLUDED_URLS",
    "OTEL_PYTHON_FALCON_EXCLUDED_URLS",
    "OTEL_PYTHON_FLASK_EXCLUDED_URLS",
    "OTEL_PYTHON_QUART_EXCLUDED_URLS",
    "OTEL_PYTHON_LITESTAR_EXCLUDED_URLS",
    "OTEL_PYTHON_SANIC_EXCLUDED_URLS",
    "OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS",
)
"""The general one, and those of the frameworks' own instrumentations: a service that comes from one of them keeps its
list. They are a union."""


def exclusion(
    exclude: str | Iterable[str] | Callable[[Scope], bool], guard: Guard
) -> tuple[Callable[[str], object] | None, Callable[[Scope], bool] | None]:
    """What to ask about a path, and what to ask about a scope; None for a question that need not be asked.

    A path is asked about a second time as `other_path()` where the scope has a root path.
    A callable that raises excludes nothing. Raises ValueError for a pattern that does not compile.
    """
    search = None
    questions: list[Callable[[Scope], bool]] = []
    if callable(exclude):
        questions.append(guarded_decision(plain_function("exclude", exclude), guard, "the callable exclude"))
    else:
        search = any_search(compile_patterns("exclude", exclude, _ADVICE, "'^/health$'"))
    url_search = any_search(environment_patterns(*_SERVER_VARIABLES))
    if url_search is not None:
        questions.append(lambda scope: any(url_search(url) for url in _urls(scope)))
    if not questions:
        return search, None
    return search, lambda scope: any(question(scope) for question in questions)


def other_path(scope: Scope) -> str:
    """The path of a scope with a root path, in its other form: without that prefix, or with it if it has none.

    ASGI's `path` begins with `root_path`; some servers cut it off, and `FastAPI(root_path=...)` puts one in front of
    a path that never had it. A trailing slash of the root path does not count, and only whole segments are a prefix.
    """
    path: str = scope["path"]
    prefix: str = scope["root_path"].rstrip("/")
    if path == prefix or path.startswith(prefix + "/"):
        return path[len(prefix) :] or "/"
    return prefix + path


def any_search(patterns: Sequence[re.Pattern[str]]) -> Callable[[str], object] | None:
    """One function that says whether any of the patterns is found in a text; None for no patterns.

    Every request is asked about, and mostly for a few whole paths like `^/health$`: those are looked up in a set.
    """
    whole = {text for pattern in patterns for text in _whole(pattern)}
    searches = [pattern.search for pattern in patterns if not _whole(pattern)]
    if not searches:
        return frozenset(whole).__contains__ if whole else None
    if not whole and len(searches) == 1:
        return searches[0]

    def search(path: str) -> bool:
        if path in whole:
            return True
        for found in searches:  # noqa: SIM110 - any() would cost a generator
            if found(path) is not None:
                return True
        return False

    return search


_WHOLE = re.compile(r"\^([^.^$*+?{}\[\]\\|()]*)\$")


def _whole(pattern: re.Pattern[str]) -> tuple[str, ...]:
    """All the texts in which `^text$` is found; nothing for any other pattern."""
    match = _WHOLE.fullmatch(pattern.pattern)
    return (match[1], match[1] + "\n") if match else ()  # `$` stands before a last newline as well


def _urls(scope: Scope) -> list[str]:
    """`scheme://host/path`, and the same with the path's other form where there is a root path."""
    hosts = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"host"]
    server = scope.get("server") or ("",)
    origin = f"{scope.get('scheme') or 'http'}://{hosts[0] if hosts else server[0]}"
    if scope.get("root_path"):
        return [origin + scope["path"], origin + other_path(scope)]
    return [origin + scope.get("path", "")]


def request_exclusion(
    exclude: str | Iterable[str] | Callable[[Any], bool], guard: Guard
) -> Callable[[Any], bool] | None:
    """One question about a client's request; None when there is nothing to ask.

    Patterns of the option and of the environment are searched in its URL. OTEL_PYTHON_HTTPX_EXCLUDED_URLS replaces the
    general variable, as in OpenTelemetry's own instrumentation.
    A callable that raises excludes nothing. Raises ValueError for a pattern that does not compile, TypeError for
    anything but strings or a plain function.
    """
    patterns = environment_patterns("OTEL_PYTHON_HTTPX_EXCLUDED_URLS") or environment_patterns(
        "OTEL_PYTHON_EXCLUDED_URLS"
    )
    questions: list[Callable[[Any], bool]] = []
    if callable(exclude):
        questions.append(guarded_decision(plain_function("exclude", exclude), guard, "the callable exclude"))
    else:
        patterns = compile_patterns("exclude", exclude, _ADVICE, "'^/health$'") + patterns
    search = any_search(patterns)
    if search is not None:
        questions.append(lambda request: bool(search(str(request.url))))
    if not questions:
        return None
    return questions[0] if len(questions) == 1 else lambda request: any(question(request) for question in questions)
