"""One connection of a server, as an object: `receive` and `send` are its methods, and its client may leave.

Frames of all connections run the same code, so only the object tells them apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from asgi_trace._types import ASGIApp, Message, Scope

from .asgi import GONE


class Connection:
    """A connection whose client has left when `gone`; then `send` raises OSError and `receive` says so.

    `deaf`: `receive` knows nothing of it, as on servers that notice only when they write.
    """

    def __init__(self, *messages: Message, gone: bool = False, deaf: bool = False) -> None:
        self.waiting = list(messages)
        self.gone = gone
        self.deaf = deaf
        self.sent: list[Message] = []
        self.asked = 0

    async def receive(self) -> Message:
        """The next message; waits for ever when there is none."""
        self.asked += 1
        if self.waiting:
            return self.waiting.pop(0)
        if self.gone and not self.deaf:
            return GONE
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        """Raises OSError when the client has left."""
        if self.gone:
            raise BrokenPipeError("the client has left")
        self.sent.append(message)


def run(app: ASGIApp, scope: Scope, connection: Connection) -> BaseException | None:
    """Serve one scope on a connection; the exception that escaped."""

    async def main() -> BaseException | None:
        try:
            await app(scope, connection.receive, connection.send)
        except BaseException as exc:
            return exc
        return None

    return asyncio.run(main())


def types(messages: Iterable[Message]) -> list[str]:
    """The types of messages."""
    return [message["type"] for message in messages]
