"""Distributed tracing for ASGI services: one middleware, one httpx transport, one connected timeline.

    from asgi_trace import TraceMiddleware, configure

    configure("orders")  # spans go to the collector of OTEL_EXPORTER_OTLP_ENDPOINT, http://localhost:4317 by default
    app = TraceMiddleware(app)

- `TraceMiddleware` records each HTTP request and WebSocket of an ASGI application as one SERVER span.
- `asgi_trace.httpx` and `asgi_trace.httpx2` have transports that record each request of a client as one CLIENT span.
- `configure` sets up OpenTelemetry's SDK and export. It needs the extra `otlp`; the rest works with any provider.
- `traced` records a function, coroutine or generator of your own as one INTERNAL span.
- `server_span` and `set_route` reach the span of the request in progress.
- `asgi_trace.logging` and `asgi_trace.structlog` put the ids of the current span on log records, `asgi_trace.routes`
  has adapters for frameworks that do not show the route in the scope, and `asgi_trace.testing` captures spans in tests.

The rules are those of W3C Trace Context Level 2, W3C Baggage and OpenTelemetry's semantic conventions for HTTP.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._server.current import server_span, set_route
from ._traced.decorator import traced
from ._version import VERSION as __version__
from .middleware import TraceMiddleware

if TYPE_CHECKING:
    from ._configuration.configure import configure

__all__ = ["TraceMiddleware", "__version__", "configure", "server_span", "set_route", "traced"]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})  # with `configure`, so that help() and completion show it


def __getattr__(name: str) -> Any:
    if name == "configure":  # the only one that needs the SDK, so the SDK is imported for it alone
        try:
            from ._configuration.configure import configure
        except ImportError:  # looking at the name must not fail, as `import *` and hasattr() do
            return _configure_later
        return configure
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _configure_later(*args: Any, **kwargs: Any) -> Any:
    """Stands in for `configure()` where the extra `otlp` is missing. Raises ImportError that says what to install."""
    from ._configuration.configure import configure

    return configure(*args, **kwargs)
