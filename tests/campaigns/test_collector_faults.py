"""Every fault of a collector, under load: what requests, memory, log and the stop of the service notice of it.

`python -m pytest -m campaign tests/campaigns/test_collector_faults.py` prints the table; about five minutes. Each row
is one uvicorn with `configure()`, whose collector has the fault for the whole run. The columns are the median and the
99th percentile of the requests' duration as a ratio to the service with a healthy collector, by how much the resident
memory has grown since the first requests, the log lines of the service, those that gRPC's own library writes past
Python's logging, the spans that arrived, and the seconds from SIGTERM to the exit.
"""

from __future__ import annotations

import http.server
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any

import grpc
import pytest

from ..support.otlp_receiver import Receiver, closed_port, hanging_port
from ..support.servers import Connection
from .servers import Running, serving
from .table import Table

pytestmark = pytest.mark.campaign

REQUESTS, WARM_UP = 4_000, 500  # more than the queue of 2,048 spans holds
STOP_SECONDS = 5.0
COMMAND = "uvicorn tests.campaigns.service:app --port PORT --no-access-log --http httptools --loop asyncio"


@dataclass(frozen=True)
class Collector:
    """A collector with its fault: where the service sends to, with which variables, and how many spans have arrived."""

    endpoint: str
    variables: Mapping[str, str] = field(default_factory=dict)
    arrived: Callable[[], int] = lambda: 0


@contextmanager
def receiving(**options: Any) -> Iterator[Collector]:
    """A real receiver, with one of its own faults."""
    with Receiver(**options) as receiver:
        yield Collector(receiver.endpoint, arrived=lambda: len(receiver.spans))


@contextmanager
def absent() -> Iterator[Collector]:
    """A port where nothing listens."""
    with closed_port() as port:
        yield Collector(f"http://127.0.0.1:{port}")


@contextmanager
def hanging() -> Iterator[Collector]:
    """It accepts connections and never says a word."""
    with hanging_port() as port:
        yield Collector(f"http://127.0.0.1:{port}")


@contextmanager
def black_hole() -> Iterator[Collector]:
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
def without_name() -> Iterator[Collector]:
    """Its host name is that of no machine."""
    yield Collector("http://collector.invalid:4317")


@contextmanager
def plain_http() -> Iterator[Collector]:
    """A web server that does not know gRPC listens on its port."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Silent) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Collector(f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()


@contextmanager
def over_http(fault: AbstractContextManager[Collector]) -> Iterator[Collector]:
    """The same fault, and the service exports over HTTP."""
    with fault as collector:
        yield replace(collector, variables={"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"})


class _Silent(http.server.BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def tls_expected() -> Iterator[Collector]:
    """The service speaks TLS, and the collector does not."""
    with Receiver() as receiver:
        yield Collector(f"https://{receiver.target}", arrived=lambda: len(receiver.spans))


@contextmanager
def unknown_certificate() -> Iterator[Collector]:
    """Its certificate is of an authority that the service does not know."""
    trustme = pytest.importorskip("trustme")
    made = trustme.CA().issue_cert("localhost")
    key, chain = made.private_key_pem.bytes(), made.cert_chain_pems[0].bytes()
    with Receiver(credentials=grpc.ssl_server_credentials([(key, chain)])) as receiver:
        yield Collector(f"https://localhost:{receiver.port}", arrived=lambda: len(receiver.spans))


@contextmanager
def dies_and_returns() -> Iterator[Collector]:
    """It stops one second after the first spans, and is back on the same port two seconds later."""
    first = Receiver()
    receivers = [first]

    def outage() -> None:
        first.wait_for(lambda: first.spans, 60)
        time.sleep(1)
        first.stop()
        time.sleep(2)
        receivers.append(Receiver(port=first.port))

    thread = threading.Thread(target=outage)
    thread.start()
    try:
        yield Collector(first.endpoint, arrived=lambda: sum(len(each.spans) for each in receivers))
    finally:
        thread.join()
        receivers[-1].stop()


REFUSALS = (
    *(grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED),
    *(grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT),
    *(grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN),
)
FAULTS: dict[str, Callable[[], AbstractContextManager[Collector]]] = {
    "absent": absent,
    "black hole": black_hole,
    "hangs": hanging,
    **{f"refuses: {code.name}": partial(receiving, refuse=(code,) * 1000) for code in REFUSALS},
    "slow, 2 s": lambda: receiving(delay=2.0),
    "slow, 0.2 s": lambda: receiving(delay=0.2),
    "does not speak TLS": tls_expected,
    "unknown certificate": unknown_certificate,
    "no such name": without_name,
    "is not gRPC": plain_http,
    "dies and returns": dies_and_returns,
    "HTTP: absent": lambda: over_http(absent()),
    "HTTP: black hole": lambda: over_http(black_hole()),
    "HTTP: hangs": lambda: over_http(hanging()),
    "HTTP: no such name": lambda: over_http(without_name()),
    "HTTP: answers 501": lambda: over_http(plain_http()),
}


@dataclass(frozen=True)
class Observed:
    """What was noticed of one collector."""

    median: float
    slowest: float
    memory: int
    lines: int
    grpc_lines: int
    arrived: int
    seconds: float


def observe(collector: Collector, folder: Path) -> Observed:
    """Send the requests, then stop the service."""
    folder.mkdir(exist_ok=True)
    with serving(COMMAND, folder, collector.endpoint, **collector.variables) as server:
        durations(server, WARM_UP)
        before = resident(server)
        taken = quantiles(durations(server, REQUESTS), n=100)
        grown = resident(server) - before
        seconds = server.stop(signal.SIGTERM)
        lines = [line for line in server.log().splitlines() if not re.match(r"INFO:\s", line)]
        of_grpc = sum(re.match(r"[EWI]\d{4} ", line) is not None for line in lines)
    return Observed(taken[49], taken[98], grown, len(lines) - of_grpc, of_grpc, collector.arrived(), seconds)


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
    with receiving() as collector:
        return observe(collector, tmp_path_factory.mktemp("healthy"))


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest, healthy: Observed) -> Iterator[Table]:
    """Collects the rows, and prints them at the end."""
    columns = ("collector", "median", "99 %", "memory", "log lines", "gRPC's", "spans arrived", "seconds to exit")
    made = Table(f"Faults of a collector; {REQUESTS + WARM_UP:,} requests each", columns)
    add(made, "healthy", healthy, healthy)
    yield made
    made.show(request.config)


def add(table: Table, name: str, found: Observed, healthy: Observed) -> None:
    """One row of the table."""
    ratios = [f"{found.median / healthy.median:.2f}x", f"{found.slowest / healthy.slowest:.2f}x"]
    lines = [found.lines, found.grpc_lines]
    table.add(name, *ratios, f"{found.memory / 1e6:+.1f} MB", *lines, found.arrived, f"{found.seconds:.1f}")


@pytest.mark.parametrize("name", FAULTS)
def test_a_collector_cannot_disturb_the_service(name: str, tmp_path: Path, table: Table, healthy: Observed) -> None:
    """Every request is answered, the memory stays bounded, the log short, and the service ends within 5 seconds."""
    with FAULTS[name]() as collector:
        found = observe(collector, tmp_path)
    add(table, name, found, healthy)
    assert found.memory < 40e6  # a full queue, and with TLS gRPC's root certificates
    assert found.lines <= 5
    assert found.seconds < STOP_SECONDS + 1
