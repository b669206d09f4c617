"""`TraceTransport` and `AsyncTraceTransport`: one CLIENT span for each request that httpx2 puts on the wire.

    client = httpx2.Client(transport=TraceTransport())
    client = httpx2.AsyncClient(**AsyncTraceTransport.for_client())  # keeps the proxies of the environment

Nothing but httpx2's own classes, filled into what httpx has in common with it.
"""

from __future__ import annotations

try:
    import httpx2
except ImportError as exc:
    raise ImportError("asgi_trace.httpx2 needs httpx2: pip install 'asgi-trace[httpx2]'") from exc

from ._client.transport import AsyncBody, AsyncTraced, Body, SyncTraced

__all__ = ["AsyncTraceTransport", "TraceTransport"]

_WILDCARDS = tuple(map(int, httpx2.__version__.split(".")[:2])) >= (2, 15)


class _Body(Body, httpx2.SyncByteStream):
    """The client insists on its own class."""


class _AsyncBody(AsyncBody, httpx2.AsyncByteStream):
    """The client insists on its own class."""


class TraceTransport(SyncTraced[httpx2.BaseTransport, httpx2.Request, httpx2.Response], httpx2.BaseTransport):
    """Traces what a `Client` sends: `httpx2.Client(transport=TraceTransport())`."""

    _network = httpx2.HTTPTransport
    _stream_type = httpx2.SyncByteStream
    _memory_type = httpx2.ByteStream
    _body_type = _Body
    _no_proxy_wildcards = _WILDCARDS


class AsyncTraceTransport(
    AsyncTraced[httpx2.AsyncBaseTransport, httpx2.Request, httpx2.Response], httpx2.AsyncBaseTransport
):
    """Traces what an `AsyncClient` sends: `httpx2.AsyncClient(transport=AsyncTraceTransport())`."""

    _network = httpx2.AsyncHTTPTransport
    _stream_type = httpx2.AsyncByteStream
    _memory_type = httpx2.ByteStream
    _body_type = _AsyncBody
    _no_proxy_wildcards = _WILDCARDS
