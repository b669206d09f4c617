"""A thread that makes the attributes of facts while another one sets the last of them: nothing is lost."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind

from asgi_trace import _sdk as sdk
from asgi_trace._sdk.encoder import SpanEncoder, official_bytes
from asgi_trace._sdk.span_check import same_as_sdk
from asgi_trace._sdk.tracer import adopt

from ..support.sdk import TakingLive

pytestmark = pytest.mark.skipif(not same_as_sdk(adopt), reason="this SDK has other spans than ours")


class _Description:
    keys = frozenset({"fact"})

    def attributes(self, facts: Any) -> dict[str, Any]:
        return {"fact": "a"}

    def last_attributes(self, last: Any) -> dict[str, str]:
        return {"late": last[0]}


def _finish(span: Any) -> None:
    span.finish(("b",), "name", "name late", time.time_ns())


def _add(span: Any) -> None:
    span.add({"late": "b"})
    span.end()


@pytest.mark.parametrize("end", [_finish, _add])
def test_a_reader_in_the_middle_of_its_work_loses_nothing(end: Callable[[Any], None]) -> None:
    """The reader has copied the values and not yet put the copy in their place when the last ones are set."""
    provider, processor = sdk.TracerProvider(shutdown_on_exit=False), TakingLive()
    provider.add_span_processor(processor)
    tracer: Any = provider.get_tracer("test")
    span = tracer.start_from_facts("name", SpanKind.CLIENT, Context(), (_Description(),), None)
    values, copied = span._values, threading.Event()

    def pause(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_name != "_describe":
            return None if event == "call" else pause
        if not copied.is_set() and frame.f_locals.get("values", values) is not values and span._values is values:
            copied.set()
            deadline = time.monotonic() + 30
            while not values and span._end_time is None and time.monotonic() < deadline:
                time.sleep(0.001)
        return pause

    def read() -> None:
        sys.settrace(pause)
        try:
            assert span.attributes["fact"] == "a"
        finally:
            sys.settrace(None)

    reader = threading.Thread(target=read)
    reader.start()
    assert copied.wait(30)
    end(span)
    reader.join()
    assert dict(span.attributes) == {"fact": "a", "late": "b"}
    assert SpanEncoder().encode(processor.live) == official_bytes(processor.ended)


def test_of_two_that_end_a_span_one_does(caplog: pytest.LogCaptureFixture) -> None:
    """What finishes it while another thread has just begun to end it, changes nothing and says so as the SDK does."""
    provider, processor = sdk.TracerProvider(shutdown_on_exit=False), TakingLive()
    provider.add_span_processor(processor)
    tracer: Any = provider.get_tracer("test")
    span = tracer.start_from_facts("name", SpanKind.SERVER, Context(), (_Description(),), 0)
    del span._open  # the other thread's first step
    _finish(span)
    assert (span.name, span.end_time, processor.live) == ("name", None, [])
    assert caplog.messages == ["Calling end() on an ended span."]
