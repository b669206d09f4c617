# mypy: ignore-errors
# The other libraries are not installed beside the tests: this runs in their environments.
"""One request between a service with another library and one with ours, over real HTTP: the other library's half.

    across.py logfire client http://127.0.0.1:8000/
    across.py ddtrace server

The client prints its span's trace id and span id. The server prints its port, answers one request, and prints its
span's trace id and parent id.
"""

from __future__ import annotations

import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx


class Logfire:
    """Logfire, set up so that its spans are kept."""

    def __init__(self) -> None:
        import logfire_shared

        self.shared = logfire_shared
        self.shared.set_up()

    def call(self, url: str) -> tuple[int, int]:
        import logfire

        logfire.instrument_httpx()
        httpx.get(url)
        [span] = [span for span in self.shared.spans() if span.kind.name == "CLIENT"]
        return span.context.trace_id, span.context.span_id

    def serve(self, path: str, headers: dict[str, str]) -> tuple[int, int]:
        import logfire

        app = self.shared.shop()
        logfire.instrument_fastapi(app)
        self.shared.request(app, path, headers=headers)
        span = self.shared.server()
        return span.context.trace_id, span.parent.span_id


class Datadog:
    """ddtrace, set up so that its spans are kept."""

    def __init__(self) -> None:
        import ddtrace_probe

        self.probe = ddtrace_probe
        self.probe.keep()

    def call(self, url: str) -> tuple[int, int]:
        import ddtrace

        ddtrace.patch(httpx=True)
        with self.probe.tracer.trace("work"):
            httpx.get(url)
        [span] = [span for span in self.probe.SPANS if span.name == "http.request"]
        return span.trace_id, span.span_id

    def serve(self, path: str, headers: dict[str, str]) -> tuple[int, int]:
        self.probe.request(self.probe.TraceMiddleware(self.probe.shop()), path, headers=headers)
        [span] = [span for span in self.probe.SPANS if span.name == "asgi.request"]
        return span.trace_id, span.parent_id


def show(ids: tuple[int, int]) -> None:
    print(f"{ids[0]:032x} {ids[1]:016x}", flush=True)


def serve_one(library: Any) -> None:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
            ids = library.serve(self.path, headers)
            self.send_response(204)
            self.end_headers()
            show(ids)

        def log_message(self, *arguments: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        print(server.server_port, flush=True)
        server.handle_request()


if __name__ == "__main__":
    made = {"logfire": Logfire, "ddtrace": Datadog}[sys.argv[1]]()
    if sys.argv[2] == "client":
        show(made.call(sys.argv[3]))
    else:
        serve_one(made)
