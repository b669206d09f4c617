"""Headers, contexts, and what a `Propagation` reads and writes of them."""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import CarrierT, Getter, TextMapPropagator, default_getter
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from asgi_trace._propagation.propagator import Propagation
from asgi_trace._types import Headers

T, S = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{T}-{S}-01"
REMOTE = SpanContext(int(T, 16), int(S, 16), True, TraceFlags(1))
W3C = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])


def lines(*headers: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    """Header lines as ASGI has them."""
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def extract(headers: Headers, propagator: TextMapPropagator | None = W3C) -> Context:
    """What a propagator reads of them."""
    return Propagation(propagator).extract(dict(headers), headers)


def remote_of(context: Context) -> SpanContext:
    """The span context of a context's span."""
    return get_current_span(context).get_span_context()


def inject(
    context: Context, carrier: dict[str, str] | None = None, propagator: TextMapPropagator | None = W3C
) -> dict[str, str]:
    """What `carrier` holds afterwards, as a request's headers do."""
    headers = httpx.Headers(carrier)
    Propagation(propagator).inject(headers, context)
    return dict(headers)


def with_span(span_context: SpanContext = REMOTE, context: Context | None = None) -> Context:
    """A context with that span."""
    return set_span_in_context(NonRecordingSpan(span_context), Context() if context is None else context)


def with_baggage(entries: Mapping[str, object], context: Context | None = None) -> Context:
    """A context with those entries."""
    context = Context() if context is None else context
    for key, value in entries.items():
        context = baggage.set_baggage(key, value, context)
    return context


class Shouting(TraceContextTextMapPropagator):
    """A W3C propagator of the application's own: no longer exactly the API's."""

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        return baggage.set_baggage("shouting", "yes", super().extract(carrier, context, getter))
