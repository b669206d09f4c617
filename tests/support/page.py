"""A running page with traces of the test's choice, and a browser for it where there is one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from asgi_trace.viewer.catalogue import Catalogue
from asgi_trace.viewer.receive.records import LogRecord, SpanRecord
from asgi_trace.viewer.receive.store import Store
from asgi_trace.viewer.serve.background import HttpServer
from asgi_trace.viewer.serve.page import PageApp
from asgi_trace.viewer.serve.security import Gate

from .viewer import make_span

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    f"--{flag}"
    for flag in (
        "headless",
        "no-sandbox",
        "disable-gpu",
        "disable-quic",
        "no-first-run",
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
    )
]


class LivePage:
    """The page of `store` on a free port."""

    def __init__(self, store: Store | None = None, *, host: str = "127.0.0.1", port: int = 0) -> None:
        self.store = store or Store()
        self.page = PageApp(Catalogue(self.store), ("OTLP/gRPC  http://127.0.0.1:4317",))
        self.gate = Gate(self.page.app, host=host)
        self.server = HttpServer(self.gate, host=host, port=port, name="page")
        self.url = f"http://127.0.0.1:{self.server.port}"
        self.client = httpx.Client(base_url=self.url, trust_env=False, timeout=60)

    def add(self, *records: SpanRecord | LogRecord) -> None:
        """Put spans and log lines into the store."""
        for record in records:
            if isinstance(record, SpanRecord):
                self.store.add_span(record)
            else:
                self.store.add_log(record)

    def get(self, path: str, **headers: str) -> httpx.Response:
        """One request; `headers` with _ for -."""
        return self.client.get(path, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def rows(self, query: str = "") -> list[str]:
        """The paths or names of the traces that the API lists."""
        answer = self.get(f"/api/traces{query}")
        assert answer.status_code == 200, answer.text
        return [row["path"] or row["name"] for row in answer.json()["traces"]]

    def close(self) -> None:
        """Stop serving."""
        self.client.close()
        self.page.close()
        self.server.close()


@contextmanager
def live_page(*records: SpanRecord | LogRecord, **options: Any) -> Iterator[LivePage]:
    """A running page with these records."""
    running = LivePage(**options)
    running.add(*records)
    try:
        yield running
    finally:
        running.close()


def request_span(path: str, number: int, *, took: float = 10, **options: Any) -> SpanRecord:
    """A trace of one SERVER span: the `number` makes its trace id and its start, in seconds after the others."""
    begin = number * 1_000.0
    attributes = {"http.request.method": "GET", "url.path": path, **options.pop("attributes", {})}
    return make_span(
        options.pop("name", f"GET {path}"), begin, begin + took, id=f"{number:016x}", trace_id=f"{number:032x}",
        kind="SERVER", status=options.pop("status", 200), attributes=attributes, **options,
    )  # fmt: skip


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser. Without one the test is skipped, but never in CI, where its absence is an error."""
    playwright = pytest.importorskip("playwright.sync_api") if not os.environ.get("CI") else _playwright()
    if not shutil.which(CHROMIUM):
        if os.environ.get("CI"):
            pytest.fail(f"there is no browser at {CHROMIUM}: apt-get install chromium")
        pytest.skip(f"there is no browser at {CHROMIUM}: apt-get install chromium, or set CHROMIUM")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


def _playwright() -> Any:
    import playwright.sync_api

    return playwright.sync_api
