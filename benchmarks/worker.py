"""A measuring process: `python -m benchmarks.worker PROCESS` reads one JSON command a line, answers with one JSON line.

The process `main` holds what is compared with each other directly: asgi-trace on the SDK's provider, Starlette's own,
contrib and the bare application. What changes the process that it lives in gets its own, such as `main/configured` or
`sentry/on`.
"""

from __future__ import annotations

import ast
import asyncio
import csv
import decimal
import email
import gc
import io
import json
import os
import re
import sys
import textwrap
import time
import traceback
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from . import cases
from .cases import Case
from .peers import MAIN, OURS, Peer
from .registry import every
from .traffic import Requests, Runner, opened

_BATCH_SECONDS = 0.004
_MOST_UNITS = 500


def start(process: str) -> None:
    """Set up what this process is for; nothing in `main`, nor in a vendor's process for the bare application."""
    environment, _, word = process.partition("/")
    if word not in ("", "bare"):
        peer = OURS[1] if environment == MAIN else peer_of(environment)
        peer.start(word)


def peer_of(environment: str) -> Peer:
    """The vendor that has that environment."""
    return next(peer for peer in every().values() if peer.environment == environment)


@cache
def runner(peer: str, case: str) -> Runner:
    """The runner of one peer in one row, made once and warmed up."""
    made = every()[peer].runner(cases.parse(case))
    made.run(range(3))
    gc.collect()
    gc.freeze()
    return made


# --- CPU time in a tight loop: everything is in the caches, which flatters every peer, and it repeats well ---


@cache
def _units(peer: str, case: str) -> int:
    """How many units make a batch that is long enough to be timed."""
    probe = 1 if cases.parse(case).long else 5
    seconds = runner(peer, case).run(range(probe), time.process_time) / probe
    return max(1, min(_MOST_UNITS, int(_BATCH_SECONDS / max(seconds, 1e-7))))


def hot(peer: str, case: str) -> float:
    """CPU seconds of a unit in a tight loop."""
    units = _units(peer, case)
    seconds = runner(peer, case).run(range(units), time.process_time)
    runner(peer, case).settle()
    return seconds / units


# --- cold CPU time: between two units the caches are filled with something else, as on a busy server ---

_DATA = bytes(range(256)) * 8192
_buffer = bytearray(len(_DATA))
_DOCUMENT = {"orders": [{"id": number, "name": f"order {number}", "price": number / 7} for number in range(30)]}
_MAIL = "From: a@example.com\nTo: b@example.com\nSubject: hello\nContent-Type: text/plain\n\nA body of text.\n"
_WORDS = "the quick brown fox jumps over the lazy dog " * 12


def evict() -> None:
    """Fill the caches, of data and of instructions, with what no request needs."""
    _buffer[:] = _DATA
    json.loads(json.dumps(_DOCUMENT))
    email.message_from_string(_MAIL).get_content_type()
    ast.parse("def f(a, b):\n    return [a + x for x in range(b) if x % 2]\n")
    textwrap.wrap(_WORDS, 40)
    list(csv.reader(io.StringIO("a,b,c\n1,2,3\n" * 10)))
    re.sub(r"(\w+) (\w+)", r"\2 \1", _WORDS)
    decimal.Decimal(2).sqrt()
    sum(_buffer[::64])


def cold(peer: str, case: str, units: int = 8) -> float:
    """CPU seconds of a unit with cold caches: the median of so many."""
    taken = []
    for number in range(units):
        evict()
        taken.append(runner(peer, case).run((number,), time.process_time))
    runner(peer, case).settle()
    return sorted(taken)[units // 2]


# --- memory ---


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def bytes_in_flight(peer: Peer, case: Case, requests: int = 10_000) -> float:
    """Resident bytes per request, with so many of them waiting inside the application."""
    make = Requests(case, peer.server(case), peer.header)
    warm = [asyncio.create_task(make(number)) for number in range(100)]
    await asyncio.sleep(0.01)
    opened.set()
    await asyncio.gather(*warm)
    opened.clear()
    del warm
    gc.collect()
    before = _resident()
    tasks = [asyncio.create_task(make(number)) for number in range(requests)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    held = _resident() - before
    opened.set()
    await asyncio.gather(*tasks)
    return held / requests


# --- the process ---

CLOCKS: dict[str, Callable[[str, str], float]] = {"hot": hot, "cold": cold}


async def _answer(command: dict[str, Any]) -> float:
    clock, peer, case = command["clock"], command["peer"], command["case"]
    if clock == "memory":
        return await bytes_in_flight(every()[peer], cases.parse(case))
    return CLOCKS[clock](peer, case)


async def _serve(process: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is not an answer
    start(process)
    for line in sys.stdin:
        try:
            result: dict[str, Any] = {"found": await _answer(json.loads(line))}
        except Exception as exc:
            result = {"error": f"{type(exc).__name__}: {exc}", "traceback": traceback.format_exc()}
        print(json.dumps(result), file=answers, flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
