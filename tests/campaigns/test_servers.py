"""Every server, stopped by a signal under load: which requests have their span, and how long the stop takes.

`python -m pytest -m campaign tests/campaigns/test_servers.py` prints the table; about eight minutes. The columns are
the requests that the application has seen (served), those among them with a SERVER span (spans), ended in the
application and without a span (lost), without an end and without a span, because the server drops its requests (cut
off), with two spans (double), and the seconds from the signal until the last process is gone: under load, without load,
and without load when the collector hangs.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from ..support.otlp_receiver import Receiver, hanging_port, plain
from .load import Load
from .servers import SETUPS, Setup, serving
from .table import Table

pytestmark = pytest.mark.campaign

LOAD_SECONDS = 2.0
STOP_SECONDS = 5.0
"""The longest that a collector may hold up a process that ends."""

DROPS = {
    "daphne": "it stops its event loop without ending the requests in flight",
    "granian": "it sometimes stops its event loop before a request in flight has ended",
}
"""Servers that do not end all of their requests."""


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Table]:
    """Collects the rows, and prints them at the end."""
    columns = ("server", "signal", "served", "spans", "lost", "cut off", "double", "seconds", "idle", "collector hangs")
    made = Table("Servers stopped under load", columns)
    yield made
    made.show(request.config)


@dataclass
class Outcome:
    """What became of the requests of one run."""

    started: set[str]
    ended: set[str]
    recorded: Counter[str]

    @property
    def lost(self) -> set[str]:
        """Requests that the application has ended, without a span."""
        return self.ended - self.recorded.keys()

    @property
    def cut_off(self) -> set[str]:
        """Requests that the server never ended, without a span."""
        return self.started - self.ended - self.recorded.keys()

    @property
    def double(self) -> set[str]:
        """Requests with more than one span."""
        return {name for name, count in self.recorded.items() if count > 1}


def outcome(notes: Path, spans: list[Span]) -> Outcome:
    """Compare what the application noted with what the collector got."""
    lines = [line.split(" ", 1) for line in notes.read_text().splitlines()]
    queries = [plain(span.attributes).get("url.query", "") for span in spans if span.kind == Span.SPAN_KIND_SERVER]
    return Outcome(
        started={name for what, name in lines if what == "start"},
        ended={name for what, name in lines if what == "end"},
        recorded=Counter(query.removeprefix("id=") for query in queries),
    )


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name)
@pytest.mark.parametrize("setup", SETUPS, ids=lambda setup: setup.name)
def test_a_stop_under_load_loses_no_span(setup: Setup, signum: signal.Signals, tmp_path: Path, table: Table) -> None:
    """Each request that the application ended has one span; a collector that hangs holds a stop up for 5 seconds."""
    if missing := setup.missing():
        table.add(setup.name, signum.name, f"{missing} is not installed")
        pytest.skip(f"{missing} is not installed")
    with Receiver() as receiver, serving(setup.command, tmp_path, receiver.endpoint) as server:
        with Load(server.port, http2=setup.http2, sockets=setup.sockets):
            time.sleep(LOAD_SECONDS)
            seconds = server.stop(signum)
        found = outcome(tmp_path / "notes", receiver.spans)
    with Receiver() as receiver:
        idle = stop_without_load(setup, signum, tmp_path / "idle", receiver.endpoint)
    with hanging_port() as port:
        hanging = stop_without_load(setup, signum, tmp_path / "hanging", f"http://127.0.0.1:{port}")
    counts = [len(each) for each in (found.started, found.recorded, found.lost, found.cut_off, found.double)]
    stops = [f"{each:.1f}" for each in (seconds, idle, hanging)]
    table.add(setup.name, signum.name, *counts, *stops)
    if found.cut_off and setup.name in DROPS:
        table.note(f"{setup.name}: {DROPS[setup.name]}, so no code of those requests runs once more")
    assert len(found.started) > 50, server.log()
    assert not found.double
    assert not found.lost, server.log()
    assert setup.name in DROPS or not found.cut_off, server.log()
    assert hanging < idle + STOP_SECONDS + 1


def stop_without_load(setup: Setup, signum: signal.Signals, folder: Path, endpoint: str) -> float:
    """Seconds from the signal to the end of a server that has answered one request."""
    folder.mkdir()
    with serving(setup.command, folder, endpoint) as server:
        time.sleep(0.3)
        return server.stop(signum)
