"""What a server may do and hardly one does: unusual `send` objects, broken messages, the last moment of a handshake."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from asgi_trace import TraceMiddleware
from asgi_trace._server.disconnect import disconnect_at_hand
from asgi_trace._server.networks import Networks, TrustedProxies
from asgi_trace._types import Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans

from ..support.asgi import (
    CONNECT,
    OK,
    REQUEST,
    TRACE_ID,
    TRACEPARENT,
    Steps,
    attributes_of,
    body,
    drive,
    http_scope,
    responding,
    start,
    websocket_scope,
)
from ..support.websockets import GONE_MARK


class Gone:
    """A server's `send` as an object; its client has left."""

    async def __call__(self, message: Message) -> None:
        raise BrokenPipeError("the client has left")

    async def method(self, message: Message) -> None:
        raise BrokenPipeError("the client has left")

    async def named(self, flag: bool, message: Message, *, more: int) -> None:
        raise BrokenPipeError("the client has left")


async def plain(message: Message) -> None:
    raise BrokenPipeError("the client has left")


SENDS: list[tuple[str, Callable[[], Send]]] = [
    ("a function", lambda: plain),
    ("a method", lambda: Gone().method),
    ("an object", Gone),
    ("a partial of a function", lambda: partial(plain)),
    ("a partial of an object", lambda: partial(Gone())),
    ("a partial of a partial of a method", lambda: partial(partial(Gone().named, True), more=1)),
]


@pytest.mark.parametrize("make", [pytest.param(make, id=name) for name, make in SENDS])
def test_an_oserror_of_the_servers_send_is_evidence_whatever_kind_of_callable_it_is(
    spans: CapturedSpans, make: Callable[[], Send]
) -> None:
    """The client has left, and that is no error of the application's."""

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def main() -> None:
        with pytest.raises(BrokenPipeError):
            await TraceMiddleware(responding(start(), body()))(http_scope(), receive, make())

    asyncio.run(main())
    attributes = attributes_of(spans.server)
    assert attributes[GONE_MARK] is True
    assert "error.type" not in attributes


@pytest.mark.parametrize("message", [{}, {"kind": "http.request"}, {"type": None}])
@pytest.mark.parametrize(
    ("scope", "usual", "step"),
    [
        (http_scope(), REQUEST, "following a request's body"),
        (websocket_scope(), CONNECT, "following a WebSocket"),
    ],
)
def test_a_broken_message_reaches_the_application_as_it_is(
    spans: CapturedSpans,
    caplog: pytest.LogCaptureFixture,
    scope: dict[str, Any],
    usual: Message,
    step: str,
    message: Message,
) -> None:
    """What could not be read of a message is one ERROR that names the step; the span goes on."""
    seen: list[Message] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([await receive(), await receive(), await receive()])

    with caplog.at_level(logging.ERROR, logger="asgi_trace"):
        drive(TraceMiddleware(app), scope, [usual, message, message])
    assert seen == [usual, message, message]
    assert len(spans) == 1
    said = [record.getMessage() for record in caplog.records]
    assert said == ([] if "type" in message else [f"{step} failed; the request goes on without it"])


@pytest.mark.parametrize(
    ("scope", "step"), [(http_scope(), "following a response"), (websocket_scope(), "following a WebSocket")]
)
def test_a_broken_message_reaches_the_server_as_it_is(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture, scope: dict[str, Any], step: str
) -> None:
    """The server judges it (this one raises KeyError); what could not be read is one ERROR that names the step."""
    with caplog.at_level(logging.ERROR, logger="asgi_trace"):
        served = drive(TraceMiddleware(responding({"status": 200})), scope)
    assert served.messages == [{"status": 200}]
    assert isinstance(served.exception, KeyError)
    assert len(spans) == 1
    assert [record.getMessage() for record in caplog.records] == [f"{step} failed; the request goes on without it"]


ACCEPT: Message = {"type": "websocket.accept"}
DENY: Message = {"type": "websocket.http.response.start", "status": 403, "headers": []}
DENY_BODY: Message = {"type": "websocket.http.response.body", "body": b"no"}


@pytest.mark.parametrize(
    ("last", "messages"),
    [
        (0, [ACCEPT, 20]),
        (0, [{"type": "websocket.close"}, 20]),
        (1, [DENY, DENY_BODY, 20]),
        (2, [DENY, {**DENY_BODY, "more_body": True}, DENY_BODY, 20]),
    ],
)
def test_a_handshakes_span_ends_with_its_last_message(spans: CapturedSpans, last: int, messages: list[Any]) -> None:
    """With `websocket="handshake"` nothing that comes after the answer is counted, whichever answer it is."""
    app = Steps(*messages)
    drive(TraceMiddleware(app, websocket="handshake"), websocket_scope(), [CONNECT])
    assert app.saw_the_end(spans.server, last)


@pytest.mark.parametrize("mode", ["connection", "handshake"])
@pytest.mark.parametrize("answer", [[ACCEPT], [{"type": "websocket.close"}], [DENY, DENY_BODY]])
def test_an_answer_that_did_not_arrive_ends_no_span_before_its_start(
    spans: CapturedSpans, mode: Any, answer: list[Message]
) -> None:
    """The handshake failed with its connection: the span has no status and lasts until then."""

    def gone(message: Message) -> None:
        raise ConnectionResetError("gone")

    drive(TraceMiddleware(responding(*answer), websocket=mode), websocket_scope(), [CONNECT], gone)
    span = spans.server
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time < 60_000_000_000
    assert span.end_time > span.start_time
    assert "http.response.status_code" not in attributes_of(span)


@pytest.mark.parametrize("keys", [{}, {"raw_path": None}, {"raw_path": b"/" + b"p" * 5000}, {"client": None}])
def test_every_handshake_says_its_protocol(spans: CapturedSpans, keys: dict[str, Any]) -> None:
    """Whatever is missing or too long in its scope."""
    drive(TraceMiddleware(responding({"type": "websocket.close"})), websocket_scope(**keys), [CONNECT])
    assert attributes_of(spans.server)["network.protocol.name"] == "websocket"


@pytest.mark.parametrize(
    ("quoted", "address"),
    [
        (r'"shop\.example"', "shop.example"),
        (r'"\s\h\o\p.example"', "shop.example"),
        (r'"shop.example"', "shop.example"),
        ("shop.example", "shop.example"),
    ],
)
def test_a_quoted_pair_of_forwarded_is_the_character_after_the_backslash(
    spans: CapturedSpans, quoted: str, address: str
) -> None:
    """As RFC 9110 5.6.4 says of quoted strings, which RFC 7239 takes over."""
    scope = http_scope(headers=[(b"host", b"in.test"), (b"forwarded", f"for=192.0.2.1;host={quoted}".encode())])
    drive(TraceMiddleware(responding(start(), body()), trusted_proxies="127.0.0.1"), scope)
    attributes = attributes_of(spans.server)
    assert (attributes["server.address"], attributes["client.address"]) == (address, "192.0.2.1")


def test_a_receive_that_fails_when_it_is_cancelled_is_not_complained_about(caplog: pytest.LogCaptureFixture) -> None:
    """The look for a disconnect gives up after a few turns of the event loop, and asyncio has nothing to log."""

    async def receive() -> Message:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            raise RuntimeError("in the middle of something") from None
        raise AssertionError

    async def main() -> Message | None:
        found = await disconnect_at_hand(receive)
        for _ in range(5):
            await asyncio.sleep(0)
        return found

    assert asyncio.run(main()) is None
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


@pytest.mark.parametrize("client", [(), [], None, ("", 1), (None, 1), (5, 1), "127.0.0.1", ("",), [b"1"]])
@pytest.mark.parametrize("keys", [{}, {"raw_path": None}])
def test_a_client_that_is_no_address_is_left_out(spans: CapturedSpans, keys: dict[str, Any], client: Any) -> None:
    """The rest of the span is as it would be with one, and nothing is logged."""
    drive(TraceMiddleware(OK), http_scope("/a", client=client, **keys))
    attributes = attributes_of(spans.server)
    assert [name for name in attributes if name.startswith(("client.", "network.peer."))] == []
    assert (attributes["url.path"], attributes["server.address"]) == ("/a", "shop.test")


@pytest.mark.parametrize("raw_path", [b"/a?b=1", b"/a?", b"/a?b?c"])
@pytest.mark.parametrize("keys", [{}, {"http_version": "9"}, {"scheme": "custom"}])
def test_a_query_in_raw_path_is_no_part_of_the_path(
    spans: CapturedSpans, raw_path: bytes, keys: dict[str, Any]
) -> None:
    """Some servers write the whole target there, which would show secrets of the query unmasked."""
    drive(TraceMiddleware(OK), http_scope("/a", raw_path=raw_path, query_string=b"sig=1", **keys))
    attributes = attributes_of(spans.server)
    assert (attributes["url.path"], attributes["url.query"]) == ("/a", "sig=REDACTED")


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("::ffff:10.0.0.0/104", ["10.1.2.3", "::ffff:10.255.0.1"], ["11.0.0.1", "::1", "", "x" * 100]),
        ("::ffff:10.0.0.0/128", ["10.0.0.0"], ["10.0.0.1"]),
        ("10.0.0.0/8", ["10.1.2.3", "::ffff:10.1.2.3"], ["9.255.255.255", "fe80::1"]),
        ("fd00::/8", ["fd00::1", "fd00::1%eth0"], ["10.0.0.1", "fe80::1", None, 7]),
    ],
)
def test_a_mapped_network_is_the_network_of_the_older_protocol(
    network: str, inside: list[object], outside: list[object]
) -> None:
    """An address counts in either way of writing it, and what is not an address is in no network."""
    networks = Networks(network, option="trust")
    assert [address for address in inside if address not in networks] == []
    assert [address for address in outside if address in networks] == []


@pytest.mark.parametrize(
    ("given", "unix", "peer"),
    [((), False, False), ("unix", True, False), (["10.0.0.0/8"], False, True), (["unix", "10.0.0.0/8"], True, True)],
)
def test_only_unix_names_a_peer_without_an_address(given: Any, unix: bool, peer: bool) -> None:
    """It stands alone or in a list, beside networks."""
    proxies = TrustedProxies(given)
    assert bool(proxies) is (unix or peer)
    assert [proxies.include_peer({"client": client}) for client in (None, ("", 0), ())] == [unix] * 3
    assert proxies.include_peer({"client": ("10.0.0.1", 5)}) is peer
    assert proxies.include_peer({"client": ("10.0.0.1", 0)}) is False


@pytest.mark.parametrize(
    ("port", "named", "trusted"),
    [
        (443, [], True),
        (443, [(b"x-forwarded-for", b"203.0.113.9")], True),
        (443, [(b"x-forwarded-for", b"10.0.0.1")], False),
        (443, [(b"x-forwarded-for", b"10.0.0.1, 203.0.113.9")], False),
        (443, [(b"x-forwarded-for", b"10.0.0.11")], True),
        (443, [(b"forwarded", b"for=10.0.0.1;proto=http")], False),
        (0, [], False),
    ],
)
def test_an_address_that_the_request_itself_names_is_not_the_peers(
    spans: CapturedSpans,
    caplog: pytest.LogCaptureFixture,
    port: int,
    named: list[tuple[bytes, bytes]],
    trusted: bool,
) -> None:
    """The server has taken it from there: untrusted, and said once."""
    scope = http_scope(client=("10.0.0.1", port), headers=[(b"traceparent", TRACEPARENT), *named])
    app = TraceMiddleware(OK, trust="10.0.0.0/8")
    drive(app, scope)
    drive(app, scope)
    assert [span.context.trace_id == TRACE_ID for span in spans] == [trusted] * 2
    assert len(caplog.records) == (0 if trusted else 1)


@pytest.mark.parametrize("kind", ["lifespan.shutdown.complete", "lifespan.shutdown.failed"])
def test_every_end_of_a_lifespan_sends_what_is_queued(spans: CapturedSpans, kind: str) -> None:
    """Before the server hears of the end, whether the application stopped well or not."""
    steps: list[str] = []

    class Provider(type(spans.tracer_provider)):  # type: ignore[misc]
        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            steps.append("flushed")
            return True

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "lifespan.startup.complete"})
        await send({"type": kind})

    provider = Provider(shutdown_on_exit=False)
    drive(
        TraceMiddleware(app, tracer_provider=provider),
        {"type": "lifespan", "asgi": {"version": "3.0"}},
        on_send=lambda message: steps.append(message["type"]),
    )
    assert steps == ["lifespan.startup.complete", "flushed", kind]


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        ([{"type": "websocket.close"}], 403),
        ([DENY, DENY_BODY], 403),
        ([DENY, {**DENY_BODY, "more_body": True}, DENY_BODY], 403),
        ([ACCEPT], 101),
    ],
)
def test_what_fails_after_a_handshake_is_no_failure_of_it(
    spans: CapturedSpans, answer: list[Message], status: int
) -> None:
    """With `websocket="handshake"` the span has ended with its answer, and a span of its own has the exception."""
    app = responding(*answer, ValueError("late"))
    drive(TraceMiddleware(app, websocket="handshake"), websocket_scope(), [CONNECT])
    attributes = attributes_of(spans.server)
    assert (attributes["http.response.status_code"], attributes.get("error.type")) == (status, None)
    (child,) = spans.children_of(spans.server)
    assert (child.name, attributes_of(child)["error.type"]) == ("GET background", "ValueError")
