"""End to end: uvicorn on one core, load and an OTLP/gRPC receiver on the other, on loopback only.

Every peer has its own server for each sampling rate; all of them stay up, and rounds of load go from one to the next in
a random order. A round ends with a flush, so its CPU time holds the export of every span that it made.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from .. import environments
from ..load import HEADERS, PATH
from ..processes import cores, shuffled
from ..progress import Progress
from ..results import BARE, CONFIGURED, EndToEnd, Results, half_iqr

CONNECTIONS = 16
SAMPLING = (1.0, 0.1, 0.0)
_WARM_UP = 0.5


class EndToEndError(Exception):
    """A server, the receiver or the load did not do its work."""


@dataclass(frozen=True)
class Setup:
    """One server."""

    peer: str
    sampling: float
    exporter: str


class _Child:
    """A process that answers each line with a line of JSON."""

    def __init__(self, *arguments: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=environments.ROOT,
            env=environments.variables(),
        )
        self.port: int = self._read()["port"]

    def ask(self) -> dict[str, Any]:
        """Send an empty line and wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate()
            raise EndToEndError((errors.strip().splitlines() or ["no answer"])[-1])
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


@contextmanager
def _child(*arguments: str) -> Iterator[_Child]:
    child = _Child(*arguments)
    try:
        yield child
    finally:
        child.close()


def load_tool() -> str:
    """What the load comes from, for the report."""
    return "wrk" if shutil.which("wrk") else "the Python client (wrk is not installed)"


def _load(port: int, seconds: float, core: int) -> tuple[int, float]:
    """Requests answered, and seconds."""
    pinned = ["taskset", "-c", str(core)] if core >= 0 and shutil.which("taskset") else []
    if shutil.which("wrk"):
        headers = [part for name, value in HEADERS.items() for part in ("-H", f"{name}: {value}")]
        command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", *headers]
        command.append(f"http://127.0.0.1:{port}{PATH}")
    else:
        command = [sys.executable, "-m", "benchmarks.load", str(port), str(seconds), str(CONNECTIONS)]
    result = subprocess.run(
        [*pinned, *command],
        capture_output=True,
        text=True,
        cwd=environments.ROOT,
        timeout=seconds + 30,
        check=False,
    )
    if result.returncode != 0:
        raise EndToEndError((result.stderr.strip().splitlines() or ["the load failed"])[-1])
    if command[0] != "wrk":
        answer = json.loads(result.stdout)
        return answer["requests"], answer["seconds"]
    match = re.search(r"(\d+) requests in ([\d.]+)s", result.stdout)
    failed = re.search(r"Non-2xx[^\n]*|Socket errors: connect [1-9][^\n]*", result.stdout)
    if match is None or failed is not None:
        raise EndToEndError(failed[0] if failed else "wrk said nothing")
    return int(match[1]), float(match[2])


def setups(peers: list[str]) -> list[Setup]:
    """The servers: every peer at every rate, and with an exporter that does nothing at the highest."""
    found = [Setup(BARE, 0.0, "null")]
    for peer in peers:
        found += [Setup(peer, sampling, "grpc") for sampling in SAMPLING]
        if peer != CONFIGURED:
            found.append(Setup(peer, 1.0, "null"))
    return found


def measure(peers: list[str], rounds: int, seconds: float, results: Results, progress: Progress) -> None:
    """Run the load against every server in turn, and put what it cost into the results."""
    chosen = cores()
    server_core, load_core = (chosen[0], chosen[1]) if len(chosen) > 1 else (-1, -1)
    if server_core < 0:
        results.skip("pinning", "there is one core only: server and load share it")
    wanted = setups(peers)
    progress.stage("end to end", len(wanted) * (rounds + 1))
    with ExitStack() as stack:
        try:
            receiver = stack.enter_context(_child("benchmarks.receiver", str(load_core)))
        except EndToEndError as exc:
            results.skip("end to end", str(exc))
            return
        servers: dict[Setup, _Child] = {}
        for setup in wanted:
            try:
                servers[setup] = stack.enter_context(_serve(setup, receiver.port, server_core))
                _load(servers[setup].port, _WARM_UP, load_core)
                servers[setup].ask()
            except EndToEndError as exc:
                servers.pop(setup, None)
                results.skip(f"{setup.peer} end to end", str(exc))
            progress.step(setup.peer)
        receiver.ask()
        taken: dict[Setup, list[dict[str, float]]] = defaultdict(list)
        for number in range(rounds):
            for setup in shuffled(list(servers), number):
                try:
                    taken[setup].append(_round(servers[setup], receiver, seconds, load_core))
                except EndToEndError as exc:
                    results.skip(f"{setup.peer} end to end", str(exc))
                progress.step(setup.peer)
    results.end_to_end += [_summary(setup, taken) for setup in servers if taken[setup]]


def _serve(setup: Setup, receiver: int, core: int) -> Any:
    options = {
        "peer": setup.peer,
        "sampling": setup.sampling,
        "exporter": setup.exporter,
        "endpoint": f"http://127.0.0.1:{receiver}",
        "core": core,
    }
    return _child("benchmarks.serving", json.dumps(options))


def _round(server: _Child, receiver: _Child, seconds: float, core: int) -> dict[str, float]:
    before = server.ask()
    requests, took = _load(server.port, seconds, core)
    after = server.ask()
    time.sleep(0.05)  # the receiver may still be filing the last batch
    spans = receiver.ask()["spans"]
    per_request = {name: (after[name] - before[name]) / requests * 1e6 for name in before}
    return {**per_request, "rate": requests / took, "spans": spans / requests}


def _summary(setup: Setup, taken: dict[Setup, list[dict[str, float]]]) -> EndToEnd:
    """CPU per request above the bare server of the same round, in microseconds, and where it went."""
    bare = taken.get(Setup(BARE, 0.0, "null"), [])
    rounds = taken[setup]

    def over(name: str) -> list[float]:
        return [each[name] - (alone[name] if setup.peer != BARE else 0.0) for each, alone in zip(rounds, bare)]  # noqa: B905

    middle = {name: median(over(name)) for name in ("process", "loop", "encoding", "export")}
    return EndToEnd(
        peer=setup.peer,
        sampling=setup.sampling,
        exporter=setup.exporter,
        requests_per_second=median(each["rate"] for each in rounds),
        cpu=middle["process"],
        spread=half_iqr(over("process")),
        main=middle["loop"],
        encoding=middle["encoding"],
        export=middle["process"] - middle["loop"] - middle["encoding"],
        spans=median(each["spans"] for each in rounds),
    )
