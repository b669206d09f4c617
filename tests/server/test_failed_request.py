"""Which request a line belongs to that is written after the request is over, and what of it the line carries."""

from __future__ import annotations

import asyncio
import logging
import sys
from types import ModuleType
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanContext, TraceFlags, get_current_span

from asgi_trace import TraceMiddleware
from asgi_trace._log_correlation import span_context_for
from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send
from asgi_trace.testing import capture_spans

from ..support.asgi import OK, REQUEST, TRACEPARENT, http_scope, responding, websocket_scope


async def serve(app: ASGIApp, scope: Scope) -> BaseException | None:
    """Serve it in the task of the caller, as a server does; the exception that escaped."""

    async def receive() -> Message:
        return REQUEST

    async def send(message: Message) -> None:
        return

    try:
        await app(scope, receive, send)
    except Exception as exc:
        return exc
    return None


def noting(app: ASGIApp, seen: list[SpanContext]) -> ASGIApp:
    """An application that keeps the context of its request's span."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(get_current_span().get_span_context())
        await app(scope, receive, send)

    return wrapped


@pytest.mark.parametrize(
    ("module", "late"),
    [
        ("granian", True),
        ("gunicorn", True),
        ("uvicorn", False),
        ("hypercorn", False),
        ("granian2", False),
        ("Gunicorn", False),
    ],
)
def test_access_lines_that_come_late_name_their_request(
    monkeypatch: pytest.MonkeyPatch, module: str, late: bool
) -> None:
    """granian and gunicorn write them after the application has returned; only then is each end remembered."""
    for name in ("granian", "gunicorn"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, module, ModuleType(module))
    served: list[SpanContext] = []

    async def main() -> SpanContext:
        await serve(TraceMiddleware(noting(OK, served)), http_scope())
        return span_context_for("gunicorn.access")

    with capture_spans():
        line = asyncio.run(main())
    assert line.is_valid is late
    assert (line == served[0]) is late


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF])
@pytest.mark.parametrize("headers", [[], [(b"traceparent", TRACEPARENT)]], ids=["new trace", "in a trace"])
@pytest.mark.parametrize("exclude", [(), "^/$"], ids=["traced", "excluded"])
def test_the_line_about_a_failure_carries_the_whole_context(
    sampler: Sampler, headers: list[tuple[bytes, bytes]], exclude: Any
) -> None:
    """Ids and flags are those of the request, whether its exception tells or the task, and the span is not remote."""
    served: list[SpanContext] = []
    app = TraceMiddleware(noting(responding(ValueError("no stock")), served), exclude=exclude)

    async def main() -> list[SpanContext]:
        exc = await serve(app, http_scope(headers=headers))
        return [span_context_for("shop", exc), span_context_for("uvicorn.error"), span_context_for("shop")]

    with capture_spans(sampler):
        by_exception, by_task, others = asyncio.run(main())
    (failed,) = served
    assert (by_exception.trace_id, by_exception.span_id) == (failed.trace_id, failed.span_id)
    assert (by_exception.trace_flags, by_exception.is_remote) == (failed.trace_flags, False)
    assert isinstance(by_exception.trace_flags, TraceFlags)
    assert by_exception.trace_flags.sampled is (sampler is ALWAYS_ON and not exclude)
    assert by_task == failed
    assert others.is_valid is False


async def _silent(scope: Scope, receive: Receive, send: Send) -> None:
    return


def test_the_line_about_a_missing_answer_carries_the_context() -> None:
    """The server's own complaint is that of the request which was not answered, and no other logger's line is."""
    served: list[SpanContext] = []

    async def main() -> list[SpanContext]:
        await serve(TraceMiddleware(noting(_silent, served)), http_scope())
        return [span_context_for("uvicorn.error"), span_context_for("shop")]

    with capture_spans():
        servers, others = asyncio.run(main())
    assert servers == served[0]
    assert others.is_valid is False


@pytest.mark.parametrize("fails", [False, True])
def test_after_a_suppressed_request_a_server_line_has_no_ids(
    fails: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was traced there, and asking for it raises nothing and reports nothing."""
    monkeypatch.setitem(sys.modules, "granian", ModuleType("granian"))
    app = TraceMiddleware(responding(ValueError("no stock")) if fails else OK)

    async def main() -> list[SpanContext]:
        with suppress_instrumentation():
            exc = await serve(app, http_scope())
            return [span_context_for(name, exc) for name in ("uvicorn.error", "uvicorn.access", "shop")]

    with capture_spans(), caplog.at_level(logging.WARNING, logger="asgi_trace"):
        assert [found.is_valid for found in asyncio.run(main())] == [False] * 3
    assert caplog.records == []


def test_the_nearest_exception_that_escaped_from_a_request_tells() -> None:
    """One that was raised from it, or while it was handled, belongs to the same request; an older one does not."""
    served: list[SpanContext] = []

    async def main() -> list[BaseException]:
        failures: list[BaseException] = []
        for text in ("first", "second"):
            exc = await serve(TraceMiddleware(noting(responding(ValueError(text)), served)), http_scope())
            assert exc is not None
            failures.append(exc)
        return failures

    with capture_spans():
        older, newer = asyncio.run(main())
    newer.__context__ = older
    wrapped: Any = RuntimeError("wrapped")
    wrapped.__cause__ = newer
    twice = KeyError("twice")
    twice.__context__ = wrapped
    for exc in (newer, wrapped, twice):
        assert span_context_for("shop", exc).span_id == served[1].span_id
    assert span_context_for("shop", older).span_id == served[0].span_id
    assert span_context_for("shop", RuntimeError("unrelated")).is_valid is False


@pytest.mark.parametrize(
    ("messages", "is_failed"),
    [
        ([{"type": "websocket.accept"}, {"type": "websocket.close"}], False),
        ([{"type": "websocket.close"}], False),
        ([], True),
    ],
)
def test_only_a_socket_that_was_never_answered_has_a_servers_complaint(
    messages: list[Message], is_failed: bool
) -> None:
    """After any other the server's loggers write lines of their own, without ids."""
    served: list[SpanContext] = []

    async def main() -> SpanContext:
        await serve(TraceMiddleware(noting(responding(*messages), served)), websocket_scope())
        return span_context_for("uvicorn.error")

    with capture_spans():
        line = asyncio.run(main())
    assert line.is_valid is is_failed
    assert (line == served[0]) is is_failed


@pytest.mark.parametrize("key", ["fastapi.telemetry", "starlette.opentelemetry"])
@pytest.mark.parametrize("exclude", [(), "^/$"], ids=["traced", "excluded"])
def test_a_mark_that_was_there_before_stays(key: str, exclude: Any) -> None:
    """What another layer has written into the scope is its own: we neither replace nor remove it."""
    scope = {**http_scope(), key: False}

    async def app(inner: Scope, receive: Receive, send: Send) -> None:
        assert inner[key] is False
        await OK(inner, receive, send)

    with capture_spans():
        assert asyncio.run(serve(TraceMiddleware(app, exclude=exclude), scope)) is None
    assert scope == {**http_scope(), key: False}


def test_a_scope_without_headers_is_judged_by_its_peer(caplog: pytest.LogCaptureFixture) -> None:
    """Headers are optional in ASGI, and without them nothing names the peer."""
    scope = http_scope(client=("10.0.0.1", 5))
    del scope["headers"]
    asked: list[object] = []

    def trust(scope: Scope) -> bool:
        asked.append(scope["asgi_trace.client"])
        return True

    with capture_spans():
        asyncio.run(serve(TraceMiddleware(OK, trust=trust, exclude="^/$"), scope))
    assert asked == ["10.0.0.1"]
    assert caplog.records == []
