"""An application that is told what to do, and an ear for what the package says about its own failures."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgi_trace._types import Receive, Scope, Send

from .asgi import RECEIVE


class Complaints(logging.Handler):
    """Keeps what the package says about its own failures."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def listening() -> Iterator[Complaints]:
    logger, handler = logging.getLogger("asgi_trace"), Complaints()
    logger.addHandler(handler)
    before, logger.propagate = logger.propagate, False
    try:
        yield handler
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


class App:
    """An application that does what it is told and counts its calls and what it received."""

    def __init__(self, actions: list[Any]) -> None:
        self.actions = actions
        self.calls = 0
        self.received = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        for action in self.actions:
            if action is RECEIVE:
                await receive()
                self.received += 1
            elif isinstance(action, type):
                raise action
            else:
                await send(action)
