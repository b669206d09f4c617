"""`fastapi run`, `litestar run` and `quart run`, with the programs of the page of troubles.

`python -m pytest -m campaign tests/campaigns/test_run_commands.py` prints the table; about half a minute.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ..support.otlp_receiver import Receiver, plain
from ..support.pages import pages
from ..support.subprocess import environment
from .servers import serving
from .table import Table

pytestmark = pytest.mark.campaign

PAGE = next(page for page in pages() if page.name == "asgi_trace/TROUBLESHOOTING.md")


@dataclass(frozen=True)
class Command:
    """One framework's command, and what a program on the page needs to be served by it."""

    name: str
    needs: str
    """The module without which the command is not there."""
    command: str
    """What follows `python -m`; `FOLDER` has the program, `main.py`."""
    wrapping: str
    """The line by which the program is found on the page."""
    routes: str
    """What is added to that program: two routes."""
    route: str
    refusal: str
    """What the command says of `app = TraceMiddleware(app)`."""


COMMANDS = (
    Command(
        "fastapi run",
        "fastapi_cli",
        "fastapi run FOLDER/main.py --host 127.0.0.1 --port PORT",
        "app.add_middleware(TraceMiddleware)",
        """
        @app.get("/ok")
        @app.get("/orders/{order}")
        async def read_order(order: int = 0) -> dict[str, int]:
            return {"id": order}
        """,
        "/orders/{order}",
        "Could not find FastAPI app in module",
    ),
    Command(
        "litestar run",
        "litestar",
        "litestar --app-dir FOLDER --app main:app run --host 127.0.0.1 --port PORT",
        "app.asgi_handler = TraceMiddleware(app.asgi_handler)",
        """
        @get(["/ok", "/orders/{order:int}"])
        async def read_order(order: int = 0) -> dict[str, int]:
            return {"id": order}

        app.register(read_order)
        """,
        "/orders/{order}",
        "TypeError",
    ),
    Command(
        "quart run",
        "quart",
        "quart --app FOLDER/main.py:app run --host 127.0.0.1 --port PORT",
        "app.asgi_app = TraceMiddleware(app.asgi_app)",
        """
        @app.get("/ok")
        @app.get("/orders/<int:order>")
        async def read_order(order: int = 0) -> dict[str, int]:
            return {"id": order}
        """,
        "/orders/<int:order>",
        "",
    ),
)


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """Collects the rows, and prints them at the end."""
    made = Table("Frameworks' commands", ("command", "span", "route"))
    yield made
    made.show(request.config)


def _needed(command: Command) -> None:
    if find_spec(command.needs) is None:
        pytest.skip(f"{command.needs} is not installed")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_a_span_with_its_route_arrives(command: Command, tmp_path: Path, table: Table) -> None:
    """The program of the page, with a route added, is served by the command: a request is one span with its route."""
    _needed(command)
    (program,) = [block.text for block in PAGE.blocks() if command.wrapping in block.text]
    started = 'from asgi_trace import configure\n\nconfigure("orders")\n'
    (tmp_path / "main.py").write_text(program + textwrap.dedent(command.routes) + started)
    with (
        Receiver() as receiver,
        serving(command.command.replace("FOLDER", str(tmp_path)), tmp_path, receiver.endpoint) as server,
    ):
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/orders/7", timeout=10) as response:
            assert response.read().replace(b" ", b"").strip() == b'{"id":7}'
        server.stop(signal.SIGTERM)
        receiver.wait_for(lambda: any("/orders/" in span.name for span in receiver.spans))
        found = [span for span in receiver.spans if span.kind == Span.SPAN_KIND_SERVER]
    (order,) = [span for span in found if plain(span.attributes)["url.path"] == "/orders/7"]
    table.add(command.name, order.name, plain(order.attributes)["http.route"])
    assert order.name == f"GET {command.route}"
    assert plain(order.attributes)["http.route"] == command.route


@pytest.mark.parametrize("command", [each for each in COMMANDS if each.refusal], ids=lambda command: command.name)
def test_an_application_in_the_middleware_is_refused(command: Command, tmp_path: Path) -> None:
    """`app = TraceMiddleware(app)` ends the command with what the page says, so its other way is needed."""
    _needed(command)
    assert command.refusal in PAGE.text.replace("\n", " ")
    (program,) = [block.text for block in PAGE.blocks() if command.wrapping in block.text]
    (tmp_path / "main.py").write_text(program.replace(command.wrapping, "app = TraceMiddleware(app)"))
    arguments = command.command.replace("FOLDER", str(tmp_path)).replace("PORT", "0").split()
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        env={**environment(), "PYTHONWARNINGS": "default", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert command.refusal in re.sub(r"\s+", " ", done.stdout + done.stderr)
