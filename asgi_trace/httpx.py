"""`TraceTransport` and `AsyncTraceTransport`: one CLIENT span for each request that httpx puts on the wire.

    client = httpx.Client(transport=TraceTransport())
    client = httpx.AsyncClient(**AsyncTraceTransport.for_client())  # keeps the proxies of the environment

Two extensions of a request are read: `extensions={"url_template": "/orders/{id}"}` gives the span its name and the
attribute `url.template`, and `extensions={"asgi_trace": False}` leaves the request without a span.
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
    """Records each request that a `Client` sends as one CLIENT span: `httpx.Client(transport=TraceTransport())`.

    Name, attributes and status of the span are those of OpenTelemetry's semantic conventions for HTTP clients. It lasts
    until the response's body has been read or closed. Each redirect and each retry is a span of its own, with
    `http.request.resend_count`. While the request is on its way its headers carry the span's `traceparent`; after that
    they are the caller's again.
    """

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
    """Records what an `AsyncClient` sends: `httpx.AsyncClient(transport=AsyncTraceTransport())`.

    All that is said of `TraceTransport` holds for it as well.
    """

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
