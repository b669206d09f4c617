"""`TraceTransport` and `AsyncTraceTransport`: one CLIENT span for each request that httpx2 puts on the wire.

    client = httpx2.Client(transport=TraceTransport())
    client = httpx2.AsyncClient(**AsyncTraceTransport.for_client())  # keeps the proxies of the environment

Nothing but httpx2's own classes, filled into what httpx has in common with it.
"""

from __future__ import annotations

try:
    import httpx2
except ImportError as _missing:
    raise ImportError("asgi_trace.httpx2 needs httpx2: pip install 'asgi-trace[httpx2]'") from _missing

from ._client.body import AsyncBody, Body
from ._client.library import Library
from ._client.transport import AsyncTracedTransport, SyncTracedTransport

__all__ = ["AsyncTraceTransport", "TraceTransport"]

_WILDCARDS = tuple(map(int, httpx2.__version__.split(".")[:2])) >= (2, 15)


class _Body(Body, httpx2.SyncByteStream):
    """The client insists on its own class."""


class _AsyncBody(AsyncBody, httpx2.AsyncByteStream):
    """The client insists on its own class."""


class TraceTransport(SyncTracedTransport[httpx2.BaseTransport, httpx2.Request, httpx2.Response], httpx2.BaseTransport):
    """Traces what a `Client` sends: `httpx2.Client(transport=TraceTransport())`."""

    _library = Library(
        transport="TraceTransport",
        handler="handle_request",
        network=httpx2.HTTPTransport,
        request=httpx2.Request,
        url=httpx2.URL,
        stream=httpx2.SyncByteStream,
        memory_stream=httpx2.ByteStream,
        body=_Body,
    )
    _no_proxy_wildcards = _WILDCARDS


class AsyncTraceTransport(
    AsyncTracedTransport[httpx2.AsyncBaseTransport, httpx2.Request, httpx2.Response], httpx2.AsyncBaseTransport
):
    """Traces what an `AsyncClient` sends: `httpx2.AsyncClient(transport=AsyncTraceTransport())`."""

    _library = Library(
        transport="AsyncTraceTransport",
        handler="handle_async_request",
        network=httpx2.AsyncHTTPTransport,
        request=httpx2.Request,
        url=httpx2.URL,
        stream=httpx2.AsyncByteStream,
        memory_stream=httpx2.ByteStream,
        body=_AsyncBody,
    )
    _no_proxy_wildcards = _WILDCARDS
