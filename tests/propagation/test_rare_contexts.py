"""What a propagator meets seldom: two threads at one value, propagators that change, too much of everything."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.propagate import get_global_textmap, set_global_textmap
from opentelemetry.propagators.textmap import CarrierT, Setter, TextMapPropagator, default_setter

from asgi_trace._propagation.baggage import MAX_BYTES, MAX_MEMBERS, ReceivedBaggage
from asgi_trace._propagation.propagator import Propagation
from asgi_trace._propagation.tracestate import shorten_tracestate

from ..support.propagation import PARENT, Shouting, extract, inject, lines


def test_a_global_propagator_that_is_set_later_counts_from_then_on() -> None:
    """The propagator of the process may be set after the middleware was made."""
    headers = lines(("traceparent", PARENT))
    propagation = Propagation(None)
    before = propagation.receive(dict(headers), headers)
    earlier = get_global_textmap()
    try:
        set_global_textmap(Shouting())
        after = propagation.receive(dict(headers), headers)
    finally:
        set_global_textmap(earlier)

    assert type(before) is tuple
    assert isinstance(after, Context)


class _Talkative(TextMapPropagator):
    """Writes `count` fields of `size` bytes."""

    def __init__(self, count: int, size: int) -> None:
        self._names = {f"x-{number:04}": "v" * (size - 6) for number in range(count)}

    @property
    def fields(self) -> set[str]:
        return set()

    def extract(self, carrier: Any, context: Context | None = None, getter: Any = None) -> Context:
        return context or Context()

    def inject(
        self, carrier: CarrierT, context: Context | None = None, setter: Setter[CarrierT] = default_setter
    ) -> None:
        for name, value in self._names.items():
            setter.set(carrier, name, value)


@pytest.mark.parametrize(
    ("count", "size", "sent"),
    [
        (1, 100, 1),
        (MAX_MEMBERS, 10, MAX_MEMBERS),
        (MAX_MEMBERS + 1, 10, MAX_MEMBERS),
        (1, MAX_BYTES, 1),
        (1, MAX_BYTES + 1, 0),
        (3, MAX_BYTES // 2, 2),
    ],
)
def test_fields_beyond_the_limits_are_not_sent(count: int, size: int, sent: int) -> None:
    """Of what another propagator makes of its caller's fields, as much is sent as baggage may have."""
    assert len(inject(Context(), propagator=_Talkative(count, size))) == sent


@pytest.mark.parametrize(
    ("members", "kept"),
    [
        (["a=" + "x" * 200] * 3, ["a=" + "x" * 200] * 2),
        (["a=" + "x" * 100] * 6, ["a=" + "x" * 100] * 4),
        (["a=" + "x" * 600], []),
        (["a=" + "x" * 600, "b=1"], ["b=1"]),
        (["a=" + "x" * 100] * 7 + ["b=" + "y" * 200], ["a=" + "x" * 100] * 4),
    ],
)
def test_whole_members_go_until_the_rest_fits(members: list[str], kept: list[str]) -> None:
    """3.3.1.5: first the members of more than 128 characters, from the right, then the others."""
    assert shorten_tracestate(",".join(members)) == ",".join(kept)


LOOKS: dict[str, tuple[tuple[Any, ...], Any]] = {
    "get": (("a",), "1"),
    "__getitem__": (("b",), "2"),
    "__contains__": (("c",), False),
    "__len__": ((), 2),
    "copy": ((), {"a": "1", "b": "2"}),
    "pop": (("a",), "1"),
}


@pytest.mark.parametrize("method", LOOKS)
def test_baggage_that_another_thread_reads_meanwhile_is_read_once(method: str) -> None:
    """Between the look-up of a method and its call another thread may have read the entries: the answer is the same."""
    context = extract(lines(("traceparent", PARENT), ("baggage", "a=1,b=2")))
    entries: Any = next(value for value in context.values() if isinstance(value, ReceivedBaggage))
    arguments, answer = LOOKS[method]
    look = getattr(entries, method)

    assert list(entries) == ["a", "b"]  # the other thread
    assert look(*arguments) == answer
