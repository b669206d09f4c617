"""The options of one transport, checked and computed once: what `start` and `call` look up for each send.

httpx and httpx2 are known here only by the classes that a `Library` names. After construction only these change: what
`tracers`, `metrics` and `propagation` remember of earlier sends to save time, and which failures `guard`
has reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .._guard import Guard
from .._options.capture_headers import HeaderCapture
from .._options.checks import hook, plain_function, provider, texts
from .._options.exclude import request_exclusion
from .._options.redact import Redaction
from .._otel.exceptions import ExceptionRecorder
from .._otel.metrics import Metrics
from .._otel.tracers import Tracers
from .._propagation.propagator import Propagation
from .._semconv.client import ClientDescription
from .._semconv.http import known_methods
from .._semconv.names import REQUEST_HEADER, RESPONSE_HEADER
from .destinations import Destinations
from .library import Library, check_transport, package_of

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.propagators.textmap import TextMapPropagator
    from opentelemetry.trace import Span, TracerProvider


class ClientConfig:
    """The settings of one transport around `transport`; None stands for the library's own one for the network.

    Raises TypeError or ValueError for a wrong transport or option, with what to write instead.
    """

    def __init__(
        self,
        library: Library,
        transport: Any,
        *,
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
        if transport is not None:
            check_transport(library, transport)
        provider("tracer_provider", tracer_provider, "get_tracer")
        provider("meter_provider", meter_provider, "get_meter")
        if callable(propagate_to):
            plain_function("propagate_to", propagate_to)
        elif propagate_to is not None:
            propagate_to = texts("propagate_to", propagate_to, "host patterns like '*.internal'")
        self.library = library
        self.guard = Guard()
        self.tracers = Tracers(tracer_provider)
        self.metrics = Metrics("client", metrics, meter_provider, dict)
        self.propagation = Propagation(propagator)
        self.destinations = Destinations(propagate_to)
        self.redaction = Redaction(redact)
        self.errors = ExceptionRecorder(self.redaction)
        self.request_headers = _captured(
            REQUEST_HEADER,
            "capture_request_headers",
            capture_request_headers,
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST",
            self.redaction,
        )
        self.response_headers = _captured(
            RESPONSE_HEADER,
            "capture_response_headers",
            capture_response_headers,
            "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE",
            self.redaction,
        )
        self.on_request = hook("on_request", on_request)
        self.on_response = hook("on_response", on_response)
        self.inspects_response = self.response_headers is not None or self.on_response is not None
        """Is there more to do with a response than the conventions ask for?"""
        self.is_excluded = request_exclusion(exclude, self.guard)
        self.methods = known_methods()
        self.description = ClientDescription(self.methods, self.redaction, library.url)
        self.is_on_network = transport is None or isinstance(transport, library.network)
        """Is the transport further in the library's own for the network, which contrib may have patched?"""
        self.is_innermost = transport is None or package_of(type(transport)) == package_of(library.network)
        """Is it one of the library's own? None of ours can be behind it then."""
        self.must_touch_unsampled = not (self.is_innermost and self.destinations.everywhere)
        """Is there anything to do for a request that is not traced, outside of any context?"""


def _captured(
    prefix: str, option: str, names: str | Iterable[str], variable: str, redaction: Redaction
) -> HeaderCapture | None:
    """What to record of headers; None when there is nothing."""
    return HeaderCapture(prefix, option, names, variable, redaction) or None
