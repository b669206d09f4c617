"""`TraceTransport` and `AsyncTraceTransport`: one CLIENT span for each request that httpx puts on the wire.

    client = httpx.Client(transport=TraceTransport())
    client = httpx.AsyncClient(**AsyncTraceTransport.for_client())  # keeps the proxies of the environment

Nothing but httpx's own classes, filled into what httpx2 has in common with it.
"""

from __future__ import annotations

try:
    import httpx
except ImportError as _missing:
    raise ImportError("asgi_trace.httpx needs httpx: pip install 'asgi-trace[httpx]'") from _missing

from ._client.body import AsyncBody, Body
from ._client.library import Library
from ._client.transport import AsyncTracedTransport, SyncTracedTransport

__all__ = ["AsyncTraceTransport", "TraceTransport"]


class _Body(Body, httpx.SyncByteStream):
    """The client insists on its own class."""


class _AsyncBody(AsyncBody, httpx.AsyncByteStream):
    """The client insists on its own class."""


class TraceTransport(SyncTracedTransport[httpx.BaseTransport, httpx.Request, httpx.Response], httpx.BaseTransport):
    """Traces what a `Client` sends: `httpx.Client(transport=TraceTransport())`."""

    _library = Library(
        transport="TraceTransport",
        handler="handle_request",
        network=httpx.HTTPTransport,
        request=httpx.Request,
        url=httpx.URL,
        stream=httpx.SyncByteStream,
        memory_stream=httpx.ByteStream,
        body=_Body,
    )


class AsyncTraceTransport(
    AsyncTracedTransport[httpx.AsyncBaseTransport, httpx.Request, httpx.Response], httpx.AsyncBaseTransport
):
    """Traces what an `AsyncClient` sends: `httpx.AsyncClient(transport=AsyncTraceTransport())`."""

    _library = Library(
        transport="AsyncTraceTransport",
        handler="handle_async_request",
        network=httpx.AsyncHTTPTransport,
        request=httpx.Request,
        url=httpx.URL,
        stream=httpx.AsyncByteStream,
        memory_stream=httpx.ByteStream,
        body=_AsyncBody,
    )
