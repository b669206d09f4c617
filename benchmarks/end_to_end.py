"""End to end: uvicorn on one core, the load and an OTLP/gRPC receiver on the other, on loopback only.

Every peer has its own server for each sampling rate; all of them stay up, and rounds of load go from one to the next in
a random order. A round ends with a flush, so its CPU time holds the export of every span that it made. At a sampling
rate of 100 % the instructions of the whole process are counted as well, in another server that runs under callgrind.

The processes: `python -m benchmarks.end_to_end serve PEER SAMPLING ENDPOINT CORE SHIM` and `... receive CORE`.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import socket
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import import_module
from statistics import median
from typing import Any

from . import callgrind, cases, environments
from .children import Child, ChildError
from .ladder import shuffled, steps
from .registry import every
from .results import BARE, EndToEnd, Results, half_iqr

SAMPLING = (1.0, 0.1, 0.0)
CONNECTIONS = 16
_WARM_UP_SECONDS = 0.5
_COUNTED, _WARM_UP_COUNTED = 200, 100
_CASE = cases.parse(f"server/{cases.STARLETTE}/{cases.NO_PARENT}")
_REQUEST = (
    b"GET /items/42?page=2 HTTP/1.1\r\nhost: api.example.com\r\n"
    b"user-agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
    b"accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\naccept-encoding: gzip, deflate\r\n\r\n"
)
_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"

Setup = tuple[str, float]
"""A server: the peer and the sampling rate."""


def load(port: int, seconds: float = 60.0, requests: float = float("inf"), connections: int = CONNECTIONS) -> int:
    """Ask again and again over kept connections until the time or the number is over; the requests that were answered.

    All answers have the same length, so counting bytes is enough. Raises ChildError for an answer that is not a 200.
    """
    end, sent, answered = time.monotonic() + seconds, 0, 0
    waiting: dict[Any, int] = {}
    with selectors.DefaultSelector() as ready, ExitStack() as stack:
        for _ in range(connections):
            connection: Any = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            ready.register(connection, selectors.EVENT_READ)
            waiting[connection] = 0
            connection.sendall(_REQUEST)
            sent += 1
        length = 0
        while answered < sent:
            for key, _ in ready.select(30) or _no_answer():
                connection = key.fileobj
                data = connection.recv(65_536)
                if waiting[connection] == 0 and not data.startswith(b"HTTP/1.1 200"):
                    raise ChildError(f"the server answered {data[:40]!r}")
                length = length or data.index(b"\r\n\r\n") + 4 + len(b"hello")
                waiting[connection] += len(data)
                if waiting[connection] >= length:
                    waiting[connection] = 0
                    answered += 1
                    if time.monotonic() < end and sent < requests:
                        connection.sendall(_REQUEST)
                        sent += 1
    return answered


def _no_answer() -> Any:
    raise ChildError("the server does not answer")


# --- the processes ---


def _pin(core: int) -> None:
    if core >= 0:
        os.sched_setaffinity(0, {core})


def _say(**answer: Any) -> None:
    print(json.dumps(answer), flush=True)


def serve(peer: str, sampling: float, endpoint: str, core: int, shim: str) -> None:
    """uvicorn under one peer, until stdin closes. Each line on stdin is a command; "" flushes and says the CPU seconds.

    With a shim, "count" begins to count instructions, and "dump" flushes and writes the counters.
    """
    import uvicorn

    _pin(core)
    flush = every()[peer].export(sampling, endpoint)
    app: Any = every()[peer].server(_CASE)
    loop_clock = time.pthread_getcpuclockid(threading.get_ident())
    config = uvicorn.Config(app, access_log=False, log_level="warning", lifespan="off", http="httptools", ws="none")
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    library = ctypes.CDLL(shim) if shim else None

    def control() -> None:
        for line in sys.stdin:
            command = json.loads(line).get("do")
            if command == "start" and library is not None:
                library.start()
            elif command == "count" and library is not None:
                library.begin()
            else:
                flush()
            if command == "dump" and library is not None:
                library.end(f"{peer} {_COUNTED}".encode())
            _say(process=time.process_time(), loop=time.clock_gettime(loop_clock))
        server.should_exit = True

    _say(port=listener.getsockname()[1])
    threading.Thread(target=control, daemon=True).start()
    server.run(sockets=[listener])


def receive(core: int) -> None:
    """An OTLP/gRPC receiver, until stdin closes; answers each line with how many spans have arrived since the last one.

    Batches are kept as bytes until then, so that counting never falls into a measurement.
    """
    grpc: Any = import_module("grpc")
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    _pin(core)
    batches: list[bytes] = []

    class Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(keep) if details.method == _EXPORT else None

    def keep(request: bytes, context: Any) -> bytes:
        batches.append(request)
        return b""

    server = grpc.server(ThreadPoolExecutor(2), handlers=[Handlers()])
    _say(port=server.add_insecure_port("127.0.0.1:0"))
    server.start()
    for _ in sys.stdin:
        requests = map(ExportTraceServiceRequest.FromString, batches)
        resources = [resource for request in requests for resource in request.resource_spans]
        _say(spans=sum(len(scope.spans) for resource in resources for scope in resource.scope_spans))
        batches.clear()
    server.stop(None)


# --- the parent ---


def measure(
    peers: list[str],
    rounds: int,
    seconds: float,
    results: Results,
    sampling: Sequence[float] = SAMPLING,
    count: bool = True,
) -> None:
    """Run the load against every server in turn, and put what it cost into the results."""
    cores = environments.cores()
    server_core, load_core = (cores[0], cores[1]) if len(cores) > 1 else (-1, -1)
    setups: list[Setup] = [(BARE, 0.0), *((peer, rate) for rate in sampling for peer in peers)]
    taken: dict[Setup, list[dict[str, float]]] = defaultdict(list)
    before = os.sched_getaffinity(0)
    with ExitStack() as stack:
        receiver = stack.enter_context(Child("benchmarks.end_to_end", "receive", str(load_core)))
        endpoint = f"http://127.0.0.1:{receiver.answer()['port']}"
        servers = {setup: stack.enter_context(_server(setup, endpoint, server_core)) for setup in setups}
        stack.callback(os.sched_setaffinity, 0, before)
        _pin(load_core)
        ports = {setup: _warm(setup, server, results) for setup, server in servers.items()}
        work = [setup for number in range(rounds) for setup in shuffled(setups, number) if ports[setup]]
        receiver.ask()
        for setup in steps(work, "end to end"):
            try:
                taken[setup].append(_round(servers[setup], ports[setup], receiver, seconds))
            except ChildError as exc:
                results.skip(f"{setup[0]} end to end", str(exc))
    counted = _instructions([BARE, *peers], results) if count and callgrind.missing() is None else {}
    results.end_to_end += [_summary(setup, taken, counted) for setup in setups if taken[setup]]


def _server(setup: Setup, endpoint: str, core: int, shim: str = "", folder: str = "") -> Child:
    peer, sampling = setup
    before = callgrind.under_callgrind(folder) if folder else []
    return Child("benchmarks.end_to_end", "serve", peer, str(sampling), endpoint, str(core), shim, before=before)


def _warm(setup: Setup, server: Child, results: Results) -> int:
    """The port of a server that has answered requests; 0 when it does not."""
    try:
        port: int = server.answer()["port"]
        load(port, _WARM_UP_SECONDS)
        server.ask()
        return port
    except (ChildError, OSError) as exc:
        results.skip(f"{setup[0]} end to end", str(exc))
        return 0


def _round(server: Child, port: int, receiver: Child, seconds: float) -> dict[str, float]:
    before, started = server.ask(), time.monotonic()
    requests = load(port, seconds)
    took = time.monotonic() - started
    after = server.ask()
    time.sleep(0.05)  # the receiver may still be storing the last batch
    spans = receiver.ask()["spans"]
    per_request = {name: (after[name] - before[name]) / requests * 1e6 for name in before}
    return {**per_request, "rate": requests / took, "spans": spans / requests}


def _instructions(peers: list[str], results: Results) -> dict[str, float]:
    """Instructions per request of the whole process, export included, at a sampling rate of 100 %."""
    found: dict[str, float] = {}
    with ExitStack() as stack:
        receiver = stack.enter_context(Child("benchmarks.end_to_end", "receive", "-1"))
        endpoint = f"http://127.0.0.1:{receiver.answer()['port']}"
        for peer in steps(peers, "end to end, instructions"):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="callgrind-"))
            try:
                with _server((peer, 1.0), endpoint, -1, str(callgrind.shim()), folder) as server:
                    port = server.answer()["port"]
                    load(port, requests=_WARM_UP_COUNTED)
                    server.ask(do="start")
                    load(port, requests=_WARM_UP_COUNTED)
                    server.ask()
                    server.ask(do="count")
                    load(port, requests=_COUNTED)
                    server.ask(do="dump")
                found[peer] = callgrind.dumps(folder)[peer]
            except (ChildError, OSError, KeyError) as exc:
                results.skip(f"{peer} end to end, instructions", repr(exc))
    return found


def _summary(setup: Setup, taken: dict[Setup, list[dict[str, float]]], counted: dict[str, float]) -> EndToEnd:
    """CPU per request above the bare server of the same round, in microseconds."""
    peer, sampling = setup
    rounds, bare = taken[setup], taken[BARE, 0.0]

    def over(name: str) -> list[float]:
        alone = [0.0 if peer == BARE else each[name] for each in bare]
        return [each[name] - less for each, less in zip(rounds, alone)]  # noqa: B905 - a failed round is missing

    instructions = counted.get(peer) if sampling == 1.0 or peer == BARE else None
    if instructions is not None and peer != BARE:
        instructions -= counted.get(BARE, 0.0)
    return EndToEnd(
        peer=peer,
        sampling=sampling,
        requests_per_second=median(each["rate"] for each in rounds),
        cpu=median(over("process")),
        spread=half_iqr(over("process")),
        request_path=median(over("loop")),
        spans=median(each["spans"] for each in rounds),
        instructions=instructions,
    )


PROCESSES: dict[str, Callable[[list[str]], None]] = {
    "serve": lambda words: serve(words[0], float(words[1]), words[2], int(words[3]), words[4]),
    "receive": lambda words: receive(int(words[0])),
}

if __name__ == "__main__":
    PROCESSES[sys.argv[1]](sys.argv[2:])
