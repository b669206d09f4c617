"""A measuring process: `python -m benchmarks.worker ENVIRONMENT MODE`.

Reads one JSON command a line and answers with one JSON line. It holds everything that is compared with each other
directly (ours, Starlette's, contrib and the bare application share one), while vendors that change the process they
live in get their own. What each command does is in `clocks`.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import sys
import traceback
from functools import cache
from typing import Any

from . import cases
from .clocks import cold, hot, memory
from .peers import MAIN, UNTOUCHED
from .registry import every
from .traffic import Runner


@cache
def runner(peer: str, case: str) -> Runner:
    """The runner of one peer in one row, made once and warmed up."""
    made = every()[peer].runner(cases.parse(case))
    made.run(range(3), lambda: 0.0)
    gc.collect()
    gc.freeze()
    return made


def start(environment: str, mode: str) -> None:
    """Set up the vendor that this process is for."""
    if environment != MAIN and mode != UNTOUCHED:
        next(peer for peer in every().values() if peer.environment == environment).start(mode)


async def answer(command: dict[str, Any]) -> dict[str, Any]:
    """Do what a command asks for."""
    operation = command["do"]
    if operation == "memory":
        peer, case = every()[command["peer"]], cases.parse(command["case"])
        return {"bytes": await memory.bytes_in_flight(peer, case, command["n"])}
    chosen = runner(command["peer"], command["case"])
    if operation == "hot":
        return {"seconds": hot.batch(chosen, command["n"])}
    if operation == "cold":
        return {"samples": cold.samples(chosen, command["n"])}
    raise ValueError(f"no such command: {operation}")


async def _serve(environment: str, mode: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    start(environment, mode)
    for line in sys.stdin:
        try:
            result = await answer(json.loads(line))
        except Exception as exc:
            result = {"error": f"{type(exc).__name__}: {exc}", "traceback": traceback.format_exc()}
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], sys.argv[2]))
