"""`inventory`, at the end: a plain ASGI application, no framework at all.

No framework knows its routes, so it names them itself with `set_route()`. Taking more than there is breaks a CHECK of
the database: the failure that the demo is about.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable
from typing import Any

from .. import TraceMiddleware, set_route, traced
from .._types import ASGIApp, Receive, Scope, Send
from .database import Database

_logger = logging.getLogger("inventory")

_STOCK = """
    CREATE TABLE stock (sku TEXT PRIMARY KEY, quantity INTEGER NOT NULL CHECK (quantity >= 0));
    INSERT INTO stock VALUES ('kettle', 40), ('piano', 0), ('teapot', 25), ('umbrella', 2);
"""
_SUPPLIER_TAKES = 0.4


def create(upstream_url: str) -> ASGIApp:
    """The application. `upstream_url` is empty: no service comes after it."""
    return TraceMiddleware(Inventory(), trust="127.0.0.0/8")


class Inventory:
    """What is in stock, and reservations of it."""

    def __init__(self) -> None:
        self._database = Database("inventory", _STOCK)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the lifespan."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        match scope["method"], scope["path"].strip("/").split("/"):
            case "GET", ["stock"]:
                await self._routed("/stock", self._list(send))
            case "GET", ["stock", sku]:
                await self._routed("/stock/{sku}", self._show(sku, send))
            case "POST", ["stock", sku, "reservations"]:
                await self._routed("/stock/{sku}/reservations", self._reserve(sku, receive, send))
            case _:
                await _answer(send, 404, {"error": "not found"})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        for step in ("startup", "shutdown"):
            await receive()
            if step == "shutdown":
                self._database.close()
            await send({"type": f"lifespan.{step}.complete"})

    async def _routed(self, template: str, handler: Awaitable[None]) -> None:
        set_route(template)
        await handler

    async def _reserve(self, sku: str, receive: Receive, send: Send) -> None:
        count = json.loads(await _body(receive))["count"]
        await self._take(sku, count)
        await _answer(send, 201, {"sku": sku, "reserved": count})

    @traced("take from the shelf", attributes=lambda sku, **_: {"inventory.sku": sku})
    async def _take(self, sku: str, count: int) -> None:
        _logger.info("taking %d x %s", count, sku)
        await self._database.run(
            "UPDATE", "stock", "UPDATE stock SET quantity = quantity - ? WHERE sku = ?", count, sku
        )

    async def _show(self, sku: str, send: Send) -> None:
        rows = await self._database.run("SELECT", "stock", "SELECT quantity FROM stock WHERE sku = ?", sku)
        if not rows:
            await _answer(send, 404, {"error": f"no {sku} here"})
            return
        quantity = rows[0][0]
        if quantity == 0:
            await _ask_the_supplier(sku)
        await _answer(send, 200, {"quantity": quantity})

    async def _list(self, send: Send) -> None:
        rows = await self._database.run("SELECT", "stock", "SELECT sku, quantity FROM stock ORDER BY sku")
        await _start(send, 200)
        for sku, quantity in rows:
            line = json.dumps({"sku": sku, "quantity": quantity}) + "\n"
            await send({"type": "http.response.body", "body": line.encode(), "more_body": True})
            await asyncio.sleep(0.05)
        await send({"type": "http.response.body", "body": b""})
        _logger.info("listed %d articles", len(rows))


@traced("ask the supplier", attributes=lambda sku: {"inventory.sku": sku})
async def _ask_the_supplier(sku: str) -> None:
    _logger.warning("%s is sold out, asking the supplier", sku)
    await asyncio.sleep(_SUPPLIER_TAKES)


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _start(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"application/json")]})


async def _answer(send: Send, status: int, content: dict[str, Any]) -> None:
    await _start(send, status)
    await send({"type": "http.response.body", "body": json.dumps(content).encode()})
