"""The server's `lifespan`: spans are flushed before a stop is complete, and a start that fails fails."""

from __future__ import annotations

import logging

import pytest

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send
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
    """An application that has begun its lifespan raises through, and nothing answers for it."""
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
    NotImplementedError(),
    AssertionError("assert 'lifespan' == 'http'"),
    AssertionError("unexpected scope"),
    NotImplementedError("this scope is not for us"),
    ValueError("Django can only handle ASGI/HTTP connections, not lifespan."),
    ValueError("No application configured for scope type 'lifespan'"),
    ValueError("WSGI wrapper received a non-HTTP scope"),
    ValueError("Unknown scope type: 'lifespan'"),
    ValueError("expected an http or websocket scope"),
    TypeError("unknown Scope type"),
    TypeError("Unsupported scope type: lifespan"),
    RuntimeError("HTTP only"),
    RuntimeError("only http is served here"),
    RuntimeError("unhandled message of 'lifespan'"),
    RuntimeError("The ASGI lifespan protocol is not supported"),
    Exception("scope['type'] must be 'http' or 'websocket'"),
    *map(
        KeyError,
        ("client", "headers", "http_version", "method", "path", "query_string", "raw_path", "scheme", "server"),
    ),
]
FAILURES = [
    RuntimeError("database unreachable"),
    RuntimeError("OAuth scope 'read' is missing"),
    RuntimeError("invalid_scope: read"),
    RuntimeError("HTTP proxy is not configured"),
    RuntimeError("lifespan handler: no database"),
    RuntimeError("cannot serve static files over http://cdn.test"),
    AssertionError("DATABASE_URL is not set"),
    AssertionError("lifespan handler: no database"),
    NotImplementedError("later"),
    ConnectionError("nobody at http://vault:8200"),
    TypeError("CORSMiddleware.__init__() got an unexpected keyword argument 'allow_origin'"),
    KeyError("DATABASE_URL"),
    KeyError(),
    KeyError(["path"]),
    Unprintable(),
]


def raising(exception: Exception) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise exception

    return app


@pytest.mark.anyio
@pytest.mark.parametrize("exception", REJECTIONS, ids=repr)
async def test_an_application_that_rejects_lifespan_is_served(
    exception: Exception, spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """What plainly says that it does not know this type of scope is answered for, without a word above DEBUG."""
    server = Server(spans)
    with caplog.at_level(logging.DEBUG, "asgi_trace"):
        await TraceMiddleware(raising(exception))(dict(SCOPE), server.receive, server.send)

    assert server.heard == COMPLETE
    assert [record.levelno for record in caplog.records if record.name == "asgi_trace"] == [logging.DEBUG]


@pytest.mark.anyio
@pytest.mark.parametrize("exception", FAILURES, ids=lambda exc: f"{type(exc).__name__}{exc.args}")
async def test_a_start_that_fails_fails(exception: Exception, spans: CapturedSpans) -> None:
    """Any other exception reaches the server as it is, also one that is raised before anything was received."""
    server = Server(spans)
    with pytest.raises(type(exception)) as raised:
        await TraceMiddleware(raising(exception))(dict(SCOPE), server.receive, server.send)

    assert raised.value is exception
    assert server.heard == []


@pytest.mark.anyio
@pytest.mark.parametrize("exception", REJECTIONS[:3], ids=repr)
async def test_a_rejection_after_the_start_has_begun_is_a_failure(exception: Exception, spans: CapturedSpans) -> None:
    """An application that has received `lifespan.startup` knows lifespan."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        raise exception

    server = Server(spans)
    with pytest.raises(type(exception)):
        await TraceMiddleware(app)(dict(SCOPE), server.receive, server.send)
    assert server.heard == []
