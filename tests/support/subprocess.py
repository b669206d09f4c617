"""Runs a script in a process of its own, for what happens once per process: global providers, signals, the exit."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
WARNINGS = "error,ignore:websockets.:DeprecationWarning"
"""A warning is an error, but for uvicorn before 0.50, which imports what newer versions of websockets deprecate."""


def environment(**variables: str) -> dict[str, str]:
    """A clean environment in which this tree can be imported. Measured by coverage as this process is."""
    measured = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")}
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": WARNINGS, **measured, **variables}


def start(source: str, **variables: str) -> subprocess.Popen[str]:
    """Start a script, with pipes for what it reads and prints."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source)],
        env=environment(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(source: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script to its end."""
    with start(source, **variables) as process:
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def check(source: str, **variables: str) -> str:
    """Run a script that must succeed. Returns what it printed."""
    done = run(source, **variables)
    assert done.returncode == 0, done.stderr
    return done.stdout
