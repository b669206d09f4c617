"""`TraceTransport` and `AsyncTraceTransport`: one CLIENT span for each request that httpx2 puts on the wire.

    client = httpx2.Client(transport=TraceTransport())
    client = httpx2.AsyncClient(**AsyncTraceTransport.for_client())  # keeps the proxies of the environment

Two extensions of a request are read: `extensions={"url_template": "/orders/{id}"}` gives the span its name and the
attribute `url.template`, and `extensions={"asgi_trace": False}` leaves the request without a span.
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
    """Records each request that a `Client` sends as one CLIENT span: `httpx2.Client(transport=TraceTransport())`.

    Name, attributes and status of the span are those of OpenTelemetry's semantic conventions for HTTP clients. It lasts
    until the response's body has been read or closed. Each redirect and each retry is a span of its own, with
    `http.request.resend_count`. While the request is on its way its headers carry the span's `traceparent`; after that
    they are the caller's again.
    """

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
    """Records what an `AsyncClient` sends: `httpx2.AsyncClient(transport=AsyncTraceTransport())`.

    All that is said of `TraceTransport` holds for it as well.
    """

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
