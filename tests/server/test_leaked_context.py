"""Servers leak one request's context into the next one on the same connection: no request may inherit its trace.

asyncio resumes reading inside the task of the request that has asked for more of its body, so the protocol starts the
next request in that task's context; pipelined requests are started from the task of the one before in any loop.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.baggage import get_all, set_baggage
from opentelemetry.context import attach, detach, get_current
from opentelemetry.trace import get_current_span, set_span_in_context

from asgi_trace import TraceMiddleware, server_span
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.testing import CapturedSpans

from ..support.asgi import PARENT_ID, TRACEPARENT, body, drive, http_scope, start
from ..support.servers import UvicornServer, eventually, request_bytes, uvicorn_serving

BIG = b"x" * 200_000
TRACES = ["0af7651916cd43dd8448eb211c80319c", "4bf92f3577b34da6a3ce929d0e0e4736", "80e1afed08e019fc1110464cfa66635c"]


class Echo:
    """Reads the whole body, and answers with the ids and the baggage that it sees."""

    def __init__(self) -> None:
        self.leaks = 0
        self.traced = TraceMiddleware(self.app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.leaks += get_current_span().get_span_context().is_valid
        await self.traced(scope, receive, send)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive())["more_body"]:
            pass
        context = get_current_span().get_span_context()
        assert server_span().get_span_context() == context
        seen = f"{context.trace_id:032x} {','.join(get_all())}".encode()
        await send(start(200, [(b"content-length", str(len(seen)).encode())]))
        await send(body(seen))


@pytest.fixture(
    scope="module",
    params=[(http, loop) for http in ("h11", "httptools") for loop in ("asyncio", "uvloop")],
    ids="-".join,
)
def served(request: pytest.FixtureRequest) -> Iterator[tuple[Echo, UvicornServer]]:
    echo = Echo()
    http, loop = request.param
    with uvicorn_serving(echo, http=http, loop=loop) as server:
        yield echo, server


@pytest.fixture
def server(served: tuple[Echo, UvicornServer]) -> UvicornServer:
    return served[1]


def parent_headers(trace: str) -> list[tuple[str, str]]:
    return [("traceparent", f"00-{trace}-b7ad6b7169203331-01")]


def ids(spans: CapturedSpans, count: int) -> list[str]:
    eventually(lambda: len(spans) == count, "all spans")
    return [f"{span.context.trace_id:032x}" for span in spans]


def test_a_request_after_a_large_body_keeps_its_own_trace(server: UvicornServer, spans: CapturedSpans) -> None:
    """POST of 200 KB, then GET, on one connection: each is a SERVER span in the trace of its own `traceparent`."""
    with server.connect() as connection:
        connection.request("/", "POST", [*parent_headers(TRACES[0]), ("baggage", "tenant=acme")], BIG)
        first = connection.response().body.decode()
        connection.request("/", "GET", parent_headers(TRACES[1]))
        second = connection.response().body.decode()

    assert [first, second] == [f"{TRACES[0]} tenant", f"{TRACES[1]} "]
    assert ids(spans, 2) == TRACES[:2]
    assert [span.kind.name for span in spans] == ["SERVER", "SERVER"]


def test_a_request_without_a_parent_after_a_large_body_is_a_new_trace(
    server: UvicornServer, spans: CapturedSpans
) -> None:
    """The GET behind a large POST that has no `traceparent` is a root, with no baggage of anybody's."""
    with server.connect() as connection:
        connection.request("/", "POST", [*parent_headers(TRACES[0]), ("baggage", "tenant=acme")], BIG)
        connection.response()
        connection.request("/")
        second = connection.response().body.decode()

    first_id, second_id = ids(spans, 2)
    assert second == f"{second_id} "
    assert first_id == TRACES[0] != second_id
    assert spans[1].parent is None


def test_pipelined_requests_keep_their_own_traces(server: UvicornServer, spans: CapturedSpans) -> None:
    """Requests sent in one go, with and without `traceparent`, do not inherit from the one that was served before."""
    requests = [request_bytes(f"/{n}", headers=parent_headers(trace)) for n, trace in enumerate(TRACES)]
    requests += [request_bytes("/3"), request_bytes("/4")]
    with server.connect() as connection:
        connection.send(b"".join(requests))
        seen = [connection.response().body.decode().strip() for _ in requests]

    found = ids(spans, len(requests))
    assert found == seen
    assert found[:3] == TRACES
    assert len(set(found)) == len(found)
    assert [span.parent is None for span in spans] == [False, False, False, True, True]


def test_an_excluded_request_leaves_no_silence_behind(server: UvicornServer, spans: CapturedSpans) -> None:
    """A request that follows an unsampled one on the same connection is recorded."""
    unsampled = [("traceparent", f"00-{TRACES[0]}-b7ad6b7169203331-00")]
    with server.connect() as connection:
        connection.request("/", "POST", unsampled, BIG)
        connection.response()
        connection.send(request_bytes("/", headers=unsampled) + request_bytes("/"))
        connection.response()
        seen = connection.response().body.decode().strip()

    assert ids(spans, 1) == [seen]


def test_a_context_left_by_somebody_is_not_inherited(spans: CapturedSpans) -> None:
    """The same without a server: neither a span nor baggage of the ambient context reaches a request or its caller."""
    tracer = spans.tracer_provider.get_tracer("asgi_trace")
    foreign = set_baggage("tenant", "acme", set_span_in_context(tracer.start_span("open")))
    token = attach(foreign)
    echo = Echo()
    for headers, expected in (([], None), ([(b"traceparent", TRACEPARENT)], PARENT_ID)):
        spans.clear()
        served = drive(echo, http_scope(headers=headers))
        assert served.messages[-1]["body"].endswith(b" ")
        assert (spans.server.parent and spans.server.parent.span_id) == expected
        assert get_current() is foreign
    detach(token)

    assert echo.leaks == 2
