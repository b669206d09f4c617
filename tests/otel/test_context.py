"""The current OpenTelemetry context: the API's own, reached without its detours."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Generator
from contextvars import Context, copy_context

import pytest
from opentelemetry import context as api

from asgi_trace import TraceMiddleware
from asgi_trace._otel import context
from asgi_trace._types import Message, Receive, Scope, Send
from asgi_trace.testing import CapturedSpans

from ..support.asgi import body, http_scope, start

CUSTOM = """
import opentelemetry.util._importlib_metadata as installed

def entry_points(**asked):
    from opentelemetry.context.contextvars_context import ContextVarsRuntimeContext

    class Counting(ContextVarsRuntimeContext):
        def attach(self, context):
            calls.append("attach")
            return super().attach(context)

        def detach(self, token):
            calls.append("detach")
            super().detach(token)

    class Counts:
        def load():
            return Counting

    return [Counts] if asked == {"group": "opentelemetry_context", "name": "counting"} else original(**asked)

calls = []
original, installed.entry_points = installed.entry_points, entry_points
from asgi_trace._otel import context
from opentelemetry.context import Context, get_current

calls.clear()
token = context.attach(Context({"a": 1}))
assert context.get_current() == get_current() == {"a": 1}
context.restore(token)
assert get_current() == {}
print(*calls)
"""


def test_it_is_the_apis_own_context() -> None:
    """What is attached here is current for the API, what the API attaches is current here, and both come off again."""
    ours = api.Context({"ours": 1})
    token = context.attach(ours)
    assert api.get_current() is ours
    theirs = api.Context({"theirs": 1})
    theirs_token = api.attach(theirs)
    assert context.get_current() is theirs
    api.detach(theirs_token)
    assert context.get_current() is ours
    context.restore(token)
    assert "ours" not in api.get_current()


def test_another_implementation_of_the_context_is_asked_itself() -> None:
    """Where OTEL_PYTHON_CONTEXT names one of somebody else's, its own attach and detach are called."""
    ended = subprocess.run(
        [sys.executable, "-c", CUSTOM],
        env={**os.environ, "OTEL_PYTHON_CONTEXT": "counting"},
        capture_output=True,
        text=True,
    )
    assert (ended.stdout, ended.returncode) == ("attach detach\n", 0), ended.stderr


@types.coroutine
def pause() -> Generator[None, None, None]:
    """Leave the coroutine, which whoever drives it may go on with in another context."""
    yield


async def receive() -> Message:
    raise AssertionError("not asked")


@pytest.mark.parametrize("exclude", [(), "."])
def test_a_request_may_go_on_in_another_context(exclude: str, spans: CapturedSpans) -> None:
    """Whoever drives the application may change contexts under it: the request is served and its span ends."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200))
        await pause()
        await send(body(b"served"))

    contexts = [copy_context(), copy_context()]
    served = TraceMiddleware(app, exclude=exclude)(http_scope(), receive, send)
    step(contexts[0], served)
    with pytest.raises(StopIteration):
        step(contexts[1], served)
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert len(spans) == (0 if exclude else 1)


def step(context: Context, served: object) -> None:
    """Go on with a coroutine, in this context, until it pauses or ends."""
    context.run(served.send, None)  # type: ignore[attr-defined]
