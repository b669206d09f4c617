from __future__ import annotations

import logging

import pytest

from asgi_trace import TraceMiddleware
from asgi_trace._types import Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans

SCOPE = {"type": "lifespan", "asgi": {"version": "3.0"}}


class Server:
    """A server that starts and stops an application, and notes what it hears and how many spans were flushed then."""

    def __init__(self, spans: CapturedSpans | None) -> None:
        self.heard: list[Message] = []
        self.flushed: list[str] = []
        self._commands = iter(({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}))
        if spans is not None:
            provider = spans.tracer_provider
            genuine = provider.force_flush

            def force_flush(timeout_millis: int = 0) -> bool:
                self.flushed.append(self.heard[-1]["type"] if self.heard else "nothing")
                return genuine(timeout_millis)

            provider.force_flush = force_flush  # type: ignore[method-assign]

    async def receive(self) -> Message:
        return next(self._commands)

    async def send(self, message: Message) -> None:
        self.heard.append(message)


async def knows_lifespan(scope: Scope, receive: Receive, send: Send) -> None:
    assert (await receive())["type"] == "lifespan.startup"
    await send({"type": "lifespan.startup.complete"})
    assert (await receive())["type"] == "lifespan.shutdown"
    await send({"type": "lifespan.shutdown.complete"})


async def refuses(scope: Scope, receive: Receive, send: Send) -> None:
    raise ValueError("only http here")


async def fails_at_start(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    raise RuntimeError("no database")


COMPLETE = [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


@pytest.mark.anyio
@pytest.mark.parametrize("app", [knows_lifespan, refuses])
async def test_spans_are_flushed_before_the_stop_is_complete(app: object, spans: CapturedSpans) -> None:
    """The provider is flushed after the start was heard and before the end is, with or without lifespan in the app."""
    server = Server(spans)
    await TraceMiddleware(app)(dict(SCOPE), server.receive, server.send)  # type: ignore[arg-type]
    assert server.heard == COMPLETE
    assert server.flushed == ["lifespan.startup.complete"]


@pytest.mark.anyio
async def test_a_failed_start_stays_a_failed_start(spans: CapturedSpans) -> None:
    """An application that has begun its lifespan raises through, and nobody answers for it."""
    server = Server(spans)
    with pytest.raises(RuntimeError, match="no database"):
        await TraceMiddleware(fails_at_start)(dict(SCOPE), server.receive, server.send)
    assert server.heard == []


@pytest.mark.anyio
async def test_without_anything_to_flush_a_refusal_is_the_servers_business() -> None:
    """Where no SDK is set up, an application without lifespan raises to the server as it does without us."""
    server = Server(None)
    with pytest.raises(ValueError, match="only http"):
        await TraceMiddleware(refuses)(dict(SCOPE), server.receive, server.send)
    assert server.heard == []


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError


REJECTIONS = [
    AssertionError(),
    NotImplementedError("later"),
    ValueError("Django can only handle ASGI/HTTP connections, not lifespan."),
    TypeError("unknown Scope type"),
    RuntimeError("HTTP only"),
    KeyError("path"),
]
FAILURES = [
    RuntimeError("database unreachable"),
    ConnectionError("nobody at http://vault:8200"),
    KeyError("DATABASE_URL"),
    KeyError(),
    KeyError(["path"]),
    Unprintable(),
]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("exception", "levels"),
    [(exc, [logging.DEBUG]) for exc in REJECTIONS] + [(exc, [logging.WARNING]) for exc in FAILURES],
    ids=repr,
)
async def test_a_start_that_may_have_failed_is_not_silent(
    exception: Exception, levels: list[int], spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """What raises before it receives is served, with one warning and its traceback unless it says that it rejects."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise exception

    server = Server(spans)
    with caplog.at_level(logging.DEBUG, "asgi_trace"):
        await TraceMiddleware(app)(dict(SCOPE), server.receive, server.send)

    assert server.heard == COMPLETE
    records = [record for record in caplog.records if record.name == "asgi_trace"]
    assert [record.levelno for record in records] == levels
    assert records[0].exc_info is not None
    assert records[0].exc_info[1] is exception
    if levels == [logging.WARNING]:
        assert "it is served all the same" in records[0].getMessage()
