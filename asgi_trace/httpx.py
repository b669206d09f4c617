"""`TraceTransport` and `AsyncTraceTransport`: one CLIENT span for each request that httpx puts on the wire.

    client = httpx.Client(transport=TraceTransport())
    client = httpx.AsyncClient(**AsyncTraceTransport.for_client())  # keeps the proxies of the environment

Nothing but httpx's own classes, filled into what httpx2 has in common with it.
"""

from __future__ import annotations

try:
    import httpx
except ImportError as exc:
    raise ImportError("asgi_trace.httpx needs httpx: pip install 'asgi-trace[httpx]'") from exc

from ._client.transport import AsyncBody, AsyncTraced, Body, SyncTraced

__all__ = ["AsyncTraceTransport", "TraceTransport"]


class _Body(Body, httpx.SyncByteStream):
    """The client insists on its own class."""


class _AsyncBody(AsyncBody, httpx.AsyncByteStream):
    """The client insists on its own class."""


class TraceTransport(SyncTraced[httpx.BaseTransport, httpx.Request, httpx.Response], httpx.BaseTransport):
    """Traces what a `Client` sends: `httpx.Client(transport=TraceTransport())`."""

    _network = httpx.HTTPTransport
    _stream_type = httpx.SyncByteStream
    _memory_type = httpx.ByteStream
    _body_type = _Body


class AsyncTraceTransport(
    AsyncTraced[httpx.AsyncBaseTransport, httpx.Request, httpx.Response], httpx.AsyncBaseTransport
):
    """Traces what an `AsyncClient` sends: `httpx.AsyncClient(transport=AsyncTraceTransport())`."""

    _network = httpx.AsyncHTTPTransport
    _stream_type = httpx.AsyncByteStream
    _memory_type = httpx.ByteStream
    _body_type = _AsyncBody
