"""Memory: what ten thousand requests in flight hold, in resident bytes each."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

from ..cases import Case
from ..peers import Peer
from ..traffic import Requests, gate


def resident() -> int:
    """The resident set of this process, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def bytes_in_flight(peer: Peer, case: Case, requests: int) -> float:
    """Resident bytes per request, with so many of them waiting inside the application."""
    make = Requests(case, peer.server(case), peer.header)
    warm = [asyncio.create_task(make(number)) for number in range(100)]
    await asyncio.sleep(0.01)
    gate.open()
    await asyncio.gather(*warm)
    gate.close()
    del warm
    gc.collect()
    before = resident()
    tasks = [asyncio.create_task(make(number)) for number in range(requests)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    gc.collect()
    held = resident() - before
    gate.open()
    await asyncio.gather(*tasks)
    return held / requests
