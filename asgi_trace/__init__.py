"""Distributed tracing for ASGI services: one middleware, one httpx transport, one connected timeline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._server.current import server_span, set_route
from ._traced.decorator import traced
from ._version import VERSION as __version__
from .middleware import TraceMiddleware

if TYPE_CHECKING:
    from ._configuration.configure import configure

__all__ = ["TraceMiddleware", "__version__", "configure", "server_span", "set_route", "traced"]


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
