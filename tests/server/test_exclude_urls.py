"""Exclusion behind prefixes and below mounts, and by the variables that exclude URLs."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_trace import TraceMiddleware
from asgi_trace._options.exclude import other_path
from asgi_trace.testing import CapturedSpans

from ..support.asgi import OK, drive, http_scope, responding, websocket_scope

PLACES: list[tuple[str, str, str, str, bool]] = [
    # what, pattern, path, root path, is it excluded?
    ("no prefix", "^/health$", "/health", "", True),
    ("uvicorn --root-path, the path begins with it", "^/health$", "/api/health", "/api", True),
    ("the whole path is searched as well", "^/api/health$", "/api/health", "/api", True),
    ("FastAPI(root_path=), a path without it", "^/health$", "/health", "/api", True),
    ("a server that cuts the prefix", "^/api/health$", "/health", "/api", True),
    ("a trailing slash of the root path", "^/health$", "/api/health", "/api/", True),
    ("a trailing slash, and a server that cuts", "^/api/health$", "/health", "/api/", True),
    ("a root path of two segments", "^/health$", "/v1/api/health", "/v1/api", True),
    ("one of three, as below a mount of a mount", "^/health$", "/v1/api/sub/health", "/v1/api/sub", True),
    ("the root itself", "^/$", "/api", "/api", True),
    ("the root itself, with a slash", "^/$", "/api/", "/api", True),
    ("a root path that is a slash", "^/health$", "/health", "/", True),
    ("not at a segment", "^/health$", "/apihealth", "/api", False),
    ("not at a segment, longer", "^-v2/health$", "/api-v2/health", "/api", False),
    ("a prefix that is not the root path", "^/health$", "/other/health", "/api", False),
    ("a part of a prefix", "^/api/health$", "/v1/api/health", "/v1/api/sub", False),
    ("another path", "^/health$", "/api/healthy", "/api", False),
    ("a pattern that is searched", "health", "/api/health", "/api", True),
    ("one of several", "^/ready$|^/health$", "/api/health", "/api", True),
    ("a path of its own below the root", "^/api$", "/api/api", "/api", True),
]


def is_traced(spans: CapturedSpans, scope: dict[str, Any], **options: Any) -> bool:
    """Does the request leave a span?"""
    spans.clear()
    app = OK if scope["type"] == "http" else responding({"type": "websocket.close"})
    served = drive(TraceMiddleware(app, **options), scope)
    assert served.exception is None
    return len(spans) == 1


@pytest.mark.parametrize("kind", [http_scope, websocket_scope])
@pytest.mark.parametrize(
    ("pattern", "path", "root_path", "excluded"), [pytest.param(*place[1:], id=place[0]) for place in PLACES]
)
def test_patterns_are_searched_with_and_without_the_root_path(
    spans: CapturedSpans, pattern: str, path: str, root_path: str, excluded: bool, kind: Any
) -> None:
    """Whichever of the two a scope has, and in lists that mix whole paths with other patterns."""
    scope = kind(path, root_path=root_path)
    assert is_traced(spans, scope, exclude=pattern) is not excluded
    assert is_traced(spans, kind(path, root_path=root_path), exclude=[pattern, "^/never$"]) is not excluded
    assert is_traced(spans, kind(path, root_path=root_path), exclude=["^/ne+ver$", pattern]) is not excluded


@pytest.mark.parametrize(
    ("path", "root_path", "other"),
    [
        ("/api/x", "/api", "/x"),
        ("/x", "/api", "/api/x"),
        ("/api", "/api", "/"),
        ("/", "/api", "/api/"),
        ("/apix", "/api", "/api/apix"),
        ("/api/x", "/api//", "/x"),
        ("/x", "/", "/x"),
        ("", "/api", "/api"),
    ],
)
def test_the_other_form_of_a_path(path: str, root_path: str, other: str) -> None:
    """Without the root path where it begins with that, at a segment; with it where it does not."""
    assert other_path({"path": path, "root_path": root_path}) == other


@pytest.mark.parametrize("root_path", [None, 7, b"/api"])
def test_a_root_path_that_is_not_text_breaks_no_request(spans: CapturedSpans, root_path: Any) -> None:
    """The request is served, whether it is traced or not."""
    served = drive(TraceMiddleware(OK, exclude="^/health$"), http_scope("/items", root_path=root_path))
    assert served.status == 200


VARIABLES = """
    OTEL_PYTHON_EXCLUDED_URLS OTEL_PYTHON_FASTAPI_EXCLUDED_URLS OTEL_PYTHON_STARLETTE_EXCLUDED_URLS
    OTEL_PYTHON_ASGI_EXCLUDED_URLS OTEL_PYTHON_DJANGO_EXCLUDED_URLS OTEL_PYTHON_FALCON_EXCLUDED_URLS
    OTEL_PYTHON_FLASK_EXCLUDED_URLS OTEL_PYTHON_QUART_EXCLUDED_URLS OTEL_PYTHON_LITESTAR_EXCLUDED_URLS
    OTEL_PYTHON_SANIC_EXCLUDED_URLS OTEL_PYTHON_AIOHTTP_SERVER_EXCLUDED_URLS
"""


@pytest.mark.parametrize("variable", VARIABLES.split())
def test_each_variable_excludes_urls(spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """The general one and those of the frameworks, in scheme, host and path, with and without the root path."""
    monkeypatch.setenv(variable, "shop.test:8000/health, ready$ ,https://")
    for path, root_path, excluded in (
        ("/health", "", True),
        ("/healthy", "", True),
        ("/ready", "", True),
        ("/ready/not", "", False),
        ("/items", "", False),
        ("/api/health", "/api", True),
        ("/api/items", "/api", False),
        ("/health", "/api/", True),
    ):
        assert is_traced(spans, http_scope(path, root_path=root_path)) is not excluded, (path, root_path)
    assert not is_traced(spans, http_scope("/items", scheme="https"))


def test_the_variables_are_a_union(spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable replaces another, nor the option."""
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "/a$")
    monkeypatch.setenv("OTEL_PYTHON_STARLETTE_EXCLUDED_URLS", "/b$")
    monkeypatch.setenv("OTEL_PYTHON_SANIC_EXCLUDED_URLS", "")
    monkeypatch.setenv("OTEL_PYTHON_QUART_EXCLUDED_URLS", "/c$,/d$")
    monkeypatch.setenv("OTEL_PYTHON_HTTPX_EXCLUDED_URLS", "/e$")
    traced = [path for path in "abcdef" if is_traced(spans, http_scope(f"/{path}"), exclude="^/f$")]
    assert traced == ["e"]
