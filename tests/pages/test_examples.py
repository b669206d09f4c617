"""The Python blocks of every page run as they stand."""

from __future__ import annotations

import http.server
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest

from tests.support.pages import ROOT, Block, examples, pages

EXAMPLES = [example for page in pages() for example in examples(page)]

# A block that serves would never end: its server reads its configuration, loads the application, and ends.
SERVES_AND_ENDS = """
import uvicorn
def _serve(app, **options):
    config = uvicorn.Config(app, **options)
    config.load()
    assert config.loaded_app is not None
uvicorn.run = _serve
"""


class Anything(http.server.BaseHTTPRequestHandler):
    """Answers whatever the examples ask the other service for."""

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def other_service() -> Iterator[str]:
    """The address of a server that stands for `orders.internal`."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Anything) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_pages_have_examples() -> None:
    """The examples that the next test runs are those of the README and of the pages beside the code."""
    assert len(EXAMPLES) >= 30
    assert "README.md" in {example.page for example in EXAMPLES}


OTHER_VENDORS = {"ddtrace", "logfire"}  # they are not installed beside the tests; a campaign runs these programs
NEWER = {"starlette.middleware.opentelemetry"}  # not in the lowest declared Starlette


@pytest.mark.parametrize("example", EXAMPLES, ids=[example.place for example in EXAMPLES])
def test_examples_run(example: Block, other_service: str, tmp_path: Path) -> None:
    """A Python example of a page runs as it stands, without a warning."""
    program = example.text.replace("http://orders.internal", other_service)
    compile(program, example.place, "exec")
    for module in re.findall(r"^(?:from|import) ([\w.]+)", program, re.MULTILINE):
        if module.partition(".")[0] in OTHER_VENDORS or module in NEWER:
            pytest.importorskip(module)
    if "uvicorn.run(" in program:
        program = SERVES_AND_ENDS + program
    environment = {
        **os.environ,
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{example.place}\n{program}\n{done.stderr}"
    assert "Warning" not in done.stderr, f"{example.place}\n{done.stderr}"
