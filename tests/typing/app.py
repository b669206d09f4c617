"""Services as their authors write them: no type of ours has to be known, cast or ignored.

mypy strict and pyright strict read this file; nothing imports it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException
from opentelemetry.trace import Span
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

from asgi_trace import TraceMiddleware, configure, server_span, set_route, traced
from asgi_trace.httpx import AsyncTraceTransport, TraceTransport
from asgi_trace.logging import JSONFormatter, TraceContextFilter

tracing = configure(
    service_name="orders",
    endpoint="http://localhost:4317",
    sampler=0.25,
    metrics=True,
    logs=True,
    resource_attributes={"deployment.environment.name": "staging"},
)

handler = logging.StreamHandler()
handler.addFilter(TraceContextFilter())
handler.setFormatter(JSONFormatter())
logging.basicConfig(handlers=[handler], level=logging.INFO)


# Hooks


def note_tenant(span: Span, scope: Mapping[str, Any]) -> None:
    """See `TraceMiddleware`, `on_request`."""
    headers: dict[bytes, bytes] = dict(scope["headers"])
    span.set_attribute("tenant", headers.get(b"x-tenant", b"none").decode("latin-1"))


def note_attempt(span: Span, request: httpx.Request) -> None:
    """See `AsyncTraceTransport`, `on_request`."""
    span.set_attribute("shop.attempt", int(request.headers.get("x-attempt", "1")))


def note_cache(span: Span, request: httpx.Request, response: httpx.Response) -> None:
    """See `AsyncTraceTransport`, `on_response`."""
    span.set_attribute("shop.cached", request.method == "GET" and "age" in response.headers)


# FastAPI, with a client for the time that the service runs, a dependency and a background task


class Store:
    """Orders, in a place that answers slowly."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    @traced
    async def read(self, number: int) -> dict[str, str]:
        """One order."""
        response = await self._client.get(f"/orders/{number}", extensions={"url_template": "/orders/{number}"})
        if response.status_code == 404:
            raise HTTPException(404)
        return {"number": str(number), "state": response.text}

    @traced("reserve stock", attributes=lambda sku, **_: {"shop.sku": sku})
    def reserve(self, sku: str, count: int = 1) -> int:
        """Take some of an article out of the stock."""
        return count * len(sku)

    @classmethod
    @traced
    def empty(cls) -> Store:
        """A store without a connection."""
        return cls(httpx.AsyncClient())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[dict[str, Any], None]:
    transport = AsyncTraceTransport(
        httpx.AsyncHTTPTransport(retries=2),
        propagate_to=["*.internal"],
        on_request=note_attempt,
        on_response=note_cache,
    )
    async with httpx.AsyncClient(base_url="http://store.internal", transport=transport) as client:
        app.state.store = Store(client)
        yield {"client": client}
    tracing.shutdown()


async def store(request: Request) -> AsyncIterator[Store]:
    """The dependency as FastAPI knows it."""
    found: Store = request.app.state.store
    yield found


@traced
def write_receipt(number: int) -> None:
    """Run after the response."""
    logging.getLogger(__name__).info("receipt", extra={"order": number})


fastapi_app = FastAPI(lifespan=lifespan)
fastapi_app.add_middleware(
    TraceMiddleware,
    exclude=["^/health$"],
    trust=["10.0.0.0/8"],
    trusted_proxies="10.0.0.1",
    capture_request_headers=["x-request-id"],
    response_header="server-timing",
    on_request=note_tenant,
)


@fastapi_app.get("/orders/{number}")
async def order(
    number: int, store: Annotated[Store, Depends(traced(store))], background: BackgroundTasks
) -> dict[str, str]:
    """An order of the store."""
    server_span().set_attribute("shop.order", number)
    background.add_task(write_receipt, number)
    found: dict[str, str] = await store.read(number)
    reserved: int = store.reserve("apple", count=2)
    return {**found, "reserved": str(reserved)}


# Starlette, and the middleware around an application


async def stream(request: Request) -> StreamingResponse:
    """Lines, one after the other."""

    @traced(attributes={"shop.kind": "lines"})
    async def lines() -> AsyncIterator[str]:
        yield f"{request.url.path}\n"

    return StreamingResponse(lines())


async def dispatched(request: Request) -> JSONResponse:
    """An endpoint that knows its route better than the router does."""
    set_route("/{command}")
    return JSONResponse({"command": request.path_params["rest"]})


starlette_app = Starlette(
    routes=[Route("/lines", stream), Route("/{rest:path}", dispatched)],
    middleware=[Middleware(TraceMiddleware, websocket="handshake", redact=["card"])],
)
wrapped = TraceMiddleware(starlette_app, exclude="^/ready$")


# A job without a request


@traced("nightly")
def nightly(urls: list[str]) -> list[int]:
    """Look at every URL once."""
    with httpx.Client(transport=TraceTransport()) as client:
        return [client.get(url).status_code for url in urls]


def main() -> int:
    """A command: what it recorded has arrived when it ends."""
    with configure(service_name="job", exporter="console") as job:
        codes: list[int] = nightly(["http://store.internal/health"])
        job.force_flush(5_000)
        lost: int = sum(job.lost.values())
    return max(codes, default=0) + lost
