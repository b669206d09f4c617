"""The fast path reads and writes what the API's own propagators do, wherever those keep to the specification."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry import baggage
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.propagators.b3 import B3SingleFormat
from opentelemetry.propagators.textmap import (
    Getter,
    TextMapPropagator,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from asgi_trace._propagation.propagator import Propagation
from asgi_trace._types import Headers

from ..support.propagation import (
    PARENT,
    W3C,
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

OLD = not baggage.get_all(W3C.extract(lines(("baggage", "a=1 ")), Context(), LineGetter()))
"""Is this an API that refuses optional blanks? That of 1.43 does."""
if OLD:
    BAGGAGE_DEPARTURES["blanks may stand around key and value"] = lambda values: bool(
        re.search(r"^[ \t]|[ \t]=|=[ \t]|[ \t]$", values[0])
    )
    TRACESTATE_DEPARTURES["3.3.1.1: blanks may stand at both ends"] = lambda values: any(
        value != value.strip(" \t") for value in values
    )


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
         [["1a=1"], ["a=1,a=2"], [",".join(f"k{n:02d}={'v' * 256}" for n in range(32))], *[[" a=1"]] * OLD]),
        (BAGGAGE_DEPARTURES, "baggage",
         [["a=1", "b=2"], ["a=1;p"], ["a=x+y"], ["a%20=1"], ["a=%20"], [f"a={'v' * 5000}"],
          [",".join(f"k{n}={'v' * 50}" for n in range(170))], *[["a=1 "]] * OLD]),
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
