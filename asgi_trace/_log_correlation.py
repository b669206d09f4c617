"""What a log record says of the request that it belongs to: which span, its ids as text, the service's name.

Shared by the standard library's `logging` and structlog; knows neither. Which span counts for a record that is written
after the request has failed, by the server or by a handler outside of the middleware, is known to `_origin`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from urllib.parse import unquote

from opentelemetry.context import get_value
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Span, SpanContext, TracerProvider, get_current_span

from ._otel.tracers import Tracers
from ._server.current import REQUEST_KEY, server_span
from ._server.failed_request import left_behind, origin_of

NO_ID = "0"
"""`trace_id` and `span_id` where there is no span, as OpenTelemetry's own logging instrumentation writes it."""

_SERVERS = frozenset({"uvicorn.access", "uvicorn.error", "uvicorn.asgi", "hypercorn.access", "hypercorn.error"})


def span_context_for(logger_name: str = "", exc: BaseException | None = None) -> SpanContext:
    """The span that a record belongs to: the current one, unless the record is about a request that has just failed.

    `exc` is the exception the record carries; without one, that which is being handled counts. Within a request it
    tells nothing: one exception may reach several (a cached future, a shared task), and escape from each of them.
    """
    current = get_current_span().get_span_context()
    by_server = logger_name in _SERVERS
    within = _within_request()
    if not within or (by_server and exc is not None):  # a server has nothing but what escaped
        if exc is None:
            exc = sys.exc_info()[1]
        origin = None if exc is None else origin_of(exc)
        # In the same trace the current span is nearer to who writes the record; another one is only what stood there
        # before the request (servers leak one request's context into the next).
        if origin is not None and origin.trace_id != current.trace_id:
            return origin
    if by_server:
        left = None if within else left_behind()
        if left is not None:
            return left
        server = server_span().get_span_context()
        if server.is_valid:
            return server
    return current


def _within_request() -> bool:
    """Does the current context belong to a request in progress, as far as that can be known?"""
    request = get_value(REQUEST_KEY)
    if isinstance(request, Span):
        # Nobody is told when a request ends that is not recorded. Where another one has just failed, this one's context
        # is most likely a leaked one.
        return left_behind() is None
    return request is not None and not request.ended  # type: ignore[attr-defined]


def ids(span_context: SpanContext) -> dict[str, str]:
    """`trace_id`, `span_id` and `trace_flags` as text."""
    if not span_context.is_valid:
        return {"trace_id": NO_ID, "span_id": NO_ID, "trace_flags": "00"}
    return {
        "trace_id": f"{span_context.trace_id:032x}",
        "span_id": f"{span_context.span_id:016x}",
        "trace_flags": f"{span_context.trace_flags:02x}",
    }


def ids_beside(fields: Mapping[str, object], span_context: SpanContext) -> dict[str, str]:
    """The ids of `span_context` for a record that has `fields`; no ids where those name another trace."""
    found = ids(span_context)
    return found if fields.get("trace_id", found["trace_id"]) == found["trace_id"] else ids(INVALID_SPAN_CONTEXT)


class ServiceName:
    """The service's name: the given one, else the tracer provider's, else the environment's."""

    __slots__ = ("_given", "_name", "_seen", "_tracers")

    def __init__(self, given: str | None, tracer_provider: TracerProvider | None) -> None:
        self._given = given
        self._tracers = Tracers(tracer_provider)
        self._seen: TracerProvider | None = None
        self._name = ""

    def __call__(self) -> str:
        if self._given is not None:
            return self._given
        provider = self._tracers.provider()
        if provider is not self._seen:
            self._name = _name_of(provider) or _name_in_environment()
            self._seen = provider
        return self._name


def _name_of(provider: TracerProvider) -> str:
    attributes = getattr(getattr(provider, "resource", None), "attributes", None)  # only an SDK's provider has them
    return str(attributes.get("service.name") or "") if attributes else ""


def _name_in_environment() -> str:
    name = os.environ.get("OTEL_SERVICE_NAME", "").strip()
    if not name:
        pairs = (pair.partition("=") for pair in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","))
        name = next((unquote(value.strip()) for key, _, value in pairs if key.strip() == "service.name"), "")
    return name or "unknown_service"
