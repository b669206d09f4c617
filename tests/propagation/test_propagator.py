"""Extract and inject with W3C headers: one context in, the same one out, and nothing of the ambient one."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import httpx
import pytest
from opentelemetry import baggage, propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context, attach, detach
from opentelemetry.propagators.b3 import B3SingleFormat
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import (
    TextMapPropagator,
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

from ..support.propagation import PARENT, REMOTE, W3C, S, T, extract, inject, lines, remote_of, with_baggage, with_span


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
