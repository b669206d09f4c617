"""`orders`, in the middle: Starlette. It continues the traces of callers on its own network only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from .. import TraceMiddleware, traced
from ..httpx import AsyncTraceTransport
from .database import Database

_logger = logging.getLogger("orders")

_ORDERS = """
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, state TEXT NOT NULL);
    INSERT INTO orders VALUES (1041, 'grace', 'sent');
"""
_PRICES = {"kettle": 2900, "teapot": 1900, "umbrella": 2400, "piano": 349_000}


def create(inventory_url: str) -> Starlette:
    """The application; `inventory_url` is where the next service listens."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None, None]:
        app.state.database = Database("orders", _ORDERS)
        async with httpx.AsyncClient(transport=AsyncTraceTransport(), base_url=inventory_url) as client:
            app.state.client = client
            yield
        app.state.database.close()

    return Starlette(
        routes=[
            Route("/orders", place, methods=["POST"]),
            Route("/quotes/{sku}", quote),
            Route("/catalogue", catalogue),
        ],
        middleware=[Middleware(TraceMiddleware, trust="127.0.0.0/8")],
        lifespan=lifespan,
    )


async def place(request: Request) -> Response:
    """Write the order down, then reserve all its articles at once."""
    wanted, database = await request.json(), request.app.state.database
    rows = await database.run(
        "INSERT", "orders", "INSERT INTO orders (customer, state) VALUES (?, 'new') RETURNING id", wanted["customer"]
    )
    order = rows[0][0]
    try:
        await _reserve_all(request, order, wanted["items"])
    except httpx.HTTPStatusError as exc:
        _logger.error("order %d: inventory answered %d", order, exc.response.status_code)
        await database.run("UPDATE", "orders", "UPDATE orders SET state = 'refused' WHERE id = ?", order)
        return JSONResponse({"order": order, "state": "refused"}, status_code=502)
    _logger.info("order %d is placed", order)
    return JSONResponse({"order": order, "state": "placed"}, status_code=201)


@traced("reserve stock", attributes=lambda order, **_: {"orders.id": order})
async def _reserve_all(request: Request, order: int, items: dict[str, int]) -> None:
    await asyncio.gather(*(_reserve(request, sku, count) for sku, count in items.items()))


async def _reserve(request: Request, sku: str, count: int) -> None:
    answer = await request.app.state.client.post(
        f"/stock/{sku}/reservations",
        json={"count": count},
        extensions={"url_template": "/stock/{sku}/reservations"},
    )
    answer.raise_for_status()


async def quote(request: Request) -> Response:
    """Price and stock of one article."""
    sku = request.path_params["sku"]
    answer = await request.app.state.client.get(f"/stock/{sku}", extensions={"url_template": "/stock/{sku}"})
    answer.raise_for_status()
    price = _price_of(sku)
    _logger.info("%s costs %.2f", sku, price / 100)
    return JSONResponse({"sku": sku, "price": price, **answer.json()})


@traced("calculate price", attributes=lambda sku: {"orders.sku": sku})
def _price_of(sku: str) -> int:
    return _PRICES.get(sku, 999)


async def catalogue(request: Request) -> Response:
    """Pass the stock list on, chunk by chunk."""

    async def chunks() -> AsyncIterator[bytes]:
        extensions = {"url_template": "/stock"}
        async with request.app.state.client.stream("GET", "/stock", extensions=extensions) as answer:
            async for chunk in answer.aiter_bytes():
                yield chunk

    return StreamingResponse(chunks(), media_type="application/x-ndjson")
