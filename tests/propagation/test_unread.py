"""Baggage and trace state that nothing has looked at: kept as they came, and what they say at the first look."""

from __future__ import annotations

import copy
import operator
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from opentelemetry import baggage
from opentelemetry.context import Context
from opentelemetry.trace import SpanContext, get_current_span

from asgi_trace._otel.api import BAGGAGE_KEY
from asgi_trace._propagation.baggage import (
    ReceivedBaggage,
    UnreadBaggage,
    format_baggage,
    parse_baggage,
    receive_baggage,
)
from asgi_trace._propagation.propagator import Propagation, caller_context
from asgi_trace._propagation.traceparent import parse_tracestate
from asgi_trace._propagation.tracestate import Level2TraceState

LINES = [b"user=alice;p=1, flags=a%20b,,", b" bad member ,empty="]
LOOKS: dict[str, Callable[[Any], Any]] = {
    "len": len,
    "bool": bool,
    "in": lambda entries: "user" in entries,
    "[]": lambda entries: entries["user"],
    "get": lambda entries: entries.get("flags"),
    "list": list,
    "reversed": lambda entries: list(reversed(entries)),
    "keys": lambda entries: list(entries.keys()),
    "values": lambda entries: list(entries.values()),
    "items": lambda entries: list(entries.items()),
    "dict": partial(dict),
    "**": lambda entries: {**entries},
    "update": lambda entries: (lambda target: (target.update(entries), target))({}),
    "copy": lambda entries: entries.copy(),
    "copy.copy": lambda entries: dict(copy.copy(entries)),
    "==": lambda entries: entries == {"user": "alice", "flags": "a b", "empty": ""},
    "== reflected": lambda entries: entries == {"user": "alice", "flags": "a b", "empty": ""},
    "!=": lambda entries: entries != {},
    "|": lambda entries: entries | {"more": 1},
    "| reflected": lambda entries: operator.or_({"more": 1}, entries),
    "repr": repr,
    "pop": lambda entries: (entries.pop("user"), dict(entries)),
    "set": lambda entries: (entries.__setitem__("user", 1), dict(entries)),
    "del": lambda entries: (entries.__delitem__("user"), dict(entries)),
    "setdefault": lambda entries: (entries.setdefault("user", 1), dict(entries)),
    "clear": lambda entries: (entries.clear(), dict(entries)),
    "get_all": lambda entries: dict(baggage.get_all(Context({BAGGAGE_KEY: entries}))),
    "get_baggage": lambda entries: baggage.get_baggage("user", Context({BAGGAGE_KEY: entries})),
    "set_baggage": lambda entries: dict(
        baggage.get_all(baggage.set_baggage("a", "b", Context({BAGGAGE_KEY: entries})))
    ),
    "written": format_baggage,
}


@pytest.mark.parametrize("look", LOOKS)
def test_baggage_says_at_the_first_look_what_it_says_when_parsed(look: str) -> None:
    """Whatever is done with it first, as with a dict or through the API."""
    unread: Any = receive_baggage(LINES)
    assert type(unread) is UnreadBaggage
    assert LOOKS[look](unread) == LOOKS[look](parse_baggage(LINES))
    assert type(unread) is ReceivedBaggage
    assert LOOKS["list"](unread) == LOOKS["list"](unread)


@pytest.mark.parametrize("lines", [[b""], [b",,"], [b"no entry"], [b"a", b"b"]])
def test_lines_without_an_entry_are_no_baggage(lines: list[bytes]) -> None:
    """Without an equals sign there is no member, and nothing is put into the context."""
    assert receive_baggage(lines) is None
    assert not parse_baggage(lines)


def test_threads_that_look_first_see_all_of_it() -> None:
    """Several threads may read at once; none sees a part."""
    lines = [",".join(f"key{number}=value" for number in range(100)).encode()]
    for _ in range(20):
        unread: Any = receive_baggage(lines)
        go = threading.Barrier(4)
        found: list[int] = []

        def read(unread: Any = unread, go: threading.Barrier = go, found: list[int] = found) -> None:
            go.wait()
            found.append(len(unread))

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [100] * 4


def test_a_method_that_was_taken_before_another_look_reads_what_that_has_found() -> None:
    """A thread that was about to look for the first time, when another one did, sees the entries and parses nothing."""
    unread: Any = receive_baggage(LINES)
    get, items = unread.get, unread.items
    assert len(unread) == 3
    header = unread.header
    assert get("user") == "alice"
    assert dict(items()) == {"user": "alice", "flags": "a b", "empty": ""}
    assert unread.header is header


STATES = [b"a=1", b"a=1,b=2", b"b=2, a=1,,b=3", b"", b"illegal", b"a=1,illegal", b"x=" + b"y" * 300, b"UPPER=1"]


@pytest.mark.parametrize("line", STATES)
@pytest.mark.parametrize(
    "look",
    [
        len,
        bool,
        list,
        repr,
        lambda state: dict(state.items()),
        lambda state: state.to_header(),
        lambda state: state.get("a"),
        lambda state: "a" in state and state["a"],
        lambda state: state.add("c", "3").to_header(),
        lambda state: state.update("a", "3").to_header(),
        lambda state: state.delete("a").to_header(),
        lambda state: list(state.values()),
    ],
    ids=range(12),
)
def test_a_trace_state_says_at_the_first_look_what_its_header_says(line: bytes, look: Callable[[Any], Any]) -> None:
    """Whatever is asked first."""
    assert look(parse_tracestate([line])) == look(Level2TraceState.from_header([line.decode()]))


def test_an_unknown_field_of_a_trace_state_is_an_attribute_error() -> None:
    """The look for a field that is made later finds nothing else."""
    with pytest.raises(AttributeError):
        parse_tracestate([b"a=1"]).unknown  # type: ignore[attr-defined]  # noqa: B018


HEADERS = [
    (b"traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    (b"tracestate", b"a=1,b=2"),
    (b"baggage", b"user=alice"),
]


def test_a_request_that_nothing_looks_into_parses_nothing() -> None:
    """What a caller sends is kept as it came, whatever its size."""
    context = Propagation(None).extract(dict(HEADERS), HEADERS)
    assert type(context[BAGGAGE_KEY]) is UnreadBaggage
    state = get_current_span(context).get_span_context().trace_state
    assert "_members" not in vars(state)
    assert state["b"] == "2"
    assert baggage.get_baggage("user", context) == "alice"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_is_received_is_what_is_extracted(count: int) -> None:
    """The parts that `receive()` returns stand for the very context that `extract()` makes."""
    headers, propagation = HEADERS[:count], Propagation(None)
    received = caller_context(propagation.receive(dict(headers), headers))
    extracted = propagation.extract(dict(headers), headers)
    assert received.keys() == extracted.keys()
    contexts: list[SpanContext] = [get_current_span(each).get_span_context() for each in (received, extracted)]
    assert contexts[0] == contexts[1]
    assert [dict(each.trace_state) for each in contexts] == [({"a": "1", "b": "2"} if count > 1 else {})] * 2
