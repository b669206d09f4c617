"""One decorated callable: its settings, computed once, and how each of its spans starts and ends.

Nothing in here can break the callable: what fails is reported once, and the callable runs without a span.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import Token
from inspect import Signature, signature
from time import time_ns
from typing import Any

from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, TracerProvider

from .._guard import Guard
from .._options.redact import Redaction
from .._otel.api import SPAN_KEY, SUPPRESS_ALL
from .._otel.context import get_current, restore
from .._otel.exceptions import ExceptionRecorder
from .._otel.tracers import Tracers
from .._semconv.http import error_type, is_cancellation
from .._semconv.names import CANCELLED, CODE_FUNCTION_NAME, ERROR_TYPE, TRACED_EXCEPTION
from .._server.excluded_span import ExcludedSpan
from .._types import AttributeValue
from .target import names_of

_INTERNAL = SpanKind.INTERNAL  # enums are slow to look into
_SUPPRESSED, _SUPPRESSED_BEFORE = SUPPRESS_ALL
_NO_ERRORS = (StopIteration, StopAsyncIteration, GeneratorExit)
_MARK = "_asgi_trace_recorded"
_MOST_TRACES = 16  # that one exception remembers: a cached one may be raised for ever


class Operation:
    """What `traced` knows of one callable."""

    __slots__ = ("_attributes", "_describe", "_guard", "_name", "_recorder", "_signature", "_target", "tracer")

    def __init__(
        self,
        target: Callable[..., Any],
        name: str | None,
        attributes: Mapping[str, AttributeValue] | Callable[..., Mapping[str, AttributeValue]] | None,
        tracer_provider: TracerProvider | None,
    ) -> None:
        qualified, function_name = names_of(target)
        self._target = target
        self._name = qualified if name is None else name
        self._attributes: dict[str, AttributeValue] = {CODE_FUNCTION_NAME: function_name}
        self._describe: Callable[..., Mapping[str, AttributeValue]] | None = None
        if callable(attributes):
            self._describe = attributes
        elif attributes is not None:
            self._attributes.update(attributes)
        self._guard = Guard()
        self._recorder: ExceptionRecorder | None = None
        self._signature: Signature | None = None
        self.tracer: Callable[[], Tracer | None] = Tracers(tracer_provider, self._guard).current
        """The tracer to use now; None where there is no provider."""

    def start(self, tracer: Tracer, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Context | None:
        """Start a span below the current one. The context in which the callable is to run; None: nothing is recorded.

        A span that is not recorded is not made current: what runs below finds its parent, with the same trace and the
        same decision.
        """
        try:
            context = get_current()
            parent = context.get(SPAN_KEY)
            drops = getattr(tracer, "drops_below", None)  # only our own tracer has it
            if type(parent) is ExcludedSpan or (drops is not None and drops(parent)):
                return None
            if context.get(_SUPPRESSED) or context.get(_SUPPRESSED_BEFORE):
                return None
            # One place records exceptions and sets the status, so both of the SDK's own ways are off.
            span = tracer.start_span(self._name, context, _INTERNAL, self._attributes, (), None, False, False)
            if not span.is_recording():
                return None
        except Exception:
            self._guard.report(f"starting a span for {self._name}")
            return None
        if self._describe is not None:
            self._set_attributes(span, self._describe, args, kwargs)
        return Context({**context, SPAN_KEY: span})

    def _set_attributes(
        self,
        span: Span,
        describe: Callable[..., Mapping[str, AttributeValue]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        try:
            if self._signature is None:
                self._signature = signature(self._target)
            try:
                bound = self._signature.bind(*args, **kwargs)
            except TypeError:  # the callable is about to raise the same, in the caller's own words
                return
            bound.apply_defaults()
            span.set_attributes(describe(**bound.arguments))
        except (Exception, CancelledError):  # the one that is no Exception, and that libraries raise by themselves
            self._guard.warn("attributes", f"the attributes of {self._name} are left out: they failed", exc_info=True)
        except BaseException:
            span.end()
            raise

    def end(self, context: Context) -> None:
        """End the span of `context`."""
        span: Any = context[SPAN_KEY]
        try:
            span.end()
        except Exception:  # a span processor's own
            self._guard.report(f"ending a span for {self._name}")

    def failed(self, context: Context, exc: BaseException) -> None:
        """End the span of `context` with the exception that left the callable."""
        span: Any = context[SPAN_KEY]
        try:
            if is_cancellation(exc) and not isinstance(exc, GeneratorExit):
                span.set_attribute(CANCELLED, True)
            elif not isinstance(exc, _NO_ERRORS):
                span.set_attribute(ERROR_TYPE, error_type(exc))
                if self._recorder is None:
                    self._recorder = ExceptionRecorder(Redaction())
                span.set_status(Status(StatusCode.ERROR, self._recorder.description(exc)))
                if _is_first(span, exc):
                    self._recorder.record(span, context, exc, TRACED_EXCEPTION)
        except Exception:
            self._guard.report(f"recording an exception of {self._name}")
        self.end(context)


def _is_first(span: Span, exc: BaseException) -> bool:
    """Is this the first `traced` span that `exc` leaves? Remembers on the exception that it is recorded now.

    A span that was open already when another one of its trace recorded the exception is further out, or a sibling that
    the exception is thrown into. A span that started later saw the exception raised anew (a retry, a cached object).
    """
    trace_id = span.get_span_context().trace_id
    # Not setattr: a frozen dataclass may be an exception. Plain numbers: it may be unpickled where we are not.
    recorded: dict[int, int] = exc.__dict__.setdefault(_MARK, {})
    at = recorded.get(trace_id)
    if at is not None and (getattr(span, "start_time", None) or 0) <= at:
        return False
    if len(recorded) >= _MOST_TRACES:
        del recorded[next(iter(recorded))]
    recorded[trace_id] = time_ns()
    return True


def leave(token: Token[Context]) -> None:
    """Put the earlier context back, unless this is another one than that in which the span was made current.

    Then there is nothing to put back: a generator is closed by the garbage collector, or a coroutine is driven by
    something that changes contexts under it.
    """
    with suppress(ValueError):
        restore(token)
