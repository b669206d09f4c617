"""Which requests leave no trace: patterns, a callable of the scope, and OTEL_PYTHON_EXCLUDED_URLS."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence

from .._guard import Guard, guarded_decision, logger
from .._types import Scope
from .checks import plain_function, texts

VARIABLE = "OTEL_PYTHON_EXCLUDED_URLS"


def exclusion(
    exclude: str | Iterable[str] | Callable[[Scope], bool], guard: Guard
) -> tuple[Callable[[str], object] | None, Callable[[Scope], bool] | None]:
    """What to ask about a path, and what to ask about a scope; None for the question that need not be asked.

    Patterns are searched in the path, those of the environment in `scheme://host/path`, as elsewhere in OpenTelemetry.
    A callable that raises excludes nothing. Raises ValueError for a pattern that does not compile.
    """
    urls = environment_patterns(VARIABLE)
    questions: list[Callable[[Scope], bool]] = []
    search = None
    if callable(exclude):
        questions.append(guarded_decision(plain_function("exclude", exclude), guard, "the callable exclude"))
    else:
        search = any_search(compile_patterns("exclude", exclude))
    if urls:
        questions.append(lambda scope: any(pattern.search(_url(scope)) for pattern in urls))
    if not questions:
        return search, None
    return search, lambda scope: any(question(scope) for question in questions)


def any_search(patterns: Sequence[re.Pattern[str]]) -> Callable[[str], object] | None:
    """One function that says whether any pattern is found, without a detour where there is a shorter way.

    Every request is asked, and mostly about a few whole paths like `^/health$`: those are looked up, not searched.
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


def _url(scope: Scope) -> str:
    scheme = scope.get("scheme") or "http"
    hosts = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"host"]
    server = scope.get("server") or ("",)
    return f"{scheme}://{hosts[0] if hosts else server[0]}{scope.get('path', '')}"


def compile_patterns(option: str, patterns: str | Iterable[str]) -> list[re.Pattern[str]]:
    """Compile regular expressions. Raises ValueError for one that is none, TypeError for what is no text."""
    compiled = []
    for pattern in texts(option, patterns, "patterns like '^/health$', one function"):
        try:
            compiled.append(re.compile(pattern))
        except re.error as exc:
            raise ValueError(
                f"{option}: {pattern!r} is no regular expression ({exc}); write it like '^/health$'"
            ) from None
    return compiled


def environment_patterns(*variables: str) -> list[re.Pattern[str]]:
    """The patterns of the first variable that is set and not empty; what does not compile is left out."""
    for variable in variables:
        if text := os.environ.get(variable, "").strip():
            compiled = []
            for pattern in filter(None, map(str.strip, text.split(","))):
                try:
                    compiled.append(re.compile(pattern))
                except re.error as exc:
                    logger.warning("%s: %r is no regular expression (%s); it is left out", variable, pattern, exc)
            return compiled
    return []
