"""The servers of the campaign: how each is started, and a running one."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..support.subprocess import environment

APP = "tests.campaigns.service:app"
SECONDS = 40.0
"""After that a server that has not stopped is killed."""


@dataclass(frozen=True)
class Setup:
    """One way to serve."""

    name: str
    command: str
    """What follows `python -m`; `PORT` is replaced."""
    needs: tuple[str, ...] = ()
    """Modules besides the server's own that must be importable."""
    http2: bool = False
    sockets: bool = True

    def missing(self) -> str | None:
        """The module that is not installed here, or None."""
        modules = (self.command.split()[0], *self.needs)
        return next((module for module in modules if find_spec(module) is None), None)


_UVICORN = f"uvicorn {APP} --port PORT --no-access-log"
_HYPERCORN = f"hypercorn {APP} --bind 127.0.0.1:PORT"
_GUNICORN = f"gunicorn {APP} --bind 127.0.0.1:PORT --workers 2"
SETUPS = (
    Setup("uvicorn, h11", f"{_UVICORN} --http h11 --loop asyncio"),
    Setup("uvicorn, httptools", f"{_UVICORN} --http httptools --loop asyncio", ("httptools",)),
    Setup("uvicorn, uvloop", f"{_UVICORN} --http httptools --loop uvloop", ("uvloop", "httptools")),
    Setup("uvicorn, 3 workers", f"{_UVICORN} --workers 3"),
    Setup("uvicorn, reload", f"{_UVICORN} --reload --reload-dir tests/campaigns"),
    Setup("uvicorn, limit-max-requests", f"{_UVICORN} --workers 2 --limit-max-requests 150"),
    Setup("uvicorn, without lifespan", f"{_UVICORN} --lifespan off"),
    Setup("hypercorn, asyncio", f"{_HYPERCORN} --worker-class asyncio"),
    Setup("hypercorn, uvloop", f"{_HYPERCORN} --worker-class uvloop", ("uvloop",)),
    Setup("hypercorn, trio", f"{_HYPERCORN} --worker-class trio", ("trio",)),
    Setup("hypercorn, HTTP/2", f"{_HYPERCORN} --worker-class asyncio", ("h2",), http2=True),
    Setup("granian", f"granian {APP} --interface asgi --host 127.0.0.1 --port PORT --no-access-log"),
    Setup("daphne", f"daphne -b 127.0.0.1 -p PORT {APP}"),
    Setup("gunicorn, uvicorn's worker", f"{_GUNICORN} -k uvicorn_worker.UvicornWorker", ("uvicorn_worker",)),
    Setup("gunicorn, preload", f"{_GUNICORN} -k uvicorn_worker.UvicornWorker --preload", ("uvicorn_worker",)),
    Setup("gunicorn, its own ASGI worker", f"{_GUNICORN} -k asgi", ("gunicorn.workers.gasgi",)),
)


class Running:
    """A server process, with its workers, in a process group of its own."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self._log = log

    def log(self) -> str:
        """What it has written so far."""
        return self._log.read_text(errors="replace")

    def stop(self, signum: signal.Signals) -> float:
        """Seconds from the signal to the end of the last process.

        SIGINT goes to the whole group, as from a terminal, other signals to the main process, as from a supervisor.
        """
        began = time.monotonic()
        (os.killpg if signum == signal.SIGINT else os.kill)(self.process.pid, signum)
        self.process.wait(SECONDS)
        while _alive(self.process.pid) and time.monotonic() < began + SECONDS:
            time.sleep(0.01)
        return time.monotonic() - began


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def serving(command: str, folder: Path, endpoint: str, **variables: str) -> Iterator[Running]:
    """Start a server that sends its spans to `endpoint`, and wait until it answers. Its notes are in `folder/notes`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command.replace("PORT", str(port)).split()],
            env={
                **environment(OTEL_EXPORTER_OTLP_ENDPOINT=endpoint, CAMPAIGN_NOTES=str(folder / "notes"), **variables),
                "PYTHONWARNINGS": "default",
            },
            cwd=Path(__file__).parents[2],
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    watchdog = threading.Timer(2 * SECONDS, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        _until_it_answers(process, port, log)
        yield Running(process, port, log)
    finally:
        watchdog.cancel()
        if _alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _until_it_answers(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + SECONDS
    while True:
        assert process.poll() is None and time.monotonic() < end, log.read_text(errors="replace")  # noqa: PT018
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ok?id=first", timeout=5) as response:
                assert response.status == 200
                return
        except OSError:
            time.sleep(0.05)
