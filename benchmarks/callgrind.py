"""Instructions, as callgrind counts them: they have no noise, so a change of one per cent shows.

One process under valgrind counts many rows: a C shim (`callgrind.c`, compiled once) zeroes and dumps the counters
around each of them. Address randomisation, the hash seed and the random numbers are fixed, so two runs of the same
files agree to the digit. `python -m benchmarks.callgrind PROCESS SHIM` is the counting process.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import hashlib
import json
import os
import platform
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import cases, environments
from .peers import Peer
from .traffic import Runner

_SOURCE = Path(__file__).with_name("callgrind.c")
_WARM_UP = 60
_SECONDS = 600.0  # for one process


def missing() -> str | None:
    """Why instructions cannot be counted here, or None when they can."""
    for tool in ("valgrind", "setarch", "cc"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    try:
        shim()
    except (OSError, subprocess.SubprocessError) as exc:
        return f"the shim does not compile: {exc}"
    return None


def shim() -> Path:
    """The compiled shim."""
    path = environments.cache() / f"callgrind-{hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]}.so"
    if not path.exists():
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(path), str(_SOURCE)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    return path


def under_callgrind(folder: str) -> list[str]:
    """The words in front of a command whose instructions are to be counted; the dumps go to `folder`."""
    valgrind = ["valgrind", "--tool=callgrind", "--instr-atstart=no"]
    files = [f"--callgrind-out-file={folder}/out", f"--log-file={folder}/log"]
    return ["setarch", platform.machine(), "-R", *valgrind, *files]


def dumps(folder: str) -> dict[str, float]:
    """Instructions per unit by the label of each dump, whose last word is the number of units."""
    return dict(read_dump(path) for path in Path(folder).glob("out.*"))


def units(case: cases.Case) -> int:
    """How many units are counted: fewer where one is long."""
    if case.long or case.routes > 100:
        return 2
    return 8 if case.routes else 20


def count(turns: Sequence[tuple[cases.Case, Peer, str]], seed: int = 0) -> dict[tuple[str, str], float]:
    """Count rows that share a kind of process, by the names of row and peer. Rows that fail are missing.

    Raises subprocess.SubprocessError when the process itself fails.
    """
    process = turns[0][2]
    python = environments.python(process.partition("/")[0])
    peer = next((peer for _, peer, _ in turns if peer.variables), None)
    with tempfile.TemporaryDirectory(prefix="callgrind-") as folder:
        command = [*under_callgrind(folder), str(python), "-m", "benchmarks.callgrind", process, str(shim())]
        result = subprocess.run(
            command,
            input=json.dumps([(case.name, each.name, units(case)) for case, each, _ in turns]),
            cwd=environments.ROOT,
            env={**environments.variables(peer), "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
        if result.returncode != 0:
            last = result.stderr.strip().splitlines()[-1:] or [f"ended with {result.returncode}"]
            raise subprocess.SubprocessError(last[0])
        labelled = [(label.split(" "), found) for label, found in dumps(folder).items()]
        return {(words[0], words[1]): found for words, found in labelled if len(words) == 2}


def read_dump(path: Path) -> tuple[str, float]:
    """The label of a dump without its last word, and the instructions divided by that word."""
    label, total = "", 0
    for line in path.read_text().splitlines():
        if line.startswith("desc: Trigger: Client Request: "):
            label = line.rpartition("Request: ")[2].strip()
        elif line.startswith(("totals:", "summary:")):
            total = int(line.split()[1])
    name, _, number = label.rpartition(" ")
    return name, total / int(number) if number.isdigit() else total


async def _serve(process: str, shim_path: str) -> None:
    """Warm everything up at full speed, then count row after row: to start counting costs a second."""
    from .worker import runner, start

    library = ctypes.CDLL(shim_path)
    start(process)
    warm: list[tuple[bytes, Runner, int]] = []
    for case, peer, number in json.load(sys.stdin):
        try:
            chosen = runner(peer, case)
            chosen.run(range(1 if number < 5 else _WARM_UP))
        except Exception as exc:
            print(f"{case} {peer}: {type(exc).__name__}: {exc}", file=sys.stderr)
            continue
        warm.append((f"{case} {peer} {number}".encode(), chosen, number))
    gc.collect()
    gc.disable()
    library.start()
    for label, chosen, number in warm:
        chosen.run(range(number // 2))
        random.seed(1)
        library.begin()
        chosen.run(range(number))
        library.end(label)
    sys.stderr.flush()
    os._exit(0)  # without the exit functions: an exporter that blocks would hold the process up


if __name__ == "__main__":
    asyncio.run(_serve(*sys.argv[1:3]))
