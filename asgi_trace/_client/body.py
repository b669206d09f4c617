"""Bodies that pass on another one's bytes unchanged, and tell a watcher how far they were read: sync and async.

A watcher has `read(size)`, `finished()`, `failed(exc)`, `closed()` and `dropped()`, as a `Call` has. The library's own
module adds its class of bodies as a base: its client takes no other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from types import AsyncGeneratorType, GeneratorType
from typing import Any


class Body:
    """The bytes of `stream`."""

    def __init__(self, stream: Any, watcher: Any) -> None:
        self._stream = stream
        self._watcher = watcher

    def __iter__(self) -> Iterator[bytes]:
        watcher = self._watcher
        stream = iter(self._stream)
        try:
            for chunk in stream:
                watcher.read(len(chunk))
                yield chunk
        except GeneratorExit:  # the reader has stopped: it will close the response, or forget it
            if isinstance(stream, GeneratorType):
                stream.close()
            raise
        except BaseException as exc:
            watcher.failed(exc)
            raise
        watcher.finished()

    def close(self) -> None:
        """Close the stream, read or not."""
        try:
            self._stream.close()
        except BaseException as exc:
            self._watcher.failed(exc)
            raise
        self._watcher.closed()

    def __del__(self) -> None:
        self._watcher.dropped()


class AsyncBody:
    """The bytes of `stream`."""

    def __init__(self, stream: Any, watcher: Any) -> None:
        self._stream = stream
        self._watcher = watcher

    async def __aiter__(self) -> AsyncIterator[bytes]:
        watcher = self._watcher
        stream = self._stream.__aiter__()
        try:
            async for chunk in stream:
                watcher.read(len(chunk))
                yield chunk
        except GeneratorExit:  # the reader has stopped: it will close the response, or forget it
            if isinstance(stream, AsyncGeneratorType):
                await stream.aclose()
            raise
        except BaseException as exc:
            watcher.failed(exc)
            raise
        watcher.finished()

    async def aclose(self) -> None:
        """Close the stream, read or not."""
        try:
            await self._stream.aclose()
        except BaseException as exc:
            self._watcher.failed(exc)
            raise
        self._watcher.closed()

    def __del__(self) -> None:
        self._watcher.dropped()
