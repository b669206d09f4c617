"""The context of an excluded request is read when something looks into it, and says the same whatever looks first."""

from __future__ import annotations

import copy
import sys
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from opentelemetry import baggage
from opentelemetry.context import Context, get_current, set_value
from opentelemetry.propagators.b3 import B3MultiFormat
from opentelemetry.propagators.textmap import CarrierT, Getter, TextMapPropagator, default_getter
from opentelemetry.trace import SpanContext, TraceFlags, get_current_span

from asgi_trace import TraceMiddleware
from asgi_trace._log_correlation import span_context_for
from asgi_trace._otel.api import BAGGAGE_KEY, SPAN_KEY
from asgi_trace._propagation.propagator import Propagation
from asgi_trace._server.excluded_span import ExcludedContext, ExcludedSpan, UnreadContext
from asgi_trace._types import Headers, Receive, Scope, Send
from asgi_trace.httpx import AsyncTraceTransport
from asgi_trace.testing import CapturedSpans

from ..support.asgi import OK, TRACE_ID, TRACEPARENT, drive, http_scope

HEADERS = [(b"host", b"shop.test"), (b"traceparent", TRACEPARENT), (b"baggage", b"user=7;p=1"), (b"baggage", b"a=b")]


def unread(headers: Headers = HEADERS, propagation: Propagation | None = None) -> Any:
    """A context that nothing has looked into."""
    context = UnreadContext()
    context.propagation = propagation or Propagation(None)
    context.headers = headers
    return context


LOOKS: dict[str, Callable[[Any], Any]] = {
    "bool": bool,
    "len": len,
    "in": lambda context: (SPAN_KEY in context, BAGGAGE_KEY in context, "other" in context),
    "keys": lambda context: set(context.keys()),
    "list": lambda context: sorted(context),
    "spread": lambda context: sorted({**context, "more": 1}),
    "dict": lambda context: sorted(dict(context)),
    "Context": lambda context: sorted(Context(context)),
    "copy": lambda context: (sorted(context.copy()), sorted(copy.copy(context.copy()))),
    "union": lambda context: (sorted(context | {"x": 1}), sorted({"x": 1} | context)),
    "values": lambda context: len(list(context.values())),
    "items": lambda context: sorted(key for key, _ in context.items()),
    "reversed": lambda context: len(list(reversed(context))),
    "span": lambda context: get_current_span(context).get_span_context().trace_id,
    "trace flags": lambda context: context[SPAN_KEY].get_span_context().trace_flags,
    "baggage": lambda context: dict(baggage.get_all(context)),
    "entry": lambda context: baggage.get_baggage("user", context),
    "new entry": lambda context: dict(baggage.get_all(baggage.set_baggage("c", "d", context))),
    "new value": lambda context: sorted(set_value("x", 1, context)),
    "equality": lambda context: (context == {}, context != {}),
    "text": lambda context: "ExcludedSpan(" in repr(context),
}


def test_a_method_that_was_taken_before_another_look_reads_nothing_again() -> None:
    """A thread that was about to look for the first time, when another one did, sees the same span."""
    context = unread()
    get, length = context.get, context.__len__
    span = context[SPAN_KEY]
    assert get(SPAN_KEY) is span
    assert length() == 2


@pytest.mark.parametrize("look", LOOKS)
def test_the_first_look_says_what_every_look_says(look: str) -> None:
    """Whatever is done with it first, as with a mapping or through the API, the caller's headers have been read."""
    expected = Context({SPAN_KEY: get_current_span(unread()), BAGGAGE_KEY: {"user": "7", "a": "b"}})
    context = unread()
    assert type(context) is UnreadContext

    assert LOOKS[look](context) == LOOKS[look](expected)
    assert type(context) is ExcludedContext
    assert LOOKS[look](context) == LOOKS[look](expected)


def outcome(change: Callable[[Any], object], context: Any) -> list[str]:
    """What a change leaves in a context."""
    change(context)
    return sorted(context)


@pytest.mark.parametrize(
    "change",
    [
        lambda context: context.__setitem__("a", 1),
        lambda context: context.__delitem__(SPAN_KEY),
        lambda context: context.pop(SPAN_KEY),
        lambda context: context.popitem(),
        lambda context: context.update({"a": 1}),
        lambda context: context.setdefault("a", 1),
        lambda context: context.clear(),
        lambda context: context.__ior__({"a": 1}),
    ],
)
def test_it_can_no_more_be_changed_than_any_other(change: Callable[[Any], object]) -> None:
    """A Context is immutable, before the first look and after it; in older versions of the API by assignment only."""
    refused = change.__code__.co_names[0] in vars(Context)
    for context in (unread(), Context(unread())):
        if refused:
            with pytest.raises(ValueError, match=r"^$"):
                change(context)
            assert sorted(context) == sorted((SPAN_KEY, BAGGAGE_KEY))
        else:
            plain = Context(dict(unread()))
            assert outcome(change, context) == outcome(change, plain)


def test_threads_that_look_first_see_one_span() -> None:
    """Several threads may look at once, and all of them find the same ids and all of the baggage."""
    for _ in range(20):
        context, go = unread(), threading.Barrier(4)
        found: list[tuple[int, int]] = []

        def look(context: Any = context, go: Any = go, found: list[tuple[int, int]] = found) -> None:
            go.wait()
            entries = baggage.get_all(context)
            found.append((get_current_span(context).get_span_context().span_id, len(entries)))

        threads = [threading.Thread(target=look) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(set(found)) == 1
        assert found[0][1] == 2


class _Counting(TextMapPropagator):
    """Counts how often the headers are read, and finds a caller that is not valid."""

    fields = {"x-count"}  # noqa: RUF012

    def __init__(self, fails: bool = False) -> None:
        self.count = 0
        self._fails = fails

    def extract(
        self, carrier: CarrierT, context: Context | None = None, getter: Getter[CarrierT] = default_getter
    ) -> Context:
        self.count += 1
        return Context({SPAN_KEY: _Broken() if self._fails else "no span", "mine": 1})

    def inject(self, *arguments: Any, **keywords: Any) -> None:
        raise AssertionError


class _Broken(ExcludedSpan):
    def __init__(self) -> None:
        super().__init__(SpanContext(1, 1, True, TraceFlags(1)))

    def get_span_context(self) -> SpanContext:
        raise LookupError("no ids")


def test_headers_that_nothing_asks_for_are_not_read(spans: CapturedSpans) -> None:
    """An excluded request whose application makes no call and no span costs no reading, however many headers it has."""
    propagator = _Counting()
    app = TraceMiddleware(OK, exclude=".", propagator=propagator)
    headers = [(b"x-%d" % number, b"value") for number in range(40)]

    assert drive(app, http_scope(headers=headers)).status == 200
    assert propagator.count == 0
    assert not spans.finished


@pytest.mark.parametrize("fails", [False, True])
def test_a_caller_that_cannot_be_known_is_none(fails: bool) -> None:
    """What a propagator of another kind finds is passed on; where its span is none, or raises, the trace is new."""
    propagator = _Counting(fails)
    context = unread(propagation=Propagation(propagator))
    span_context = get_current_span(context).get_span_context()

    assert span_context.is_valid
    assert span_context.trace_id != 1
    assert context["mine"] == 1
    assert propagator.count == 1


@pytest.mark.parametrize(
    ("options", "headers", "sent"),
    [
        ({}, HEADERS, {"baggage": "user=7;p=1,a=b"}),
        ({}, HEADERS[:2], {}),
        ({}, HEADERS[2:], {"baggage": "user=7;p=1,a=b"}),
        ({"trust": False}, HEADERS, {}),
        ({"trust": lambda scope: True}, HEADERS, {"baggage": "user=7;p=1,a=b"}),
    ],
)
def test_what_the_caller_sent_goes_on(
    spans: CapturedSpans, options: Any, headers: Headers, sent: dict[str, str]
) -> None:
    """An excluded request's outgoing calls carry the caller's baggage as it came, unless the caller is not trusted."""
    seen: list[httpx.Headers] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers)
        return httpx.Response(200)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        async with httpx.AsyncClient(transport=AsyncTraceTransport(httpx.MockTransport(answer))) as client:
            await client.get("http://stock.test/")

    drive(TraceMiddleware(app, exclude=".", **options), http_scope(headers=headers))

    assert {name: value for name, value in seen[0].items() if name == "baggage"} == sent
    continued = b"traceparent" in dict(headers) and options != {"trust": False}
    assert (int(seen[0]["traceparent"].split("-")[1], 16) == TRACE_ID) == continued
    assert not spans.finished


def test_an_access_line_that_is_written_afterwards_has_the_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server logs after the application has returned, an excluded request is known by its context alone."""
    monkeypatch.setitem(sys.modules, "granian", sys)
    headers = [(b"x-b3-traceid", b"%032x" % TRACE_ID), (b"x-b3-spanid", b"e457b5a2e4d86bd1"), (b"x-b3-sampled", b"1")]
    seen: list[Context] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(get_current())
        await OK(scope, receive, send)

    async def server(scope: Scope, receive: Receive, send: Send) -> None:
        await middleware(scope, receive, send)
        assert type(seen[0]) is UnreadContext
        assert span_context_for("granian.access").trace_id == TRACE_ID
        assert span_context_for("granian.access") == get_current_span(seen[0]).get_span_context()

    middleware = TraceMiddleware(app, exclude=".", propagator=B3MultiFormat())
    assert drive(server, http_scope(headers=headers)).exception is None
