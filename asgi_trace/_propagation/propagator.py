"""Reads the caller's context from a request's headers and writes ours into the next one's.

With W3C propagators configured (the default) it does both itself: straight from bytes, and by Level 2. Any other
propagator is called as it is. It never looks at the ambient context, and does not know who may be trusted.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

from opentelemetry.baggage import get_all, set_baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator
from opentelemetry.trace import (
    DEFAULT_TRACE_STATE,
    INVALID_SPAN,
    NonRecordingSpan,
    Span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .._guard import Guard, logger
from .._types import Headers
from .baggage import format_baggage, merge_baggage, parse_baggage
from .traceparent import format_tracestate, read_span_context, write_traceparent

_given = os.environ.get("OTEL_PROPAGATORS", "")
_items = [item for item in _given.split(",") if item.strip()]
try:
    if _items and len(_items) <= _given.count(","):  # the API fails at an empty item, as a trailing comma leaves it
        os.environ["OTEL_PROPAGATORS"] = ",".join(_items)
    from opentelemetry.propagate import get_global_textmap
except ValueError as exc:  # a name in OTEL_PROPAGATORS that is misspelled or not installed must not stop a service
    logger.warning("OTEL_PROPAGATORS: %s; tracecontext,baggage is used instead", exc)
    _default = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])

    def get_global_textmap() -> TextMapPropagator:
        return _default
finally:
    if _items:
        os.environ["OTEL_PROPAGATORS"] = _given

__all__ = ["BAGGAGE_KEY", "SPAN_KEY", "Propagation"]

(SPAN_KEY,) = set_span_in_context(INVALID_SPAN, Context())
"""The key of the current span in a Context, learned from a public function."""
(BAGGAGE_KEY,) = set_baggage("key", "value", Context())

_NOTHING = Context()  # a Context refuses every change, so one is enough
_MOST_FIELDS = 1000
_W3C = frozenset({TraceContextTextMapPropagator, W3CBaggagePropagator})


class _HeaderGetter(Getter[Headers]):
    """ASGI header lines for any propagator: every line of a name, in order; those of `baggage` joined to one list."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        name = key.lower().encode("latin-1", "replace")
        values = [value.decode("latin-1").strip(" \t") for value in _lines(carrier, name)]
        if name == b"baggage" and len(values) > 1:  # propagators read the first line and leave the others
            return [",".join(values)]
        return values or None

    def keys(self, carrier: Headers) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


class _DictSetter(Setter[dict[str, str]]):
    """Header names in lower case, each once."""

    def set(self, carrier: dict[str, str], key: str, value: str) -> None:
        carrier[key.lower()] = value


_GETTER = _HeaderGetter()
_SETTER = _DictSetter()


class _Plan:
    """What was learned about one propagator: which W3C headers it stands for, or that it is something else."""

    __slots__ = ("baggage", "fields", "other", "propagator", "trace_context")

    def __init__(self, propagator: TextMapPropagator) -> None:
        kinds = _kinds(propagator)
        self.propagator = propagator
        self.other = propagator if kinds - _W3C else None
        self.trace_context = TraceContextTextMapPropagator in kinds
        self.baggage = W3CBaggagePropagator in kinds
        self.fields = frozenset(name.lower() for name in propagator.fields)


def _kinds(propagator: TextMapPropagator) -> set[type]:
    """The exact classes of which a propagator consists.

    What a composite holds is told by a private attribute only: `fields` and a probe show header names, and a class of
    the application's own may use the same ones. Where the attribute is missing the composite is called as it is.
    """
    if type(propagator) is not CompositePropagator:
        return {type(propagator)}
    parts = getattr(propagator, "_propagators", None)
    return {CompositePropagator} if parts is None else set().union(*map(_kinds, parts))


class Propagation:
    """Extracts and injects with one propagator; None means the global one, looked up when used.

    Raises TypeError for anything that is no `TextMapPropagator`.
    """

    __slots__ = ("_given", "_guard", "_plan")

    def __init__(self, propagator: TextMapPropagator | None) -> None:
        if not (propagator is None or isinstance(propagator, TextMapPropagator)):
            raise TypeError(f"propagator: {propagator!r} is no propagator; write an instance, like B3MultiFormat()")
        self._given = propagator
        self._guard = Guard()
        self._plan = _Plan(get_global_textmap() if propagator is None else propagator)

    @property
    def fields(self) -> Collection[str]:
        """The header names, in lower case, that carry what this writes: where nothing may be sent, all of them go."""
        return self._current().fields

    def extract(self, fields: dict[bytes, bytes], headers: Headers) -> Context:
        """The caller's context: its span and its baggage in an otherwise empty `Context`.

        `headers` are the lines of an ASGI scope and `fields` is `dict(headers)`. More than one `traceparent` counts as
        an invalid one; the lines of `tracestate` are one list in their order, and so are those of `baggage`.
        """
        plan = self._plan
        if self._given is None and plan.propagator is not get_global_textmap():
            plan = self._current()
        if plan.other is not None:
            return self._extract_with(plan.other, headers)
        traceparent = fields.get(b"traceparent") if plan.trace_context else None
        if not (b"baggage" in fields or b"tracestate" in fields):  # a caller of few words, or none
            if traceparent is None:
                return _NOTHING
            if len(fields) == len(headers):
                span_context = read_span_context(traceparent)
                return _NOTHING if span_context is None else Context({SPAN_KEY: NonRecordingSpan(span_context)})
        baggage = fields.get(b"baggage") if plan.baggage else None
        repeated = len(fields) != len(headers)
        found: dict[str, object] = {}
        if traceparent is not None and not (repeated and len(_lines(headers, b"traceparent")) > 1):
            if b"tracestate" not in fields:
                span_context = read_span_context(traceparent)
            else:
                lines = _lines(headers, b"tracestate") if repeated else [fields[b"tracestate"]]
                span_context = read_span_context(traceparent, lines)
            if span_context is not None:
                found[SPAN_KEY] = NonRecordingSpan(span_context)
        if baggage is not None:
            entries = parse_baggage(_lines(headers, b"baggage") if repeated else [baggage])
            if entries:
                found[BAGGAGE_KEY] = entries
        return Context(found)

    def inject(self, headers: Any, context: Context, span: Span | None = None, lines: Headers | None = None) -> None:
        """Write `context` into a request's headers, in place of what stands there already.

        Without a valid span in `context` the request's own trace headers stay. Baggage is merged by key: the request
        keeps the entries that `context` has no word on. Before a request is sent again, `take_back()` has its turn.

        `headers` are httpx's. `span` stands for the one in `context`, and `lines` are `headers.raw`, for a caller who
        has them at hand. What fails is reported.
        """
        try:
            plan = self._plan
            if self._given is None and plan.propagator is not get_global_textmap():
                plan = self._current()
            if plan.other is not None:
                if span is not None:
                    context = Context({**context, SPAN_KEY: span})
                self._inject_with(plan.other, plan, headers, context)
                return
            if plan.trace_context:
                if span is None:
                    span = context.get(SPAN_KEY)  # type: ignore[assignment]
                if span is not None:
                    # Taken apart as the tuple that it is: five properties are five calls.
                    trace_id, span_id, is_remote, trace_flags, trace_state, is_valid = span.get_span_context()
                    if is_valid:
                        headers["traceparent"] = write_traceparent(trace_id, span_id, trace_flags)
                        if trace_state is not DEFAULT_TRACE_STATE and trace_state:
                            headers["tracestate"] = format_tracestate(trace_state, forwarded=is_remote)
                        else:
                            for name, _ in headers.raw if lines is None else lines:
                                if len(name) == 10 and name.lower() == b"tracestate":
                                    del headers["tracestate"]  # it belonged to another traceparent
                                    break
            if plan.baggage and BAGGAGE_KEY in context:
                entries = context[BAGGAGE_KEY]
                if entries:
                    _set_baggage(headers, format_baggage(entries if isinstance(entries, dict) else get_all(context)))
        except Exception:
            self._guard.report("writing the trace context")

    def take_back(self, headers: Any, lines: Headers, context: Context | None) -> None:
        """Put back into the headers of a request that is sent again what an earlier send found there.

        `lines` are its headers before `context` was written into them; None when what stood there was removed. What
        has been changed since then is not ours, and stays. What fails is reported.
        """
        try:
            before = type(headers)(lines)
            written = before.copy()
            if context is not None:
                self.inject(written, context)
            for name in self.fields:
                if context is None:
                    written.pop(name, None)
                now, then = headers.get_list(name), before.get_list(name)
                if now != then and now == written.get_list(name):
                    headers.pop(name, None)
                    headers.update([line for line in lines if line[0].lower() == name.encode()])
        except Exception:
            self._guard.report("taking back an earlier trace context")

    def _current(self) -> _Plan:
        propagator = get_global_textmap() if self._given is None else self._given
        plan = self._plan
        if plan.propagator is not propagator:
            self._plan = plan = _Plan(propagator)
        return plan

    def _extract_with(self, propagator: TextMapPropagator, headers: Headers) -> Context:
        try:
            context = propagator.extract(headers, Context(), getter=_GETTER)
        except Exception:
            self._guard.report("the propagator's extract()")
            return _NOTHING
        return context if isinstance(context, Context) else _NOTHING

    def _inject_with(self, propagator: TextMapPropagator, plan: _Plan, headers: Any, context: Context) -> None:
        written: dict[str, str] = {}
        try:
            propagator.inject(written, context, setter=_SETTER)
        except Exception:
            self._guard.report("the propagator's inject()")
            return
        baggage = written.pop("baggage", None)
        if written:
            stale = plan.fields - written.keys() - {"baggage"}
            for name in [name for name in headers if name.lower() in stale]:
                del headers[name]
            for name, value in written.items():
                headers[name] = value
            if not plan.fields >= written.keys() and len(plan.fields) < _MOST_FIELDS:
                plan.fields |= written.keys()  # jaeger's fields leave out the header of each baggage entry
        if baggage:
            _set_baggage(headers, baggage)


def _lines(headers: Headers, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]


def _set_baggage(headers: Any, baggage: str) -> None:
    for name, _ in headers.raw:  # not `in headers`: that decodes all of them
        if len(name) == 7 and name.lower() == b"baggage":
            baggage = merge_baggage(headers["baggage"], baggage)
            break
    headers["baggage"] = baggage
