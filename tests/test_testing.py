"""`capture_spans()`: the spans of a test, without OpenTelemetry's globals and without private resets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind

from asgi_trace import TraceMiddleware
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.httpx import AsyncTraceTransport, TraceTransport
from asgi_trace.testing import CapturedSpans, capture_spans

from .support.asgi import OK, attributes_of, drive, http_scope
from .support.subprocess import check


def test_spans_of_middleware_and_client_are_captured() -> None:
    """Both sides of this package record into the block, in the order in which their spans end."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        transport = AsyncTraceTransport(httpx.MockTransport(lambda request: httpx.Response(200)))
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get("http://stock.test/")
        await OK(scope, receive, send)

    with capture_spans() as spans:
        drive(TraceMiddleware(app))

    assert [span.kind for span in spans] == [SpanKind.CLIENT, SpanKind.SERVER]
    assert spans.children_of(spans.server) == [spans.client]


def test_objects_built_before_the_block_count() -> None:
    """What an application builds at import records into the block of the test that uses it."""
    traced = TraceMiddleware(OK)
    client = httpx.Client(transport=TraceTransport(httpx.MockTransport(lambda request: httpx.Response(200))))
    with capture_spans() as spans, client:
        drive(traced)
        client.get("http://stock.test/")

    assert len(spans) == 2


def test_it_leaves_opentelemetrys_globals_alone() -> None:
    """Neither the global provider nor anything else of OpenTelemetry changes, so nothing has to be put back."""
    before = trace.get_tracer_provider()
    with capture_spans() as spans:
        assert trace.get_tracer_provider() is before
        drive(TraceMiddleware(OK))
    assert trace.get_tracer_provider() is before
    assert len(spans) == 1


def test_spans_of_the_test_itself_join_in() -> None:
    """`tracer_provider` is for everything else that a test builds."""
    with capture_spans() as spans:
        with spans.tracer_provider.get_tracer("test").start_as_current_span("mine"):
            pass
        drive(TraceMiddleware(OK, tracer_provider=spans.tracer_provider))

    assert [span.name for span in spans] == ["mine", "GET"]


def test_nothing_is_captured_outside_of_the_block() -> None:
    """The block ends with its `with`, also when the test fails in it; what was captured stays readable."""
    traced = TraceMiddleware(OK)
    spans = capture_spans()

    def failing_test() -> None:
        with spans:
            drive(traced)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing_test()
    drive(traced)

    assert len(spans) == 1


def test_blocks_nest() -> None:
    """The innermost block captures; the outer one goes on when it ends."""
    traced = TraceMiddleware(OK)
    with capture_spans() as outer:
        drive(traced, http_scope("/1"))
        with capture_spans() as inner:
            drive(traced, http_scope("/2"))
        drive(traced, http_scope("/3"))

    assert [attributes_of(span)["url.path"] for span in outer] == ["/1", "/3"]
    assert [attributes_of(span)["url.path"] for span in inner] == ["/2"]


def test_it_reads_like_a_list(spans: CapturedSpans) -> None:
    """Length, index, iteration, by kind; `clear()` forgets."""
    for path in ("/1", "/2"):
        drive(TraceMiddleware(OK), http_scope(path))

    assert len(spans) == 2
    assert [spans[0], spans[-1]] == list(spans) == spans.finished == spans.of_kind(SpanKind.SERVER)
    assert spans.of_kind(SpanKind.CLIENT) == []
    spans.clear()
    assert list(spans) == []


def test_the_only_span_of_a_kind_is_at_hand(spans: CapturedSpans) -> None:
    """`server` and `client` are the one span of that kind; otherwise the assertion says what there was instead."""
    with pytest.raises(AssertionError, match=r"expected one SERVER span, got 0; all spans: \[\]"):
        _ = spans.server
    for _ in range(2):
        drive(TraceMiddleware(OK))
    with pytest.raises(AssertionError, match=r"expected one SERVER span, got 2; .*GET \(SERVER, [0-9a-f]{16}\)"):
        _ = spans.server
    with pytest.raises(AssertionError, match="expected one CLIENT span, got 0"):
        _ = spans.client


def test_sampler_and_limits_can_be_chosen() -> None:
    """Sampling and truncation can be tested too."""
    with capture_spans(ALWAYS_OFF) as spans:
        drive(TraceMiddleware(OK))
    assert len(spans) == 0

    with capture_spans(span_limits=SpanLimits(max_span_attribute_length=3)) as spans:
        drive(TraceMiddleware(OK), http_scope("/long/path"))
    assert attributes_of(spans.server)["url.path"] == "/lo"


def test_a_given_provider_is_not_captured() -> None:
    """An application that was handed a provider keeps to it."""
    with capture_spans() as spans:
        drive(TraceMiddleware(OK, tracer_provider=TracerProvider(shutdown_on_exit=False)))

    assert len(spans) == 0


PARALLEL = """
import asyncio

import pytest

from asgi_trace import TraceMiddleware
from asgi_trace.testing import capture_spans


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})


async def send(message):
    pass


traced = TraceMiddleware(app)


@pytest.fixture
def spans():
    with capture_spans() as captured:
        yield captured


@pytest.mark.parametrize("number", range(20))
def test_it(spans, number):
    for _ in range(number):
        asyncio.run(traced({"type": "http", "method": "GET", "path": f"/{number}", "headers": []}, None, send))
    assert len(spans) == number
    assert {span.attributes["url.path"] for span in spans} <= {f"/{number}"}
"""


def test_it_works_under_xdist(tmp_path: Path) -> None:
    """Tests that run side by side in processes of pytest-xdist see their own spans only."""
    (tmp_path / "test_parallel.py").write_text(PARALLEL)
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert "20 passed" in done.stdout, done.stdout + done.stderr


def test_without_the_sdk() -> None:
    """Where the SDK is not installed the import fails, and says what to install."""
    script = """
        import sys
        sys.modules["opentelemetry.sdk"] = None
        try:
            import asgi_trace.testing
        except ImportError as exc:
            print(exc)
    """
    assert check(script) == "asgi_trace.testing needs the SDK: pip install 'asgi-trace[otlp]'\n"
