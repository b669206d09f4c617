"""Instructions: what callgrind counts. Free of noise, so a change of a few per cent shows; the clock of the gate.

One process under valgrind counts many rows: a ten-line C shim (compiled once, `callgrind.c`) zeroes and dumps the
counters around each of them. Address randomisation, the hash seed and the random numbers are fixed, so two runs agree
to the digit. `python -m benchmarks.clocks.instructions ENVIRONMENT MODE` is the counting process.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import json
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import environments
from ..cases import Case
from ..peers import Peer
from ..traffic import Runner

_SOURCE = Path(__file__).with_name("callgrind.c")
_WARM_UP = 60
_PATIENCE = 600.0  # seconds for one process
_ALLOCATORS = ("_PyObject_Malloc", "_PyObject_Calloc", "_PyObject_Realloc", "_PyMem_RawMalloc", "_PyMem_RawRealloc")
_FRAME = "_PyEval_EvalFrameDefault"


@dataclass(frozen=True)
class Count:
    """What one unit of a row costs: exact integers, divided by the number of units."""

    instructions: float
    allocations: float
    frames: float


def missing() -> str | None:
    """Why nothing can be counted here, or None when it can."""
    for tool in ("valgrind", "setarch", "cc"):
        if shutil.which(tool) is None:
            return f"{tool} is not installed"
    try:
        _shim()
    except (OSError, subprocess.SubprocessError) as exc:
        return f"the shim does not compile: {exc}"
    return None


def _shim() -> Path:
    source = _SOURCE.read_bytes()
    path = environments.cache() / f"callgrind-{hashlib.sha256(source).hexdigest()[:12]}.so"
    if not path.exists():
        command = ["cc", "-shared", "-fPIC", "-O1", "-o", str(path), str(_SOURCE)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    return path


def units(case: Case) -> int:
    """How many units are counted: fewer where one is long."""
    if case.long or case.routes > 100:
        return 2
    return 8 if case.routes else 20


def count(
    rows: Sequence[tuple[Case, Peer]], environment: str, mode: str, peer: Peer | None = None, seed: int = 0
) -> dict[tuple[str, str], Count]:
    """Count rows that share a process. Rows that fail are missing from the answer.

    Raises subprocess.SubprocessError when the process itself fails.
    """
    python = environments.python(environment)
    if python is None:
        raise subprocess.SubprocessError(f"{environment} is not installed")
    with tempfile.TemporaryDirectory(prefix="callgrind-") as folder:
        wanted = [(case.name, each.name, units(case)) for case, each in rows]
        command = [
            *("setarch", platform.machine(), "-R", "valgrind", "--tool=callgrind", "--instr-atstart=no"),
            *(f"--callgrind-out-file={folder}/out", f"--log-file={folder}/log"),
            *(str(python), "-m", "benchmarks.clocks.instructions", environment, mode, str(_shim())),
        ]
        result = subprocess.run(
            command,
            input=json.dumps(wanted),
            cwd=environments.ROOT,
            env={**environments.variables(peer), "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
        if result.returncode != 0:
            last = result.stderr.strip().splitlines()[-1:] or [f"ended with {result.returncode}"]
            raise subprocess.SubprocessError(last[0])
        read = [_read(path) for path in Path(folder).glob("out.*")]
        return {key: found for label, found in read if (key := _key(label))}


def _key(label: str) -> tuple[str, str] | None:
    case, found, peer = label.partition(" ")
    return (case, peer) if found else None


_NUMBERED = re.compile(r"\((\d+)\)(?: (.*))?")


def _read(path: Path) -> tuple[str, Count]:
    """The label, and the totals per unit, of one dump."""
    label, total, calls = "", 0, Counter[str]()
    names: dict[str, str] = {}
    callee = ""
    for line in path.read_text().splitlines():
        if line.startswith(("fn=", "cfn=")):
            match = _NUMBERED.match(line.partition("=")[2])
            if match:
                if match[2]:
                    names[match[1]] = match[2].partition("'")[0]
                callee = names.get(match[1], "")
        elif line.startswith("calls="):
            calls[callee] += int(line[6:].split()[0])
        elif line.startswith("desc: Trigger: Client Request: "):
            label = line.rpartition("Request: ")[2].strip()
        elif line.startswith(("totals:", "summary:")):
            total = int(line.split()[1])
    name, _, number = label.rpartition(" ")
    n = int(number) if number.isdigit() else 1
    allocations = sum(calls[allocator] for allocator in _ALLOCATORS)
    return name, Count(total / n, allocations / n, calls[_FRAME] / n)


def _serve(environment: str, mode: str, shim_path: str) -> None:
    """Warm everything up at full speed, then count row after row: to start counting costs a second."""
    from ..worker import runner, start

    shim = ctypes.CDLL(shim_path)
    start(environment, mode)
    warm: list[tuple[bytes, Runner, int]] = []
    for case, peer, number in json.load(sys.stdin):
        try:
            chosen = runner(peer, case)
            chosen.run(range(1 if number < 5 else _WARM_UP), lambda: 0.0)
        except Exception as exc:
            print(f"{case} {peer}: {type(exc).__name__}: {exc}", file=sys.stderr)
            continue
        warm.append((f"{case} {peer} {number}".encode(), chosen, number))
    gc.collect()
    gc.disable()
    shim.start()
    for label, chosen, number in warm:
        chosen.run(range(number // 2), lambda: 0.0)
        random.seed(1)
        shim.begin()
        chosen.run(range(number), lambda: 0.0)
        shim.end(label)


if __name__ == "__main__":
    import asyncio

    async def _main() -> None:
        _serve(*sys.argv[1:4])

    asyncio.run(_main())
