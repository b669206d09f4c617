"""Every fault of a collector, over gRPC and over HTTP, under load: what requests, memory, log and stop notice of it.

`python -m pytest -m campaign tests/campaigns/test_collector_faults.py` prints the table; about ten minutes. Each row is
one uvicorn with `configure()`, whose collector, a process of its own, has the fault for the whole run. The columns are
the median and the 99th percentile of the requests' duration as a ratio to the service with a healthy collector, by how
much the resident memory has grown since the first requests, the log lines of the service, those that gRPC's own library
writes past Python's logging, the spans that were sent, that arrived and that the service has counted as lost, and the
seconds from SIGTERM to the exit.
"""

from __future__ import annotations

import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any

import pytest

from ..support.collectors import GRPC, HTTP, FaultyCollector
from ..support.otlp_receiver import closed_port, hanging_port
from ..support.servers import Connection
from .servers import Running, serving
from .table import Table

pytestmark = pytest.mark.campaign

REQUESTS, WARM_UP = 3_000, 500
STOP_SECONDS = 5.0
COMMAND = "uvicorn tests.campaigns.service:app --port PORT --no-access-log --http httptools --loop asyncio"


@dataclass(frozen=True)
class Collector:
    """A collector with its fault: where the service sends to, with which variables, and how many spans have arrived."""

    endpoint: str
    variables: Mapping[str, str] = field(default_factory=dict)
    arrived: Callable[[], int] = lambda: 0


Fault = Callable[[str], AbstractContextManager[Collector]]
"""A collector by its protocol."""


@contextmanager
def receiving(protocol: str, *, scheme: str = "http", host: str = "127.0.0.1", **faults: Any) -> Iterator[Collector]:
    """A real receiver, with one of its own faults."""
    with FaultyCollector(protocol, **faults) as receiver:
        yield Collector(f"{scheme}://{host}:{receiver.port}", arrived=lambda: len(receiver.spans))


@contextmanager
def absent(protocol: str) -> Iterator[Collector]:
    """A port where nothing listens."""
    with closed_port() as port:
        yield Collector(f"http://127.0.0.1:{port}")


@contextmanager
def hanging(protocol: str) -> Iterator[Collector]:
    """It accepts connections and never says a word."""
    with hanging_port() as port:
        yield Collector(f"http://127.0.0.1:{port}")


@contextmanager
def black_hole(protocol: str) -> Iterator[Collector]:
    """Its queue of connections is full, so that no connection is ever made."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield Collector(f"http://127.0.0.1:{listener.getsockname()[1]}")


@contextmanager
def without_name(protocol: str) -> Iterator[Collector]:
    """Its host name is that of no machine."""
    yield Collector("http://collector.invalid:4317")


@contextmanager
def other_protocol(protocol: str) -> Iterator[Collector]:
    """It speaks the other protocol on this port."""
    with receiving(HTTP if protocol == GRPC else GRPC) as collector:
        yield collector


@contextmanager
def unknown_certificate(protocol: str) -> Iterator[Collector]:
    """Its certificate is of an authority that the service does not know."""
    trustme = pytest.importorskip("trustme")
    made = trustme.CA().issue_cert("localhost")
    with made.private_key_and_cert_chain_pem.tempfile() as both, ExitStack() as stack:
        folder = Path(both).with_suffix(".tls")
        folder.mkdir()
        stack.callback(folder.rmdir)
        for name in ("key", "chain"):
            (folder / name).write_bytes(Path(both).read_bytes())
            stack.callback((folder / name).unlink)
        yield stack.enter_context(receiving(protocol, scheme="https", host="localhost", tls=folder))


@contextmanager
def dies_and_returns(protocol: str) -> Iterator[Collector]:
    """It stops one second after the first spans, and is back on the same port two seconds later."""
    receivers = [FaultyCollector(protocol)]
    kept: list[int] = []

    def outage() -> None:
        receivers[0].wait_for_requests(1)
        time.sleep(1)
        kept.append(len(receivers[0].spans))
        receivers[0].stop()
        time.sleep(2)
        receivers.append(FaultyCollector(protocol, port=receivers[0].port))

    thread = threading.Thread(target=outage)
    thread.start()
    try:
        yield Collector(receivers[0].endpoint, arrived=lambda: sum(kept) + len(receivers[-1].spans))
    finally:
        thread.join()
        receivers[-1].stop()


def refusing(code: str, **faults: Any) -> Fault:
    """Every answer has this status code."""
    return partial(receiving, always=code, **faults)


BOTH: dict[str, Fault] = {
    "healthy": receiving,
    "absent": absent,
    "black hole": black_hole,
    "hangs": hanging,
    "hangs after the request": partial(receiving, hang=True),
    "slow, 2 s": partial(receiving, delay=2.0),
    "slow, 0.2 s": partial(receiving, delay=0.2),
    "takes 100 kB at most": partial(receiving, limit=100_000),
    "rejects one of each request": partial(receiving, rejects=1),
    "answers with garbage": partial(receiving, garbage=True),
    "does not speak TLS": partial(receiving, scheme="https"),
    "unknown certificate": unknown_certificate,
    "no such name": without_name,
    "speaks the other protocol": other_protocol,
    "dies and returns": dies_and_returns,
}
BY_PROTOCOL: dict[str, dict[str, Fault]] = {
    GRPC: {
        **{
            f"refuses: {code}": refusing(code)
            for code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED", "UNAUTHENTICATED", "UNIMPLEMENTED", "INTERNAL", "UNKNOWN")
        },
        "refuses, delay 0": refusing("UNAVAILABLE", retry_info=[["grpc-status-details-bin", 0]]),
        "refuses, details are garbage": refusing("UNAVAILABLE", retry_info=[["grpc-status-details-bin", "?"]]),
        "calls everything too large": refusing("RESOURCE_EXHAUSTED", message="message larger than max"),
    },
    HTTP: {
        **{f"refuses: {code}": refusing(code) for code in ("429", "503", "401", "404", "500")},
        "refuses, Retry-After: 0": refusing("503", retry_after="0"),
        "refuses, Retry-After: soon": refusing("503", retry_after="soon"),
        "calls everything too large": refusing("413"),
        "drops the connection": refusing("drop"),
        "redirects": partial(receiving, location="http://127.0.0.1:1/"),
        "answers byte by byte": refusing("500", drip=0.1),
        "answers with 10 MB": partial(receiving, huge=10_000_000),
    },
}
ROWS = [(protocol, name, fault) for protocol, own in BY_PROTOCOL.items() for name, fault in {**BOTH, **own}.items()]


@dataclass(frozen=True)
class Observed:
    """What was noticed of one collector."""

    median: float
    slowest: float
    memory: int
    lines: int
    grpc_lines: int
    sent: int
    arrived: int
    lost: int
    seconds: float


def observe(protocol: str, collector: Collector, folder: Path) -> Observed:
    """Send the requests, then stop the service."""
    variables = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
        "CAMPAIGN_LOST": str(folder / "lost"),
        **collector.variables,
    }
    with serving(COMMAND, folder, collector.endpoint, **variables) as server:
        durations(server, WARM_UP)
        before = resident(server)
        taken = quantiles(durations(server, REQUESTS), n=100)
        grown = resident(server) - before
        seconds = server.stop(signal.SIGTERM)
        lines = [line for line in server.log().splitlines() if not re.match(r"INFO:\s", line)]
        of_grpc = sum(re.match(r"[EWI]\d{4} ", line) is not None for line in lines)
    lost = int((folder / "lost").read_text())
    sent = (folder / "notes").read_text().count("end ")
    return Observed(
        taken[49], taken[98], grown, len(lines) - of_grpc, of_grpc, sent, collector.arrived(), lost, seconds
    )


def durations(server: Running, count: int) -> list[float]:
    """Seconds of each request, one after the other on one connection."""
    found = []
    with Connection(server.port) as connection:
        for number in range(count):
            began = time.perf_counter()
            connection.request(f"/ok?id={number}")
            assert connection.response().status == 200
            found.append(time.perf_counter() - began)
            time.sleep(0.001)  # so that the run is longer than an outage
    return found


def resident(server: Running) -> int:
    """Bytes of memory that the service holds."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Observed:
    """The same service with a collector that works."""
    with receiving(GRPC) as collector:
        return observe(GRPC, collector, tmp_path_factory.mktemp("healthy"))


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest, healthy: Observed) -> Iterator[Table]:
    """Collects the rows, and prints them at the end."""
    columns = ("collector", "protocol", "median", "99 %", "memory", "log", "gRPC's", "sent", "arrived", "lost", "exit")
    made = Table(f"Faults of a collector; {REQUESTS + WARM_UP:,} requests each", columns)
    made.note(f"healthy: median {healthy.median * 1000:.2f} ms, 99 % {healthy.slowest * 1000:.2f} ms")
    yield made
    made.show(request.config)


@pytest.mark.parametrize(("protocol", "name", "fault"), ROWS, ids=[f"{row[0]}: {row[1]}" for row in ROWS])
def test_a_collector_cannot_disturb_the_service(
    protocol: str, name: str, fault: Fault, tmp_path: Path, table: Table, healthy: Observed
) -> None:
    """Every request is answered; memory, log and stop are bounded; each span has arrived or is counted as lost."""
    with fault(protocol) as collector:
        found = observe(protocol, collector, tmp_path)
    ratios = [f"{found.median / healthy.median:.2f}x", f"{found.slowest / healthy.slowest:.2f}x"]
    counts = [found.lines, found.grpc_lines, found.sent, found.arrived, found.lost]
    table.add(name, protocol, *ratios, f"{found.memory / 1e6:+.1f} MB", *counts, f"{found.seconds:.1f} s")
    assert found.memory < 40e6  # with TLS gRPC's root certificates
    assert found.lines <= 5
    assert found.seconds < STOP_SECONDS + 1
    assert found.arrived + found.lost >= found.sent  # what a collector took, and did not answer for, is both
