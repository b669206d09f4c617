"""The parent's side of the measuring processes: start them, ask them, bury them."""

from __future__ import annotations

import json
import os
import random
import selectors
import subprocess
import tempfile
from types import TracebackType
from typing import Any

from . import environments
from .cases import Case
from .peers import MAIN, ON, UNTOUCHED, Peer, mode_for
from .registry import every

_PATIENCE = 120.0  # seconds for one answer; the slowest takes about two


class WorkerError(Exception):
    """A measuring process could not do what it was asked for."""


class Worker:
    """One measuring process."""

    def __init__(self, environment: str, mode: str, seed: int = 0) -> None:
        python = environments.python(environment)
        if python is None:
            raise WorkerError(f"{environment} is not installed")
        peer = next((peer for peer in every().values() if peer.environment == environment != MAIN), None)
        self._ended: str | None = None
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the worker
        self._process = subprocess.Popen(
            [str(python), "-m", "benchmarks.worker", environment, mode],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=environments.ROOT,
            env={**environments.variables(peer), "PYTHONHASHSEED": str(seed)},
        )
        assert self._process.stdout is not None
        self._answers = selectors.DefaultSelector()
        self._answers.register(self._process.stdout, selectors.EVENT_READ)

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and wait for the answer. Raises WorkerError when there is none, or when it is an error."""
        if self._ended is not None:
            raise WorkerError(self._ended)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            self._ended = self._last_words()
            raise WorkerError(self._ended) from None
        if not self._answers.select(_PATIENCE):
            self._process.kill()
            self._ended = f"no answer in {_PATIENCE:.0f} seconds"
            raise WorkerError(self._ended)
        line = self._process.stdout.readline()
        if not line:
            self._ended = self._last_words()
            raise WorkerError(self._ended)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else f"ended with {self._process.returncode}"

    def close(self) -> None:
        """End the process."""
        self._answers.close()
        self._process.kill()
        self._process.communicate()
        self._errors.close()


class Workers:
    """All measuring processes of one generation, started when first asked for."""

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self._running: dict[tuple[str, str], Worker] = {}

    def ask(self, peer: Peer, case: Case, environment: str | None = None, **command: Any) -> dict[str, Any]:
        """Ask the process that measures that peer; `environment` says which one for the bare application."""
        if environment is None:
            key = (peer.environment, mode_for(peer, case))
        else:
            key = (environment, ON if environment == MAIN else UNTOUCHED)
        worker = self._running.get(key)
        if worker is None:
            worker = self._running[key] = Worker(*key, seed=self._seed)
        return worker.ask(peer=peer.name, case=case.name, **command)

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        for worker in self._running.values():
            worker.close()


def shuffled(items: list[Any], seed: int) -> list[Any]:
    """The same items in an order that the seed decides."""
    return random.Random(seed).sample(items, len(items))


def cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0))
