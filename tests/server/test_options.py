"""The options of `TraceMiddleware`: checked at construction, and what each provider and propagator means."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.propagators.b3 import B3MultiFormat
from opentelemetry.trace import NoOpTracerProvider

from asgi_trace import TraceMiddleware
from asgi_trace._types import Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import (
    OK,
    REQUEST,
    TRACEPARENT,
    drive,
    http_scope,
)


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    await OK(scope, receive, send)


async def awaited(*arguments: object) -> bool:
    return False


@pytest.mark.parametrize(
    ("option", "value", "error", "advice"),
    [
        ("tracer_provider", "x", TypeError, "write a provider"),
        ("meter_provider", "x", TypeError, "write a provider"),
        ("propagator", "b3", TypeError, "write an instance"),
        ("exclude", 5, TypeError, "write patterns like '^/health$'"),
        ("exclude", [b"x"], TypeError, "write patterns like '^/health$'"),
        ("exclude", "(", ValueError, "write it like '^/health$'"),
        ("exclude", awaited, TypeError, "write a plain `def`"),
        ("trust", None, TypeError, "write networks like '10.0.0.0/8'"),
        ("trust", [5], TypeError, "write networks like '10.0.0.0/8'"),
        ("trust", "everyone", ValueError, "write networks like '10.0.0.0/8'"),
        ("trust", "10.0.0.1/8", ValueError, "write networks like '10.0.0.0/8'"),
        ("trust", awaited, TypeError, "write a plain `def`"),
        ("trusted_proxies", True, TypeError, "write networks like '10.0.0.0/8'"),
        ("trusted_proxies", "*", ValueError, "write networks like '10.0.0.0/8'"),
        ("capture_request_headers", None, TypeError, "write header names like 'x-request-id'"),
        ("capture_response_headers", [b"x"], TypeError, "write header names like 'x-request-id'"),
        ("redact", [5], TypeError, "write query keys and header names like 'token'"),
        ("redact", awaited, TypeError, "write a plain"),
        ("response_header", "x y", ValueError, "write 'server-timing'"),
        ("response_header", 5, ValueError, "write 'server-timing'"),
        ("on_request", "hook", TypeError, "write a function"),
        ("on_request", awaited, TypeError, "write a plain `def`"),
        ("on_response", awaited, TypeError, "write a plain `def`"),
        ("metrics", "http.server.duration", ValueError, "write some of http.server.request.duration"),
        ("websocket", "message", ValueError, "write one of 'connection', 'handshake'"),
    ],
)
def test_a_wrong_option_raises_at_construction(option: str, value: Any, error: type[Exception], advice: str) -> None:
    """What cannot be meant is refused at once; the message names the option and says what to write instead."""
    with pytest.raises(error) as raised:
        TraceMiddleware(OK, **{option: value})

    assert str(raised.value).startswith(f"{option}: ")
    assert advice in str(raised.value)


@pytest.mark.parametrize("app", [None, "module:app", 5])
def test_what_is_no_application_is_refused(app: Any) -> None:
    """Something that cannot be called is no application, and is refused before the first request."""
    with pytest.raises(TypeError, match=r"app: .* write an ASGI application"):
        TraceMiddleware(app)


def test_options_are_keyword_only() -> None:
    """A second positional argument is an error, so options can be added without breaking anybody."""
    with pytest.raises(TypeError):
        TraceMiddleware(OK, NoOpTracerProvider())  # type: ignore[call-arg]


@pytest.mark.parametrize("option", ["exclude", "trusted_proxies", "capture_request_headers", "redact"])
def test_a_bare_string_is_one_of_them(option: str) -> None:
    """Where a sequence is taken, a string is one item and not a list of letters."""
    value = "127.0.0.1" if option == "trusted_proxies" else "abc"

    TraceMiddleware(OK, **{option: value})  # type: ignore[arg-type]
    TraceMiddleware(OK, **{option: iter([value])})  # type: ignore[arg-type]


def test_nothing_changes_on_the_middleware_after_construction() -> None:
    """What belongs to one request cannot be kept on the middleware: it takes no new attribute."""
    with pytest.raises(AttributeError):
        TraceMiddleware(OK).last_scope = {}  # type: ignore[attr-defined]


def test_a_given_provider_wins_over_every_other(spans: CapturedSpans) -> None:
    """Spans go to the provider of the constructor, also where another one is in place."""
    with capture_spans() as others:
        drive(TraceMiddleware(OK, tracer_provider=spans.tracer_provider))

    assert (len(spans), len(others)) == (1, 0)


def test_a_given_propagator_reads_the_caller(spans: CapturedSpans) -> None:
    """With B3, the caller's trace comes from the B3 headers, and `traceparent` means nothing."""
    headers = [
        (b"traceparent", TRACEPARENT),
        (b"x-b3-traceid", b"80f198ee56343ba864fe8b2a57d3eff7"),
        (b"x-b3-spanid", b"e457b5a2e4d86bd1"),
        (b"x-b3-sampled", b"1"),
    ]
    drive(TraceMiddleware(OK, propagator=B3MultiFormat()), http_scope(headers=headers))

    assert spans.server.context.trace_id == 0x80F198EE56343BA864FE8B2A57D3EFF7


def test_a_no_op_provider_is_no_provider() -> None:
    """Without an SDK behind the provider the application gets the server's own functions."""
    seen: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend([receive, send])

    async def receive() -> Message:
        return REQUEST

    async def send(message: Message) -> None:
        pass

    asyncio.run(TraceMiddleware(app, tracer_provider=NoOpTracerProvider())(http_scope(), receive, send))

    assert seen == [receive, send]


def test_hooks_and_exclusions_are_called_with_the_scope() -> None:
    """Every callable option gets the scope of the request itself."""
    seen: list[tuple[str, Scope]] = []

    def noting(name: str, answer: bool = False) -> Callable[..., bool]:
        def note(*arguments: Any) -> bool:
            seen.append((name, next(a for a in arguments if isinstance(a, dict) and "path" in a)))
            return answer

        return note

    scope = http_scope(headers=[(b"traceparent", TRACEPARENT)])
    with capture_spans():
        traced = TraceMiddleware(
            OK,
            exclude=noting("exclude"),
            trust=noting("trust", True),
            on_request=noting("on_request"),
            on_response=noting("on_response"),
        )
        drive(traced, scope)

    assert [name for name, _ in seen] == ["exclude", "trust", "on_request", "on_response"]
    assert all(given is scope for _, given in seen)
