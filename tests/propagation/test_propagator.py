"""Extract and inject: what the W3C fast path does, what other propagators get, and where the two agree."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage, propagate
from opentelemetry.baggage import get_all
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach
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
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from asgi_trace._otel.api import SPAN_KEY
from asgi_trace._propagation.propagator import Propagation
from asgi_trace._types import Headers

T, S = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{T}-{S}-01"
REMOTE = SpanContext(int(T, 16), int(S, 16), True, TraceFlags(1))
W3C = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])


class Shouting(TraceContextTextMapPropagator):
    """A W3C propagator of the application's own: no longer exactly the API's."""

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        return baggage.set_baggage("shouting", "yes", super().extract(carrier, context, getter))


def lines(*headers: tuple[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]


def extract(headers: Headers, propagator: TextMapPropagator | None = W3C) -> Context:
    return Propagation(propagator).extract(dict(headers), headers)


def remote_of(context: Context) -> SpanContext:
    return get_current_span(context).get_span_context()


def inject(
    context: Context, carrier: dict[str, str] | None = None, propagator: TextMapPropagator | None = W3C
) -> dict[str, str]:
    """What `carrier` holds afterwards, as a request's headers do."""
    headers = httpx.Headers(carrier)
    Propagation(propagator).inject(headers, context)
    return dict(headers)


def with_span(span_context: SpanContext = REMOTE, context: Context | None = None) -> Context:
    return set_span_in_context(NonRecordingSpan(span_context), Context() if context is None else context)


def with_baggage(entries: Mapping[str, object], context: Context | None = None) -> Context:
    context = Context() if context is None else context
    for key, value in entries.items():
        context = baggage.set_baggage(key, value, context)
    return context


# --- extract -------------------------------------------------------------------------------------------------------


def test_the_span_key_is_the_apis() -> None:
    """A context built with SPAN_KEY is one that the API reads, and the other way round."""
    span = NonRecordingSpan(REMOTE)
    assert get_current_span(Context({SPAN_KEY: span})) is span
    assert set_span_in_context(span, Context())[SPAN_KEY] is span


def test_no_headers_are_an_empty_context() -> None:
    """Without headers of ours the context is empty."""
    assert extract([]) == {}
    assert extract(lines(("host", "x"), ("traceparent-x", PARENT), ("tracestate", "a=1"))) == {}


def test_a_context_holds_the_remote_span_and_the_baggage_and_nothing_else() -> None:
    """The caller's span and baggage are all that `extract` returns."""
    context = extract(lines(("host", "x"), ("traceparent", PARENT), ("tracestate", "9@=1"), ("baggage", "a=1,b=2")))
    assert len(context) == 2
    assert remote_of(context) == (*REMOTE[:4], remote_of(context).trace_state, True)
    assert remote_of(context).trace_state.to_header() == "9@=1"
    assert baggage.get_all(context) == {"a": "1", "b": "2"}
    assert remote_of(context).is_remote


@pytest.mark.parametrize(
    "propagator",
    [W3C, W3CBaggagePropagator(), TraceContextTextMapPropagator(), CompositePropagator([]), B3SingleFormat()],
)
def test_the_ambient_context_never_leaks_in(propagator: TextMapPropagator) -> None:
    """What is current in the process (a server's last request) has no part in the next one's context."""
    token = attach(with_baggage({"local": "secret"}, with_span()))
    try:
        assert extract(lines(("host", "x")), propagator) == {}
    finally:
        detach(token)


@pytest.mark.parametrize(
    ("propagator", "span", "entries"),
    [
        (W3C, True, True),
        (CompositePropagator([W3CBaggagePropagator(), TraceContextTextMapPropagator()]), True, True),
        (CompositePropagator([W3C]), True, True),
        (TraceContextTextMapPropagator(), True, False),
        (CompositePropagator([TraceContextTextMapPropagator()]), True, False),
        (W3CBaggagePropagator(), False, True),
        (CompositePropagator([]), False, False),
        (B3SingleFormat(), False, False),
        (None, True, True),
    ],
)
def test_only_what_is_configured_is_read_and_written(
    propagator: TextMapPropagator | None, span: bool, entries: bool
) -> None:
    """`OTEL_PROPAGATORS=tracecontext` reads and writes no baggage, `=baggage` no traceparent, `=none` nothing."""
    context = extract(lines(("traceparent", PARENT), ("tracestate", "a=1"), ("baggage", "a=1")), propagator)
    assert remote_of(context).is_valid is span
    assert bool(baggage.get_all(context)) is entries
    sent = inject(with_baggage({"a": "1"}, with_span()), propagator=propagator)
    assert ("traceparent" in sent, "baggage" in sent) == (span, entries)


def test_the_global_propagator_is_looked_up_when_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is set after the middleware was built counts from then on, in both directions and for `fields`."""
    propagation, client = Propagation(None), Propagation(None)
    headers = lines(("traceparent", PARENT), ("b3", f"{T}-{S}-1"))
    assert remote_of(propagation.extract(dict(headers[:1]), headers[:1])).is_valid
    before = propagate.get_global_textmap()
    try:
        propagate.set_global_textmap(B3SingleFormat())
        assert propagation.extract(dict(headers[:1]), headers[:1]) == {}
        assert remote_of(propagation.extract(dict(headers), headers)).trace_id == REMOTE.trace_id
        carrier: dict[str, str] = {}
        client.inject(carrier, with_span())
        assert carrier == {"b3": f"{T}-{S}-1"}
        assert set(propagation.fields) == {"b3"}
    finally:
        propagate.set_global_textmap(before)
    assert set(propagation.fields) == {"traceparent", "tracestate", "baggage"}


def test_a_given_propagator_is_not_replaced_by_the_global_one() -> None:
    """The option beats the global propagator."""
    assert extract(lines(("traceparent", PARENT)), B3SingleFormat()) == {}


@pytest.mark.parametrize("wrong", [B3SingleFormat, "b3", object()])
def test_a_wrong_propagator_is_refused(wrong: Any) -> None:
    """A class or a name in place of a propagator raises, and the message says what to write."""
    with pytest.raises(TypeError, match="write an instance"):
        Propagation(wrong)


@pytest.mark.parametrize("state", [[], [("tracestate", "foo=1")]])
@pytest.mark.parametrize("second", [PARENT, "junk", "", PARENT.replace("4bf9", "0bf9")])
def test_a_second_traceparent_voids_both(second: str, state: list[tuple[str, str]]) -> None:
    """Two `traceparent` lines, in either order and even when equal, are no parent; baggage still counts."""
    for pair in ((PARENT, second), (second, PARENT)):
        headers = lines(*(("traceparent", value) for value in pair), *state)
        assert extract(headers) == {}
        context = extract([*headers, (b"baggage", b"a=1")])
        assert remote_of(context) == INVALID_SPAN.get_span_context()
        assert baggage.get_all(context) == {"a": "1"}


def test_other_repeated_headers_do_not_matter() -> None:
    """A repeated header that is not ours leaves a single `traceparent` valid."""
    headers = lines(("accept", "a"), ("accept", "b"), ("traceparent", PARENT), ("x", "1"), ("x", "2"))
    assert remote_of(extract(headers)) == REMOTE


def test_lines_of_tracestate_and_baggage_are_joined_in_order() -> None:
    """Several lines of a list header are one list, wherever they stand."""
    context = extract(
        lines(("tracestate", "c=3"), ("baggage", "b=1, a=2"), ("traceparent", PARENT), ("tracestate", "a=1"),
              ("baggage", ""), ("tracestate", "b=2"), ("baggage", "b=3;p"))
    )  # fmt: skip
    assert remote_of(context).trace_state.to_header() == "c=3,a=1,b=2"
    assert baggage.get_all(context) == {"b": "3", "a": "2"}
    assert inject(context)["baggage"] == "b=1,a=2,b=3;p"


# --- baggage, in and out -------------------------------------------------------------------------------------------

BAGGAGE = [
    # header, what the application reads, what leaves when it changes another entry
    ("a=1", {"a": "1"}, "a=1"),
    (" a \t=\t 1 \t,b=2 ", {"a": "1", "b": "2"}, "a=1,b=2"),
    ("a=", {"a": ""}, "a="),
    ("a=b=c==", {"a": "b=c=="}, "a=b%3Dc%3D%3D"),
    ("a=%20x%20", {"a": " x "}, "a=%20x%20"),
    ("a=x+y", {"a": "x+y"}, "a=x%2By"),
    ("a=x+y%20z", {"a": "x+y z"}, "a=x%2By%20z"),
    ("a=x%2By", {"a": "x+y"}, "a=x%2By"),
    ("a=%C3%A9%2C%3B%22", {"a": 'é,;"'}, "a=%C3%A9%2C%3B%22"),
    ("a=%c3%a9", {"a": "é"}, "a=%C3%A9"),
    ("a=%FF", {"a": "\ufffd"}, "a=%FF"),
    ("a=%zz%", {"a": "%zz%"}, "a=%25zz%25"),
    ("a=1;p1;p2=x", {"a": "1"}, "a=1;p1;p2=x"),
    ("a = 1 ; p1 ; p2 = x%3D= ", {"a": "1"}, "a = 1 ; p1 ; p2 = x%3D="),
    ("a=;p", {"a": ""}, "a=;p"),
    ("a%20b=1", {"a%20b": "1"}, "a%20b=1"),
    ("a!#$%&'*+-.^_`|~Z9=1", {"a!#$%&'*+-.^_`|~Z9": "1"}, "a!#$%&'*+-.^_`|~Z9=1"),
    ("a=!#$&'()*+-./:<=>?@[]^_`{|}~", {"a": "!#$&'()*+-./:<=>?@[]^_`{|}~"},
     "a=%21%23%24%26%27%28%29%2A%2B-.%2F%3A%3C%3D%3E%3F%40%5B%5D%5E_%60%7B%7C%7D~"),
    # a bad member is dropped alone
    ("a=1,bad key=2,c=3", {"a": "1", "c": "3"}, "a=1,c=3"),
    ('a=1,b="2",c=3', {"a": "1", "c": "3"}, "a=1,c=3"),
    ("a=1,b=\\,c=3", {"a": "1", "c": "3"}, "a=1,c=3"),
    ("a=1,b=\xe9,c=3", {"a": "1", "c": "3"}, "a=1,c=3"),
    ("a=1,b,c=3,=4,;p", {"a": "1", "c": "3"}, "a=1,c=3"),
    ("a=1;,b=2;;p,c=3;=x,d=4;p q", {}, ""),
    ("a=x y", {}, ""),
    ("", {}, ""),
    (" , ,\t,", {}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("header", "entries", "rewritten"), BAGGAGE)
def test_baggage_passes_unharmed(header: str, entries: dict[str, str], rewritten: str) -> None:
    """Legal members are read by the specification, leave as they came, and stay what they are beside new entries."""
    context = extract(lines(("baggage", header)))
    assert baggage.get_all(context) == entries
    untouched = [
        member.strip(" \t") for member in header.split(",") if member.partition("=")[0].strip(" \t") in entries
    ]
    assert inject(context).get("baggage", "") == ",".join(untouched)
    changed = baggage.set_baggage("new", "x", context)
    assert inject(changed)["baggage"] == (f"{rewritten},new=x" if rewritten else "new=x")


def test_a_received_value_is_text() -> None:
    """What the application reads is a `str` that compares, copies and pickles as one, with or without properties."""
    context = extract(lines(("baggage", "a=1;p,b=2")))
    for value, expected in ((baggage.get_baggage("a", context), "1"), (baggage.get_baggage("b", context), "2")):
        assert isinstance(value, str)
        assert value == expected == copy.deepcopy(value) == pickle.loads(pickle.dumps(value))
    assert copy.deepcopy(dict(context)) == dict(context)


def test_a_new_value_drops_the_old_properties() -> None:
    """Properties describe the value that they came with; moving a value to another key leaves them behind too."""
    context = extract(lines(("baggage", "a=1;p,ab=2;q")))
    assert inject(baggage.set_baggage("a", "1", context))["baggage"] == "a=1,ab=2;q"
    moved = baggage.set_baggage("a", baggage.get_baggage("ab", context), context)
    assert inject(moved)["baggage"] == "a=2,ab=2;q"
    assert inject(baggage.remove_baggage("a", context))["baggage"] == "ab=2;q"


@pytest.mark.parametrize(
    ("key", "value", "sent"),
    [
        ("k", "a b", "k=a%20b"),
        ("k", "a+b", "k=a%2Bb"),
        ("k", "50%", "k=50%25"),
        ("k", ' é,;="\\\r\n', "k=%20%C3%A9%2C%3B%3D%22%5C%0D%0A"),
        ("k", "\ud800", "k=%3F"),
        ("k", "", "k="),
        ("k", None, "k=None"),
        ("k", 7, "k=7"),
        ("k+%!", "v", "k+%!=v"),
        ("k e y", "v", "k%20e%20y=v"),
        ("!#$&'*+-.^_`|~ %", "v", "!#$&'*+-.^_`|~%20%25=v"),
        ("kéy=", "v", "k%C3%A9y%3D=v"),
    ],
)
def test_the_applications_own_entries_are_coded_by_the_specification(key: str, value: object, sent: str) -> None:
    """Values are percent-encoded UTF-8 with `%20` for a space; keys are tokens, and made ones where they are not."""
    assert inject(with_baggage({key: value})) == {"baggage": sent}


def test_baggage_limits() -> None:
    """All of 8,192 bytes and of 180 members passes; beyond, whole members go and the others stay."""
    exact = f"a={'v' * 5000},b={'w' * 3187}"
    assert len(exact) == 8192
    assert inject(extract(lines(("baggage", exact))))["baggage"] == exact
    assert inject(extract(lines(("baggage", exact[:5002]), ("baggage", exact[5003:]))))["baggage"] == exact
    assert inject(extract(lines(("baggage", exact + "w"))))["baggage"] == exact[:5002]
    assert inject(extract(lines(("baggage", f"big={'v' * 9000},c=1"))))["baggage"] == "c=1"
    many = [f"k{n}=v" for n in range(200)]
    assert inject(extract(lines(("baggage", ",".join(many)))))["baggage"].split(",") == many[:180]
    own = {f"k{n}": "v" for n in range(200)}
    assert inject(with_baggage(own))["baggage"].split(",") == many[:180]
    assert inject(with_baggage({"a": "v" * 5000, "b": "w" * 3187}))["baggage"] == exact
    assert inject(with_baggage({"a": "v" * 5000, "b": "w" * 3188}))["baggage"] == exact[:5002]
    assert inject(with_baggage({"a": "v" * 5000, "b": "w" * 5000, "c": "1"}))["baggage"] == f"a={'v' * 5000},c=1"


@pytest.mark.parametrize(
    "hostile",
    [
        f"a={' ' * 60000}x",
        f"a{' ' * 60000}x",
        f'a={" " * 8000}"',
        f'a=1;p{" " * 8000}"',
        f'a=1;p={" " * 8000}"',
        "a=1" + ";p=1" * 2000 + '"',
        "a=" + "x" * 8000 + '"',
        "," * 60000,
        " ," * 30000,
        "a," * 30000,
    ],
    ids=range(10),
)
def test_hostile_baggage_costs_no_backtracking(hostile: str) -> None:
    """Long runs of blanks, commas and properties are refused in time that grows with their length alone."""
    started = time.process_time()
    assert get_all(extract(lines(("baggage", hostile)))) == {}
    assert time.process_time() - started < 0.25


# --- inject --------------------------------------------------------------------------------------------------------


def test_injection_replaces_and_removes_what_is_stale() -> None:
    """One `traceparent` is left however often a request is sent, and the `tracestate` of another one goes."""
    carrier = httpx.Headers([("traceparent", "old"), ("TraceParent", "older"), ("tracestate", "stale=1"), ("x", "y")])
    propagation = Propagation(W3C)
    for _ in range(100):
        propagation.inject(carrier, with_baggage({"a": "1"}, with_span()))
    assert carrier.multi_items() == [("traceparent", PARENT), ("x", "y"), ("baggage", "a=1")]


def test_tracestate_is_written_when_there_is_one() -> None:
    """The state of the context replaces that of the request."""
    state = SpanContext(REMOTE.trace_id, REMOTE.span_id, False, TraceFlags(0), TraceState([("a", "1")]))
    assert inject(with_span(state), {"tracestate": "stale=1"}) == {
        "traceparent": PARENT[:-1] + "0",
        "tracestate": "a=1",
    }


def test_a_forwarded_tracestate_keeps_its_repeated_keys() -> None:
    """With the parent unchanged the state is unchanged; below a span of our own each key stands there once."""
    context = extract(lines(("traceparent", PARENT), ("tracestate", "a=1,a=2")))
    assert inject(context)["tracestate"] == "a=1,a=2"
    remote = remote_of(context)
    child = SpanContext(remote.trace_id, 7, False, remote.trace_flags, remote.trace_state)
    assert inject(with_span(child))["tracestate"] == "a=1"


@pytest.mark.parametrize("context", [Context(), Context({SPAN_KEY: INVALID_SPAN}), with_baggage({"a": "1"})])
def test_without_a_valid_context_the_users_headers_stay(context: Context) -> None:
    """A request that carries a `traceparent` of its own keeps it when we have none to send."""
    sent = inject(context, {"traceparent": "mine", "tracestate": "mine=1"})
    assert (sent["traceparent"], sent["tracestate"]) == ("mine", "mine=1")


def test_baggage_is_merged_by_key() -> None:
    """The request's own entries stay; for a key that both have, the context's counts."""
    context = extract(lines(("baggage", "a=1;p,b=2")))
    sent = inject(context, {"baggage": "mine=0;q, b=x, ,b = y,ba=z"})
    assert sent["baggage"] == "a=1;p,b=2,mine=0;q,ba=z"
    assert inject(context, sent) == sent
    assert inject(Context(), {"baggage": "mine=0"}) == {"baggage": "mine=0"}
    assert inject(baggage.clear(context), {"baggage": "mine=0"}) == {"baggage": "mine=0"}


def test_several_baggage_lines_of_a_request_become_one() -> None:
    """A request with two `baggage` lines is sent with one."""
    carrier = httpx.Headers([("baggage", "x=1"), ("baggage", "y=2")])
    Propagation(W3C).inject(carrier, with_baggage({"a": "1"}))
    assert carrier.multi_items() == [("baggage", "a=1,x=1,y=2")]


# --- other propagators ---------------------------------------------------------------------------------------------


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


# --- fast path = slow path -----------------------------------------------------------------------------------------


class LineGetter(Getter[Headers]):
    """The header lines as they are, for the configured propagator."""

    def get(self, carrier: Headers, key: str) -> list[str] | None:
        return [value.decode("latin-1") for name, value in carrier if name == key.encode()] or None

    def keys(self, carrier: Headers) -> list[str]:
        return [name.decode("latin-1") for name, _ in carrier]


Values = Sequence[str]

# Where the API's propagator departs from the specification, and with it from ours. Each entry tells, from the lines of
# one header, that it does; on every other input the two must agree.
TRACEPARENT_DEPARTURES: dict[str, Callable[[Values], bool]] = {
    "more than one line counts as none": lambda values: len(values) > 1,
    "3.2.2: two values folded into one": lambda values: "," in values[0],
    "3.2.2: `$` matches before a final newline": lambda values: values[0].endswith("\n"),
    "3.2.4: a later version may be long": lambda values: len(values[0]) > 512,
}
TRACESTATE_DEPARTURES: dict[str, Callable[[Values], bool]] = {
    "3.3.1.3.1: a digit may lead a key, and @ stand anywhere else": lambda values: any(
        re.fullmatch(LEVEL_2, key) and not re.fullmatch(LEVEL_1, key) for key in _keys(values)
    ),
    "3.3.1.4: of a repeated key one member stays": lambda values: len(_keys(values)) != len(set(_keys(values))),
    "3.3.1.5: a list too long loses members, not all": lambda values: len(",".join(values)) > 8192,
}
BAGGAGE_DEPARTURES: dict[str, Callable[[Values], bool]] = {
    "several lines are one list": lambda values: len(values) > 1,
    "properties are no part of the value": lambda values: ";" in values[0],
    "+ is a plus": lambda values: "+" in values[0],
    "keys are not decoded": lambda values: any("%" in key for key in _keys(values)),
    "decoded blanks belong to the value": lambda values: any(
        unquote(value) != unquote(value).strip() for value in re.findall(r"=[ \t]*([^,]*?)[ \t]*(?:,|$)", values[0])
    ),
    "a member may have up to 8,192 bytes": lambda values: any(len(member) > 4096 for member in values[0].split(",")),
    "a list too long loses members, not all": lambda values: len(values[0]) > 8192,
}


LEVEL_1 = r"[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}"
LEVEL_2 = r"[a-z0-9][a-z0-9_\-*/@]{0,255}"


def _keys(values: Values) -> list[str]:
    return [member.partition("=")[0].strip(" \t") for member in ",".join(values).split(",") if member.strip(" \t")]


def departs(table: dict[str, Callable[[Values], bool]], values: Values) -> bool:
    return bool(values) and any(tells(values) for tells in table.values())


@pytest.mark.parametrize(
    ("table", "name", "examples"),
    [
        (TRACEPARENT_DEPARTURES, "traceparent",
         [[PARENT, PARENT], [f"cc-{T}-{S}-01-x,cc-{T}-{S}-01"], [PARENT + "\n"], [f"cc-{T}-{S}-01-{'x' * 500}"]]),
        (TRACESTATE_DEPARTURES, "tracestate",
         [["1a=1"], ["a=1,a=2"], [",".join(f"k{n:02d}={'v' * 256}" for n in range(32))]]),
        (BAGGAGE_DEPARTURES, "baggage",
         [["a=1", "b=2"], ["a=1;p"], ["a=x+y"], ["a%20=1"], ["a=%20"], [f"a={'v' * 5000}"],
          [",".join(f"k{n}={'v' * 50}" for n in range(170))]]),
    ],
)  # fmt: skip
def test_every_listed_departure_is_one(
    table: dict[str, Callable[[Values], bool]], name: str, examples: list[list[str]]
) -> None:
    """Each entry of the tables has an input on which the two really differ, so that none excuses more than it must."""
    assert len(table) == len(examples)
    for values in examples:
        headers = lines(*[("traceparent", PARENT)] * (name != "traceparent"), *((name, value) for value in values))
        assert extract(headers) != W3C.extract(headers, Context(), LineGetter()), values
        assert departs(table, values)


blank = st.sampled_from(["", "", "", " ", "\t", " \t "])
flags = st.integers(0, 255).map("{:02x}".format)
good_parent = st.builds("00-{}-{}-{}".format, st.sampled_from([T, "1" * 32]), st.sampled_from([S, "2" * 16]), flags)
later_parent = st.builds(
    "{}-{}-{}".format, st.sampled_from(["01", "cc"]), good_parent.map(lambda v: v[3:]), st.text("x-. ")
)
odd_parent = st.builds(
    "{}{}-{}-{}-{}{}".format,
    st.sampled_from(["", "", "x", "-", "\n", "\xe9"]),
    st.sampled_from(["00", "00", "cc", "ff", "0", "FF"]),
    st.sampled_from([T, T, "0" * 32, T.upper(), T[:-1], T[:-1] + "_"]),
    st.sampled_from([S, S, "0" * 16, S[:-1]]),
    flags,
    st.sampled_from(["", "", "-", "-x", ".", "0", "\n", ",", " x"]),
)
traceparents = st.builds("{}{}{}".format, blank, good_parent | good_parent | later_parent | odd_parent, blank)

state_key = st.sampled_from(["foo", "bar", "a_-*/9", "t@v", "1t@v", "z" * 256]) | st.text(
    "ab0_", min_size=1, max_size=3
)
state_value = st.sampled_from(["1", " 2", "a b", "v" * 256, "~!"])
good_member = st.builds("{}{}={}{}".format, blank, state_key, state_value, blank) | blank
odd_member = st.builds(
    "{}{}{}".format, st.text("aA.@1 =", max_size=3), st.sampled_from(["=", "", " ="]), st.text("v =\xe9")
)
tracestates = st.lists(good_member, max_size=6, unique_by=lambda text: text.split("=")[0].strip()).map(
    ",".join
) | st.lists(good_member | odd_member, max_size=34).map(",".join)

token = st.text("abZ*_!9", min_size=1, max_size=3)
octets = st.text("ab/=:%", max_size=3) | st.sampled_from(["%20", "a%20b", "%C3%A9", "%FF", "%2C%22", "%zz", "a=b=="])
entry = st.builds("{}{}{}={}{}{}".format, blank, token, blank, blank, octets, blank) | blank
odd_entry = st.builds(
    "{}{}{}".format, st.text("a %+", max_size=3), st.sampled_from(["=", ""]), st.text('b+; "\\\xe9', max_size=3)
)
baggages = st.lists(entry, max_size=6).map(",".join) | st.lists(entry | odd_entry, max_size=4).map(",".join)


def few(values: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    """Lines of one header: mostly one."""
    one = values.map(lambda value: [value])
    return one | one | st.lists(values, max_size=2)


@settings(max_examples=400, deadline=None)
@given(few(traceparents), few(tracestates), few(baggages))
def test_our_context_is_the_configured_propagators(parents: Values, states: Values, entries: Values) -> None:
    """On every input that the API's propagators read by the specification, ours is their result, flags' bits aside."""
    headers = lines(
        *(("traceparent", value) for value in parents),
        *(("tracestate", value) for value in states),
        *(("baggage", value) for value in entries),
    )
    ours, theirs = extract(headers), W3C.extract(headers, Context(), LineGetter())
    if not departs(TRACEPARENT_DEPARTURES, parents):
        span, reference = remote_of(ours), remote_of(theirs)
        # 3.2.2.5.3: the API keeps unknown flag bits.
        assert (span[:3], span.trace_flags) == (reference[:3], reference.trace_flags & 3)
        if not departs(TRACESTATE_DEPARTURES, states):
            assert list(span.trace_state.items()) == list(reference.trace_state.items())
    if not departs(BAGGAGE_DEPARTURES, entries):
        assert list(baggage.get_all(ours).items()) == list(baggage.get_all(theirs).items())


@settings(max_examples=300, deadline=None)
@given(
    st.integers(0, 2**128 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 3),
    st.lists(st.tuples(st.sampled_from(["a", "b", "c@d"]), st.sampled_from(["1", " 2", "x" * 160])), max_size=3),
    st.dictionaries(
        st.text("abAZ09_.-~", min_size=1, max_size=4), st.text(max_size=6) | st.integers() | st.none(), max_size=5
    ),
)
def test_our_headers_are_the_configured_propagators(
    trace_id: int, span_id: int, flags: int, state: list[tuple[str, str]], entries: dict[str, object]
) -> None:
    """What we write is what the API's propagators write, with `%20` for their `+` (W3C Baggage, "value")."""
    span_context = SpanContext(trace_id, span_id, False, TraceFlags(flags), TraceState(state))
    context = with_baggage(entries, with_span(span_context))
    try:
        theirs: dict[str, str] = {}
        W3C.inject(theirs, context)
    except UnicodeEncodeError:  # a lone surrogate: "?" from us
        assert inject(context)["baggage"].isascii()
        return
    if not span_context.is_valid:  # they send ids of which one is zero
        theirs.pop("traceparent", None)
        theirs.pop("tracestate", None)
    if "baggage" in theirs:
        theirs["baggage"] = theirs["baggage"].replace("+", "%20")
    assert inject(context) == theirs


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["traceparent", "Tracestate", "TRACESTATE", "baggage", "Baggage", "x-other12"]),
            st.sampled_from(["a=1", "b=2,c=3", ""]),
        ),
        max_size=6,
    ),
    st.integers(0, 1),
    st.sampled_from([None, TraceState(), TraceState([("s", "1")])]),
    st.booleans(),
    st.sampled_from([W3C, TraceContextTextMapPropagator(), W3CBaggagePropagator(), B3SingleFormat(), Shouting()]),
)
def test_what_the_caller_has_at_hand_makes_no_difference(
    headers: list[tuple[str, str]],
    trace_id: int,
    state: TraceState | None,
    with_entries: bool,
    propagator: TextMapPropagator,
) -> None:
    """A span beside its context, and header lines that were read before, give the headers that both give inside."""
    span = NonRecordingSpan(SpanContext(trace_id, 2, False, TraceFlags(1), state))
    around = with_baggage({"b": "ours"} if with_entries else {}, with_span())
    inside, beside = httpx.Headers(headers), httpx.Headers(headers)
    Propagation(propagator).inject(inside, set_span_in_context(span, around))
    Propagation(propagator).inject(beside, around, span, beside.raw)
    assert beside.raw == inside.raw


@pytest.mark.parametrize("value", ["b3,tracecontext,", "b3, ,tracecontext", ",b3,tracecontext"])
def test_an_empty_item_in_the_environment_is_no_propagator(value: str) -> None:
    """A trailing comma in OTEL_PROPAGATORS takes nothing away, warns of nothing, and stays in the environment."""
    program = (
        "import os; from asgi_trace._propagation.propagator import Propagation;"
        "print(sorted(Propagation(None).fields)); print(os.environ['OTEL_PROPAGATORS'])"
    )
    environment = {**os.environ, "OTEL_PROPAGATORS": value}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['b3', 'traceparent', 'tracestate']", value]
    assert done.stderr == ""


@pytest.mark.parametrize("value", ["tracecontxt", "tracecontxt,"])
def test_a_misspelled_propagator_in_the_environment_is_a_warning(value: str) -> None:
    """OTEL_PROPAGATORS with a name that nobody knows stops no service: W3C is used, and one line says so."""
    program = (
        "from opentelemetry.context import Context;"
        "from asgi_trace._otel.api import SPAN_KEY; from asgi_trace._propagation.propagator import Propagation;"
        "lines = [(b'traceparent', b'00-' + b'1' * 32 + b'-' + b'2' * 16 + b'-01')];"
        "print(hex(Propagation(None).extract(dict(lines), lines)[SPAN_KEY].get_span_context().span_id))"
    )
    environment = {**os.environ, "OTEL_PROPAGATORS": value}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "0x2222222222222222"
    assert "OTEL_PROPAGATORS" in done.stderr
    assert "tracecontxt" in done.stderr
