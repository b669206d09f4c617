"""Which requests of a client are traced, under what name, and what is sent with them: the decisions before a send.

The mirror of the server's side: `Outbound` holds the settings of one transport, computed once, and what belongs to one
send is in a `Call` of its own. httpx and httpx2 are known here only by what their requests have: a method, a URL,
headers and extensions.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from time import time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context, get_current
from opentelemetry.trace import INVALID_SPAN, NonRecordingSpan, Span, SpanKind

from .._guard import Guard
from .._options.capture_headers import HeaderCapture
from .._options.checks import hook, plain_function, provider, texts
from .._options.exclude import compile_patterns, environment_patterns
from .._options.redact import Redaction
from .._otel.api import BAGGAGE_KEY, SPAN_KEY, SUPPRESS_HTTP, SUPPRESSIONS, is_suppressed
from .._otel.exceptions import ExceptionRecorder
from .._otel.lazy_attributes import LazyAttributes
from .._otel.metrics import Metrics
from .._otel.tracers import Tracers
from .._propagation.propagator import Propagation
from .._semconv.client import ClientAttributes, client_destination
from .._semconv.http import known_methods, span_name, text
from .._semconv.names import RESEND_COUNT, URL_FULL, URL_TEMPLATE
from .._types import Attributes, AttributeValue, Headers
from .call import IN_USE, SENDS, Call, Sends, twin
from .destinations import Destinations
from .exceptions import masked
from .metrics import Measured

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import TracerProvider

_CONTRIB = "opentelemetry.instrumentation.httpx"
_CLIENT = SpanKind.CLIENT


class Outbound:
    """The settings of one transport; its options say what each means.

    `stream_type` is the library's class of bodies, `memory_type` its class of those that are there already, `body_type`
    ours, which tells a `Call` what is read from another; `network` says that the transport further in is the library's
    own for the network, `innermost` that none of ours can be behind it.
    """

    def __init__(
        self,
        *,
        stream_type: type,
        memory_type: type,
        body_type: type[Any],
        network: bool,
        innermost: bool,
        tracer_provider: TracerProvider | None,
        meter_provider: MeterProvider | None,
        propagator: TextMapPropagator | None,
        propagate_to: str | Iterable[str] | Callable[[Any], bool] | None,
        redact: str | Iterable[str] | Callable[[str, str], str],
        capture_request_headers: str | Iterable[str],
        capture_response_headers: str | Iterable[str],
        on_request: Callable[[Span, Any], object] | None,
        on_response: Callable[[Span, Any, Any], object] | None,
        exclude: str | Iterable[str] | Callable[[Any], bool],
        metrics: str | Iterable[str],
    ) -> None:
        provider("tracer_provider", tracer_provider, "get_tracer")
        provider("meter_provider", meter_provider, "get_meter")
        if callable(propagate_to):
            plain_function("propagate_to", propagate_to)
        elif propagate_to is not None:
            propagate_to = texts("propagate_to", propagate_to, "host patterns like '*.internal'")
        self.stream_type = stream_type
        self.memory_type = memory_type
        self.body_type = body_type
        self.guard = Guard()
        self.errors = ExceptionRecorder()
        self.metrics = Metrics("client", metrics, meter_provider)
        self.on_request = hook("on_request", on_request)
        self.on_response = hook("on_response", on_response)
        self.dropped: deque[Call] = deque()
        self._redaction = Redaction(redact)
        self._request_headers = self._capture("request", capture_request_headers)
        self.response_headers = self._capture("response", capture_response_headers)
        self.curious = self.response_headers is not None or self.on_response is not None
        """Is there more to do with a response than the conventions ask for?"""
        self._network = network
        self._innermost = innermost
        self._tracers = Tracers(tracer_provider)
        self._propagation = Propagation(propagator)
        self._destinations = Destinations(propagate_to)
        self._everywhere = self._destinations.everywhere
        self._picky = not (innermost and self._everywhere)
        """Is there anything to do for a request that nobody traces, outside of any context?"""
        self._excluded = _exclusion(exclude, self.guard)
        self._methods = known_methods()
        self._conventions = ClientAttributes(self._methods, self._redaction)

    def _capture(self, half: str, names: str | Iterable[str]) -> HeaderCapture | None:
        variable = f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_{half.upper()}"
        return HeaderCapture(f"http.{half}.header.", names, variable, self._redaction) or None

    def open(self, request: Any) -> Call | Sends | None:
        """Decide about a send and write its headers. Whom to tell how it goes; None when nobody wants to know."""
        ambient = get_current()
        call: Call | None = None
        try:
            extensions: Mapping[str, Any] = request.extensions
            sends: Sends | None = extensions.get(SENDS)
            if sends is not None:
                if sends.active:
                    return IN_USE if sends.sender is self else None
                if sends.lines is not None:
                    sends.sender.take_back(request, sends)
            if not SUPPRESSIONS.isdisjoint(ambient) and is_suppressed(ambient):
                return None
            tracers = self._tracers
            tracer = tracers.fixed or tracers.current()
            metered = self.metrics.live()
            if (
                (tracer is None and not metered)
                or ("asgi_trace" in extensions and extensions["asgi_trace"] is False)
                or (self._excluded is not None and self._excluded(request))
            ):
                return self._pass_on(request, sends, ambient) if ambient or self._picky else None
            parent: Span = ambient.get(SPAN_KEY, INVALID_SPAN)  # type: ignore[assignment]
            if (
                parent.__class__ is not NonRecordingSpan
                and _CONTRIB in sys.modules
                and _traces_already(parent, request)
            ):
                self.guard.warn("contrib", f"{_CONTRIB} traces this client as well: use one of them, not both")
                return None
            # contrib patches the library's own transport: what it would add there is kept still.
            shadowing = self._network and _CONTRIB in sys.modules
            started_at = time_ns()
            lines: Headers = request.headers.raw
            attributes: Mapping[str, AttributeValue]
            if metered or tracers.recorded:
                attributes = self._conventions.of(request, lines)
                if sends is not None or self._request_headers is not None or "url_template" in extensions:
                    attributes.update(self._more_attributes(request, lines))
            else:  # the last one was not recorded, so most likely this one will not be either
                attributes = LazyAttributes(self._attributes, request, lines)
            measured = Measured(self.metrics, attributes) if metered else None
            recording = False
            span = parent
            if tracer is not None:
                name = request.method if request.method in self._methods else "HTTP"
                if "url_template" in extensions:
                    name = span_name(name, _template(request))
                span = tracer.start_span(name, ambient, _CLIENT, attributes, (), started_at, False, False)
                tracers.recorded = recording = span.__class__ is not NonRecordingSpan and span.is_recording()
            told = recording or metered or shadowing
            if not told and parent.get_span_context().is_valid:
                if sends is not None or BAGGAGE_KEY in ambient or not self._innermost:
                    return self._pass_on(request, sends, Context({**ambient, SPAN_KEY: span}))
                if self._everywhere:  # as in _inject(), but nothing is looked up twice
                    self._propagation.inject(request.headers, ambient, span, lines)
                else:
                    self._inject(request, ambient, span)
                return None  # below this parent the next send fares the same: there is nothing to remember
            context = ambient if tracer is None else Context({**ambient, SPAN_KEY: span})
            if self.dropped:
                self.drain()
            if sends is None:
                sends = Sends(request.url)
                request.extensions = {**extensions, SENDS: sends}  # a new dict: httpx 0.27 shares the caller's
            sends.count += 1
            sends.sender = self
            if not told:
                sends.wrote(request.headers.raw, context if self._inject(request, context) else None)
                sends.active = True
                return sends
            if shadowing:
                context = Context({**context, SUPPRESS_HTTP: True})
            if measured is not None:
                self._measure(measured, context, request)
            call = Call(self, sends, span if recording else None, measured, context, started_at, recording or shadowing)
            if recording and self.on_request is not None:
                call.tell("on_request", self.on_request, request)
                lines = request.headers.raw
            sends.lines = lines
            if self._everywhere:
                sends.context = context
                self._propagation.inject(request.headers, context, span, lines)
            else:
                sends.context = context if self._inject(request, context) else None
            return call
        except Exception:
            self.guard.report("starting a client span")
            self._inject(request, ambient)
            return call
        except BaseException as exc:  # the program is told to stop
            if call is not None:
                call.failed(exc)
            raise

    def _pass_on(self, request: Any, sends: Sends | None, context: Context) -> Sends | None:
        """Send the context, where it may go, with a request that is not traced here. Whom to tell how it goes."""
        lines = request.headers.raw
        allowed = self._inject(request, context)
        if sends is None:
            sends = Sends(request.url)
            request.extensions = {**request.extensions, SENDS: sends}
        sends.sender = self
        sends.wrote(lines, context if allowed else None)
        if self._innermost:
            return None
        sends.active = True  # what is further in would trace it, and send it where this one must not
        return sends

    def beside(self, request: Any) -> Any:
        """What to send in the place of a request that is on its way already."""
        try:
            return twin(request)
        except Exception:
            self.guard.report("telling apart two sends of one request")
            return request

    def take_back(self, request: Any, sends: Sends) -> None:
        """Leave of a request's trace headers what is the caller's own: the last send wrote the others."""
        if sends.lines is not None:
            self._propagation.take_back(request.headers, sends.lines, sends.context)
            sends.lines = None

    def tellable(self, exc: BaseException, request: Any) -> BaseException:
        """`exc`, or its like where its text quotes a header of `request` that is not to be recorded."""
        return masked(exc, request.headers.raw, self._redaction)

    def _measure(self, measured: Measured, context: Context, request: Any) -> None:
        try:
            measured.started(context, request, self)
        except Exception:
            self.guard.report("measuring a request")

    def drain(self) -> None:
        """End the calls that were collected as garbage at a bad moment."""
        while self.dropped:
            self.dropped.popleft().forgotten()

    def _attributes(self, request: Any, lines: Headers) -> Attributes:
        return {
            **self._conventions.of(request, lines),
            **self._more_attributes(request, lines),
        }

    def _more_attributes(self, request: Any, lines: Headers) -> Attributes:
        attributes: Attributes = {}
        extensions = request.extensions
        if SENDS in extensions and extensions[SENDS].count:
            attributes[RESEND_COUNT] = extensions[SENDS].count
        template = _template(request) if "url_template" in extensions else None
        if template is not None:
            attributes[URL_TEMPLATE] = template
        if self._request_headers is not None:
            attributes.update(self._request_headers.attributes(lines))
        return attributes

    def _inject(self, request: Any, context: Context, span: Span | None = None) -> bool:
        """Write `context`, or remove what must not be sent there: was it allowed?"""
        try:
            if self._everywhere or self._may_send(request.url):
                self._propagation.inject(request.headers, context, span)
                return True
            for name in self._propagation.fields:
                request.headers.pop(name, None)
        except Exception:
            self.guard.report("writing the trace context")
        return False

    def _may_send(self, url: Any) -> bool:
        hosts, port = client_destination(url)
        return any(self._destinations.allow(url, host, port) for host in hosts)


def _template(request: Any) -> str | None:
    """The caller's template, as long as the URL is the one that the caller gave it for."""
    template = request.extensions["url_template"]
    sends = request.extensions.get(SENDS)
    redirected = sends is not None and request.url is not sends.url and request.url != sends.url
    return text(template) if isinstance(template, str) and template and not redirected else None


def _traces_already(span: Span, request: Any) -> bool:
    """Is `span` the one that contrib, wrapped around this transport, made for this request?"""
    scope = getattr(span, "instrumentation_scope", None)
    if scope is None or scope.name != _CONTRIB or getattr(span, "kind", None) is not SpanKind.CLIENT:
        return False
    attributes: Mapping[str, Any] = getattr(span, "attributes", None) or {}
    url = attributes.get(URL_FULL) or attributes.get("http.url")
    return isinstance(url, str) and _place(url) == _place(str(request.url))


def _place(url: str) -> tuple[str, str, str]:
    """Scheme, authority without credentials, and path: what nobody redacts."""
    scheme, _, rest = re.split(r"[?#]", url, maxsplit=1)[0].partition("://")
    authority, _, path = rest.partition("/")
    return scheme, authority.rpartition("@")[2], path


def _exclusion(exclude: str | Iterable[str] | Callable[[Any], bool], guard: Guard) -> Callable[[Any], bool] | None:
    """One question about a request: patterns, own and the environment's, are searched in its URL.

    A callable that raises excludes nothing. Raises ValueError for a pattern that does not compile, TypeError for what
    is neither text nor a plain function.
    """
    urls = environment_patterns("OTEL_PYTHON_HTTPX_EXCLUDED_URLS", "OTEL_PYTHON_EXCLUDED_URLS")
    decide = plain_function("exclude", exclude) if callable(exclude) else None
    if not callable(exclude):
        urls = compile_patterns("exclude", exclude) + urls
    if decide is None and not urls:
        return None

    def excluded(request: Any) -> bool:
        if decide is not None:
            try:
                if decide(request):
                    return True
            except Exception:
                guard.report("the callable exclude")
        url = str(request.url) if urls else ""
        return any(pattern.search(url) for pattern in urls)

    return excluded
