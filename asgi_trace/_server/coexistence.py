"""What else traces this request: marks in the scope for layers further in, and a look for those further out.

Two frameworks bring telemetry of their own, and each looks for a key of its own in the scope to see whether an outer
layer has taken the request. Both keys are set while ours has it. Other instrumentations are known by the SERVER span
that they have made current.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind

from .._otel.api import SPAN_KEY
from .._otel.tracers import INSTRUMENTATION_SCOPE
from .._types import Receive, Scope, Send

CLAIM = "asgi_trace"
FASTAPI = "fastapi.telemetry"
STARLETTE = "starlette.opentelemetry"
CLAIMS: dict[str, bool | None] = {FASTAPI: None, STARLETTE: True}
"""The frameworks' keys, with values that keep their telemetry quiet."""
_CONTRIB = "opentelemetry.instrumentation.asgi"


class OtherInstrumentation(NamedTuple):
    """Another instrumentation that traces the request already."""

    span: Span
    name: str
    remedy: str


def claim(scope: Scope) -> None:
    """Mark this request as traced, for our own kind and for the frameworks' telemetry; a key that is there stays.

    The value of our own key holds the keys that `release()` has to remove.
    """
    if FASTAPI in scope or STARLETTE in scope:
        scope[CLAIM] = keys = {key: value for key, value in CLAIMS.items() if key not in scope}
        scope.update(keys)
    else:
        scope[CLAIM] = CLAIMS
        scope[FASTAPI] = CLAIMS[FASTAPI]
        scope[STARLETTE] = CLAIMS[STARLETTE]


def release(scope: Scope) -> None:
    """Take our marks off a scope: the same dict served again is another request."""
    try:
        if scope[CLAIM] is CLAIMS:
            del scope[FASTAPI], scope[STARLETTE], scope[CLAIM]
            return
    except KeyError:  # the application has removed some of them, or the scope took none
        if CLAIM not in scope:
            return
    for key in scope.pop(CLAIM):
        scope.pop(key, None)


def other_instrumentation(scope: Scope, ambient: Context, receive: Receive, send: Send) -> OtherInstrumentation | None:
    """What has opened a span for this request further out; None for a current span that is only left over."""
    fastapi = getattr(scope.get(FASTAPI), "span", None)
    if isinstance(fastapi, Span):
        remedy = 'build the application with FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})'
        return OtherInstrumentation(fastapi, "FastAPI's own telemetry", remedy)
    current = ambient.get(SPAN_KEY)
    if not isinstance(current, Span):
        return None
    if scope.get(STARLETTE) and _is_starlettes(current):
        remedy = "remove that middleware from the application"
        return OtherInstrumentation(current, "Starlette's OpenTelemetryMiddleware", remedy)
    if _is_foreign_server_span(current):
        name = f"the instrumentation {_scope_of(current)!r}"
        return OtherInstrumentation(current, name, "remove it from the application")
    if not current.is_recording() and _CONTRIB in (_module_of(receive), _module_of(send)):
        # Its span is not sampled, and then nothing tells whose it is; but this call's functions are its own.
        return OtherInstrumentation(current, f"the instrumentation {_CONTRIB!r}", "remove it from the application")
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
