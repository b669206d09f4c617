"""FastAPI's own telemetry, and contrib's instrumentor of FastAPI: each row of the page is what both sides show."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import fastapi
import pytest
from fastapi import BackgroundTasks, FastAPI
from opentelemetry import _logs
from opentelemetry._logs import SeverityNumber
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.trace import NoOpTracerProvider

from asgi_trace import TraceMiddleware, server_span, traced
from asgi_trace._configuration.environment import Environment
from asgi_trace._configuration.otlp_settings import CollectorArguments, collector
from asgi_trace._export.signals import TRACES
from asgi_trace._types import ASGIApp, Scope
from asgi_trace.testing import capture_spans
from tests.support.asgi import drive, http_scope
from tests.support.moving import Cases, Pair, without_row
from tests.support.moving_server import Shown, shown

from .shop import SILENT, instrumented_once, instrumentor, ours, packing, shop

telemetry: Any = pytest.importorskip("fastapi.telemetry")
runtime: Any = pytest.importorskip("fastapi.telemetry._runtime")
TELEMETRY = Cases("Options of FastAPI's `telemetry`")
INSTRUMENTOR = Cases("Options of `FastAPIInstrumentor`")


def fastapis(request: Scope, **settings: Any) -> Shown:
    """What FastAPI's own telemetry shows of a request."""
    return shown(
        lambda spans, meters: shop({"tracer_provider": spans, "meter_provider": meters, "logs": False, **settings}),
        request,
    )


def with_ours(request: Scope, **options: Any) -> Shown:
    """What our middleware shows of a request."""

    def build(spans: Any, meters: Any) -> ASGIApp:
        return TraceMiddleware(shop(), **{"tracer_provider": spans, "meter_provider": meters, **options})

    return shown(build, request)


ORDER = http_scope("/orders/7")


@TELEMETRY("`tracer_provider`, `meter_provider`")
def providers() -> Pair:
    there, here = fastapis(dict(ORDER)), with_ours(dict(ORDER))
    counts = [(side.server.name, "http.server.request.duration" in side.metrics) for side in (there, here)]
    assert counts[1] == ("GET /orders/{order}", True)
    return counts[0], counts[1]


@contextmanager
def exceptions_as_logs() -> Iterator[tuple[LoggerProvider, InMemoryLogRecordExporter]]:
    """A LoggerProvider that is global too, and the variable that asks our middleware for log records."""
    exported = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
    provider = LoggerProvider(shutdown_on_exit=False)
    provider.add_log_record_processor(SimpleLogRecordProcessor(exported))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_logs._internal, "_LOGGER_PROVIDER", provider)
        patch.setenv("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN", "logs")
        yield provider, exported
    provider.shutdown()


def recorded(exported: InMemoryLogRecordExporter) -> list[Any]:
    """Name, severity and exception of each record."""
    records = [each.log_record for each in exported.get_finished_logs()]
    exported.clear()
    return [
        (
            record.event_name,
            record.severity_number,
            attributes.get("exception.type"),
            attributes.get("exception.message"),
        )
        for record in records
        for attributes in [dict(record.attributes or {})]
    ]


@TELEMETRY("`logger_provider`, `logs`")
def logs() -> Pair:
    assert [event.name for event in with_ours(http_scope("/failing")).server.events] == ["exception"]
    there, here = [], []
    with exceptions_as_logs() as (provider, exported):
        for path in ("/failing", "/orders/seven"):
            events = fastapis(http_scope(path), logs=True, logger_provider=provider).server.events
            there.append(recorded(exported))
            assert (events, with_ours(http_scope(path)).server.events) == ((), ())
            here.append(recorded(exported))
    exception = ("http.server.request.exception", SeverityNumber.ERROR, "tests.moving.shop.OutOfStock", "no kettles")
    assert there[0] == here[0] == [exception]
    assert [record[0] for record in there[1]] == ["fastapi.validation.failed"]
    assert here[1] == []
    return there, here


@TELEMETRY("`tracing=False`")
def tracing() -> Pair:
    there = fastapis(dict(ORDER), tracing=False)
    here = with_ours(dict(ORDER), tracer_provider=NoOpTracerProvider())
    counts = [
        (len(side.spans), len(side.metrics["http.server.request.duration"].data.data_points)) for side in (there, here)
    ]
    assert counts[1] == (0, 1)
    return counts[0], counts[1]


@TELEMETRY("`metrics=False`")
def metrics() -> Pair:
    there, here = fastapis(dict(ORDER), metrics=False), with_ours(dict(ORDER), metrics=())
    assert [side.server.name for side in (there, here)] == ["GET /orders/{order}"] * 2
    return there.metrics, here.metrics


@TELEMETRY("`operation_spans`")
def operation_spans() -> Pair:
    def app(spans: Any, meters: Any) -> ASGIApp:
        made = FastAPI(telemetry=SILENT)

        @made.get("/orders/{order}")
        @traced("endpoint", tracer_provider=spans)
        async def read_order(order: int) -> int:
            return order

        return TraceMiddleware(made, tracer_provider=spans)

    there = fastapis(dict(ORDER))
    assert [span.name for span in there.spans.children_of(there.server)] == ["fastapi.dependencies", "fastapi.endpoint"]
    with_traced = shown(app, dict(ORDER))
    assert [span.name for span in with_traced.spans.children_of(with_traced.server)] == ["endpoint"]
    quiet = fastapis(dict(ORDER), operation_spans=False)
    assert quiet.names == with_ours(dict(ORDER)).names
    return there.names, with_ours(dict(ORDER)).names


@TELEMETRY("`auto_configure`, `FASTAPI_OTEL_AUTO_CONFIGURE`")
def auto_configure() -> Pair:
    def there(**variables: str) -> str | None:
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("OTEL_")]:
                patch.delenv(name)
            for name, value in variables.items():
                patch.setenv(name, value)
            target: str | None = runtime._export_endpoint("TRACES")
            return target

    def here(**variables: str) -> str:
        return collector(TRACES, CollectorArguments.checked(), Environment(variables)).target

    http = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    assert there(**http) == here(**http) == "http://c:4318/v1/traces"
    assert (there(), here()) == (None, "localhost:4317")
    return there(), here()


@TELEMETRY("`exclude=callable`")
def exclude() -> Pair:
    def healthy(scope: Any) -> bool:
        return bool(scope["path"] == "/unavailable")

    requests = [http_scope("/unavailable"), dict(ORDER)]
    there = [len(fastapis(request, exclude=healthy, operation_spans=False).spans) for request in requests]
    here = [len(with_ours(request, exclude=healthy).spans) for request in requests]
    assert here == [0, 1]
    return there, here


@TELEMETRY("`get_telemetry_data()`")
def telemetry_data() -> Pair:
    seen: list[Any] = []

    def app(settings: Any) -> FastAPI:
        made = FastAPI(telemetry=settings)

        @made.get("/orders/{order}")
        async def read_order(order: int) -> int:
            seen.append(telemetry.get_telemetry_data())
            server_span().set_attribute("order", order)
            return order

        return made

    shown(lambda spans, meters: app({"tracer_provider": spans}), dict(ORDER))
    here = shown(lambda spans, meters: TraceMiddleware(app(SILENT), tracer_provider=spans), dict(ORDER))
    assert here.attributes["order"] == 7
    assert [each is None for each in seen] == [False, True]
    return seen[0], seen[1]


@pytest.mark.parametrize("row", TELEMETRY.titles())
def test_a_row_of_the_telemetry_says_what_a_run_shows(row: str) -> None:
    """A setting that the page calls the same shows the same with both libraries, and any other one does not."""
    TELEMETRY.check(row)


def test_every_setting_of_the_telemetry_has_a_row() -> None:
    """Each key of `telemetry=` stands in the table, and the other name that its module exports for users."""
    assert without_row(TELEMETRY.heading, telemetry.TelemetryConfig.__annotations__) == set()
    assert without_row(TELEMETRY.heading, ["get_telemetry_data"]) == set()


@INSTRUMENTOR("`instrument_app(app)`")
def instrument_app() -> Pair:
    with instrumented_once():
        there = shown(instrumentor, dict(ORDER))
    here = shown(ours, dict(ORDER))
    sides = [(side.server.name, side.attributes["http.route"], side.served[0].messages) for side in (there, here)]
    return sides[0], sides[1]


@INSTRUMENTOR("`instrument()`")
def instrument() -> Pair:
    with instrumented_once(), capture_spans() as spans:
        FastAPIInstrumentor().instrument(tracer_provider=spans.tracer_provider)
        try:
            app = fastapi.FastAPI(telemetry=SILENT)
            drive(app, http_scope("/orders"))
            there = len(spans)
            spans.clear()
        finally:
            FastAPIInstrumentor().uninstrument()
        app = fastapi.FastAPI(telemetry=SILENT)
        TraceMiddleware(app)
        drive(app, http_scope("/orders"))
        return there, len(spans)


@INSTRUMENTOR("`uninstrument_app(app)`, `uninstrument()`")
def uninstrument() -> Pair:
    with instrumented_once(), capture_spans() as spans:
        app = shop()
        FastAPIInstrumentor.instrument_app(app, tracer_provider=spans.tracer_provider)
        drive(app, dict(ORDER))
        assert len(spans) > 0
        FastAPIInstrumentor.uninstrument_app(app)
        spans.clear()
        drive(app, dict(ORDER))
        there = len(spans)
    names = [name for name in dir(TraceMiddleware) if "uninstrument" in name]
    assert (there, names) == (0, [])
    with capture_spans() as spans:
        drive(TraceMiddleware(app), dict(ORDER))
        return there, len(spans)


@INSTRUMENTOR("spans of background tasks")
def background_tasks() -> Pair:
    with instrumented_once():
        there = shown(instrumentor, http_scope("/background"))
    here = shown(ours, http_scope("/background"))
    names = [[name for name in side.names if "BackgroundTask" in name] for side in (there, here)]

    def build(spans: Any, meters: Any) -> ASGIApp:
        app = FastAPI(telemetry=SILENT)

        @app.get("/background")
        async def background(tasks: BackgroundTasks) -> str:
            tasks.add_task(traced(packing, tracer_provider=spans))
            return "done"

        return TraceMiddleware(app, tracer_provider=spans)

    with_traced = shown(build, http_scope("/background"))
    assert [span.name for span in with_traced.spans.children_of(with_traced.server)] == ["packing"]
    assert names == [["BackgroundTask packing"], []]
    return names[0], names[1]


@pytest.mark.parametrize("row", INSTRUMENTOR.titles())
def test_a_row_of_the_instrumentor_says_what_a_run_shows(row: str) -> None:
    """A method that the page calls the same shows the same with both libraries, and any other one does not."""
    INSTRUMENTOR.check(row)


def test_the_arguments_of_the_instrumentor_are_those_of_the_middleware() -> None:
    """The page refers for the other arguments to the table of contrib's middleware, which has them all."""
    arguments = set(inspect.signature(FastAPIInstrumentor.instrument_app).parameters)
    assert arguments - set(inspect.signature(OpenTelemetryMiddleware).parameters) == set()
    methods = {name for name in dir(FastAPIInstrumentor) if name.startswith(("instrument", "uninstrument"))}
    assert without_row(INSTRUMENTOR.heading, methods) == {"instrumentation_dependencies"}  # a part of how it is written


def test_only_the_instrumentor_silences_the_telemetry_of_fastapi() -> None:
    """With FastAPI's telemetry on, contrib's instrumentor makes the span; our middleware leaves it to FastAPI."""

    def instrumented(spans: Any, meters: Any) -> ASGIApp:
        app = shop({"tracer_provider": spans})
        FastAPIInstrumentor.instrument_app(app, tracer_provider=spans)
        return app

    def inside(settings: Any) -> Any:
        def build(spans: Any, meters: Any) -> ASGIApp:
            app = shop({**settings, "tracer_provider": spans})
            app.add_middleware(TraceMiddleware, tracer_provider=spans)
            return app

        return build

    makers = []
    with instrumented_once():
        for build in (instrumented, inside({}), inside(SILENT)):
            scope = shown(build, dict(ORDER)).server.instrumentation_scope
            makers.append(None if scope is None else scope.name)
    assert makers == ["opentelemetry.instrumentation.fastapi", "fastapi", "asgi_trace"]
