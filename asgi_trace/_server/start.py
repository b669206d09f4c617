"""What is decided before the application sees a request: is it traced, as what, and what does the application get.

`start()` reads top to bottom, cheapest first: every request pays for each step until it is known that nothing is to be
done. Each step is a function of its own, except those that every request takes: a call costs 300 instructions here.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Mapping, Sequence
from time import time_ns
from typing import Any, TypeAlias

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind, Tracer

from .._options.exclude import other_path
from .._otel.api import REAL, SPAN_KEY, is_suppressed
from .._otel.context import get_current
from .._otel.lazy_attributes import LazyAttributes
from .._propagation.propagator import caller_context
from .._propagation.traceparent import RemoteParent
from .._semconv.names import OTHER_METHOD
from .._semconv.server import server_attributes, server_facts, server_protocol, server_scheme
from .._types import AttributeValue, Headers, Receive, Scope, Send
from .coexistence import (
    CLAIM,
    CLAIMS,
    FASTAPI,
    STARLETTE,
    OuterContext,
    claim,
    is_excluded_further_out,
    other_instrumentation,
    outer_span,
    release,
)
from .config import ServerConfig
from .current import REQUEST_KEY
from .excluded_span import UnreadContext
from .forwarded import Forwarded
from .metrics import CountedBodies, RequestMetrics
from .request import Request
from .websocket import WebSocket

__all__ = ["Started", "start"]

Started: TypeAlias = tuple[Context, Receive, Send, Request | WebSocket | None]
"""The context to attach, the application's `receive` and `send`, and the object that is told how it went."""

_EMPTY = Context()
_SERVER = SpanKind.SERVER  # enums are slow to look into
_new = object.__new__


# Longer and more complex than others: the second half as a function of its own, with 13 arguments, takes every recorded
# request 800 instructions more, 1.5 % of all. What is rare is split off.
def start(config: ServerConfig, kind: str, scope: Scope, receive: Receive, send: Send) -> Started | None:  # noqa: C901
    """Decide about a scope of the type `kind`, "http" or "websocket".

    None: the application is called as if the middleware were not there. A request that nothing records gets the
    server's own `receive` and `send`.
    """
    # Is it to be traced?
    if CLAIM in scope:  # a TraceMiddleware further out has it
        return None
    try:  # not get(), which takes twice the instructions; here as below
        headers: Headers = scope["headers"]
    except KeyError:
        headers = ()
    if type(headers) is not list and not isinstance(headers, tuple):
        scope["headers"] = headers = list(headers)  # an iterator can be read only once, and is the application's
    if (
        config.excluded_path is not None
        and (
            config.excluded_path(scope["path"]) or (scope.get("root_path") and config.excluded_path(other_path(scope)))
        )
    ) or (config.excluded is not None and config.excluded(scope)):
        return _excluded(config, scope, headers), receive, send, None
    ambient = get_current()
    alone = not (ambient or FASTAPI in scope or STARLETTE in scope)
    if not alone:
        aside = _step_aside(config, scope, headers, ambient, receive, send)
        if aside is not None:
            return aside, receive, send, None

    # Below which parent, and is there anything that records it?
    fields = dict(headers)
    received = config.propagation.receive(fields, headers)
    links: Sequence[Link] = ()
    direct = True  # the caller is the parent, and that is all
    if not alone or (config.trusts is not None and received):
        received, links = _parent(config, scope, received, ambient)
        direct = not links and type(received) is not OuterContext
    measured = kind == "http" and config.metrics.state[REAL] is not None and config.metrics.live()
    tracers = config.tracers
    tracer = tracers.fixed or tracers.current()
    if tracer is None and not measured and config.response_header is None:
        return (caller_context(received), receive, send, None) if received or ambient else None
    try:
        if alone:  # claim(), without the call
            scope[CLAIM] = CLAIMS
            scope[FASTAPI] = None
            scope[STARLETTE] = True
        else:
            claim(scope)
    except Exception:  # a scope that cannot be written to
        config.guard.report("marking a request as traced")

    # The span.
    span: Any = None  # Any: a Context holds objects
    remote = type(received) is tuple
    if remote and not received[1] & 1 and tracers.start_unsampled is not None:  # type: ignore[index, operator]
        span = tracers.start_unsampled(received)
        if span is not None and not measured and config.response_header is None:  # nothing else is to be done
            return Context({SPAN_KEY: span, REQUEST_KEY: span}), receive, send, None
    method = "GET"  # as a handshake is
    if kind == "http":
        try:
            method = config.methods[scope["method"]]
        except (KeyError, TypeError):
            method = OTHER_METHOD
    # An unsampled request needs no time, and a span that is recorded against expectation has its own.
    started_at = time_ns() if tracers.recorded or measured else 0
    forwarded = config.forwarded(scope, headers) if measured else None
    from_facts = recording = False
    if direct and span is None and config.defers and tracers.start_from_facts is not None and tracer is not None:
        facts = server_facts(scope, fields, method, config.description)
        if facts is not None:
            # `method` is the name, too, since facts have a known one.
            span = tracers.start_from_facts(method, _SERVER, received, facts, started_at)
            from_facts = recording = type(span) is tracers.facts_span
    if span is None:
        span = _start_span(config, scope, headers, fields, received, links, tracer, method, started_at, forwarded)

    # The object that is told what happens, and ends the span. What fails before it exists ends the span, too.
    try:
        if not from_facts:
            recording = tracer is not None and span.is_recording()
        elif config.request_headers is not None:
            span.start_with(config.request_headers.attributes(headers))
        tracers.recorded = recording
        if recording and not started_at:
            started_at = getattr(span, "start_time", 0) or 0
        if not recording and not measured and config.response_header is None:
            return _attached(received, span, span), receive, send, None
        # Filled here: a constructor takes 1,400 instructions more.
        exchange: Any = _new(Request if kind == "http" else WebSocket)
        exchange.config = config
        exchange.caller = received
        exchange.scope = scope
        exchange.source = receive
        exchange.forward = send
        exchange.span = span
        exchange.recording = recording
        exchange.deferred = from_facts
        exchange.method = method
        exchange.started_at = started_at
        try:
            exchange.root_path = scope["root_path"]
        except KeyError:
            exchange.root_path = ""
        exchange.template = exchange.metrics = None
        exchange.status = exchange.end_time = exchange.client_left_at = 0
        exchange.trailers = exchange.ended = False
    except BaseException:
        span.end()
        raise
    receive, send = (exchange.receive, exchange.send) if forwarded is None else _measured(exchange, forwarded)
    if recording and config.on_request is not None:
        _call(config.on_request, exchange)
    if remote or not received:  # _attached(), without the call
        return Context({SPAN_KEY: span, REQUEST_KEY: exchange}), receive, send, exchange
    return _attached(received, span, exchange), receive, send, exchange


def _start_span(
    config: ServerConfig,
    scope: Scope,
    headers: Headers,
    fields: dict[bytes, bytes],
    received: Context | RemoteParent,
    links: Sequence[Link],
    tracer: Tracer | None,
    method: str,
    started_at: int,
    forwarded: Forwarded | None,
) -> Span:
    """The request's span with its attributes: where the tracer keeps no facts, or the options ask for more of them.

    Without a tracer it is the caller's, for what records all the same.
    """
    if tracer is None:
        return caller_context(received).get(SPAN_KEY, INVALID_SPAN)  # type: ignore[return-value]
    if not config.tracers.recorded:  # the last one, so most likely not this one either
        attributes: Mapping[str, AttributeValue] = LazyAttributes(
            config.attributes, scope, fields, headers, method, forwarded
        )
    elif config.reads_more_headers:
        attributes = config.attributes(scope, fields, headers, method, forwarded)
    else:
        attributes = server_attributes(scope, fields, method, config.description)
    name = "HTTP" if method is OTHER_METHOD else method
    parent = caller_context(received)
    # One place records exceptions and sets the status, so both of the SDK's own ways are off.
    kind = SpanKind.INTERNAL if type(received) is OuterContext else _SERVER
    span: Span = tracer.start_span(name, parent, kind, attributes, links, started_at or None, False, False)
    return span


def _attached(received: Context | RemoteParent, span: Any, request: Any) -> Context:
    """The context in which the application runs: the caller's, with our span and our request."""
    if not received or type(received) is tuple:
        return Context({SPAN_KEY: span, REQUEST_KEY: request})
    return Context({**received, SPAN_KEY: span, REQUEST_KEY: request})  # type: ignore[dict-item]


def _measured(exchange: Request | WebSocket, forwarded: Forwarded) -> tuple[Receive, Send]:
    """Let a meter record the request. Returns the application's `receive` and `send`."""
    config, scope = exchange.config, exchange.scope
    receive, send = exchange.receive, exchange.send
    try:
        scheme = forwarded.scheme or server_scheme(scope)
        exchange.metrics = metrics = RequestMetrics(config.metrics, scheme, server_protocol(scope))
        if config.metrics.counts_active:
            metrics.started(exchange)
        if config.metrics.counts_bodies:
            bodies = CountedBodies(metrics, config.guard, exchange.method, receive, send)
            return bodies.receive, bodies.send
    except Exception:
        config.guard.report("recording a metric")
    return receive, send


def _call(on_request: Callable[[Span, Scope], object], exchange: Request | WebSocket) -> None:
    try:
        on_request(exchange.span, exchange.scope)
    except (Exception, CancelledError):  # the one that is no Exception and that libraries raise themselves
        exchange.config.guard.report("the hook on_request")
    except BaseException as exc:  # SystemExit: the application is not called any more
        try:
            exchange.failed(exc)
        finally:
            release(exchange.scope)
        raise


def _excluded(config: ServerConfig, scope: Scope, headers: Headers) -> Context:
    """The context of an excluded request: unsampled, in the caller's trace when that is trusted."""
    if FASTAPI in scope or STARLETTE in scope:
        claim(scope)
    else:  # claim(), without the call
        scope[CLAIM] = CLAIMS
        scope[FASTAPI] = None
        scope[STARLETTE] = True
    context = UnreadContext()
    context.propagation = config.propagation if config.trusts is None or config.trusts(scope) else None
    context.headers = headers
    return context


def _parent(
    config: ServerConfig, scope: Scope, received: Context | RemoteParent, ambient: Context
) -> tuple[Context | RemoteParent, Sequence[Link]]:
    """The context of the request's parent, and links to a caller that is not its parent.

    A caller that is not trusted is linked to. Below the span of something else the request is a child of that.
    """
    links: Sequence[Link] = ()
    if config.trusts is not None and received and not config.trusts(scope):
        received, links = _EMPTY, _links_to(caller_context(received))
    outer = outer_span(ambient)
    if outer is not None:
        caller = caller_context(received)
        remote = caller.get(SPAN_KEY)
        if isinstance(remote, Span) and remote.get_span_context().trace_id != outer.get_span_context().trace_id:
            links = _links_to(caller)
        received = OuterContext({**caller, **ambient})
    return received, links


def _step_aside(
    config: ServerConfig, scope: Scope, headers: Headers, ambient: Context, receive: Receive, send: Send
) -> Context | None:
    """The context in which to call an application that is suppressed, or excluded or traced further out."""
    if is_suppressed(ambient):
        return ambient
    if is_excluded_further_out(scope, ambient):
        return _excluded(config, scope, headers)
    other = other_instrumentation(scope, ambient, receive, send)
    if other is None:
        return None
    config.guard.warn(
        other.name,
        f"{other.name} already traces these requests, so TraceMiddleware steps aside and makes no span."
        f" To let TraceMiddleware trace them, {other.remedy}.",
    )
    claim(scope)  # a framework's own telemetry further in would be one more
    return Context({**ambient, REQUEST_KEY: other.span})


def _links_to(refused: Context) -> Sequence[Link]:
    remote = refused.get(SPAN_KEY)
    return (Link(remote.get_span_context()),) if isinstance(remote, Span) else ()
