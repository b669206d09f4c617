"""Sending what is still queued, before a server that stops ends the process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from threading import Thread
from typing import Any, Protocol

from .._guard import logger
from .._otel.stop import STOP_SECONDS


class Flushable(Protocol):
    """A provider of the SDK."""

    def force_flush(self, timeout_millis: int) -> object:
        """Send what is queued."""


def flushable(providers: Iterable[Any]) -> list[Flushable]:
    """Those of `providers` that can be flushed: the SDK's, not the API's placeholders."""
    return [provider for provider in providers if callable(getattr(provider, "force_flush", None))]


async def flush(providers: Iterable[Flushable]) -> None:
    """Flush SDK providers in a thread of their own, for at most `STOP_SECONDS` all together. Never raises."""

    def work() -> None:
        for provider in providers:
            try:
                provider.force_flush(int(STOP_SECONDS * 1000))
            except Exception:
                logger.warning("flushing %r failed", provider, exc_info=True)

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # another event loop than asyncio's: the server has nothing left to do but to wait
        thread = Thread(target=work, name="asgi-trace-flush", daemon=True)
        thread.start()
        thread.join(STOP_SECONDS)
        return
    done = asyncio.Event()

    def work_and_tell() -> None:
        work()
        with suppress(RuntimeError):  # the loop did not wait: it is closed
            loop.call_soon_threadsafe(done.set)

    Thread(target=work_and_tell, name="asgi-trace-flush", daemon=True).start()
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(done.wait(), STOP_SECONDS)
