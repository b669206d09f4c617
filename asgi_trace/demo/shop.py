"""`shop`, the public edge: FastAPI. It trusts no caller's trace, and tells every caller the trace id of its request."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import StreamingResponse
from opentelemetry import trace
from pydantic import BaseModel

from .. import TraceMiddleware, traced
from .._types import ASGIApp
from ..httpx import AsyncTraceTransport, TraceTransport
from .database import Database

_tracer = trace.get_tracer("asgi_trace.demo")
_logger = logging.getLogger("shop")

_CUSTOMERS = """
    CREATE TABLE customers (name TEXT PRIMARY KEY, discount INTEGER NOT NULL);
    INSERT INTO customers VALUES ('ada', 10), ('grace', 0);
"""


class Basket(BaseModel):
    """What a customer wants: how many of each article."""

    items: dict[str, int]


async def customer(request: Request, name: str = "ada") -> AsyncIterator[str]:
    """A dependency with a span of its own, and with something to do after the response."""
    with _tracer.start_as_current_span("dependency customer") as span:
        rows = await request.app.state.database.run(
            "SELECT", "customers", "SELECT discount FROM customers WHERE name = ?", name
        )
        span.set_attribute("shop.customer.discount", rows[0][0] if rows else 0)
    yield name
    _logger.info("session of %s saved", name)


@traced("dependency basket", attributes=lambda basket: {"shop.basket.size": len(basket.items)})
def checked(basket: Basket) -> dict[str, int]:
    """A sync dependency: it runs in a thread, and its span still belongs to the request."""
    if not all(count > 0 for count in basket.items.values()):
        raise HTTPException(422, "every count must be positive")
    return basket.items


def create(orders_url: str) -> ASGIApp:
    """The application; `orders_url` is where the next service listens."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
        database = Database("customers", _CUSTOMERS)
        with httpx.Client(transport=TraceTransport(), base_url=orders_url) as sync_client:
            async with httpx.AsyncClient(transport=AsyncTraceTransport(), base_url=orders_url) as client:
                app.state.client, app.state.sync_client, app.state.database = client, sync_client, database
                yield
        database.close()

    app = FastAPI(title="shop", lifespan=lifespan)
    app.post("/checkout")(checkout)
    app.get("/products/{sku}")(product)
    app.get("/catalogue")(catalogue)
    return TraceMiddleware(app, trust=False, response_header="traceresponse")  # outside, so FastAPI's own stays quiet


async def checkout(
    request: Request, name: Annotated[str, Depends(customer)], items: Annotated[dict[str, int], Depends(checked)]
) -> Any:
    """Order the basket."""
    _logger.info("checkout of %s: %s", name, ", ".join(f"{count} x {sku}" for sku, count in items.items()))
    with _tracer.start_as_current_span("check out", attributes={"shop.customer": name}):
        answer = await request.app.state.client.post(
            "/orders", json={"customer": name, "items": items}, extensions={"url_template": "/orders"}
        )
    if answer.is_error:
        _logger.error("no order for %s: orders answered %d", name, answer.status_code)
        raise HTTPException(502, "the order could not be placed")
    return answer.json()


def product(request: Request, sku: str) -> Any:
    """A sync endpoint: it runs in a thread, with the sync client, in the same trace."""
    answer = request.app.state.sync_client.get(f"/quotes/{sku}", extensions={"url_template": "/quotes/{sku}"})
    return answer.raise_for_status().json()


async def catalogue(request: Request) -> StreamingResponse:
    """Pass the catalogue on while it comes in; the span lasts as long as the stream."""

    async def lines() -> AsyncIterator[bytes]:
        extensions = {"url_template": "/catalogue"}
        async with request.app.state.client.stream("GET", "/catalogue", extensions=extensions) as answer:
            async for chunk in answer.aiter_bytes():
                yield chunk

    return StreamingResponse(lines(), media_type="application/x-ndjson")
