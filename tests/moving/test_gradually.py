"""Moving step by step: both libraries in one service, and services that have moved beside services that have not."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from opentelemetry import propagate
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind
from starlette.responses import JSONResponse

from asgi_trace import TraceMiddleware
from asgi_trace._types import ASGIApp
from tests.support.asgi import PARENT_ID, TRACE_ID, TRACEPARENT, attributes_of, http_scope
from tests.support.moving_server import Build, Shown, shown

from .shop import LIBRARIES, instrumented_once

OTHERS = [name for name in LIBRARIES if name not in {"here", "contrib, `http`"}]


def with_both(library: str) -> Build:
    """The other library as before, and our middleware added to the same application."""

    def build(spans: TracerProvider, meters: MeterProvider) -> ASGIApp:
        app: Any = LIBRARIES[library](spans, meters)
        # Before what is there already, which add_middleware() would put inside: the old one stays outside.
        inside = len(app.user_middleware)
        app.add_middleware(TraceMiddleware, tracer_provider=spans, meter_provider=meters)
        app.user_middleware.insert(inside, app.user_middleware.pop(0))
        built: ASGIApp = app
        return built

    return build


def asked(build: Build) -> Shown:
    with instrumented_once():
        return shown(build, http_scope("/orders/7", headers=[(b"traceparent", TRACEPARENT)]))


def described(side: Shown) -> list[Any]:
    return sorted((span.name, span.kind.name, str(attributes_of(span))) for span in side.spans)


@pytest.mark.parametrize("library", OTHERS)
def test_nothing_changes_while_the_old_one_is_outside(library: str, caplog: pytest.LogCaptureFixture) -> None:
    """With both in one service, spans and metrics are those of the old library, and one warning names it."""
    before, both = asked(LIBRARIES[library]), asked(with_both(library))
    assert described(both) == described(before)
    assert len(both.spans.of_kind(SpanKind.SERVER)) == 1
    assert both.metrics.keys() == before.metrics.keys()
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "TraceMiddleware steps aside" in warnings[0].getMessage()


def forwarding(spans: TracerProvider, meters: MeterProvider, library: str) -> ASGIApp:
    """An application that answers with the headers which it would send to the next service."""
    app: Any = LIBRARIES[library](spans, meters)
    made = app.app if library == "here" else app

    async def forward() -> JSONResponse:
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
        return JSONResponse(carrier)

    made.get("/forward")(forward)
    built: ASGIApp = app
    return built


@pytest.mark.parametrize("second", LIBRARIES)
@pytest.mark.parametrize("first", LIBRARIES)
def test_a_trace_goes_on_from_one_library_to_another(first: str, second: str) -> None:
    """Two services in a row, whichever traces which: one trace, and the second span is below the first."""
    headers = [(b"traceparent", TRACEPARENT)]
    parent = PARENT_ID
    for library in (first, second):
        with instrumented_once():
            side = shown(
                lambda spans, meters, library=library: forwarding(spans, meters, library),  # type: ignore[misc]
                http_scope("/forward", headers=headers),
            )
        span = side.server
        assert span.context is not None
        assert span.parent is not None
        assert (span.context.trace_id, span.parent.span_id) == (TRACE_ID, parent)
        (answer,) = [message["body"] for message in side.served[0].messages if message.get("body")]
        headers = [(b"traceparent", json.loads(answer)["traceparent"].encode())]
        carried = int(headers[0][1].split(b"-")[2], 16)
        ids = {each.context.span_id for each in side.spans if each.context is not None}
        assert carried in ids
        parent = carried
