"""contrib's transports and ours, each around the same answer, with a provider and a meter of its own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
from opentelemetry.instrumentation.httpx import SyncOpenTelemetryTransport
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.sampling import Sampler

from asgi_trace.httpx import TraceTransport
from asgi_trace.testing import CapturedSpans

from .asgi import attributes_of
from .metrics import Meters, labels
from .moving_server import environment as with_variables

DURATION = "http.client.request.duration"


def environment(**variables: str) -> AbstractContextManager[None]:
    """Set variables for a block, in which contrib writes today's names where nothing else is said."""
    return with_variables(**{"OTEL_SEMCONV_STABILITY_OPT_IN": "http", **variables})


def answer(request: Any) -> Any:
    """An answer for each path: `/302` and the like, `/failing`, anything else."""
    path = request.url.path.strip("/")
    if path == "failing":
        raise httpx.ConnectError("no route")
    if path == "302":
        return httpx.Response(302, headers={"location": "/done"})
    if path.isdigit():
        return httpx.Response(int(path))
    headers = [("x-cache", "HIT, stale"), ("x-cache", "MISS"), ("set-cookie", "session=hunter2")]
    return httpx.Response(200, text="kettle", headers=headers, extensions={"http_version": b"HTTP/1.1"})


class Side:
    """One of the two transports in a client. `handler` answers, instead of a network."""

    def __init__(
        self,
        transport: Callable[..., Any],
        handler: Callable[[Any], Any] = answer,
        *,
        network: Any = None,
        sampler: Sampler | None = None,
        **options: Any,
    ) -> None:
        self.spans = CapturedSpans(sampler)
        self.meters = Meters()
        self.sent: list[dict[str, str]] = []
        """The headers of each request as they reached the network."""

        def noting(request: Any) -> Any:
            self.sent.append(dict(request.headers))
            return handler(request)

        self.transport = transport(
            network or httpx.MockTransport(noting),
            tracer_provider=self.spans.tracer_provider,
            meter_provider=self.meters.provider,
            **options,
        )
        self.client = httpx.Client(transport=self.transport, follow_redirects=True)

    def get(self, url: str = "http://orders.test/orders/7", method: str = "GET", **request: Any) -> Any:
        """Send one request: its response, or the exception that the client raised."""
        try:
            return self.client.request(method, url, **request)
        except Exception as exc:
            return exc

    @property
    def span(self) -> ReadableSpan:
        """The only span."""
        return self.spans.client

    def attribute(self, *names: str) -> tuple[object, ...]:
        """Attributes of the only span by name; None for one that is not there."""
        return tuple(attributes_of(self.span).get(name) for name in names)

    @property
    def outcome(self) -> tuple[str, str | None, object]:
        """Status, description and `error.type` of the only span."""
        status = self.span.status
        return status.status_code.name, status.description, self.attribute("error.type")[0]

    def points(self) -> list[Any]:
        """The data points of the duration."""
        return self.meters.points(DURATION)

    def labels(self) -> list[dict[str, Any]]:
        """The attributes of each data point of the duration."""
        return [labels(point) for point in self.points()]


def both(
    look: Callable[[Side], object],
    handler: Callable[[Any], Any] = answer,
    *,
    there: dict[str, Any] | None = None,
    here: dict[str, Any] | None = None,
    variables: dict[str, str] | None = None,
    **options: Any,
) -> tuple[Any, Any]:
    """What `look` sees of each side. `there` and `here` are options of one of them."""
    seen = []
    with environment(**(variables or {})):
        for transport, own in ((SyncOpenTelemetryTransport, there), (TraceTransport, here)):
            side = Side(transport, handler, **options, **(own or {}))
            with side.client:
                seen.append(look(side))
    return seen[0], seen[1]
