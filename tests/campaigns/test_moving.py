"""Logfire and ddtrace, run in environments of their own: do they still show what the page about moving in says?

`python -m benchmarks install-peers logfire ddtrace` makes the environments, and
`python -m pytest -m campaign tests/campaigns/test_moving.py` prints a table of the rows; about ten minutes. Nothing
leaves the loopback. Beside the rows, a trace goes on over real HTTP between each of them and us, in both
directions. Where a new version shows something else, write it down and mend the page:
`.../bin/python tests/moving/logfire_probe.py > tests/moving/logfire.json`.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from asgi_trace import TraceMiddleware
from asgi_trace.httpx import TraceTransport
from asgi_trace.testing import CapturedSpans
from benchmarks.environments import python

from ..moving.probe import NOT_INSTALLED
from ..support.asgi import OK
from ..support.moving import PAGE
from ..support.moving_recorded import FOLDER, recorded
from ..support.pages import ROOT, examples
from ..support.servers import uvicorn_serving
from .table import Table

pytestmark = pytest.mark.campaign


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """Collects the counts, and prints them at the end."""
    made = Table("What other libraries show", ("library", "version", "rows", "as recorded", "not installed", "other"))
    yield made
    made.show(request.config)


LIBRARIES = ("logfire", "ddtrace")


def command(library: str, program: str, *arguments: str) -> list[str]:
    """How to run a program of `tests/moving/` in the library's environment."""
    interpreter = python(library)
    if interpreter is None:
        pytest.skip(f"python -m benchmarks install-peers {library}")
    return [str(interpreter), str(FOLDER / program), *arguments]


ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}


@pytest.mark.parametrize("library", LIBRARIES)
def test_other_libraries_show_what_was_recorded(library: str, table: Table) -> None:
    """Each row of a library's tables shows what the file says, with the version that is installed."""
    probe = command(library, f"{library}_probe.py")
    done = subprocess.run(probe, env=ENVIRONMENT, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    rows, known = shown["rows"], recorded(library)["rows"]
    missing = {row for row, value in rows.items() if value == NOT_INSTALLED}
    same = {row for row, value in rows.items() if value == known.get(row)}
    other = {row: (value, known.get(row)) for row, value in rows.items() if row not in same | missing}
    table.add(library, shown["versions"][library], len(rows), len(same), len(missing), len(other))
    assert rows.keys() == known.keys()
    assert other == {}, f"{library} {shown['versions']}: shown, recorded"


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_trace_goes_on_from_the_other_library(library: str) -> None:
    """A service with our middleware continues the trace of a client in another process that the library traces."""
    spans = CapturedSpans()
    with uvicorn_serving(TraceMiddleware(OK, tracer_provider=spans.tracer_provider)) as server:
        client = command(library, "across.py", library, "client", server.url)
        done = subprocess.run(client, env=ENVIRONMENT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    span = spans.server
    assert span.parent is not None
    assert f"{span.parent.trace_id:032x} {span.parent.span_id:016x}" == done.stdout.splitlines()[-1]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_trace_goes_on_to_the_other_library(library: str) -> None:
    """A service that the library traces continues the trace of a client in another process that has our transport."""
    spans = CapturedSpans()
    server = command(library, "across.py", library, "server")
    with subprocess.Popen(server, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        with httpx.Client(transport=TraceTransport(tracer_provider=spans.tracer_provider), timeout=60) as client:
            assert client.get(f"http://127.0.0.1:{port}/orders/7").status_code == 204
        seen = process.stdout.readline().strip()
    context = spans.client.context
    assert f"{context.trace_id:032x} {context.span_id:016x}" == seen


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_blocks_of_the_page_run(library: str, tmp_path: Path) -> None:
    """Each Python block of the page that imports the library runs with it, as it stands."""
    blocks = [each for each in examples(PAGE) if re.search(rf"^(?:from|import) {library}\b", each.text, re.MULTILINE)]
    assert blocks
    quiet = {
        "LOGFIRE_SEND_TO_LOGFIRE": "false",
        "DD_TRACE_AGENT_URL": "http://127.0.0.1:9",
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        "DD_TRACE_OTEL_ENABLED": "true",
        "PYTHONPATH": str(ROOT),
    }
    for block in blocks:
        (tmp_path / "block.py").write_text(block.text, encoding="utf-8")
        program = [command(library, "")[0], str(tmp_path / "block.py")]
        done = subprocess.run(
            program, env={**ENVIRONMENT, **quiet}, cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, f"{block.place}\n{done.stderr}"
