"""The parent's side of a measuring process: start it, ask it, end it."""

from __future__ import annotations

import json
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from . import environments

_SECONDS = 300.0  # for one answer; the slowest, a server under callgrind, takes about a minute


class ChildError(Exception):
    """A measuring process could not do what it was asked for."""


class Child:
    """A Python process that answers each line of JSON with one line of JSON."""

    def __init__(
        self,
        *arguments: str,
        python: str = sys.executable,
        before: Sequence[str] = (),
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the child
        self._process = subprocess.Popen(
            [*before, python, "-m", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=environments.ROOT,
            env={**environments.variables(), **(variables or {})},
        )
        assert self._process.stdout is not None
        self._answers = selectors.DefaultSelector()
        self._answers.register(self._process.stdout, selectors.EVENT_READ)

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and wait for the answer. Raises ChildError when there is none, or when it is an error."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            raise ChildError(self._last_words()) from None
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Wait for a line that was not asked for: the first one, with which a server says its port."""
        assert self._process.stdout is not None
        if not self._answers.select(_SECONDS):
            self._process.kill()
            raise ChildError(f"no answer in {_SECONDS:.0f} seconds")
        line = self._process.stdout.readline()
        if not line:
            raise ChildError(self._last_words())
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ChildError(answer["error"])
        return answer

    def _last_words(self) -> str:
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return lines[-1] if lines else f"ended with {self._process.returncode}"

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._answers.close()
        self._process.kill()
        self._process.communicate()
        self._errors.close()
