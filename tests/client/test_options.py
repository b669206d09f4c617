"""The options of a transport: checked at construction; excluded calls; the transport further in."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib import import_module
from typing import Any

import pytest
from opentelemetry import context as otel_context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.http_clients import Kit
from ..support.transports import Answer, parent, points, send, send_through, trace_headers

httpx = pytest.importorskip("httpx")
from asgi_trace.httpx import AsyncTraceTransport, TraceTransport  # noqa: E402


async def coroutine(*arguments: Any) -> None:
    """No hook."""


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"on_request": coroutine}, TypeError, "on_request"),
        ({"on_response": coroutine}, TypeError, "on_response"),
        ({"on_request": 7}, TypeError, "on_request"),
        ({"exclude": "("}, ValueError, "exclude"),
        ({"exclude": 7}, TypeError, "exclude"),
        ({"exclude": coroutine}, TypeError, "exclude"),
        ({"propagate_to": coroutine}, TypeError, "propagate_to"),
        ({"propagate_to": 7}, TypeError, "propagate_to"),
        ({"tracer_provider": 7}, TypeError, "tracer_provider"),
        ({"meter_provider": 7}, TypeError, "meter_provider"),
        ({"capture_request_headers": 7}, TypeError, "capture_request_headers"),
        ({"metrics": 7}, TypeError, "metrics"),
        ({"propagate_to": "http://svc.test"}, ValueError, "propagate_to"),
        ({"metrics": "http.server.request.duration"}, ValueError, "metrics"),
        ({"redact": 7}, TypeError, "redact"),
        ({"propagator": "b3"}, TypeError, "propagator"),
        ({"transport": httpx.HTTPTransport}, TypeError, "transport.*TraceTransport"),
        ({"transport": "http://svc.test"}, TypeError, "transport.*TraceTransport"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
def test_a_wrong_argument_is_refused(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """Wrong arguments raise at construction, and the message names the option."""
    with pytest.raises(error, match=message):
        TraceTransport(**{"transport": Answer(), **options})


def test_a_transport_of_the_other_kind_is_refused() -> None:
    """A sync transport around an async one raises at construction, and the other way round."""
    with pytest.raises(TypeError, match="handle_request"):
        TraceTransport(httpx.ASGITransport(lambda scope, receive, send: None))
    with pytest.raises(TypeError, match="handle_async_request"):
        AsyncTraceTransport(Answer())  # type: ignore[arg-type]


def test_the_provider_may_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A global provider that is set after the transport was built is used from then on."""
    transport = TraceTransport(Answer())
    transport.handle_request(httpx.Request("GET", "http://svc.test/"))
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with capture_spans() as spans:
        transport.handle_request(httpx.Request("GET", "http://svc.test/"))
        assert len(spans) == 1
    other = TraceTransport(Answer(), tracer_provider=provider)
    other.handle_request(httpx.Request("GET", "http://svc.test/"))
    assert len(exporter.get_finished_spans()) == 1


def _fail(entered: bool) -> None:
    assert entered
    raise ConnectionError


def test_a_transport_passes_its_life_on(spans: CapturedSpans) -> None:
    """Entering, leaving and closing reach the transport further in, with the exception that ends the block."""
    happened: list[Any] = []

    class Inner(Answer):
        def __enter__(self) -> Any:
            happened.append("enter")
            return self

        def __exit__(self, *reason: Any) -> None:
            happened.append(reason[0])

        def close(self) -> None:
            happened.append("close")

    transport = TraceTransport(Inner())
    with pytest.raises(ConnectionError), transport as entered:
        _fail(entered is transport)
    transport.close()
    assert happened == ["enter", ConnectionError, "close"]


def test_the_default_is_the_librarys_own_transport() -> None:
    """Without a transport the library's default does the work; both shells are transports of their library."""
    for kind, base in ((TraceTransport, httpx.BaseTransport), (AsyncTraceTransport, httpx.AsyncBaseTransport)):
        assert isinstance(kind(), base)


def test_a_callable_that_fails_excludes_nothing(spans: CapturedSpans, caplog: pytest.LogCaptureFixture) -> None:
    """An `exclude` that raises is reported, and the call is traced."""
    with caplog.at_level(logging.ERROR, logger="asgi_trace"):
        send(exclude=lambda request: 1 / 0)
    assert len(spans) == 1
    assert [record.levelname for record in caplog.records] == ["ERROR"]


@pytest.mark.parametrize("how", ["pattern", "callable", "extension", "HTTPX", "ALL"])
def test_an_excluded_call_leaves_nothing_but_the_callers_context(
    local: Kit, spans: CapturedSpans, meter: tuple[MeterProvider, InMemoryMetricReader], how: str
) -> None:
    """Excluded by pattern, callable, extension or variable: no span, no metric; the current context is still sent."""
    provider, reader = meter

    async def scenario(kit: Kit) -> None:
        options: dict[str, Any] = {}
        extensions: dict[str, Any] = {}
        if how == "pattern":
            options["exclude"] = ("/nothing$", r"^http://svc\.test/health")
        elif how == "callable":
            options["exclude"] = lambda request: request.url.path == "/health"
        elif how == "extension":
            extensions["asgi_trace"] = False
        sent: list[dict[str, str]] = []

        def handler(request: Any) -> Any:
            sent.append(trace_headers(request))
            return kit.library.Response(200)

        transport = kit.Transport(kit.transport_of(handler), meter_provider=provider, **options)
        request = kit.library.Request("GET", f"{kit.base}/health?x=1", extensions=extensions)
        token = otel_context.attach(parent(1))
        try:
            await send_through(kit, transport, request)
            assert len(spans) == 0
            assert sent == [{"traceparent": f"00-{0xA:032x}-{0xB:016x}-01"}]
            await send_through(kit, transport, kit.library.Request("GET", f"{kit.base}/orders"))
        finally:
            otel_context.detach(token)
        assert len(spans) == 1
        (point,) = points(reader, "http.client.request.duration")
        assert point.count == 1

    with pytest.MonkeyPatch.context() as patch:
        if how == "HTTPX":
            patch.setenv("OTEL_PYTHON_HTTPX_EXCLUDED_URLS", "/status,svc.test/health")
            patch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "orders")
        elif how == "ALL":
            patch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "health")
        local.run(scenario)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library the import says what to install."""
    for library in ("httpx", "httpx2"):
        monkeypatch.setitem(sys.modules, library, None)
        monkeypatch.delitem(sys.modules, f"asgi_trace.{library}", raising=False)
        with pytest.raises(ImportError, match=rf"pip install 'asgi-trace\[{library}\]'"):
            import_module(f"asgi_trace.{library}")


ALIASED = """
import httpx2
httpx2.alias_httpx()
import httpx
from asgi_trace.httpx import TraceTransport
from asgi_trace.httpx2 import TraceTransport as TraceTransport2
from asgi_trace.testing import capture_spans
with capture_spans() as spans:
    for kind in (TraceTransport, TraceTransport2):
        for library in (httpx, httpx2):
            client = library.Client(transport=kind(library.MockTransport(lambda request: library.Response(200))))
            client.get("http://svc.test/")
print(httpx is httpx2, len(spans))
"""


def test_an_alias_of_the_library_does_no_harm() -> None:
    """After `httpx2.alias_httpx()` both modules work, with one library behind them."""
    pytest.importorskip("httpx2")
    done = subprocess.run([sys.executable, "-W", "error", "-c", ALIASED], capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.stderr) == (["True", "4"], "")
