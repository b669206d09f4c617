"""The page of troubles quotes what is logged, and its ways around a framework's own command work."""

from __future__ import annotations

import ast
import asyncio
import re
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar, Request, get
from quart import Quart

from asgi_trace import TraceMiddleware
from asgi_trace.routes.quart import trace_routes
from asgi_trace.testing import capture_spans
from tests.support.pages import PACKAGE, pages

PAGE = next(page for page in pages() if page.name == "asgi_trace/TROUBLESHOOTING.md")
MESSAGES = [block.text.strip() for block in PAGE.blocks() if block.language == "text"]
REASONS = re.findall(r"^\| `([^`]{30,})` \|", PAGE.text.partition("## 4317")[2], re.MULTILINE)


@cache
def texts() -> tuple[str, ...]:
    """Every text in the source of the package; the values within an f-string, or for `%s`, are `…`."""
    found = []
    for path in Path(PACKAGE).rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))  # type: ignore[misc]
    return tuple(re.sub(r"%(?:[ds]|\.\df)", "…", text) for text in found)


@pytest.mark.parametrize("message", [*MESSAGES, *REASONS])
def test_a_quoted_message_is_one_of_the_package(message: str) -> None:
    """Every piece of a message that the page quotes stands in the source as it is written there."""
    pieces = [piece.strip(" .;:") for piece in message.split("…")]
    missing = [piece for piece in pieces if len(piece) > 3 and not any(piece in text for text in texts())]
    # A text that is said with another is put together when it is logged.
    missing = [
        piece for piece in missing if not all(any(part in text for text in texts()) for part in piece.split("; "))
    ]
    assert missing == []


def test_the_page_quotes_messages() -> None:
    """There are messages and reasons to look for."""
    assert len(MESSAGES) == 5
    assert len(REASONS) == 5


def _litestar() -> Any:
    async def read_order(request: Request[Any, Any, Any]) -> dict[str, int]:
        return {"id": request.path_params["order"]}

    app: Any = Litestar([get("/orders/{order:int}")(read_order)])
    app.asgi_handler = TraceMiddleware(app.asgi_handler)
    return app


def _quart() -> Any:
    app: Any = Quart("orders")
    trace_routes(app)

    async def read_order(order: int) -> dict[str, int]:
        return {"id": order}

    app.get("/orders/<int:order>")(read_order)
    app.asgi_app = TraceMiddleware(app.asgi_app)
    return app


@pytest.mark.parametrize(("build", "name"), [(_litestar, "GET /orders/{order}"), (_quart, "GET /orders/<int:order>")])
def test_a_handler_that_is_wrapped_in_its_own_application_traces_requests(build: Any, name: str) -> None:
    """The application object stays the framework's own, and a request to it is one span with its route."""

    async def ask() -> Any:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(build()), base_url="http://orders") as client:
            return (await client.get("/orders/7")).json()

    with capture_spans() as spans:
        assert asyncio.run(ask()) == {"id": 7}
    assert spans.server.name == name
