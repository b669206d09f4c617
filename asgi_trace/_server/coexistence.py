"""What else traces this request: marks in the scope for layers further in, and a look for those further out.

Two frameworks bring telemetry of their own, and each looks for a key of its own in the scope to see whether an outer
layer has taken the request. Both keys are set while ours has it. contrib's instrumentations are known by the span that
they have made current. Any other span further out (a service's own, AWS Lambda's, a queue worker's) is no reason to
leave the request out: it is the parent then.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import NoOpTracerProvider, Span, SpanKind, get_tracer_provider

from .._otel.api import SPAN_KEY
from .._otel.tracers import INSTRUMENTATION_SCOPE
from .._types import Receive, Scope, Send

CLAIM = "asgi_trace"
FASTAPI = "fastapi.telemetry"
STARLETTE = "starlette.opentelemetry"
CLAIMS: dict[str, bool | None] = {FASTAPI: None, STARLETTE: True}
"""The frameworks' keys, with values that keep their telemetry quiet."""
_CONTRIB = "opentelemetry.instrumentation.asgi"
_HTTP_INSTRUMENTATIONS = frozenset(
    f"opentelemetry.instrumentation.{name}"
    for name in (
        *("aiohttp_server", "asgi", "django", "falcon", "fastapi", "flask", "litestar", "pyramid", "quart", "sanic"),
        *("starlette", "tornado", "wsgi"),
    )
)
"""The names of contrib's instrumentations that make the SERVER span of an HTTP request."""


class OuterContext(Context):
    """A context whose current span is one further out that is not an HTTP request's: the parent of the request."""


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
    name = _scope_of(current)
    if name in _HTTP_INSTRUMENTATIONS and _is_entry(current):
        return OtherInstrumentation(current, f"the instrumentation {name!r}", "remove it from the application")
    if _CONTRIB in (_module_of(receive), _module_of(send)):
        # It may have another tracer, be further in than an entry span, or not be sampled, and then nothing tells whose
        # span it is; but this call's functions are its own.
        return OtherInstrumentation(current, f"the instrumentation {_CONTRIB!r}", "remove it from the application")
    return None


def outer_span(ambient: Context) -> Span | None:
    """The entry span of this process further out that is no HTTP instrumentation's; None for a span that has ended."""
    current = ambient.get(SPAN_KEY)
    if not isinstance(current, Span) or not _is_entry(current):
        return None
    return None if _scope_of(current) in (None, INSTRUMENTATION_SCOPE, *_HTTP_INSTRUMENTATIONS) else current


def is_excluded_further_out(scope: Scope, ambient: Context) -> bool:
    """Has FastAPI's telemetry or Starlette's middleware, further out, taken this request in order not to trace it?

    FastAPI writes None under its key, as it does where it is told to be quiet. Starlette sets its mark also where its
    provider is a no-op, and then nothing is excluded.
    """
    if FASTAPI in scope and scope[FASTAPI] is None:
        return True
    return bool(scope.get(STARLETTE)) and SPAN_KEY not in ambient and not _starlette_is_off(scope)


def _starlette_is_off(scope: Scope) -> bool:
    """Has Starlette's middleware a no-op provider, as far as the application in the scope shows it?"""
    for middleware in getattr(scope.get("app"), "user_middleware", ()):
        if getattr(middleware.cls, "__module__", None) == "starlette.middleware.opentelemetry":
            return isinstance(middleware.kwargs.get("tracer_provider") or get_tracer_provider(), NoOpTracerProvider)
    return isinstance(get_tracer_provider(), NoOpTracerProvider)


def _is_starlettes(span: Span) -> bool:
    """Is it a span of Starlette's middleware?

    That sets its key also where it makes no span, and then another one may be current; without a provider the current
    one is the caller's.
    """
    span_context = span.get_span_context()
    return span_context.is_valid and not span_context.is_remote and _scope_of(span) in (None, "starlette")


def _is_entry(span: Span) -> bool:
    """Is it recorded now, and a span with which a piece of work enters this process?"""
    return span.is_recording() and getattr(span, "kind", None) in (SpanKind.SERVER, SpanKind.CONSUMER)


def _scope_of(span: Span) -> str | None:
    """The name of the instrumentation that made a span; None for one that is not recorded."""
    name: str | None = getattr(getattr(span, "instrumentation_scope", None), "name", None)
    return name


def _module_of(function: Any) -> object:
    """Where a function was written; `__module__` would be that of the function which it wraps."""
    return getattr(function, "__globals__", {}).get("__name__")
