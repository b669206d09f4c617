"""The log lines of servers that run as processes of their own: gunicorn's ASGI worker and granian.

Both write the access line in the task of the request, but after the application has returned.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ..support.asgi import TRACE_ID, TRACEPARENT
from ..support.servers import SECONDS, Connection, eventually
from ..support.subprocess import environment

APP = """
import json, logging, os
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from asgi_trace import TraceMiddleware
from asgi_trace.logging import JSONFormatter, TraceContextFilter

FOLDER = os.environ["FOLDER"]

class ToFile(SpanExporter):
    def export(self, spans):
        with open(f"{FOLDER}/spans", "a") as file:
            for span in spans:
                ids = f"{span.context.trace_id:032x}", f"{span.context.span_id:016x}"
                file.write(json.dumps([span.kind.name, span.attributes.get("url.path"), *ids]) + "\\n")

recording, unsampled = TracerProvider(), TracerProvider(ALWAYS_OFF)
recording.add_span_processor(SimpleSpanProcessor(ToFile()))
handler = logging.FileHandler(f"{FOLDER}/lines")
handler.addFilter(TraceContextFilter("shop"))
handler.setFormatter(JSONFormatter())
for name in ("gunicorn.access", "gunicorn.error", "granian.access", "_granian"):
    logging.getLogger(name).addHandler(handler)
    logging.getLogger(name).setLevel(logging.INFO)

async def answer(scope, receive, send):
    path = scope["path"]
    if path == "/raises":
        raise ValueError("no such order")
    if path == "/unanswered":
        return
    status = {"/missing": 404, "/fails": 500}.get(path, 200)
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-length", b"2")]})
    if path != "/half":
        await send({"type": "http.response.body", "body": b"ok"})

async def shop(scope, receive, send):
    with recording.get_tracer("shop").start_as_current_span("render"):
        await answer(scope, receive, send)

traced = TraceMiddleware(shop, tracer_provider=recording)
excluded = TraceMiddleware(shop, exclude="^/excluded", tracer_provider=recording)
dark = TraceMiddleware(answer, tracer_provider=unsampled)

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await {"/unsampled": dark, "/excluded": excluded}.get(scope["path"], traced)(scope, receive, send)
"""
COMMANDS = {
    "gunicorn": ["-k", "asgi", "-b", "127.0.0.1:{port}", "--access-logfile", "/dev/null", "shop:app"],
    "granian": ["--interface", "asgi", "--port", "{port}", "--access-log", "shop:app"],
}
RECORDED = {"/ok": 200, "/missing": 404, "/again": 200, "/fails": 500, "/unanswered": 500, "/half": 200, "/raises": 500}
UNRECORDED = {"/unsampled": 200, "/excluded": 200}


class Ran:
    """What a server wrote while it answered every path once, all of them over as few connections as it allows."""

    def __init__(self, folder: Path) -> None:
        self.lines = [json.loads(line) for line in (folder / "lines").read_text().splitlines()]
        spans = [json.loads(line) for line in (folder / "spans").read_text().splitlines()]
        self.spans = {path: (trace_id, span_id) for kind, path, trace_id, span_id in spans if kind == "SERVER"}

    def access(self, path: str) -> list[dict[str, Any]]:
        """The access lines of one path."""
        return [line for line in self.lines if line["logger"].endswith("access") and f"GET {path} " in line["message"]]


@pytest.fixture(scope="module", params=COMMANDS)
def ran(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Each server, run once for all tests of this module."""
    server, folder = request.param, tmp_path_factory.mktemp(request.param)
    pytest.importorskip(server)
    (folder / "shop.py").write_text(APP)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", server, *(word.format(port=port) for word in COMMANDS[server])]
    path = ":".join([str(folder), *sys.path])
    variables = environment(FOLDER=str(folder), PYTHONPATH=path, PYTHONWARNINGS="default")  # granian itself warns
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=output)
    try:
        eventually(lambda: process.poll() is not None or is_open(port), f"{server}: {(folder / 'output').read_text()}")
        ask(port, *RECORDED, *UNRECORDED)
    finally:
        process.terminate()
        try:
            process.wait(SECONDS)
        finally:
            process.kill()
            process.wait()
    return Ran(folder)


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), SECONDS).close()
    except OSError:
        return False
    return True


def ask(port: int, *paths: str) -> None:
    """Request every path in turn, on one connection until the server closes it."""
    connection = Connection(port)
    for path in paths:
        connection.request(path, headers=[("traceparent", TRACEPARENT.decode())] if path in UNRECORDED else [])
        response = None
        if path == "/half":  # no end to wait for: an older gunicorn leaves the connection open
            connection.reader.readline()
        else:
            response = connection.response()
        if response is None or ("connection", "close") in response.headers or path in ("/half", "/raises"):
            connection.close()
            connection = Connection(port)
    connection.close()


@pytest.mark.parametrize("path", RECORDED)
def test_an_access_line_carries_the_ids_of_its_request(path: str, ran: Ran) -> None:
    """One line a request, with the ids of its SERVER span: answered, failed, never answered, one after the other."""
    [line] = ran.access(path)
    assert (line["trace_id"], line["span_id"]) == ran.spans[path]
    assert len(set(ran.spans.values())) == len(RECORDED)


@pytest.mark.parametrize("path", UNRECORDED)
def test_an_access_line_of_a_request_without_a_recorded_span_carries_the_callers_trace(path: str, ran: Ran) -> None:
    """Unsampled and excluded requests keep the caller's trace id, and the flags say that nothing was recorded."""
    [line] = ran.access(path)
    assert (line["trace_id"], line["trace_flags"]) == (f"{TRACE_ID:032x}", "00")
    assert path not in ran.spans


def test_a_traceback_carries_the_ids_of_its_request(ran: Ran) -> None:
    """The server's line about the exception that escaped has the ids of the request that failed."""
    tracebacks = [line for line in ran.lines if "no such order" in line["message"] + line.get("exception", "")]
    assert tracebacks
    assert {(line.get("trace_id"), line.get("span_id")) for line in tracebacks} == {ran.spans["/raises"]}


def test_lines_of_the_server_itself_carry_no_ids(ran: Ran) -> None:
    """What a server says while it starts and stops belongs to no request."""
    others = [line for line in ran.lines if "GET " not in line["message"] and line["level"] == "INFO"]
    assert [line for line in others if "trace_id" in line] == []
