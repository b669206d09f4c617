"""SQLite with one span per statement: how to trace a database for which there is no instrumentation."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import SpanKind

_tracer = trace.get_tracer("asgi_trace.demo")


class Database:
    """One in-memory database. Statements run in a thread, so that the event loop never waits for them."""

    def __init__(self, name: str, script: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._connection = sqlite3.connect(":memory:", check_same_thread=False)
        self._connection.executescript(script)

    async def run(self, operation: str, table: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows. Its span is named `{operation} {table}`; values are not recorded."""
        with _tracer.start_as_current_span(
            f"{operation} {table}",
            kind=SpanKind.CLIENT,
            attributes={
                "db.system.name": "sqlite",
                "db.namespace": self._name,
                "db.operation.name": operation,
                "db.collection.name": table,
                "db.query.text": statement,
            },
        ):
            return await asyncio.to_thread(self._execute, statement, values)

    def _execute(self, statement: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        with self._lock, self._connection:
            return self._connection.execute(statement, values).fetchall()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
