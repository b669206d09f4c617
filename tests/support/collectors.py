"""Real collectors in processes of their own, with switches for every fault, and a network that goes silent."""

from __future__ import annotations

import json
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from .servers import eventually
from .subprocess import ROOT, environment

GRPC, HTTP = "grpc", "http/protobuf"
PROTOCOLS = (GRPC, HTTP)


class FaultyCollector:
    """A collector in another process. `faults` are those of `tests.support.faulty_collector.Faults`.

    `tls` is a folder with the files `key` and `chain`, and `clients`: the authority whose clients are let in.
    """

    def __init__(self, protocol: str, *, port: int = 0, tls: Path | None = None, **faults: Any) -> None:
        self.protocol = protocol
        self._tls = tls
        files = {}
        if tls is not None:
            files = {name: str(tls / name) for name in ("key", "chain", "clients") if (tls / name).exists()}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.faulty_collector"],
            cwd=ROOT,
            env=environment(PYTHONWARNINGS="ignore"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lock = threading.Lock()
        options = {"protocol": "grpc" if protocol == GRPC else "http", "port": port, "faults": faults, **files}
        self.port: int = self._ask(options)["port"]

    @property
    def endpoint(self) -> str:
        """Its address, for `endpoint=`."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    def set(self, **faults: Any) -> None:
        """Change what goes wrong from now on."""
        self._ask({"do": "set", **faults})

    def report(self) -> dict[str, Any]:
        """Everything that has arrived."""
        return self._ask({"do": "report"})

    @property
    def spans(self) -> list[str]:
        """The names of the spans that have arrived."""
        found: list[str] = self.report()["spans"]
        return found

    @property
    def requests(self) -> int:
        """How many requests came in, good and bad."""
        return int(self.report()["requests"])

    def wait_for_requests(self, number: int) -> None:
        """Wait until so many requests have come in."""
        eventually(lambda: self.requests >= number, f"{number} requests")

    def stop(self) -> None:
        """End at once; the port is free afterwards."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(command) + "\n")
            self._process.stdin.flush()
            found: dict[str, Any] = json.loads(self._process.stdout.readline())
        return found

    def __enter__(self) -> FaultyCollector:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class Network:
    """A port in front of another one, whose connections can go silent: nothing arrives, and no end is announced."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._silent: list[threading.Event] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def silence(self) -> None:
        """The connections that there are go silent; new ones work."""
        for silent in self._silent:
            silent.set()

    def close(self) -> None:
        """Accept no connection any more."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self.connections += 1
                silent = threading.Event()
                self._silent.append(silent)
                threading.Thread(target=self._carry, args=(near, silent), daemon=True).start()

    def _carry(self, near: socket.socket, silent: threading.Event) -> None:
        with near, suppress(OSError), socket.create_connection(("127.0.0.1", self._target)) as far:
            while True:
                ready, _, _ = select.select([near, far], [], [], 0.05)
                if silent.is_set():
                    threading.Event().wait(120)  # both ends stay open, and nothing is read
                    return
                for one in ready:
                    content = one.recv(65_536)
                    if not content:
                        return
                    (far if one is near else near).sendall(content)


@contextmanager
def network(port: int) -> Iterator[Network]:
    """A network in front of a port."""
    found = Network(port)
    try:
        yield found
    finally:
        found.close()
