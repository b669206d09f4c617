"""The options of one `TraceMiddleware`, checked and computed once; nothing of a request is kept here.

What changes after construction is what is remembered between requests: the tracer of the global provider, and which
failures have been reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from opentelemetry.trace import Span

from .._guard import Guard
from .._options.capture_headers import HeaderCapture
from .._options.checks import hook, one_of, provider
from .._options.exclude import exclusion
from .._options.redact import Redaction
from .._otel.exceptions import ExceptionRecorder
from .._otel.metrics import Metrics
from .._otel.tracers import Tracers
from .._propagation.propagator import Propagation
from .._semconv.http import known_methods
from .._semconv.names import REQUEST_HEADER, RESPONSE_HEADER, SCHEME
from .._semconv.server import ServerDescription, server_attributes
from .._types import Attributes, Headers, Message, Scope
from .failed_request import server_logs_afterwards
from .forwarded import NOTHING_FORWARDED, Forwarded, forwarded_attributes, read_forwarded
from .metrics import request_labels
from .networks import TrustedProxies
from .response_header import response_header_of
from .trust import caller_policy

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import TracerProvider


class ServerConfig:
    """The options of one `TraceMiddleware`; its docstring says what each means.

    Raises ValueError or TypeError for an option whose value makes no sense.
    """

    __slots__ = (
        "defers",
        "description",
        "errors",
        "excluded",
        "excluded_path",
        "guard",
        "handshake_only",
        "methods",
        "metrics",
        "on_request",
        "on_response",
        "propagation",
        "proxies",
        "reads_more_headers",
        "redaction",
        "remembers_ends",
        "request_headers",
        "response_header",
        "response_headers",
        "tracers",
        "trusts",
        "watches_response",
    )

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
        self.metrics = Metrics("server", metrics, meter_provider, request_labels)
        self.handshake_only = one_of("websocket", websocket, ("connection", "handshake")) == "handshake"
        self.propagation = Propagation(propagator)
        self.excluded_path, self.excluded = exclusion(exclude, self.guard)
        self.proxies = TrustedProxies(trusted_proxies) or None
        self.trusts = caller_policy(trust, self.proxies, self.guard)
        self.redaction = Redaction(redact)
        self.errors = ExceptionRecorder(self.redaction)
        self.request_headers = (
            HeaderCapture(
                REQUEST_HEADER,
                "capture_request_headers",
                capture_request_headers,
                "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST",
                self.redaction,
            )
            or None
        )
        self.response_headers = (
            HeaderCapture(
                RESPONSE_HEADER,
                "capture_response_headers",
                capture_response_headers,
                "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE",
                self.redaction,
            )
            or None
        )
        self.description = ServerDescription(self.redaction)
        self.reads_more_headers = self.proxies is not None or self.request_headers is not None
        self.defers = self.description.deferrable and self.proxies is None
        self.on_request = hook("on_request", on_request)
        self.on_response = hook("on_response", on_response)
        self.response_header = response_header_of(response_header)
        self.methods: dict[object, str] = {method: method for method in known_methods()}
        self.remembers_ends = server_logs_afterwards()
        self.watches_response = bool(self.response_headers or self.on_response or self.response_header)

    def attributes(
        self, scope: Scope, fields: dict[bytes, bytes], headers: Headers, method: str, forwarded: Forwarded | None
    ) -> Attributes:
        """The attributes of a span's start: what a sampler may look at before the application runs.

        `fields` is `dict(headers)`, `method` a known method or `_OTHER`. `forwarded` is what `forwarded()` returned;
        None: it has not been read yet.
        """
        attributes = server_attributes(scope, fields, method, self.description)
        if forwarded is None:
            forwarded = self.forwarded(scope, headers)
        if forwarded is not NOTHING_FORWARDED:
            attributes.update(forwarded_attributes(forwarded, str(attributes[SCHEME]), fields.get(b"host")))
        if self.request_headers is not None:
            attributes.update(self.request_headers.attributes(headers))
        return attributes

    def forwarded(self, scope: Scope, headers: Headers) -> Forwarded:
        """What trusted proxies say of the request."""
        return NOTHING_FORWARDED if self.proxies is None else read_forwarded(scope, headers, self.proxies)
