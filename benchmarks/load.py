"""Load where `wrk` is missing: `python -m benchmarks.load PORT SECONDS CONNECTIONS`, over keep-alive connections.

Prints how many requests were answered and in how many seconds. It costs several times the CPU of `wrk`, on its own
core, so the requests per second it finds are lower; the server's CPU per request is not.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

PATH = "/hello/world"
HEADERS = {
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "accept-encoding": "gzip, deflate, br",
}


async def run(port: int, seconds: float, connections: int) -> tuple[int, float]:
    """Ask again and again until the time is over; the requests that were answered, and how long it took."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    request = f"GET {PATH} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n{lines}\r\n".encode()
    started = time.monotonic()
    end = started + seconds
    answered = 0

    async def connection() -> None:
        nonlocal answered
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < end:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            await reader.readexactly(length)
            answered += 1
        writer.close()

    await asyncio.gather(*(connection() for _ in range(connections)))
    return answered, time.monotonic() - started


if __name__ == "__main__":
    count, took = asyncio.run(run(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))
    print(json.dumps({"requests": count, "seconds": took}))
