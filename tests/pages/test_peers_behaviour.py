"""The README's table of what other tracing libraries do is what a run of them shows, with the installed versions.

Each column traces the same FastAPI application, set up as its own documentation says, with an SDK provider that keeps
the spans.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.trace import SpanKind, StatusCode
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Mount, Route
from starlette.websockets import WebSocket

from asgi_trace import TraceMiddleware
from asgi_trace.testing import CapturedSpans
from tests.support.asgi import REQUEST, attributes_of, body, drive, http_scope, responding, start, websocket_scope

from .test_peers import SECTION

pytest.importorskip("fastapi.telemetry")  # FastAPI has had it since 0.165
StarletteMiddleware = pytest.importorskip("starlette.middleware.opentelemetry").OpenTelemetryMiddleware

QUIET = {"tracing": False, "metrics": False, "logs": False}
PARENTS = [
    (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    (b"traceparent", b"00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
]


async def order(request: object) -> PlainTextResponse:
    return PlainTextResponse("kettle")


async def later() -> None:
    raise ValueError("after the last byte")


def application(telemetry: Any) -> FastAPI:
    """An application with an answer of every kind that is compared."""
    app = FastAPI(telemetry=telemetry)
    app.mount("/tenants/{tenant}", Mount("", routes=[Route("/orders/{id}", order)]))
    app.mount("/broken-off", responding(start(), body(b"half", more_body=True)))
    app.mount("/left", responding(start(), body(b"half", more_body=True), body(b"rest")))

    @app.get("/chunks")
    async def chunks() -> StreamingResponse:
        async def ten() -> Any:
            for _ in range(10):
                yield b"chunk"

        return StreamingResponse(ten())

    @app.get("/background")
    async def background() -> PlainTextResponse:
        return PlainTextResponse("done", background=BackgroundTask(later))

    @app.get("/failing")
    async def failing() -> None:
        raise ValueError("no stock")

    @app.get("/search")
    async def search() -> str:
        return "found"

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(1011)

    return app


def ours(provider: TracerProvider) -> Any:
    return TraceMiddleware(application(QUIET), tracer_provider=provider)


def starlettes(provider: TracerProvider) -> Any:
    app = application(QUIET)
    app.add_middleware(StarletteMiddleware, tracer_provider=provider)
    return app


def fastapis(provider: TracerProvider) -> Any:
    return application({"tracer_provider": provider, "metrics": False, "logs": False})


def contribs(provider: TracerProvider) -> Any:
    app = application(QUIET)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    return app


LIBRARIES: dict[str, Callable[[TracerProvider], Any]] = {
    "asgi-trace": ours,
    "Starlette's middleware": starlettes,
    "FastAPI's telemetry": fastapis,
    "contrib's instrumentation": contribs,
}


@pytest.fixture(autouse=True)
def contribs_patch(monkeypatch: pytest.MonkeyPatch) -> None:
    """What contrib's instrumentor patches in Starlette does not outlive the test."""
    monkeypatch.setattr(BackgroundTask, "__call__", BackgroundTask.__call__)


def entry(spans: CapturedSpans) -> ReadableSpan | None:
    """The request's span; None where there is none."""
    return next(iter(spans.of_kind(SpanKind.SERVER)), None)


def failed(spans: CapturedSpans) -> bool:
    span = entry(spans)
    return span is not None and span.status.status_code is StatusCode.ERROR


def status_code(spans: CapturedSpans) -> object:
    span = entry(spans)
    attributes = {} if span is None else attributes_of(span)
    return attributes.get("http.response.status_code", attributes.get("http.status_code"))


def route(app: Any, spans: CapturedSpans) -> bool:
    drive(app, http_scope("/tenants/7/orders/8"))
    span = entry(spans)
    return (
        span is not None
        and span.attributes is not None
        and (span.attributes.get("http.route") == "/tenants/{tenant}/orders/{id}")
    )


def no_span_for_chunks(app: Any, spans: CapturedSpans) -> bool:
    drive(app, http_scope("/search"))
    one = len(spans)
    spans.clear()
    drive(app, http_scope("/chunks"))
    return len(spans) <= one


def status_of_an_exception(app: Any, spans: CapturedSpans) -> bool:
    drive(app, http_scope("/failing"))
    return failed(spans) and status_code(spans) == 500


def background(app: Any, spans: CapturedSpans) -> bool:
    drive(app, http_scope("/background"))
    return entry(spans) is not None and not failed(spans)


def broken_off(app: Any, spans: CapturedSpans) -> bool:
    drive(app, http_scope("/broken-off/half"))
    return failed(spans)


def left(app: Any, spans: CapturedSpans) -> bool:
    def gone(message: Any) -> None:
        if message.get("body") == b"rest":
            raise OSError("the connection is closed")

    drive(app, http_scope("/left/half"), [REQUEST], gone)
    return entry(spans) is not None and not failed(spans)


def socket(app: Any, spans: CapturedSpans) -> bool:
    drive(app, websocket_scope("/socket"), [{"type": "websocket.connect"}])
    return failed(spans)


def secrets(app: Any, spans: CapturedSpans) -> bool:
    drive(app, http_scope("/search", query_string=b"password=hunter2"))
    return entry(spans) is not None and not any("hunter2" in str(span.attributes) for span in spans)


def two_parents(app: Any, spans: CapturedSpans) -> bool:
    drive(app, http_scope("/search", headers=PARENTS))
    span = entry(spans)
    return span is not None and span.parent is None


BEHAVIOURS: dict[str, Callable[[Any, CapturedSpans], bool]] = {
    "`http.route` below a mount with a parameter is the whole template": route,
    "a streamed response makes no span for each chunk": no_span_for_chunks,
    "an exception that leaves the application: status code 500 on the span": status_of_an_exception,
    "a background task that fails leaves the answered request as it was": background,
    "a response that breaks off is an error": broken_off,
    "a client that leaves in the middle is no error of the application": left,
    "a WebSocket closed with 1011 is an error": socket,
    "`?password=` is masked in the query": secrets,
    "two `traceparent` headers start a new trace, as W3C asks": two_parents,
}


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_the_table_says_what_a_run_shows(behaviour: str) -> None:
    """A row of the README's table says yes for the libraries that behave so, and no for the others."""
    shown = {}
    for library, build in LIBRARIES.items():
        spans = CapturedSpans()
        shown[library] = "yes" if BEHAVIOURS[behaviour](build(spans.tracer_provider), spans) else "no"
    assert shown == table().get(behaviour), f"| {behaviour} | {' | '.join(shown.values())} |"


def table() -> dict[str, dict[str, str]]:
    """The README's table of behaviours: row, library, yes or no."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in re.findall(r"^\|.*\|$", SECTION, re.M)]
    header = next(cells for cells in lines if "asgi-trace" in cells)
    rows = lines[lines.index(header) + 2 :]
    return {cells[0]: dict(zip(header[1:], cells[1:], strict=True)) for cells in rows if len(cells) == len(header)}


def test_the_table_has_these_rows_and_columns() -> None:
    """The README's table has the rows that are run, no others, and a column for each library."""
    assert list(table()) == list(BEHAVIOURS)
    assert all(list(cells) == list(LIBRARIES) for cells in table().values())
