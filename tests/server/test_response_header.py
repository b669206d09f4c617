"""Telling the caller its trace id: exactly once, in the message that starts the answer, whatever the answer is."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider

from asgi_trace import TraceMiddleware
from asgi_trace._types import Message
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import OK, TRACE_ID, TRACEPARENT, body, drive, http_scope, responding, start, websocket_scope

Headers = list[tuple[bytes, bytes]]
NAMES = ["server-timing", "traceresponse", "x-trace-id"]


def lines(headers: Headers, name: str) -> list[str]:
    return [value.decode() for key, value in headers if key.lower() == name.encode()]


def expected(spans: CapturedSpans, name: str) -> str:
    context = spans.server.context
    traceparent = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags) & 3:02x}"
    named = {"server-timing": f"trace;desc={traceparent}", "traceresponse": traceparent}
    return named.get(name, f"{context.trace_id:032x}")


@pytest.mark.parametrize("name", NAMES)
def test_each_header_has_its_own_format(spans: CapturedSpans, name: str) -> None:
    """`server-timing` and `traceresponse` in their own formats, any other name with the trace id in hex."""
    served = drive(TraceMiddleware(OK, response_header=name))

    assert lines(served.headers, name) == [expected(spans, name)]


def test_the_name_is_sent_in_lower_case(spans: CapturedSpans) -> None:
    """ASGI header names are lower case, however the option is written."""
    served = drive(TraceMiddleware(OK, response_header="X-Trace-Id"))

    assert b"x-trace-id" in dict(served.headers)


def test_nothing_is_added_by_default(spans: CapturedSpans) -> None:
    """Without the option the caller is told nothing."""
    assert drive(TraceMiddleware(OK)).headers == [(b"content-length", b"2")]


MESSAGES: dict[str, list[Message]] = {
    "a stream": [start(), body(b"x", True), body(b"y")],
    "trailers": [start(trailers=True), body(b"x"), {"type": "http.response.trailers", "headers": []}],
    "pathsend": [start(), {"type": "http.response.pathsend", "path": "/x"}],
    "early hints": [{"type": "http.response.early_hint", "links": []}, start(), body()],
    "debug": [{"type": "http.response.debug", "info": {}}, start(), body()],
    "no headers": [{"type": "http.response.start", "status": 204}, body()],
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("messages", MESSAGES.values(), ids=MESSAGES)
def test_only_the_start_of_a_response_is_touched(spans: CapturedSpans, name: str, messages: list[Message]) -> None:
    """One header in `http.response.start`; bodies, trailers and hints stay byte for byte as they are."""
    app = responding(*messages)
    bare, served = drive(app), drive(TraceMiddleware(app, response_header=name))

    for one, other in zip(served.messages, bare.messages, strict=True):
        if one["type"] == "http.response.start":
            ours = [line for line in one["headers"] if line[0] == name.encode()]
            assert ours == [(name.encode(), expected(spans, name).encode())]
            assert [line for line in one["headers"] if line not in ours] == list(other.get("headers", []))
            assert one["status"] == other["status"]
        else:
            assert one == other


def test_the_applications_own_message_is_not_changed(spans: CapturedSpans) -> None:
    """A message or header list that an application keeps and sends again does not collect our headers."""
    kept = start(200, [(b"x-id", b"1")])

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(kept)
        await send(body())

    traced = TraceMiddleware(app, response_header="x-trace-id")
    for _ in range(3):
        served = drive(traced)
        assert len(lines(served.headers, "x-trace-id")) == 1

    assert kept == start(200, [(b"x-id", b"1")])


def shop() -> FastAPI:
    app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})

    @app.get("/200/{number}")
    def plain(number: int) -> int:
        return number

    @app.get("/401")
    def unauthorized() -> None:
        raise HTTPException(401)

    @app.get("/500")
    def fails() -> None:
        raise ValueError

    @app.get("/stream")
    def stream() -> StreamingResponse:
        async def events() -> AsyncIterator[str]:
            yield "data: 1\n\n"
            yield "data: 2\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    return app


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("path", "status"),
    [("/200/7", 200), ("/200/x", 422), ("/401", 401), ("/404", 404), ("/500", 500), ("/stream", 200)],
)
def test_every_answer_of_a_framework_carries_it_once(spans: CapturedSpans, name: str, path: str, status: int) -> None:
    """200, 401, 404, 422, the page of a crash, and an event stream: the caller always learns the id."""
    served = drive(TraceMiddleware(shop(), response_header=name), http_scope(path))

    assert served.status == status
    assert lines(served.headers, name) == [expected(spans, name)]


def test_a_server_timing_of_the_application_stays(spans: CapturedSpans) -> None:
    """An existing `Server-Timing` keeps its line; ours is one more."""
    app = responding(start(200, [(b"server-timing", b"db;dur=53")]), body())
    served = drive(TraceMiddleware(app, response_header="server-timing"))

    assert lines(served.headers, "server-timing") == ["db;dur=53", expected(spans, "server-timing")]


@pytest.mark.parametrize("existing", [b"x-trace-id", b"X-Trace-Id"])
def test_what_the_application_says_itself_stands(spans: CapturedSpans, existing: bytes) -> None:
    """A header of that name which is there already is the application's, and the only one."""
    app = responding(start(200, [(existing, b"mine")]), body())
    served = drive(TraceMiddleware(app, response_header="x-trace-id"))

    assert served.headers == [(existing, b"mine")]


@pytest.mark.parametrize("name", ["x-trace-id", "traceresponse"])
def test_a_script_of_another_origin_may_read_it(spans: CapturedSpans, name: str) -> None:
    """Where the application allows another origin, the header is exposed to its scripts; else nothing is."""
    allowing = responding(start(200, [(b"access-control-allow-origin", b"*")]), body())

    assert lines(drive(TraceMiddleware(allowing, response_header=name)).headers, "access-control-expose-headers") == [
        name
    ]
    assert lines(drive(TraceMiddleware(OK, response_header=name)).headers, "access-control-expose-headers") == []


def test_an_unsampled_request_has_an_id_too() -> None:
    """A support case can quote the id, and its flags say that nothing is stored under it."""
    with capture_spans(ALWAYS_OFF) as spans:
        served = drive(TraceMiddleware(OK, response_header="traceresponse"))

    (value,) = lines(served.headers, "traceresponse")
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-0[02]", value)
    assert len(spans) == 0


def test_without_a_provider_only_a_caller_can_be_answered() -> None:
    """With no SDK there is an id when the caller has sent one, and no header without."""
    traced = TraceMiddleware(OK, tracer_provider=NoOpTracerProvider(), response_header="x-trace-id")

    answered = drive(traced, http_scope(headers=[(b"traceparent", TRACEPARENT)]))
    assert lines(answered.headers, "x-trace-id") == [f"{TRACE_ID:032x}"]
    assert lines(drive(traced).headers, "x-trace-id") == []


def test_an_excluded_request_is_told_nothing(spans: CapturedSpans) -> None:
    """Excluded means no trace at all, so there is no id to tell."""
    served = drive(TraceMiddleware(OK, exclude=".", response_header="x-trace-id"))

    assert lines(served.headers, "x-trace-id") == []


@pytest.mark.parametrize("name", NAMES)
def test_a_socket_is_told_when_it_is_accepted(spans: CapturedSpans, name: str) -> None:
    """`websocket.accept` carries the header beside its own, and no other message does."""
    accept = {"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x-id", b"1")]}
    app = responding(accept, {"type": "websocket.send", "text": "x"}, {"type": "websocket.close"})
    served = drive(TraceMiddleware(app, response_header=name), websocket_scope())

    first, *others = served.messages
    assert first["headers"] == [(b"x-id", b"1"), (name.encode(), expected(spans, name).encode())]
    assert first["subprotocol"] == "chat"
    assert others == [{"type": "websocket.send", "text": "x"}, {"type": "websocket.close"}]


def test_a_refused_socket_is_told_in_its_denial(spans: CapturedSpans) -> None:
    """A denial response starts with the header; a bare close has no place for it."""
    denial: list[Message] = [
        {"type": "websocket.http.response.start", "status": 401, "headers": []},
        {"type": "websocket.http.response.body", "body": b"no"},
    ]
    served = drive(TraceMiddleware(responding(*denial), response_header="x-trace-id"), websocket_scope())
    assert lines(served.headers, "x-trace-id") == [expected(spans, "x-trace-id")]

    closed = drive(
        TraceMiddleware(responding({"type": "websocket.close"}), response_header="x-trace-id"), websocket_scope()
    )
    assert closed.messages == [{"type": "websocket.close"}]


def test_headers_in_any_form_are_taken(spans: CapturedSpans) -> None:
    """Tuples, iterators and bytearrays are all headers to a server, and so they are here."""
    for headers in (((b"x-id", b"1"),), iter([(b"x-id", b"1")]), [(bytearray(b"x-id"), b"1")], [[b"x-id", b"1"]]):
        spans.clear()
        message: Message = {"type": "http.response.start", "status": 200, "headers": headers}
        served = drive(TraceMiddleware(responding(message, body()), response_header="x-trace-id"))
        assert [(bytes(name), value) for name, value in served.headers] == [
            (b"x-id", b"1"),
            (b"x-trace-id", expected(spans, "x-trace-id").encode()),
        ]
