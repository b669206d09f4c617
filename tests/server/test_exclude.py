"""Excluded means silent: no span, no metric, nothing from what runs below, flag 00 on what it calls."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.context import attach, detach
from opentelemetry.propagate import inject
from opentelemetry.propagators.b3 import B3MultiFormat
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased
from opentelemetry.trace import get_current_span, set_span_in_context

from asgi_trace import TraceMiddleware, server_span, set_route
from asgi_trace._options.exclude import any_search
from asgi_trace._options.patterns import compile_patterns
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.httpx import AsyncTraceTransport
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import OK, TRACE_ID, TRACEPARENT, drive, http_scope, responding, websocket_scope


def traced_paths(spans: CapturedSpans, paths: list[str], **options: Any) -> list[str]:
    """Of these paths, those which leave a span."""
    spans.clear()
    app = TraceMiddleware(OK, **options)
    for path in paths:
        assert drive(app, http_scope(path)).status == 200
    return [str((span.attributes or {})["url.path"]) for span in spans]


PATHS = ["/health", "/healthy", "/api/health", "/orders"]


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ((), PATHS),
        ("^/health$", ["/healthy", "/api/health", "/orders"]),
        ("health", ["/orders"]),
        (["^/health$", "^/api/"], ["/healthy", "/orders"]),
        (iter(["orders", "y$"]), ["/health", "/api/health"]),
        (lambda scope: scope["path"] != "/orders", ["/orders"]),
        (".", []),
    ],
)
def test_patterns_are_searched_in_the_path(spans: CapturedSpans, exclude: Any, left: list[str]) -> None:
    """One pattern, several, or a function of the scope; each pattern may match anywhere in the path."""
    assert traced_paths(spans, PATHS, exclude=exclude) == left


_PATTERNS = ["^/health$", "^$", "^/a-b c$", "^/a.b$", "^/x", "y$", "^/é$", r"^/\d$", "^/a$|^/b$", "^a$$"]
_PATHS = [
    "",
    "\n",
    "/health",
    "/health\n",
    "/health\n\n",
    "x/health",
    "/a-b c",
    "/a.b",
    "/aXb",
    "/xy",
    "/é",
    "/7",
    "/a",
    "/",
]


@given(st.lists(st.sampled_from(_PATTERNS), max_size=4), st.sampled_from(_PATHS) | st.text("/ab\n$^", max_size=4))
def test_the_short_way_finds_what_a_search_finds(patterns: list[str], path: str) -> None:
    """Whole paths are looked up instead of searched, with the same answer in every combination."""
    search = any_search(compile_patterns("exclude", patterns, "patterns", "'^/$'"))

    assert bool(search and search(path)) == any(re.search(pattern, path) for pattern in patterns)


def test_the_query_is_no_part_of_the_path(spans: CapturedSpans) -> None:
    """A caller cannot hide a request by what it writes into the query."""
    drive(TraceMiddleware(OK, exclude="health"), http_scope("/orders", query_string=b"health"))

    assert len(spans) == 1


def test_nothing_below_an_excluded_request_is_recorded(spans: CapturedSpans) -> None:
    """Spans that the application makes with the plain API are no orphan roots: they are not recorded at all."""
    tracer = spans.tracer_provider.get_tracer("database")
    inside: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with tracer.start_as_current_span("select 1") as span:
            inside.append(span.is_recording())
            with tracer.start_as_current_span("below"):
                pass
        await OK(scope, receive, send)

    drive(TraceMiddleware(app, exclude="."))
    assert (inside, len(spans)) == ([False], 0)

    drive(TraceMiddleware(app))
    assert (inside, len(spans)) == ([False, True], 3)


@pytest.mark.parametrize("flags", [None, b"00", b"01", b"02", b"03"])
def test_what_an_excluded_request_calls_is_told_not_to_sample(spans: CapturedSpans, flags: bytes | None) -> None:
    """Outgoing headers have flag 00, in the caller's trace when there is one; the random bit and tracestate go on."""
    outgoing: dict[str, str] = {}

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        inject(outgoing)

    headers = [] if flags is None else [(b"traceparent", TRACEPARENT[:-2] + flags), (b"tracestate", b"vendor=1")]
    drive(TraceMiddleware(app, exclude="."), http_scope(headers=headers))

    version, trace_id, span_id, sent = outgoing["traceparent"].split("-")
    assert (version, int(sent, 16) & 1) == ("00", 0)
    assert int(span_id, 16) != 0
    if flags is None:
        assert int(sent, 16) == 2
        assert int(trace_id, 16) not in (0, TRACE_ID)
    else:
        assert (int(trace_id, 16), int(sent, 16)) == (TRACE_ID, int(flags, 16) & 2)
        assert outgoing["tracestate"] == "vendor=1"
    assert len(spans) == 0


def test_a_traced_client_sends_it_and_makes_no_span(spans: CapturedSpans) -> None:
    """The transport of this package keeps silent below an excluded request, and hands flag 00 on."""
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.headers["traceparent"])
        return httpx.Response(200)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        transport = AsyncTraceTransport(httpx.MockTransport(answer))
        async with httpx.AsyncClient(transport=transport) as client:
            await client.get("http://stock.test/")

    drive(TraceMiddleware(app, exclude="."))

    assert sent[0].endswith("-00") or sent[0].endswith("-02")
    assert len(spans) == 0


def test_the_identity_of_an_excluded_request_is_one(spans: CapturedSpans) -> None:
    """Whoever asks for the current span's ids gets the same ones, and they are valid."""
    seen: list[Any] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(get_current_span().get_span_context() for _ in range(2))

    drive(TraceMiddleware(app, exclude="."))

    assert seen[0] == seen[1]
    assert seen[0].is_valid
    assert not seen[0].is_remote


def test_another_propagators_trace_is_kept_silent_too(spans: CapturedSpans) -> None:
    """With B3 the silence is in the B3 caller's trace."""
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        context = get_current_span().get_span_context()
        seen.extend([context.trace_id, context.trace_flags & 1])

    trace_id = "80f198ee56343ba864fe8b2a57d3eff7"
    headers = [(b"x-b3-traceid", trace_id.encode()), (b"x-b3-spanid", b"e457b5a2e4d86bd1"), (b"x-b3-sampled", b"1")]
    drive(TraceMiddleware(app, exclude=".", propagator=B3MultiFormat()), http_scope(headers=headers))

    assert seen == [int(trace_id, 16), 0]


def test_an_excluded_request_is_not_measured() -> None:
    """No point in any metric, the gauge included."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader], shutdown_on_exit=False)
    instruments = ("http.server.request.duration", "http.server.active_requests")
    drive(TraceMiddleware(OK, exclude=".", meter_provider=meters, metrics=instruments))

    assert reader.get_metrics_data() is None


def test_an_excluded_failure_is_the_applications_own(spans: CapturedSpans) -> None:
    """An exception passes through an excluded request, unrecorded."""
    served = drive(TraceMiddleware(responding(ValueError()), exclude="."))

    assert type(served.exception) is ValueError
    assert len(spans) == 0


def test_hooks_are_not_called_for_an_excluded_request(spans: CapturedSpans) -> None:
    """There is no span to hook on to, and `server_span()` and `set_route()` are harmless."""
    called: list[object] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route("/x")
        server_span().set_attribute("a", 1)
        called.append(server_span().is_recording())
        await OK(scope, receive, send)

    def hook(*arguments: object) -> None:
        called.append(arguments)

    drive(TraceMiddleware(app, exclude=".", on_request=hook, on_response=hook))

    assert called == [False]


def test_a_socket_can_be_excluded(spans: CapturedSpans) -> None:
    """WebSockets have paths too."""
    app = responding({"type": "websocket.accept"}, {"type": "websocket.close"})
    served = drive(TraceMiddleware(app, exclude="^/ws$"), websocket_scope("/ws"))

    assert len(served.messages) == 2
    assert len(spans) == 0


def test_an_inner_middleware_does_not_undo_it(spans: CapturedSpans) -> None:
    """Installed twice, the outer one's silence stands."""
    drive(TraceMiddleware(TraceMiddleware(OK), exclude="."))

    assert len(spans) == 0


def test_silence_ends_with_the_request(spans: CapturedSpans) -> None:
    """The next request in the same context is traced, and so is the same scope served again without the option."""
    scope = http_scope("/health")
    excluding, other = TraceMiddleware(OK, exclude="health"), TraceMiddleware(OK)
    drive(excluding, scope)
    drive(excluding, http_scope("/orders"))
    drive(other, scope)

    assert len(spans) == 2


def test_the_ambient_context_does_not_matter(spans: CapturedSpans) -> None:
    """A recorded span that a server has leaked does not make an excluded request speak."""
    tracer = spans.tracer_provider.get_tracer("leak")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with tracer.start_as_current_span("below"):
            pass

    leaked = tracer.start_span("leaked")
    token = attach(set_span_in_context(leaked))
    drive(TraceMiddleware(app, exclude="."))
    detach(token)

    assert len(spans) == 0


def test_a_function_that_fails_excludes_nothing(spans: CapturedSpans, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged as an error once, and the request is traced."""

    def exclude(scope: Scope) -> bool:
        raise LookupError("no list")

    assert traced_paths(spans, ["/a", "/b"], exclude=exclude) == ["/a", "/b"]
    assert [record.levelno for record in caplog.records if record.name == "asgi_trace"] == [logging.ERROR]


@pytest.mark.parametrize(
    ("variable", "left"),
    [
        ("", PATHS),
        ("health", ["/orders"]),
        ("/health$, orders", ["/healthy"]),
        ("https://", PATHS),
        ("http://shop.test:8000/health$", ["/healthy", "/api/health", "/orders"]),
        (" , ,orders,", ["/health", "/healthy", "/api/health"]),
    ],
)
def test_the_environment_excludes_by_url(
    spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch, variable: str, left: list[str]
) -> None:
    """OTEL_PYTHON_EXCLUDED_URLS is searched in scheme, host and path, as other instrumentations do."""
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", variable)

    assert traced_paths(spans, PATHS) == left


def test_environment_and_option_add_up(spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either of them is enough."""
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "orders")

    assert traced_paths(spans, PATHS, exclude="^/health$") == ["/healthy", "/api/health"]
    assert traced_paths(spans, PATHS, exclude=lambda scope: scope["path"] == "/healthy") == ["/health", "/api/health"]


def test_a_broken_pattern_in_the_environment_is_left_out(
    spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A wrong variable never stops a service: the warning names it, and the other patterns count."""
    monkeypatch.setenv("OTEL_PYTHON_EXCLUDED_URLS", "(,orders")

    assert traced_paths(spans, PATHS) == ["/health", "/healthy", "/api/health"]
    assert "OTEL_PYTHON_EXCLUDED_URLS" in caplog.text


def test_the_sampler_is_not_asked_about_an_excluded_request() -> None:
    """Exclusion comes before sampling."""

    class Asked(ParentBased):
        count = 0

        def should_sample(self, *arguments: Any, **keywords: Any) -> Any:
            Asked.count += 1
            return super().should_sample(*arguments, **keywords)

    with capture_spans(Asked(ALWAYS_ON)):
        drive(TraceMiddleware(OK, exclude="."))

    assert Asked.count == 0


def test_headers_that_can_be_read_only_once_reach_an_excluded_application(spans: CapturedSpans) -> None:
    """An excluded request looks at the headers too, and leaves every line of an iterator to the application."""
    lines = [(b"host", b"example.test"), (b"baggage", b"a=1")]
    seen: list[tuple[bytes, bytes]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.extend(scope["headers"])

    async def unused(*arguments: Any) -> Any:
        raise AssertionError

    scope = {"type": "http", "method": "GET", "path": "/health", "headers": iter(lines)}
    asyncio.run(TraceMiddleware(app, exclude="^/health$")(scope, unused, unused))
    assert seen == lines
    assert not spans.finished
