"""The client left, over real servers in processes of their own: each has its own way of saying so.

gunicorn's ASGI worker and Daphne cancel an application that does not notice by itself.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..support.servers import SECONDS, Connection, eventually
from ..support.subprocess import environment

APP = """
import asyncio, json, os
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from asgi_trace import TraceMiddleware

FOLDER = os.environ["FOLDER"]

def note(file, what):
    with open(f"{FOLDER}/{file}", "a") as opened:
        opened.write(json.dumps(what) + "\\n")

class ToFile(SpanExporter):
    def export(self, spans):
        for span in spans:
            note("spans", [span.status.status_code.name, len(span.events), dict(span.attributes)])

provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(ToFile()))

async def shop(scope, receive, send):
    note("called", scope["path"])
    if scope["path"] == "/reads":
        while (await receive())["type"] != "http.disconnect":
            pass
    elif scope["path"] == "/sleeps":
        await asyncio.sleep(600)
    else:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok"})

traced = TraceMiddleware(shop, tracer_provider=provider)

async def app(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError
    await traced(scope, receive, send)
"""
COMMANDS = {
    "gunicorn": ["-k", "asgi", "-b", "127.0.0.1:{port}", "--asgi-disconnect-grace-period", "0", "shop:app"],
    "daphne": ["-b", "127.0.0.1", "-p", "{port}", "--application-close-timeout", "0", "shop:app"],
    "granian": ["--interface", "asgi", "--port", "{port}", "shop:app"],
    "hypercorn": ["-b", "127.0.0.1:{port}", "shop:app"],
    "uvicorn": ["--port", "{port}", "--lifespan", "off", "shop:app"],
}
CANCELS = ("gunicorn", "daphne")
Serving = tuple[str, int, Path]
"""A server's name, its port, and where its application writes."""


@pytest.fixture(scope="module", params=COMMANDS)
def serving(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Each server, run once for all tests of this module."""
    server, folder = request.param, tmp_path_factory.mktemp(request.param)
    pytest.importorskip(server)
    (folder / "shop.py").write_text(APP)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", server, *(word.format(port=port) for word in COMMANDS[server])]
    variables = environment(FOLDER=str(folder), PYTHONPATH=":".join([str(folder), *sys.path]), PYTHONWARNINGS="default")
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(command, cwd=folder, env=variables, stdout=output, stderr=output)
    try:
        eventually(lambda: process.poll() is not None or is_open(port), f"{server}: {(folder / 'output').read_text()}")
        yield server, port, folder
    finally:
        process.terminate()
        try:
            process.wait(SECONDS)
        finally:
            process.kill()
            process.wait()


def is_open(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), SECONDS).close()
    except OSError:
        return False
    return True


def lines(folder: Path, name: str) -> list[Any]:
    """What the application has written to one file."""
    file = folder / name
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def left(port: int, folder: Path, path: str) -> tuple[str, int, dict[str, Any]]:
    """Ask for a path and leave when the application has been called; the request's span."""
    called, ended = len(lines(folder, "called")), len(lines(folder, "spans"))
    with Connection(port) as connection:
        connection.request(path)
        eventually(lambda: len(lines(folder, "called")) > called, f"the call of {path}")
    eventually(lambda: len(lines(folder, "spans")) > ended, f"the span of {path}")
    status, events, attributes = lines(folder, "spans")[-1]
    return status, events, attributes


@pytest.mark.parametrize("path", ["/reads", "/sleeps"])
def test_a_client_that_leaves_is_no_error(serving: Serving, path: str) -> None:
    """Whether the application reads of it or is cancelled for it: marked, unset, no code, no error type, no event."""
    server, port, folder = serving
    if path == "/sleeps" and server not in CANCELS:
        pytest.skip(f"{server} does not cancel")
    status, events, attributes = left(port, folder, path)

    assert attributes["url.path"] == path
    assert attributes["asgi_trace.client_disconnected"] is True
    assert (status, events) == ("UNSET", 0)
    assert {"error.type", "http.response.status_code", "asgi_trace.cancelled"}.isdisjoint(attributes)


def test_a_client_that_stays_is_not_said_to_have_left(serving: Serving) -> None:
    """Closing the connection after the response is no news."""
    _, port, folder = serving
    ended = len(lines(folder, "spans"))
    with Connection(port) as connection:
        connection.request("/ok", headers=[("Connection", "close")])
        assert connection.response().status == 200
    eventually(lambda: len(lines(folder, "spans")) > ended, "the span")

    status, _, attributes = lines(folder, "spans")[-1]
    assert (status, attributes["http.response.status_code"]) == ("UNSET", 200)
    assert "asgi_trace.client_disconnected" not in attributes
