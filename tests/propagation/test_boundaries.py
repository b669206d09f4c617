"""What holds exactly at a limit of the headers, and one step beyond it."""

from __future__ import annotations

import logging
from typing import Any

import httpx
import pytest
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

from asgi_trace._propagation.baggage import shorten_baggage
from asgi_trace._propagation.propagator import Propagation, caller_context
from asgi_trace._propagation.tracestate import Level2TraceState, parse_tracestate

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
