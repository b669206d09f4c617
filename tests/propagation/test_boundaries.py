"""What holds exactly at a limit of the headers, and one step beyond it."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
from opentelemetry.baggage import get_all
from opentelemetry.context import Context
from opentelemetry.propagators.jaeger import JaegerPropagator
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.trace import get_current_span

from asgi_trace._propagation import traceparent
from asgi_trace._propagation.baggage import shorten_baggage
from asgi_trace._propagation.propagator import Propagation, caller_context
from asgi_trace._propagation.tracestate import Level2TraceState, format_tracestate, parse_tracestate

from ..support.propagation import PARENT, REMOTE, W3C, extract, inject, lines, remote_of, with_baggage, with_span


class Values(TextMapPropagator):
    """Reads one header, writes nothing, and fails where it is told to."""

    def __init__(self, fail: str = "") -> None:
        self.fail = fail
        self.read: list[str] | None = None

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        if self.fail == "extract":
            raise RuntimeError("broken")
        self.read = getter.get(carrier, "x-value")
        return Context()

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        if self.fail == "inject":
            raise RuntimeError("broken")

    @property
    def fields(self) -> set[str]:
        return {"x-value"}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param(179, 179, id="fewer"),
        pytest.param(180, 180, id="as many as may be"),
        pytest.param(181, 180, id="one more"),
        pytest.param(400, 180, id="many more"),
    ],
)
def test_baggage_of_180_members_is_whole(sent: int, kept: int) -> None:
    """Of more members the last ones go, whether a propagator writes one header or one for each entry."""
    names = [f"k{number}" for number in range(sent)]
    wanted = names[:kept]
    assert shorten_baggage(",".join(f"{name}=v" for name in names)) == ",".join(f"{name}=v" for name in wanted)
    entries = dict.fromkeys(names, "v")
    written = inject(with_baggage(entries, with_span()), propagator=JaegerPropagator())
    assert [name for name in written if name.startswith("uberctx-")] == [f"uberctx-{name}" for name in wanted]


@pytest.mark.parametrize("size", [8190, 8191, 8192, 8193, 8194])
def test_baggage_of_8192_bytes_is_whole(size: int) -> None:
    """A longer list loses its last member."""
    header = "a=1,b=" + "v" * (size - 6)
    assert shorten_baggage(header) == (header if size <= 8192 else "a=1")


@pytest.mark.parametrize("size", [8190, 8191, 8192, 8193, 8194])
def test_a_tracestate_of_8192_characters_is_whole(size: int) -> None:
    """A longer list loses a whole member: of those above 128 characters the rightmost (3.3.1.5 of Level 2)."""
    keys = [f"k{number:02}" for number in range(31)]
    members = [f"{key}={'v' * 256}" for key in keys]
    last = f"z={'v' * (size - len(','.join(members)) - 3)}"
    state = parse_tracestate([",".join([*members, last]).encode()])
    assert list(state) == ([*keys, "z"] if size <= 8192 else [*keys[:-1], "z"])
    assert list(Level2TraceState.from_header([",".join([*members, last])])) == list(state)


@pytest.mark.parametrize("header_list", [["a=1", "b=2"], ["a=1,", ",b=2"], ["a=1", "", " b=2\t"], ["a=1,b=2", "a=3"]])
def test_the_lines_of_a_tracestate_are_one_list(header_list: list[str]) -> None:
    """The state that the API asks for by `from_header()` reads them as the propagator does."""
    state = Level2TraceState.from_header(header_list)
    assert dict(state.items()) == {"a": "1", "b": "2"}
    assert dict(parse_tracestate([line.encode() for line in header_list]).items()) == {"a": "1", "b": "2"}


@pytest.mark.parametrize("look", ["__len__", "keys", "items", "values", "__iter__", "to_header"])
def test_the_apis_own_methods_do_not_fail_on_a_state_that_nothing_has_read(look: str) -> None:
    """Code of the API that does not know the subclass finds its private mapping, as after the first look."""
    unread, read = parse_tracestate([b"a=1"]), parse_tracestate([b"a=1"])
    assert len(read) == 1
    base: Any = Level2TraceState.__mro__[1]
    first, second = getattr(base, look)(unread), getattr(base, look)(read)
    assert (first if isinstance(first, (int, str)) else list(first)) == (
        second if isinstance(second, (int, str)) else list(second)
    )


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (" \t v \t ", "v"),
        ("\x0bv\x0b", "\x0bv\x0b"),
        ("\xa0v\xa0", "\xa0v\xa0"),
        ("\x85v\x1f", "\x85v\x1f"),
        ("", ""),
        ("XvX", "XvX"),
    ],
)
def test_only_spaces_and_tabs_are_no_part_of_a_value(value: str, wanted: str) -> None:
    """What else Python calls white space belongs to the value (RFC 9110 5.5), for every propagator."""
    propagator = Values()
    extract(lines(("x-value", value)), propagator)
    assert propagator.read == [wanted]


@pytest.mark.parametrize(
    ("headers", "state"),
    [
        ([("traceparent", PARENT)], []),
        ([("traceparent", PARENT), ("tracestate", "a=1,b=2")], ["a", "b"]),
        ([("traceparent", PARENT), ("tracestate", "a=1"), ("tracestate", "b=2")], ["a", "b"]),
        ([("traceparent", f" {PARENT} "), ("tracestate", "a=1,b=2")], ["a", "b"]),
        ([("traceparent", PARENT), ("tracestate", "a=1,b=2"), ("baggage", "c=3")], ["a", "b"]),
    ],
)
def test_what_is_received_has_the_callers_tracestate(headers: list[tuple[str, str]], state: list[str]) -> None:
    """The short way of `receive()` and the long way of `extract()` give the same parent and the same state."""
    given = lines(*headers)
    propagation = Propagation(W3C)
    for context in (caller_context(propagation.receive(dict(given), given)), propagation.extract(dict(given), given)):
        parent = remote_of(context)
        assert (parent.trace_id, parent.span_id, parent.is_remote) == (REMOTE.trace_id, REMOTE.span_id, True)
        assert list(parent.trace_state) == state


@pytest.mark.parametrize(
    "traceparent", ["", "00", PARENT.upper(), PARENT + "-", "ff" + PARENT[2:], PARENT[:-3], f"X{PARENT}X"]
)
@pytest.mark.parametrize("more", [[], [("tracestate", "a=1")], [("baggage", "a=1")]])
def test_an_invalid_traceparent_leaves_no_span(traceparent: str, more: list[tuple[str, str]]) -> None:
    """The context that is read has no span at all: not one without a span context."""
    given = lines(("traceparent", traceparent), *more)
    propagation = Propagation(W3C)
    for context in (caller_context(propagation.receive(dict(given), given)), propagation.extract(dict(given), given)):
        assert get_current_span(context).get_span_context().is_valid is False
        assert [key for key in context if key.startswith("current-span")] == []


@pytest.mark.parametrize("name", ["x-trace", "X-Baggy", "referrer", "x-tracests", "tracestat", "baggag"])
def test_a_header_of_the_same_length_is_none_of_ours(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The request's own headers stay as they are, and none of them keeps the context from being written."""
    context = with_baggage({"a": "1"}, with_span())
    assert inject(context, {name: "own"}) == {name.lower(): "own", "traceparent": PARENT, "baggage": "a=1"}
    assert caplog.records == []


class NoContext:
    """A span that fails when it is asked who it is."""

    def get_span_context(self) -> Any:
        raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("propagator", "step"),
    [
        (Values("extract"), "the propagator's extract()"),
        (Values("inject"), "the propagator's inject()"),
        (W3C, "writing the trace context"),
    ],
)
def test_the_log_says_which_step_failed(
    propagator: TextMapPropagator, step: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Each failing step is one ERROR with its name and the exception, then DEBUG; the request goes on."""
    propagation = Propagation(propagator)
    span: Any = NoContext()
    with caplog.at_level(logging.DEBUG, logger="asgi_trace"):
        for _ in range(2):
            headers = httpx.Headers({"x": "1"})
            assert propagation.extract({}, []) == {}
            propagation.inject(headers, Context(), span=span)
            assert dict(headers) == {"x": "1"}
    message = f"{step} failed; the request goes on without it"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", message),
        ("DEBUG", message),
    ]
    assert all(record.exc_info for record in caplog.records)


BLANKS = [("", ""), (" ", " "), ("\t", "\t"), (" \t ", "\t \t"), (" ", ""), ("", " "), ("\t", ""), ("", "\t")]
OTHER_SPACES = ["\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\xa0"]
"""What Python's `strip()` would take away as well."""


@pytest.mark.parametrize(("before", "after"), BLANKS)
@pytest.mark.parametrize("header", ["traceparent", "tracestate", "baggage"])
def test_blanks_around_a_value_or_a_member_do_not_count(before: str, after: str, header: str) -> None:
    """Spaces and tabs at either end are taken away, of the whole value and of each member of a list."""
    sent = {"traceparent": PARENT, "tracestate": "a=1,b=2", "baggage": "c=3,d=4"}
    sent[header] = ",".join(f"{before}{member}{after}" for member in sent[header].split(","))
    context = extract(lines(*sent.items()))
    parent = remote_of(context)
    assert (parent.trace_id, parent.span_id) == (REMOTE.trace_id, REMOTE.span_id)
    assert list(parent.trace_state.items()) == [("a", "1"), ("b", "2")]
    assert dict(get_all(context)) == {"c": "3", "d": "4"}
    assert inject(context) == {"traceparent": PARENT, "tracestate": "a=1,b=2", "baggage": "c=3,d=4"}


@pytest.mark.parametrize("space", OTHER_SPACES)
@pytest.mark.parametrize("place", ["{0}{1}", "{1}{0}"])
def test_other_white_space_is_not_taken_away(space: str, place: str) -> None:
    """A `traceparent` with it is invalid, a `tracestate` is discarded whole, a member of `baggage` alone."""

    def read(**headers: str) -> Context:
        return extract(lines(*({"traceparent": PARENT} | headers).items()))

    assert remote_of(read(traceparent=place.format(space, PARENT))).is_valid is False
    assert remote_of(read(tracestate=place.format(space, "a=1"))).is_valid
    assert list(remote_of(read(tracestate="b=2," + place.format(space, "a=1"))).trace_state) == []
    assert dict(get_all(read(baggage="b=2," + place.format(space, "a=1")))) == {"b": "2"}


@pytest.mark.parametrize(("before", "after"), BLANKS)
def test_blanks_do_not_make_two_keys_of_one(before: str, after: str) -> None:
    """A request's own member gives way to ours of that key, and the others lose the blanks around them."""
    own = f"{before}a{after}={before}own{after},{before}b=2{after},,{before}"
    written = inject(with_baggage({"a": "1"}), {"baggage": own})["baggage"]
    assert written == "a=1,b=2"


@pytest.mark.parametrize(("before", "after"), BLANKS)
def test_baggage_that_is_shortened_loses_its_blanks(before: str, after: str) -> None:
    """They would count towards the limit; the order of what is kept stays."""
    members = [f"k{number}=v" for number in range(200)]
    header = ",".join(f"{before}{member}{after}" for member in members)
    assert shorten_baggage(header) == ",".join(members[:180])


@pytest.mark.parametrize("size", range(8150, 8200, 7))
def test_a_long_list_with_repeated_keys_is_sent_on_as_it_came(size: int) -> None:
    """Up to 8,192 characters, blanks not counted, repeated keys stay; of a longer list the first of each is kept."""
    members = ["a=1", "a=2", *(f"a-longer-key-{number:03}={'v' * 256}" for number in range(29))]
    rest = size - len(",".join(members)) - len(",z=")
    assert 0 < rest <= 256
    members.append(f"z={'v' * rest}")
    assert len(",".join(members)) == size
    state = parse_tracestate([" , ".join(members).encode()])
    sent = "a=1,a=2," if size <= 8192 else "a=1,"  # and the longest that there is room for
    assert format_tracestate(state, forwarded=True) == f"{sent}{members[2]}"
    assert format_tracestate(state) == f"a=1,{members[2]}"
    assert list(state)[:2] == ["a", "a-longer-key-000"]


@pytest.mark.parametrize(
    ("key", "written"),
    [
        ("!#$%&'*+-.^_`|~", "!#$%&'*+-.^_`|~"),
        ("a b", "a%20b"),
        (" !#$&'*+-.^_`|~", "%20!#$&'*+-.^_`|~"),
        ("100% sure", "100%25%20sure"),
        ('(),/:;<=>?@[\\]{}"', "%28%29%2C%2F%3A%3B%3C%3D%3E%3F%40%5B%5C%5D%7B%7D%22"),
        ("azAZ09 ", "azAZ09%20"),
        ("pr\u00e9nom", "pr%C3%A9nom"),
        ("\ud800", "%3F"),
        ("", ""),
    ],
)
def test_a_key_that_is_no_token_is_percent_encoded(key: str, written: str) -> None:
    """Every character of RFC 9110's tokens but "%" stays, so that what is written is a token (Baggage 3.2)."""
    assert inject(with_baggage({key: "1"}))["baggage"] == f"{written}=1"


@pytest.mark.parametrize(
    ("value", "written"),
    [("", ""), ("a b", "a%20b"), ("a+b", "a%2Bb"), ('\u00e9,;"\\', "%C3%A9%2C%3B%22%5C"), ("\ud800", "%3F"), (7, "7")],
)
def test_a_value_is_percent_encoded(value: object, written: str) -> None:
    """Whatever the application has put there, also what no encoding has."""
    assert inject(with_baggage({"k": value}))["baggage"] == f"k={written}"


@pytest.mark.parametrize(
    "header",
    ["a=x+y", "a=1,a=2", "a=%c3%a9", "a=1;p1;p2=x,b=2", "a = 1 , b=2", "a=%20x%20", "b=2,a=1,b=3", "a=", "a=%zz%"],
)
def test_baggage_that_nothing_has_looked_at_leaves_as_it_came(header: str) -> None:
    """Repeated keys, properties and every way of writing a value pass; only the blanks around members go."""
    whole = ",".join(member.strip() for member in header.split(","))
    assert inject(extract(lines(("baggage", header))))["baggage"] == whole
    looked_at = extract(lines(("baggage", header)))
    assert get_all(looked_at)
    assert inject(looked_at)["baggage"] == whole


@pytest.mark.parametrize("value", ["X", "Xv", "vX", "XvX", "XX", "xX1", "v!"])
def test_letters_at_the_ends_of_a_member_belong_to_it(value: str) -> None:
    """Nothing but blanks is taken away, of the first, a middle and the last member alike."""
    state = f"a={value},b={value},c={value}"
    entries = f"Xa={value},bX={value},X={value}"
    context = extract(lines(("traceparent", PARENT), ("tracestate", state), ("baggage", entries)))
    assert list(remote_of(context).trace_state.items()) == [("a", value), ("b", value), ("c", value)]
    assert dict(get_all(context)) == {"Xa": value, "bX": value, "X": value}
    assert inject(context) == {"traceparent": PARENT, "tracestate": state, "baggage": entries}
    own = inject(with_baggage({"other": "1"}), {"baggage": entries})["baggage"]
    assert own == f"other=1,{entries}"
    many = ",".join([entries] * 100)
    assert shorten_baggage(many) == ",".join([entries] * 60)
    assert list(remote_of(extract(lines(("traceparent", PARENT), ("tracestate", "Xa=1")))).trace_state) == []


@pytest.mark.parametrize("is_tuple", [True, False])
def test_a_span_context_is_whole_however_the_api_makes_it(monkeypatch: pytest.MonkeyPatch, is_tuple: bool) -> None:
    """An API whose span contexts are no tuples gets the same ids, flags and state, from its own constructor."""
    monkeypatch.setattr(traceparent, "SPAN_CONTEXT_IS_TUPLE", is_tuple)
    for state, expected in (((), []), ((b"a=1", b"b=2"), [("a", "1"), ("b", "2")])):
        found = traceparent.read_span_context(PARENT.encode(), state)
        assert found is not None
        assert (found.trace_id, found.span_id, found.trace_flags) == (REMOTE.trace_id, REMOTE.span_id, 1)
        assert (found.is_remote, found.is_valid, list(found.trace_state.items())) == (True, True, expected)
