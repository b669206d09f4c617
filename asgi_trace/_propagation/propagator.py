"""Reads the caller's context from a request's headers and writes ours into the next one's.

With W3C propagators configured (the default) it does both itself: straight from bytes, and by Level 2. Any other
propagator is called as it is. It never looks at the ambient context, and does not know which callers are trusted.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from opentelemetry.baggage import get_all
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import Getter, Setter, TextMapPropagator
from opentelemetry.trace import (
    DEFAULT_TRACE_STATE,
    INVALID_SPAN,
    NonRecordingSpan,
    Span,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .._guard import Guard
from .._otel.api import (
    BAGGAGE_KEY,
    SPAN_CONTEXT_IS_TUPLE,
    SPAN_KEY,
    TEXTMAP,
    get_global_textmap,
    parts_of,
    textmap_state,
)
from .._types import Headers
from .baggage import MAX_BYTES, MAX_MEMBERS, format_baggage, merge_baggage, receive_baggage, shorten_baggage
from .traceparent import (
    RemoteParent,
    format_tracestate,
    read_remote_parent,
    read_span_context,
    remote_span_context,
    write_traceparent,
)
from .tracestate import shorten_tracestate

__all__ = ["Propagation", "caller_context"]

_STATE = textmap_state()
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

    __slots__ = ("baggage", "declared", "fields", "other", "propagator", "reads_parts", "trace_context")

    def __init__(self, propagator: TextMapPropagator) -> None:
        kinds = _kinds(propagator)
        self.propagator = propagator
        self.other = propagator if kinds - _W3C or not SPAN_CONTEXT_IS_TUPLE else None
        self.trace_context = TraceContextTextMapPropagator in kinds
        self.baggage = W3CBaggagePropagator in kinds
        self.reads_parts = self.other is None and self.trace_context
        self.declared = frozenset(name.lower() for name in propagator.fields)
        self.fields = self.declared  # grows by the names that it writes beside those


def _kinds(propagator: TextMapPropagator) -> set[type]:
    """The exact classes of which a propagator consists; the composite's own where its parts cannot be known."""
    parts = parts_of(propagator) if type(propagator) is CompositePropagator else None
    return {type(propagator)} if parts is None else set().union(*map(_kinds, parts))


class Propagation:
    """Extracts and injects with one propagator; None means the global one, looked up when used.

    Raises TypeError for anything but a `TextMapPropagator`.
    """

    __slots__ = ("_given", "_guard", "_plan")

    def __init__(self, propagator: TextMapPropagator | None) -> None:
        if not (propagator is None or isinstance(propagator, TextMapPropagator)):
            raise TypeError(f"propagator: {propagator!r} is not a propagator; write an instance, like B3MultiFormat()")
        self._given = propagator
        self._guard = Guard()
        self._plan = _Plan(get_global_textmap() if propagator is None else propagator)

    @property
    def fields(self) -> Collection[str]:
        """The header names, in lower case, that carry what this writes: where nothing may be sent, all of them go."""
        return self._current().fields

    def receive(self, fields: dict[bytes, bytes], headers: Headers) -> Context | RemoteParent:
        """What `extract` gives, or what `caller_context()` makes it of: the parts of a lone `traceparent`.

        Most requests never need more of their caller than those.
        """
        plan = self._plan
        if self._given is None and plan.propagator is not _STATE[TEXTMAP]:  # get() takes twice the instructions
            plan = self._current()
        if plan.reads_parts and b"baggage" not in fields:
            traceparent = fields.get(b"traceparent")
            if traceparent is None:
                return _NOTHING
            if len(fields) == len(headers):
                found = read_remote_parent(traceparent)
                if found is not None:
                    return (*found, (fields[b"tracestate"],)) if b"tracestate" in fields else found
        return self.extract(fields, headers)

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
        if b"baggage" in fields or b"tracestate" in fields:
            return _read_lists(plan, fields, headers)
        if traceparent is None:
            return _NOTHING
        if len(fields) != len(headers):
            return _read_lists(plan, fields, headers)
        span_context = read_span_context(traceparent)
        return _NOTHING if span_context is None else Context({SPAN_KEY: NonRecordingSpan(span_context)})

    # Longer and more complex than others, since each part that is split off costs 300 instructions: 2 % of what an
    # unrecorded call costs. What is rare is split off all the same.
    def inject(self, headers: Any, context: Context, span: Span | None = None, lines: Headers | None = None) -> None:
        """Write `context` into a request's headers, in place of what stands there already.

        Without a valid span in `context`, the request's own trace headers stay. Baggage is merged by key: the request
        keeps the entries whose keys `context` does not have.

        `headers` are httpx's. `span` replaces the one in `context`, and `lines` are `headers.raw`, for a caller that
        has them already. Failures are reported, never raised.
        """
        try:
            plan = self._plan
            if self._given is None and plan.propagator is not get_global_textmap():
                plan = self._current()
            if plan.other is not None:
                self._inject_with(plan.other, plan, headers, context, span)
                return
            if plan.trace_context:
                if span is None:
                    span = context.get(SPAN_KEY, INVALID_SPAN)  # type: ignore[assignment]
                # Unpacked as the tuple that it is: five properties are five calls.
                trace_id, span_id, is_remote, trace_flags, trace_state, is_valid = span.get_span_context()  # type: ignore[union-attr]
                if is_valid:
                    headers["traceparent"] = write_traceparent(trace_id, span_id, trace_flags)
                    tracestate = ""
                    if trace_state is not DEFAULT_TRACE_STATE and trace_state:
                        tracestate = format_tracestate(trace_state, forwarded=is_remote)
                    if tracestate:
                        headers["tracestate"] = tracestate
                    else:
                        for name, _ in headers.raw if lines is None else lines:
                            if len(name) == 10 and name.lower() == b"tracestate":
                                del headers["tracestate"]  # it belonged to another traceparent
                                break
            if plan.baggage and BAGGAGE_KEY in context:
                _write_entries(headers, context)
        except Exception:
            self._guard.report("writing the trace context")

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

    def _inject_with(
        self, propagator: TextMapPropagator, plan: _Plan, headers: Any, context: Context, span: Span | None
    ) -> None:
        if span is not None:
            context = Context({**context, SPAN_KEY: span})
        written: dict[str, str] = {}
        try:
            propagator.inject(written, context, setter=_SETTER)
        except Exception:
            self._guard.report("the propagator's inject()")
            return
        baggage = written.pop("baggage", None)
        _shorten(written, plan.declared)
        if written:
            stale = plan.fields - written.keys() - {"baggage"}
            for name in [name for name in headers if name.lower() in stale]:
                del headers[name]
            for name, value in written.items():
                headers[name] = value
            if not plan.fields >= written.keys() and len(plan.fields) < _MOST_FIELDS:
                plan.fields |= written.keys()  # jaeger's fields leave out the header of each baggage entry
        if baggage:
            _write_baggage(headers, shorten_baggage(baggage))


def _shorten(written: dict[str, str], fields: Collection[str]) -> None:
    """Take out of a propagator's headers what is too much to send.

    jaeger writes one header for each entry of the baggage, under names that its `fields` do not have: those are within
    the limits of baggage together.
    """
    tracestate = shorten_tracestate(written.pop("tracestate", ""))
    if tracestate:
        written["tracestate"] = tracestate
    room, count = MAX_BYTES, 0
    for name in [name for name in written if name not in fields]:
        size = len(name) + len(written[name])
        if size > room or count >= MAX_MEMBERS:
            del written[name]
        else:
            room, count = room - size, count + 1


def caller_context(received: Context | RemoteParent) -> Context:
    """The caller's context, of what `receive` has returned."""
    if type(received) is not tuple:
        return received  # type: ignore[return-value]
    return Context({SPAN_KEY: NonRecordingSpan(remote_span_context(received))})


def _read_lists(plan: _Plan, fields: dict[bytes, bytes], headers: Headers) -> Context:
    """`extract` for W3C headers that are lists, or where some header is repeated."""
    repeated = len(fields) != len(headers)
    found: dict[str, object] = {}
    if plan.trace_context and b"traceparent" in fields and not (repeated and len(_lines(headers, b"traceparent")) > 1):
        tracestate: Sequence[bytes] = ()
        if b"tracestate" in fields:
            tracestate = _lines(headers, b"tracestate") if repeated else (fields[b"tracestate"],)
        span_context = read_span_context(fields[b"traceparent"], tracestate)
        if span_context is not None:
            found[SPAN_KEY] = NonRecordingSpan(span_context)
    if plan.baggage and b"baggage" in fields:
        entries = receive_baggage(_lines(headers, b"baggage") if repeated else (fields[b"baggage"],))
        if entries is not None:
            found[BAGGAGE_KEY] = entries
    return Context(found)


def _write_entries(headers: Any, context: Context) -> None:
    """Write the baggage of `context`, if there is any."""
    entries = context[BAGGAGE_KEY]
    if entries:
        _write_baggage(headers, format_baggage(entries if isinstance(entries, dict) else get_all(context)))


def _write_baggage(headers: Any, baggage: str) -> None:
    """Write `baggage`, merged with the members that the request has already."""
    for name, _ in headers.raw:  # not `in headers`: that decodes all of them
        if len(name) == 7 and name.lower() == b"baggage":
            baggage = merge_baggage(headers["baggage"], baggage)
            break
    headers["baggage"] = baggage


def _lines(headers: Headers, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name == wanted]
