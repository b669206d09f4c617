"""What this package relies on in OpenTelemetry's API beyond its documentation: each fact once, with its fallback.

Where a fact does not hold in some version of the API, the fallback works too: it costs more, or falls back to the
documented default. No other module of the package reads a private name of the API.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextvars import ContextVar, Token
from importlib import import_module
from typing import Any

from opentelemetry import context as _context
from opentelemetry._logs import Logger, NoOpLogger
from opentelemetry.baggage import set_baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpHistogram, NoOpUpDownCounter
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import DEFAULT_TRACE_STATE, INVALID_SPAN, SpanContext, TraceFlags, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .._guard import logger

__all__ = [
    "BAGGAGE_KEY",
    "GLOBAL_PROVIDER",
    "REAL",
    "SPAN_CONTEXT_IS_TUPLE",
    "SPAN_KEY",
    "SUPPRESS",
    "SUPPRESSIONS",
    "SUPPRESS_ALL",
    "SUPPRESS_HTTP",
    "TEXTMAP",
    "context_variable",
    "get_global_textmap",
    "global_provider",
    "instrument_state",
    "is_suppressed",
    "is_waiting",
    "parts_of",
    "records_logs",
    "textmap_state",
]

# A Context is an immutable mapping, and each value that the API puts into it has one key. The keys are learned from
# public functions.
(SPAN_KEY,) = set_span_in_context(INVALID_SPAN, Context())
"""The key of the current span in a Context."""
(BAGGAGE_KEY,) = set_baggage("key", "value", Context())
"""The key of the baggage in a Context: a mapping of names to values."""


# The keys that instrumentations set in a Context to silence those further in. They are private and documented as
# "will be moved"; the older instrumentations use the plain texts.
SUPPRESS: str = getattr(_context, "_SUPPRESS_INSTRUMENTATION_KEY", "suppress_instrumentation")
"""The key that silences every instrumentation: exporters and their processors set it while they work."""
SUPPRESS_HTTP: str = getattr(_context, "_SUPPRESS_HTTP_INSTRUMENTATION_KEY", "suppress_http_instrumentation")
"""The key that silences HTTP instrumentations only."""
SUPPRESS_ALL: tuple[str, str] = (SUPPRESS, "suppress_instrumentation")
"""The keys that silence every instrumentation."""
SUPPRESSIONS = frozenset({*SUPPRESS_ALL, SUPPRESS_HTTP})
"""All the keys that silence an HTTP instrumentation. A Context that has none of them needs no further look."""


def is_suppressed(context: Context) -> bool:
    """Is instrumentation, or HTTP instrumentation, switched off in this context?

    Exporters do that for their own calls, and instrumentations for a request that they trace already.
    """
    return any(context.get(key) for key in SUPPRESSIONS)


def context_variable() -> ContextVar[Context] | None:
    """The context variable that holds the current Context, learned from the token that `attach` returns.

    None where OTEL_PYTHON_CONTEXT names another implementation, or where the API keeps the Context elsewhere: then the
    API's own functions are to be called.
    """
    if os.environ.get("OTEL_PYTHON_CONTEXT"):
        return None
    token: Any = _context.attach(_context.get_current())
    _context.detach(token)
    return token.var if isinstance(token, Token) else None


# A SpanContext is a tuple of its six properties. Reading or making one as that tuple saves five calls, or the
# constructor's second check of ids that are valid already: a quarter of the cost of reading a `traceparent`. Where it
# is not a tuple, it is made by its constructor, and the configured propagator writes it.
def _span_context_is_tuple() -> bool:
    parts = (1, 2, True, TraceFlags(1), DEFAULT_TRACE_STATE)
    constructed: Any = SpanContext(*parts)
    try:
        made = tuple.__new__(SpanContext, (*parts, True))
        return tuple(constructed) == tuple(made) == (*parts, True) and made.is_valid
    except TypeError:
        return False


SPAN_CONTEXT_IS_TUPLE = _span_context_is_tuple()
"""May a `SpanContext` be made and unpacked as `(trace_id, span_id, is_remote, trace_flags, trace_state, is_valid)`?"""


# `get_tracer_provider()` reads the environment at each call until a provider is set: 1.2 us, eight times the frame of a
# decorated function, which is all that is left then. So once it has answered, its variable is looked at instead; where
# the API has no such variable, the function is called each time.
GLOBAL_PROVIDER = "_TRACER_PROVIDER"
"""The name in `opentelemetry.trace` that the global provider has, None until one is set."""


# Every request asks whether the global propagator is still the one that is known. Its variable is looked at: a quarter
# of the instructions of `get_global_textmap()`. Where the API has no such variable, the function is called.
TEXTMAP = "_HTTP_TEXT_FORMAT"
"""The name in `opentelemetry.propagate` that the global propagator has."""


# An instrument made before a MeterProvider is set is a proxy; its attribute `_real_instrument` is what it passes
# measurements to, None until then. There is no public question for it, and `get_meter_provider()` reads the environment
# at each call. Every request asks, so it is asked as an entry of the proxy's own dictionary: a function, also one of C,
# would cost 700 instructions more, 3.5 % of what a request costs without a provider.
REAL = "_real_instrument"
_NOTHING = (NoOpHistogram, NoOpUpDownCounter)


def instrument_state(instrument: object) -> dict[str, object]:
    """A mapping whose entry REAL is None while, or if, `instrument` measures nothing.

    That of a proxy is live: the entry changes when a MeterProvider is set. Without the private attribute, an instrument
    is taken to be a real one.
    """
    state: dict[str, object] = getattr(instrument, "__dict__", {})
    return state if REAL in state else {REAL: None if isinstance(instrument, _NOTHING) else instrument}


def is_waiting(instrument: object) -> bool:
    """Is this a proxy that waits for a MeterProvider?"""
    return getattr(instrument, REAL, instrument) is None


def records_logs(logger: Logger) -> bool:
    """Does a logger of `get_logger()` pass records on? One of the API's proxy does once a LoggerProvider is set.

    A proxy's private `_logger` is the real one or one that does nothing. Without the attribute, the logger is taken to
    be a real one.
    """
    return not isinstance(getattr(logger, "_logger", logger), NoOpLogger)


def parts_of(propagator: CompositePropagator) -> tuple[TextMapPropagator, ...] | None:
    """The propagators of which a composite consists; None where that cannot be known.

    Only a private attribute tells: `fields` and a trial show header names, and a class of the application's own may use
    the same ones. Where the attribute is missing, the composite is called as it is.
    """
    parts = getattr(propagator, "_propagators", None)
    return None if parts is None else tuple(parts)


def _global_textmap() -> Callable[[], TextMapPropagator]:
    """The API's `get_global_textmap`, or a function that returns what OTEL_PROPAGATORS asks for.

    The API reads that variable when its module is imported. The import fails at a name that is misspelled or not
    installed, and at an empty one, as a trailing comma leaves it. Neither must stop a service.
    """
    try:
        from opentelemetry.propagate import get_global_textmap
    except Exception:  # ValueError for a name; any other one is raised by a propagator
        propagator = _configured_propagator()
        return lambda: propagator
    return get_global_textmap


def _configured_propagator() -> TextMapPropagator:
    """OTEL_PROPAGATORS read as the API does, but without its empty names; one warning and the default if that fails."""
    from importlib.metadata import entry_points

    given = os.environ.get("OTEL_PROPAGATORS", "").split(",")
    names = [name.strip() for name in given if name.strip()] or ["tracecontext", "baggage"]
    parts: list[TextMapPropagator] = []
    for name in names:
        if name.lower() == "none":
            return CompositePropagator([])
        try:
            (point, *_) = entry_points(group="opentelemetry_propagator", name=name)
            parts.append(point.load()())
        except Exception as exc:
            reason = "is misspelled or not installed" if isinstance(exc, ValueError) else f"failed ({exc!r})"
            logger.warning("OTEL_PROPAGATORS: %r %s; tracecontext,baggage is used instead", name, reason)
            return CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    return CompositePropagator(parts)


get_global_textmap = _global_textmap()


# Asking for a global provider builds the one that OTEL_PYTHON_TRACER_PROVIDER or its like names, and else returns a
# placeholder. Whether one has been set can only be read from where the API keeps it. Where that is somewhere else,
# there seems to be none: then setting one fails with the API's own warning.
_PROVIDERS = {
    "tracer": ("opentelemetry.trace", "_TRACER_PROVIDER"),
    "meter": ("opentelemetry.metrics._internal", "_METER_PROVIDER"),
    "logger": ("opentelemetry._logs._internal", "_LOGGER_PROVIDER"),
}


def global_provider(kind: str) -> Any:
    """The global "tracer", "meter" or "logger" provider that has been set, or None."""
    module, name = _PROVIDERS[kind]
    return getattr(import_module(module), name, None)


def textmap_state() -> dict[str, object]:
    """A mapping whose entry TEXTMAP is the global propagator; None where that is only known by asking for it."""
    state = vars(sys.modules[get_global_textmap.__module__])
    return state if state.get(TEXTMAP) is get_global_textmap() else {TEXTMAP: None}
