"""Databases below `traced`: SQLAlchemy's instrumentation, sync and async, and a driver that is called by hand.

The instrumentation patches SQLAlchemy for a whole process, so it is told to stop after each test.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from asgi_trace import TraceMiddleware, traced
from asgi_trace.testing import CapturedSpans

from ..support.asgi import attributes_of
from ..support.frameworks import fetch

sqlalchemy = pytest.importorskip("sqlalchemy")
asynchronous = pytest.importorskip("sqlalchemy.ext.asyncio")
instrumentation = pytest.importorskip("opentelemetry.instrumentation.sqlalchemy")


@pytest.fixture
def engine(spans: CapturedSpans) -> Iterator[Any]:
    """A sync engine that is instrumented explicitly."""
    instrumentor = instrumentation.SQLAlchemyInstrumentor()
    in_any_thread = {"check_same_thread": False}  # it is closed by another thread than the one that opened it
    engine = sqlalchemy.create_engine("sqlite://", poolclass=sqlalchemy.pool.StaticPool, connect_args=in_any_thread)
    instrumentor.instrument(engine=engine, tracer_provider=spans.tracer_provider)
    yield engine
    engine.dispose()
    instrumentor.uninstrument()


@pytest.fixture
def async_engine(spans: CapturedSpans, tmp_path: Path) -> Iterator[Any]:
    """An async engine, whose statements run in a greenlet and a thread of the driver."""
    pytest.importorskip("aiosqlite")
    instrumentor = instrumentation.SQLAlchemyInstrumentor()
    engine = asynchronous.create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/orders.db")
    instrumentor.instrument(engine=engine.sync_engine, tracer_provider=spans.tracer_provider)
    yield engine
    instrumentor.uninstrument()


def only(spans: list[ReadableSpan], name: str) -> ReadableSpan:
    """The one span of this name."""
    [found] = [span for span in spans if span.name == name]
    return found


def test_a_sync_engine_is_below_the_function_that_uses_it(engine: Any, spans: CapturedSpans) -> None:
    """The statement's CLIENT span is a child of the endpoint's span, in the thread in which that runs."""

    @traced("session")
    def session() -> Iterator[Any]:
        with sqlalchemy.orm.Session(engine) as session:
            session.execute(sqlalchemy.text("SELECT 1"))
            yield session

    @traced("read")
    def read(session: Any = Depends(session)) -> int:  # noqa: B008
        return int(session.execute(sqlalchemy.text("SELECT 7")).scalar_one())

    app = FastAPI()
    app.get("/")(read)
    assert fetch(TraceMiddleware(app), "/").json() == 7
    found = spans.finished
    session_span, read_span = only(found, "session"), only(found, "read")
    [select_seven] = [span for span in spans.children_of(read_span) if span.name.startswith("SELECT")]
    [select_one] = [span for span in spans.children_of(session_span) if span.name.startswith("SELECT")]
    assert (select_seven.kind, attributes_of(select_seven)["db.statement"]) == (SpanKind.CLIENT, "SELECT 7")
    assert attributes_of(select_one)["db.statement"] == "SELECT 1"
    assert {session_span, read_span} <= set(spans.children_of(spans.server))


def test_an_async_engine_is_below_the_coroutine_that_uses_it(async_engine: Any, spans: CapturedSpans) -> None:
    """So are the statements of an async session, and those of the endpoint are below the dependency."""

    @traced("session")
    async def session() -> AsyncIterator[Any]:
        async with asynchronous.AsyncSession(async_engine) as session:
            yield session
        await async_engine.dispose()

    @traced("read")
    async def count(session: Any) -> int:
        return int((await session.execute(sqlalchemy.text("SELECT 7"))).scalar_one())

    async def read(session: Any = Depends(session)) -> int:  # noqa: B008
        await session.execute(sqlalchemy.text("SELECT 1"))
        return await count(session)

    app = FastAPI()
    app.get("/")(read)
    assert fetch(TraceMiddleware(app), "/").json() == 7
    session_span, read_span = only(spans.finished, "session"), only(spans.finished, "read")
    statements = [span for span in spans.children_of(session_span) if span.name.startswith("SELECT")]
    assert [attributes_of(span)["db.statement"] for span in statements] == ["SELECT 1"]
    statements = [span for span in spans.children_of(read_span) if span.name.startswith("SELECT")]
    assert [attributes_of(span)["db.statement"] for span in statements] == ["SELECT 7"]
    assert read_span in spans.children_of(session_span)
    assert spans.children_of(spans.server) == [session_span]


def test_a_statement_that_fails_is_on_every_span_around_it(engine: Any, spans: CapturedSpans) -> None:
    """The instrumentation sets the status of its own span; the function's has the event."""

    @traced("read")
    def read() -> None:
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT * FROM nowhere"))

    with pytest.raises(sqlalchemy.exc.OperationalError):
        read()
    read_span = only(spans.finished, "read")
    statement = next(span for span in spans.children_of(read_span) if span.name.startswith("SELECT"))
    assert (statement.status.is_ok, read_span.status.is_ok) == (False, False)
    assert attributes_of(read_span)["error.type"] == "sqlalchemy.exc.OperationalError"
    assert [event.name for event in read_span.events] == ["exception"]


def test_a_driver_that_is_called_by_hand(spans: CapturedSpans, tmp_path: Path) -> None:
    """A decorated statement of sqlite3 is a child of what calls it, on the loop and in a thread."""
    with sqlite3.connect(tmp_path / "orders.db", check_same_thread=False) as connection:
        connection.execute("CREATE TABLE orders (id INTEGER, customer TEXT)")
        connection.execute("INSERT INTO orders VALUES (7, 'ada')")

    database = {"db.system.name": "sqlite", "db.operation.name": "SELECT", "db.collection.name": "orders"}

    @traced("SELECT orders", attributes=database)
    def orders_of(customer: str) -> list[tuple[int]]:
        return connection.execute("SELECT id FROM orders WHERE customer = ?", (customer,)).fetchall()

    @traced("read")
    async def read() -> list[tuple[int]]:
        return orders_of("ada") + await asyncio.to_thread(orders_of, "ada")

    assert asyncio.run(read()) == [(7,), (7,)]
    connection.close()
    statements = spans.children_of(only(spans.finished, "read"))
    assert [span.name for span in statements] == ["SELECT orders"] * 2
    for span in statements:
        assert attributes_of(span) == {**database, "code.function.name": attributes_of(span)["code.function.name"]}
