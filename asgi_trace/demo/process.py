"""One child process from the parent's side: start, shake hands, stop, and leave nothing behind.

A child runs in a session of its own, so that Ctrl-C in the terminal reaches the parent alone, which then stops the
services in order. What a child writes to standard error is kept, to be shown when it fails.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

import asgi_trace

from ..viewer.text import block

CONTROL = "asgi_trace_demo"
"""The key that tells what a child says about itself from what else it may print."""

_ROOT = str(Path(asgi_trace.__file__).resolve().parent.parent)
_START = "import sys; sys.path[0] = sys.argv.pop(1); from asgi_trace.demo.serve import main; main(sys.argv[1])"
"""Runs this very package, wherever it is; never a module that happens to lie in the working directory."""

_STOPS_IN = 10.0
_REMEMBERED = 40


class ServiceFailed(Exception):
    """A service did not start, or ended by itself. The message says which one and shows its last words."""


class ServiceProcess:
    """One service in a child process."""

    def __init__(self, name: str, environment: dict[str, str]) -> None:
        self.name = name
        self.port: int = 0
        self._said = threading.Condition()
        self._ready = False
        self._ended = False
        self._errors: deque[str] = deque(maxlen=_REMEMBERED)
        try:
            self._child = subprocess.Popen(  # noqa: S603 - this interpreter, and words of our own
                [sys.executable, "-c", _START, _ROOT, name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                text=True,
                encoding="utf-8",
                errors="replace",
                start_new_session=os.name == "posix",
            )
        except OSError as exc:
            raise ServiceFailed(f"{name} could not be started: {exc}") from exc
        self._threads = [
            threading.Thread(target=self._read_output, args=(self._child.stdout,), daemon=True),
            threading.Thread(target=self._read_errors, args=(self._child.stderr,), daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._child.pid

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def wait_for_port(self, deadline: float) -> None:
        """Return when the child has bound its port. Raises `ServiceFailed`; `deadline` is of `time.monotonic()`."""
        self._wait(lambda: self.port > 0, deadline, "did not bind a port")

    def configure(self, **settings: str) -> None:
        """Hand the child its settings, so that it begins to serve."""
        try:
            self._write(json.dumps(settings) + "\n")
        except OSError as exc:
            raise self._failed("ended before it was told what to do") from exc

    def wait_until_ready(self, deadline: float) -> None:
        """Return when the child accepts requests. Raises `ServiceFailed`."""
        self._wait(lambda: self._ready, deadline, "did not start to serve")

    def check(self) -> None:
        """Raise `ServiceFailed` when the child has ended by itself."""
        if self._child.poll() is not None:
            raise self._failed(f"ended with exit code {self._child.returncode}")

    def ask_to_stop(self) -> None:
        """Close the child's standard input: it finishes its requests, flushes its spans and ends."""
        stdin = self._child.stdin
        if stdin is not None and not stdin.closed:
            with suppress(OSError):  # it may be gone already
                stdin.close()

    def stop(self) -> None:
        """Wait until the child has ended; one that does not end is made to. Idempotent."""
        self.ask_to_stop()
        for last_resort, patience in ((self._child.terminate, _STOPS_IN), (self._child.kill, 2.0)):
            try:
                self._child.wait(patience)
                break
            except subprocess.TimeoutExpired:
                last_resort()
        self._child.wait()
        for thread in self._threads:
            thread.join(2.0)
        for stream in (self._child.stdout, self._child.stderr):
            if stream is not None:
                stream.close()

    def kill(self) -> None:
        """End the child at once."""
        self._child.kill()
        self.stop()

    def _write(self, text: str) -> None:
        stdin = self._child.stdin
        if stdin is None:  # pragma: no cover - it is a pipe
            return
        stdin.write(text)
        stdin.flush()

    def _wait(self, done: Callable[[], bool], deadline: float, complaint: str) -> None:
        with self._said:
            self._said.wait_for(lambda: done() or self._ended, max(0.0, deadline - time.monotonic()))
            if done():
                return
        self._child.poll()
        raise self._failed(complaint)

    def last_words(self) -> str:
        """What it wrote to standard error, the newest lines, indented; empty when there is nothing."""
        if self._child.poll() is not None:
            self._threads[1].join(1.0)
        return "\n".join(f"    {block(line)}" for line in self._errors)

    def _failed(self, complaint: str) -> ServiceFailed:
        words = self.last_words()
        return ServiceFailed(f"{self.name} {complaint}" + (f"; its last words:\n{words}" if words else ""))

    def _read_output(self, stream: IO[str]) -> None:
        for line in stream:
            message = control_message(line)
            if message is None:
                continue
            with self._said:
                self.port = message.get("port", self.port)
                self._ready = bool(message.get("ready", self._ready))
                self._said.notify_all()
        with self._said:
            self._ended = True
            self._said.notify_all()

    def _read_errors(self, stream: IO[str]) -> None:
        for line in stream:
            self._errors.append(line.rstrip())


def control_message(line: str) -> dict[str, int] | None:
    """What `serve` says about itself, or None when the line is another one."""
    if not line.startswith(f'{{"{CONTROL}"'):
        return None
    try:
        message = json.loads(line)[CONTROL]
    except ValueError:
        return None
    return message if isinstance(message, dict) else None
