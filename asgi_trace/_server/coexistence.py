"""Who else traces this request: marks in the scope for those further in, and a look for those further out.

Two frameworks bring telemetry of their own, and each looks for a key of its own in the scope to see whether an outer
layer has taken the request. Both keys are set while ours has it. Other instrumentations tell by the SERVER span that
they have made current.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind

from .._otel.tracers import INSTRUMENTATION_SCOPE
from .._propagation.propagator import SPAN_KEY
from .._types import Receive, Scope, Send

MARK = "asgi_trace"
FASTAPI = "fastapi.telemetry"
STARLETTE = "starlette.opentelemetry"
QUIET: dict[str, bool | None] = {FASTAPI: None, STARLETTE: True}
"""What the marks of a request are that has no neighbour further out."""
_CONTRIB = "opentelemetry.instrumentation.asgi"


class Neighbour(NamedTuple):
    """Another instrumentation that traces the request already."""

    span: Span
    name: str
    remedy: str


def mark(scope: Scope) -> None:
    """Tell our own kind, and the frameworks' own telemetry, that this request is traced; a key that is there stays."""
    if FASTAPI in scope or STARLETTE in scope:
        scope[MARK] = marks = {key: value for key, value in QUIET.items() if key not in scope}
        scope.update(marks)
    else:
        scope[MARK] = QUIET
        scope[FASTAPI] = QUIET[FASTAPI]
        scope[STARLETTE] = QUIET[STARLETTE]


def unmark(scope: Scope) -> None:
    """Take our marks off a scope: the same dict served again is another request."""
    try:
        if scope[MARK] is QUIET:
            del scope[FASTAPI], scope[STARLETTE], scope[MARK]
            return
    except KeyError:  # the application has taken some of them off
        pass
    for key in scope.pop(MARK, ()):
        scope.pop(key, None)


def neighbour(scope: Scope, ambient: Context, receive: Receive, send: Send) -> Neighbour | None:
    """Who further out has opened a span for this request; None for a current span that is only left over."""
    fastapi = getattr(scope.get(FASTAPI), "span", None)
    if isinstance(fastapi, Span):
        remedy = 'build the application with FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})'
        return Neighbour(fastapi, "FastAPI's own telemetry", remedy)
    current = ambient.get(SPAN_KEY)
    if not isinstance(current, Span):
        return None
    if scope.get(STARLETTE) and _is_starlettes(current):
        return Neighbour(current, "Starlette's OpenTelemetryMiddleware", "remove that middleware from the application")
    if _is_foreign_server_span(current):
        return Neighbour(current, f"the instrumentation {_scope_of(current)!r}", "remove it from the application")
    if not current.is_recording() and _CONTRIB in (_module_of(receive), _module_of(send)):
        # Its span is not sampled, and then nothing tells whose it is; but this call's functions are its own.
        return Neighbour(current, f"the instrumentation {_CONTRIB!r}", "remove it from the application")
    return None


def _is_starlettes(span: Span) -> bool:
    """Starlette's middleware sets its key also where it makes no span, and then another one may be current."""
    return span.get_span_context().is_valid and _scope_of(span) in (None, "starlette")


def _is_foreign_server_span(span: Span) -> bool:
    if not span.is_recording() or getattr(span, "kind", None) is not SpanKind.SERVER:
        return False
    return _scope_of(span) not in (None, INSTRUMENTATION_SCOPE)


def _scope_of(span: Span) -> str | None:
    """The name of the instrumentation that made a span; None for one that is not recorded."""
    name: str | None = getattr(getattr(span, "instrumentation_scope", None), "name", None)
    return name


def _module_of(function: Any) -> object:
    """Where a function was written; `__module__` would be that of the function which it wraps."""
    return getattr(function, "__globals__", {}).get("__name__")
