"""Propagators other than W3C's are called as they are, and get every line of every header."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.b3 import B3MultiFormat, B3SingleFormat
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.jaeger import JaegerPropagator
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from asgi_trace._propagation.propagator import Propagation

from ..support.propagation import (
    PARENT,
    REMOTE,
    S,
    Shouting,
    T,
    extract,
    inject,
    lines,
    remote_of,
    with_baggage,
    with_span,
)


class Recorder(TextMapPropagator):
    """Writes down what it is called with."""

    def __init__(self, fail: bool = False) -> None:
        self.seen: dict[str, Any] = {}
        self.fail = fail

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        self.seen = {name: getter.get(carrier, name) for name in ("X-Many", "x-one", "missing", "baggage", "naïve☃")}
        self.seen["keys"] = getter.keys(carrier)
        self.seen["context"] = context
        if self.fail:
            raise RuntimeError("broken")
        return baggage.set_baggage("seen", "yes", context)

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        self.seen["context"] = context
        setter.set(carrier, "X-One", "1")
        setter.set(carrier, "x-one", "2")
        if self.fail:
            raise RuntimeError("broken")

    @property
    def fields(self) -> set[str]:
        return {"X-One", "X-Other"}


def test_another_propagator_sees_every_line() -> None:
    """Its getter finds names in any case, returns each line of a repeated header, and `baggage` as one list."""
    recorder = Recorder()
    context = extract(
        lines(("x-many", " 1 "), ("x-one", "\xe9"), ("x-many", "2"), ("baggage", "a=1"), ("baggage", "b=2")), recorder
    )
    assert recorder.seen == {
        "X-Many": ["1", "2"],
        "x-one": ["é"],
        "missing": None,
        "baggage": ["a=1,b=2"],
        "naïve☃": None,
        "keys": ["x-many", "x-one", "x-many", "baggage", "baggage"],
        "context": {},
    }
    assert isinstance(recorder.seen["context"], Context)
    assert baggage.get_all(context) == {"seen": "yes"}


def test_another_propagator_replaces_its_own_headers_only() -> None:
    """What it writes stands there once, its stale fields go, and other headers stay."""
    recorder, context = Recorder(), with_span()
    sent = inject(context, {"x-one": "old", "X-Other": "stale", "traceparent": "mine"}, recorder)
    assert sent == {"x-one": "2", "traceparent": "mine"}
    assert recorder.seen["context"] is context
    carrier: dict[str, str] = {}
    Propagation(recorder).inject(carrier, context)
    assert carrier == {"x-one": "2"}


def test_a_broken_propagator_is_reported_once_and_costs_only_the_context(caplog: pytest.LogCaptureFixture) -> None:
    """Neither direction raises; the first failure of each is an error in the log, the next ones are details."""
    propagation = Propagation(Recorder(fail=True))
    carrier = {"x-one": "old"}
    with caplog.at_level(logging.DEBUG, "asgi_trace"):
        for _ in range(2):
            assert propagation.extract({}, []) == {}
            propagation.inject(carrier, with_span())
    assert carrier == {"x-one": "old"}
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.ERROR, logging.DEBUG, logging.DEBUG]


def test_a_propagator_that_returns_no_context_gives_none() -> None:
    """What it returns is only used when it is a `Context`."""

    class Forgetful(Recorder):
        def extract(self, *args: Any, **kwargs: Any) -> Context:
            return None  # type: ignore[return-value]

    assert extract([], Forgetful()) == {}


@pytest.mark.parametrize(
    ("propagator", "headers"),
    [
        (B3SingleFormat(), {"b3": f"{T}-{S}-1"}),
        (B3MultiFormat(), {"x-b3-traceid": T, "x-b3-spanid": S, "x-b3-sampled": "1"}),
        (JaegerPropagator(), {"uber-trace-id": f"{T}:{S}:{'0' * 16}:03"}),
        (
            CompositePropagator([B3SingleFormat(), TraceContextTextMapPropagator()]),
            {"b3": f"{T}-{S}-1", "traceparent": PARENT},
        ),
        (Shouting(), {"traceparent": PARENT}),
    ],
)
def test_other_propagators_work_as_they_are(propagator: TextMapPropagator, headers: dict[str, str]) -> None:
    """b3, jaeger, a composite with one of them and a subclass of the W3C one are called, in both directions."""
    context = extract(lines(*headers.items()), propagator)
    assert remote_of(context)[:2] == REMOTE[:2]
    assert inject(with_span(), {"x": "y"}, propagator) == {"x": "y", **headers}
    assert set(Propagation(propagator).fields) >= headers.keys()
    if isinstance(propagator, Shouting):
        assert baggage.get_all(context) == {"shouting": "yes"}


def test_a_foreign_composite_merges_baggage_and_drops_stale_state() -> None:
    """With b3 beside W3C the rules of injection are the same: merge baggage by key, remove a stale `tracestate`."""
    composite = CompositePropagator([B3SingleFormat(), TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    context = with_baggage({"a": "1"}, with_span())
    sent = inject(context, {"tracestate": "stale=1", "baggage": "a=0,mine=2"}, composite)
    assert sent == {"b3": f"{T}-{S}-1", "traceparent": PARENT, "baggage": "a=1,mine=2"}
    sent = inject(with_baggage({"a": "1"}), {"tracestate": "mine=1", "traceparent": "mine"}, composite)
    assert sent == {"traceparent": "mine", "tracestate": "mine=1", "baggage": "a=1"}


def test_headers_that_fields_leaves_out_are_learned() -> None:
    """jaeger writes a header for each baggage entry; once written, it is among those that forbidden hosts must lose."""
    propagation = Propagation(JaegerPropagator())
    assert "uberctx-user" not in propagation.fields
    propagation.inject({}, with_baggage({"user": "alice"}, with_span()))
    assert "uberctx-user" in propagation.fields


def test_a_composite_that_hides_its_parts_is_called_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Should the API rename what we look at, its own propagators do the work."""
    composite = CompositePropagator([TraceContextTextMapPropagator()])
    parts = composite.__dict__.pop("_propagators")
    monkeypatch.setattr(CompositePropagator, "fields", {"traceparent"})
    monkeypatch.setattr(CompositePropagator, "extract", lambda self, *args, **kwargs: parts[0].extract(*args, **kwargs))
    assert remote_of(extract(lines(("traceparent", PARENT), ("traceparent", PARENT)), composite)) == REMOTE
