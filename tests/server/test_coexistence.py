"""Beside other instrumentation: one SERVER span per request, whoever makes it, and one warning that names who does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

pytest.importorskip("starlette.middleware.opentelemetry", reason="newer than this Starlette")

from fastapi import APIRouter, FastAPI, WebSocket
from opentelemetry.context import attach, detach
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as ContribMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as StarletteMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from asgi_trace import TraceMiddleware, server_span
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import CONNECT, OK, PARENT_ID, TRACE_ID, TRACEPARENT, drive, http_scope, serve, websocket_scope

OURS, FASTAPI, STARLETTE = "asgi_trace", "fastapi", "starlette"
CONTRIB, INSTRUMENTOR = "opentelemetry.instrumentation.asgi", "opentelemetry.instrumentation.fastapi"


def fastapi_app(provider: TracerProvider, *, tracing: bool = True) -> FastAPI:
    """An application whose own telemetry is on, as it is by default where a provider is set globally."""
    app = FastAPI(telemetry={"tracer_provider": provider, "tracing": tracing})
    router = APIRouter(prefix="/v1")

    @router.get("/items/{item}")
    async def item(item: str) -> str:
        server_span().set_attribute("seen.by", "endpoint")
        return item

    @app.websocket("/ws/{room}")
    async def room(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    app.include_router(router)
    return app


def starlette_app() -> Starlette:
    async def item(request: Request) -> PlainTextResponse:
        server_span().set_attribute("seen.by", "endpoint")
        return PlainTextResponse("ok")

    return Starlette(routes=[Route("/v1/items/{item}", item)])


def contrib(app: Any, provider: TracerProvider) -> Any:
    return ContribMiddleware(app, tracer_provider=provider, exclude_spans=["receive", "send"])


def with_middleware(app: Any, *middleware: Any, **options: Any) -> Any:
    for each in middleware:
        app.add_middleware(each, **options)
    return app


@pytest.fixture(autouse=True)
def contribs_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What contrib's instrumentor patches in Starlette does not outlive the test."""
    monkeypatch.setattr(BackgroundTask, "__call__", BackgroundTask.__call__)


def instrumented(provider: TracerProvider) -> FastAPI:
    """What `opentelemetry-instrument` makes of an application."""
    app = fastapi_app(provider, tracing=False)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider, exclude_spans=["receive", "send"])
    return app


class Arrangement(NamedTuple):
    """How an application is put together, who makes its SERVER span, and whom the warning names."""

    build: Callable[[TracerProvider], Any]
    maker: str
    named: str | None = None
    name: str = "GET /v1/items/{item}"
    path: str = "/v1/items/7"


NATIVE = "FastAPI's own telemetry"
STARLETTES = "Starlette's OpenTelemetryMiddleware"
CONTRIBS = f"the instrumentation {CONTRIB!r}"
INSTRUMENTORS = f"the instrumentation {INSTRUMENTOR!r}"

ARRANGEMENTS = {
    "around FastAPI": Arrangement(lambda p: TraceMiddleware(fastapi_app(p)), OURS),
    "inside FastAPI": Arrangement(lambda p: with_middleware(fastapi_app(p), TraceMiddleware), FASTAPI, NATIVE),
    "inside FastAPI without its telemetry": Arrangement(
        lambda p: with_middleware(fastapi_app(p, tracing=False), TraceMiddleware), OURS
    ),
    "around and inside FastAPI": Arrangement(
        lambda p: TraceMiddleware(with_middleware(fastapi_app(p), TraceMiddleware)), OURS
    ),
    "twice by mistake": Arrangement(lambda p: with_middleware(starlette_app(), TraceMiddleware, TraceMiddleware), OURS),
    "three times around": Arrangement(
        lambda p: TraceMiddleware(TraceMiddleware(TraceMiddleware(starlette_app()))), OURS
    ),
    "around Starlette's": Arrangement(
        lambda p: TraceMiddleware(with_middleware(starlette_app(), StarletteMiddleware, tracer_provider=p)), OURS
    ),
    "inside Starlette's": Arrangement(
        lambda p: StarletteMiddleware(TraceMiddleware(starlette_app()), tracer_provider=p), STARLETTE, STARLETTES
    ),
    "around contrib's": Arrangement(lambda p: TraceMiddleware(contrib(starlette_app(), p)), OURS),
    "inside contrib's": Arrangement(
        lambda p: contrib(TraceMiddleware(starlette_app()), p), CONTRIB, CONTRIBS, name="GET /v1/items/7"
    ),
    "around an instrumented FastAPI": Arrangement(lambda p: TraceMiddleware(instrumented(p)), OURS),
    "inside an instrumented FastAPI": Arrangement(
        lambda p: with_middleware(instrumented(p), TraceMiddleware),
        INSTRUMENTOR,
        f"the instrumentation {INSTRUMENTOR!r}",
    ),
    "FastAPI mounted": Arrangement(
        lambda p: TraceMiddleware(Starlette(routes=[Mount("/api", fastapi_app(p))])),
        OURS,
        name="GET /api/v1/items/{item}",
        path="/api/v1/items/7",
    ),
    "a mounted application with its own middleware": Arrangement(
        lambda p: TraceMiddleware(Starlette(routes=[Mount("/api", with_middleware(fastapi_app(p), TraceMiddleware))])),
        OURS,
        name="GET /api/v1/items/{item}",
        path="/api/v1/items/7",
    ),
    "only in the mounted application": Arrangement(
        lambda p: Starlette(routes=[Mount("/api", TraceMiddleware(fastapi_app(p)))]),
        OURS,
        name="GET /api/v1/items/{item}",
        path="/api/v1/items/7",
    ),
    "all of them, ours outside": Arrangement(
        lambda p: TraceMiddleware(contrib(StarletteMiddleware(fastapi_app(p), tracer_provider=p), p)), OURS
    ),
    "all of them, contrib's outside": Arrangement(
        lambda p: contrib(TraceMiddleware(StarletteMiddleware(fastapi_app(p), tracer_provider=p)), p),
        CONTRIB,
        CONTRIBS,
        name="GET /v1/items/7",
    ),
    "all of them, Starlette's outside": Arrangement(
        lambda p: StarletteMiddleware(TraceMiddleware(contrib(fastapi_app(p), p)), tracer_provider=p),
        STARLETTE,
        STARLETTES,
    ),
}


def makers(spans: CapturedSpans) -> list[str]:
    """Who made the SERVER spans."""
    return [scope_of(span) for span in spans.of_kind(SpanKind.SERVER)]


def scope_of(span: ReadableSpan) -> str:
    assert span.instrumentation_scope is not None
    return span.instrumentation_scope.name


@pytest.mark.parametrize("headers", [(), ((b"traceparent", TRACEPARENT),)], ids=["no parent", "a parent"])
@pytest.mark.parametrize("arrangement", ARRANGEMENTS.values(), ids=ARRANGEMENTS)
def test_every_request_has_one_server_span(
    spans: CapturedSpans,
    caplog: pytest.LogCaptureFixture,
    arrangement: Arrangement,
    headers: tuple[tuple[bytes, bytes], ...],
) -> None:
    """One SERVER span below the caller's, `server_span()` finds it, and one warning names who else makes it."""
    app = arrangement.build(spans.tracer_provider)
    for _ in range(3):
        spans.clear()
        served = drive(app, http_scope(arrangement.path, headers=list(headers)))
        assert served.status == 200
        span = spans.server
        assert makers(spans) == [arrangement.maker]
        assert span.name == arrangement.name
        assert dict(span.attributes or {})["seen.by"] == "endpoint"
        assert (span.parent and span.parent.span_id) == (PARENT_ID if headers else None)
        assert {each.context.trace_id for each in spans} == {TRACE_ID if headers else span.context.trace_id}

    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    if arrangement.named is None:
        assert warnings == []
    else:
        assert len(warnings) == 1
        assert arrangement.named in warnings[0].getMessage()


@pytest.mark.parametrize("arrangement", ARRANGEMENTS.values(), ids=ARRANGEMENTS)
def test_the_scope_is_clean_afterwards(spans: CapturedSpans, arrangement: Arrangement) -> None:
    """Whoever traces, no mark of ours stays in the scope."""
    served = drive(arrangement.build(spans.tracer_provider), http_scope(arrangement.path))

    assert {"asgi_trace", "fastapi.telemetry", "starlette.opentelemetry"}.isdisjoint(served.scope)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS.values(), ids=ARRANGEMENTS)
def test_an_unsampled_request_has_no_span(spans: CapturedSpans, arrangement: Arrangement) -> None:
    """A caller that does not sample is obeyed in every arrangement."""
    headers = [(b"traceparent", TRACEPARENT[:-1] + b"0")]
    drive(arrangement.build(spans.tracer_provider), http_scope(arrangement.path, headers=headers))

    assert len(spans) == 0


@pytest.mark.parametrize("exclude_spans", [None, ["receive", "send"]])
def test_what_contrib_does_not_sample_is_not_sampled_again(exclude_spans: Any) -> None:
    """Inside contrib's middleware its decision stands: no second root that raises the rate."""
    sampler = ParentBased(TraceIdRatioBased(0.5))
    with capture_spans(sampler) as spans:
        app = ContribMiddleware(TraceMiddleware(OK), tracer_provider=spans.tracer_provider, exclude_spans=exclude_spans)
        for _ in range(40):
            drive(app)

        assert set(makers(spans)) == {CONTRIB}


def test_a_span_that_a_server_left_behind_unsampled_is_no_neighbour(spans: CapturedSpans) -> None:
    """An unsampled span in the context is nobody's for this request, as long as contrib does not call us."""
    left_over = NonRecordingSpan(SpanContext(1, 2, False, TraceFlags(0)))
    token = attach(set_span_in_context(left_over))
    try:
        drive(TraceMiddleware(OK))
    finally:
        detach(token)

    assert makers(spans) == [OURS]


def test_fastapi_traces_what_is_mounted_beside_us(spans: CapturedSpans) -> None:
    """An application that our middleware does not surround keeps its own telemetry."""
    provider = spans.tracer_provider
    app = Starlette(routes=[Mount("/a", fastapi_app(provider)), Mount("/b", TraceMiddleware(fastapi_app(provider)))])
    for prefix, maker in (("/a", FASTAPI), ("/b", OURS)):
        spans.clear()
        drive(app, http_scope(f"{prefix}/v1/items/7"))
        assert makers(spans) == [maker]


def test_an_excluded_request_keeps_fastapi_quiet_too(spans: CapturedSpans) -> None:
    """Silence means silence: the framework's own telemetry makes no span for an excluded path either."""
    app = TraceMiddleware(fastapi_app(spans.tracer_provider), exclude="^/v1")

    assert drive(app, http_scope("/v1/items/7")).status == 200
    assert len(spans) == 0


@pytest.mark.parametrize(
    ("build", "maker"),
    [
        (lambda p: TraceMiddleware(fastapi_app(p)), OURS),
        (lambda p: with_middleware(fastapi_app(p), TraceMiddleware), FASTAPI),
        (lambda p: TraceMiddleware(with_middleware(fastapi_app(p), TraceMiddleware)), OURS),
    ],
    ids=["around", "inside", "both"],
)
def test_every_socket_has_one_server_span(
    spans: CapturedSpans, build: Callable[[TracerProvider], Any], maker: str
) -> None:
    """A WebSocket has one SERVER span as well."""
    served = drive(build(spans.tracer_provider), websocket_scope("/ws/blue"), script=[CONNECT])

    assert served.messages[0]["type"] == "websocket.accept"
    assert makers(spans) == [maker]


def test_the_warning_says_how_to_switch_the_neighbour_off(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """What to write is in the warning, so nobody has to look for it."""
    drive(with_middleware(fastapi_app(spans.tracer_provider), TraceMiddleware), http_scope("/v1/items/7"))

    assert 'FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})' in caplog.text


def test_an_ended_span_of_a_neighbour_is_no_reason_to_step_aside(spans: CapturedSpans) -> None:
    """A span that another request left behind does not trace this one, even below Starlette's marker."""
    tracer = spans.tracer_provider.get_tracer("somebody.else")
    left = tracer.start_span("GET", kind=SpanKind.SERVER)
    left.end()
    spans.clear()
    for scope in (http_scope(), http_scope("/", "GET", **{"starlette.opentelemetry": True})):
        spans.clear()
        token = attach(set_span_in_context(left))
        drive(TraceMiddleware(OK), scope)
        detach(token)
        assert makers(spans) == [OURS]
        assert spans.server.parent is None


def test_an_open_span_of_ours_is_no_neighbour(spans: CapturedSpans) -> None:
    """A request made in process, from inside of another one, is a request of its own, with the headers it was sent."""

    async def calls_itself(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/":
            await serve(traced, http_scope("/inner"))
        await OK(scope, receive, send)

    traced = TraceMiddleware(calls_itself)
    drive(traced)

    assert makers(spans) == [OURS, OURS]
    assert [span.parent for span in spans] == [None, None]
