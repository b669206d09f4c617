"""Who is traced, and as what: the decisions before the application sees a scope.

`Inbound` holds the settings of one middleware, computed once. `open_http` and `open_websocket` decide, for one scope,
which context to attach and what the application gets as `receive` and `send`; what belongs to the request is then
in a `Request` or `Socket` of its own. A request that nobody records gets the server's own functions.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Iterable, Mapping, Sequence
from time import time_ns
from typing import TYPE_CHECKING, Any, TypeAlias

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanKind

from .._guard import Guard
from .._options.capture_headers import HeaderCapture
from .._options.checks import hook, one_of, provider
from .._options.exclude import exclusion
from .._options.redact import Redaction
from .._otel.context import get_current
from .._otel.exceptions import ExceptionRecorder
from .._otel.lazy_attributes import LazyAttributes
from .._otel.metrics import Metrics
from .._otel.tracers import Tracers
from .._propagation.propagator import SPAN_KEY, Propagation
from .._semconv.http import DEFAULT_PORTS, known_methods
from .._semconv.names import OTHER_METHOD, SCHEME
from .._semconv.server import server_attributes, server_protocol, server_scheme
from .._types import AttributeValue, Headers, Message, Receive, Scope, Send
from .coexistence import FASTAPI, MARK, QUIET, STARLETTE, mark, neighbour
from .current import REQUEST_KEY
from .excluded_span import SilentSpan
from .forwarded import NOTHING_FORWARDED, Forwarded, forwarded_attributes, read_forwarded
from .request import MeasuredRequest, Request, SizedRequest
from .response_header import response_header_of
from .trust import Networks, caller_policy
from .websocket import Socket

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import TracerProvider

__all__ = ["Inbound", "Opened"]

Opened: TypeAlias = tuple[Context, Receive, Send, Request | Socket | None]
"""The context to attach, what the application gets, and whom to tell how it went."""

_EMPTY = Context()
_SERVER = SpanKind.SERVER  # enums are slow to look into
_KNOWN_VERSIONS = frozenset({"1.0", "1.1", "2", "3"})

try:
    from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY as _SUPPRESS
except ImportError:  # pragma: no cover - the API says that this key will move
    _SUPPRESS = "suppress_instrumentation"


class Inbound:
    """The settings of one `TraceMiddleware`; its options say what each means."""

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        propagator: TextMapPropagator | None,
        exclude: str | Iterable[str] | Callable[[Scope], bool],
        trust: bool | str | Iterable[str] | Callable[[Scope], bool],
        trusted_proxies: str | Iterable[str],
        capture_request_headers: str | Iterable[str],
        capture_response_headers: str | Iterable[str],
        redact: str | Iterable[str] | Callable[[str, str], str],
        response_header: str | None,
        on_request: Callable[[Span, Scope], object] | None,
        on_response: Callable[[Span, Scope, Message], object] | None,
        metrics: str | Iterable[str],
        websocket: str,
    ) -> None:
        provider("tracer_provider", tracer_provider, "get_tracer")
        provider("meter_provider", meter_provider, "get_meter")
        self.guard = Guard()
        self.tracers = Tracers(tracer_provider)
        self.metrics = Metrics("server", metrics, meter_provider)
        self.errors = ExceptionRecorder()
        self.handshake_only = one_of("websocket", websocket, ("connection", "handshake")) == "handshake"
        self._propagation = Propagation(propagator)
        self._excluded_path, self._excluded = exclusion(exclude, self.guard)
        self._trusts = caller_policy(trust)
        self._proxies = Networks(trusted_proxies, option="trusted_proxies") or None
        self._redaction = Redaction(redact)
        prefix = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_"
        self._request_headers = (
            HeaderCapture("http.request.header.", capture_request_headers, prefix + "REQUEST", self._redaction) or None
        )
        self._response_headers = (
            HeaderCapture("http.response.header.", capture_response_headers, prefix + "RESPONSE", self._redaction)
            or None
        )
        self._extras = self._proxies is not None or self._request_headers is not None
        self._on_request = hook("on_request", on_request)
        self._on_response = hook("on_response", on_response)
        self._response_header = response_header_of(response_header)
        self._methods = known_methods()
        self.watches_response = bool(self._response_headers or self._on_response or self._response_header)

    def open(self, kind: str, scope: Scope, receive: Receive, send: Send) -> Opened | None:
        """Decide about an `http` or `websocket` scope. None: the application is called as if we were not there.

        Straight down, cheapest first: every request pays for each step until it is known that nothing is to be done.
        """
        if MARK in scope:
            return None
        headers: Headers = scope.get("headers", ())
        if type(headers) is not list and not isinstance(headers, tuple):
            scope["headers"] = headers = list(headers)  # an iterator can be read only once, and is not ours
        if (self._excluded_path is not None and self._excluded_path(scope["path"])) or (
            self._excluded is not None and self._excluded(scope)
        ):
            return self._silence(scope, headers), receive, send, None
        ambient = get_current()
        alone = True
        if ambient or FASTAPI in scope or STARLETTE in scope:
            alone = False
            aside = self._step_aside(scope, ambient, receive, send)
            if aside is not None:
                return aside, receive, send, None
        fields = dict(headers)
        parent = self._propagation.extract(fields, headers)
        links: Sequence[Link] = ()
        if self._trusts is not None and parent and not self._trusts(scope):
            parent, links = _EMPTY, _links_to(parent)
        http = kind == "http"
        measured = http and self.metrics.first._real_instrument is not None and self.metrics.live()
        tracer = self.tracers.fixed or self.tracers.current()
        if tracer is None and not measured and self._response_header is None:
            return (parent, receive, send, None) if parent or ambient else None
        method: Any = "GET"  # a WebSocket's handshake
        if http:
            method = scope.get("method")
            if method not in self._methods:
                method = OTHER_METHOD
        started_at = time_ns() if measured else None  # None: the SDK asks for it, as late as that
        span: Any  # a Context holds objects
        recording = False
        if tracer is None:
            span = parent.get(SPAN_KEY, INVALID_SPAN)
        else:
            if not self.tracers.recorded:  # the last one, so most likely not this one either
                attributes: Mapping[str, AttributeValue] = LazyAttributes(
                    self.attributes, scope, fields, headers, method
                )
            elif self._extras:
                attributes = self.attributes(scope, fields, headers, method)
            else:
                attributes = server_attributes(scope, fields, method, self._redaction)
            name = "HTTP" if method is OTHER_METHOD else method
            # One place records exceptions and sets the status, so both of the SDK's own ways are off.
            span = tracer.start_span(name, parent, _SERVER, attributes, links, started_at, False, False)
            self.tracers.recorded = recording = span.is_recording()
        if alone:
            scope[MARK] = QUIET
            scope[FASTAPI] = None
            scope[STARLETTE] = True
        else:
            mark(scope)
        if not recording and not measured and self._response_header is None:
            return Context({**parent, SPAN_KEY: span, REQUEST_KEY: span}), receive, send, None
        exchange: Request | Socket
        if measured:
            exchange = self._measured(
                parent, scope, receive, send, span, recording, method, headers, started_at or time_ns()
            )
        elif http:
            exchange = Request(self, parent, scope, receive, send, span, recording, method)
        else:
            exchange = Socket(self, parent, scope, receive, send, span, recording, method)
        if self._on_request is not None and recording:
            try:
                self._on_request(span, scope)
            except (Exception, CancelledError):  # the one that is no Exception, and that libraries raise by themselves
                self.guard.report("the hook on_request")
        return (
            Context({**parent, SPAN_KEY: span, REQUEST_KEY: exchange}),
            exchange.receive,
            exchange.send,
            exchange,
        )

    def _measured(
        self,
        parent: Context,
        scope: Scope,
        receive: Receive,
        send: Send,
        span: Span,
        recording: bool,
        method: str,
        headers: Headers,
        started_at: int,
    ) -> MeasuredRequest:
        """A request that a meter records. Its labels are bounded: schemes and versions that exist, no others."""
        kind = SizedRequest if self.metrics.counts_bodies else MeasuredRequest
        request = kind(self, parent, scope, receive, send, span, recording, method)
        scheme = self._forwarded(scope, headers).scheme or server_scheme(scope)
        version = server_protocol(scope)
        request.measure_start(
            started_at, scheme if scheme in DEFAULT_PORTS else "http", version if version in _KNOWN_VERSIONS else None
        )
        return request

    def attributes(
        self, scope: Scope, fields: dict[bytes, bytes], headers: Headers, method: str
    ) -> dict[str, AttributeValue]:
        """What a sampler may want to know, and the span is to show, before the application runs."""
        attributes = server_attributes(scope, fields, method, self._redaction)
        forwarded = self._forwarded(scope, headers)
        if forwarded is not NOTHING_FORWARDED:
            attributes.update(forwarded_attributes(forwarded, str(attributes[SCHEME]), fields.get(b"host")))
        if self._request_headers is not None:
            attributes.update(self._request_headers.attributes(headers))
        return attributes

    def _forwarded(self, scope: Scope, headers: Headers) -> Forwarded:
        return NOTHING_FORWARDED if self._proxies is None else read_forwarded(scope, headers, self._proxies)

    def respond(self, exchange: Request | Socket, message: Message) -> Message:
        """A response or an accepted handshake starts: capture, hook, and the header that tells the trace id."""
        if "headers" in message and not isinstance(message["headers"], (list, tuple)):
            message = {**message, "headers": list(message["headers"])}
        if exchange.recording:
            if self._response_headers is not None:
                exchange.span.set_attributes(self._response_headers.attributes(message.get("headers") or ()))
            if self._on_response is not None:
                try:
                    self._on_response(exchange.span, exchange.scope, message)
                except (Exception, CancelledError):
                    self.guard.report("the hook on_response")
        if self._response_header is not None:
            return self._response_header(exchange.span.get_span_context(), message)
        return message

    def _silence(self, scope: Scope, headers: Headers) -> Context:
        """The context of an excluded request: unsampled, in the caller's trace when that is trusted."""
        mark(scope)
        if self._trusts is not None and not self._trusts(scope):
            return Context({SPAN_KEY: SilentSpan(None, ())})
        fields = dict(headers)
        if b"baggage" in fields:  # goes on, as it does from any other request
            caller = self._propagation.extract(fields, headers)
            return Context({**caller, SPAN_KEY: SilentSpan(self._propagation, headers)})
        return Context({SPAN_KEY: SilentSpan(self._propagation, headers)})

    def _step_aside(self, scope: Scope, ambient: Context, receive: Receive, send: Send) -> Context | None:
        """The context in which to call an application that is suppressed, or that another instrumentation traces."""
        if ambient.get(_SUPPRESS):
            return ambient
        other = neighbour(scope, ambient, receive, send)
        if other is None:
            return None
        self.guard.warn(
            other.name,
            f"{other.name} already traces these requests, so TraceMiddleware steps aside and makes no span."
            f" To let TraceMiddleware trace them, {other.remedy}.",
        )
        mark(scope)  # a framework's own telemetry further in would be one more
        return Context({**ambient, REQUEST_KEY: other.span})


def _links_to(refused: Context) -> Sequence[Link]:
    remote = refused.get(SPAN_KEY)
    return (Link(remote.get_span_context()),) if isinstance(remote, Span) else ()
