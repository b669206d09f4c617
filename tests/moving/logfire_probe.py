# mypy: ignore-errors
# Logfire is not installed beside the tests: this runs in an environment of its own.
"""What Logfire shows, row by row: run by the campaign in Logfire's own environment, sends nothing off the loopback."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import logging
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import logfire
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from probe import NOT_INSTALLED, Rows, receiving
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

ROWS = Rows()
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EXPORTER = InMemorySpanExporter()


def set_up(**options: Any) -> None:
    """`logfire.configure()` that keeps the spans and sends none."""
    logfire.configure(
        **{
            "send_to_logfire": False,
            "console": False,
            "metrics": False,
            "service_name": "shop",
            "distributed_tracing": True,
            "inspect_arguments": False,
            "additional_span_processors": [SimpleSpanProcessor(EXPORTER)],
            **options,
        }
    )


def spans() -> list[Any]:
    return list(EXPORTER.get_finished_spans())


def names() -> list[str]:
    return [span.name for span in spans()]


def resource(*keys: str) -> dict[str, Any]:
    with logfire.span("work"):
        pass
    found = spans()[0].resource.attributes
    return {key: found.get(key) for key in keys}


@ROWS("`service_name`")
def service_name() -> object:
    set_up()
    return resource("service.name")


@ROWS("`service_version`, `environment`, `resource_attributes`")
def resource_attributes() -> object:
    set_up(service_version="2", environment="prod", resource_attributes={"team": "tea"})
    return resource("service.version", "deployment.environment.name", "team")


@ROWS("`send_to_logfire`, `token`, `api_key`, `local`, `config_dir`, `data_dir`")
def send_to_logfire() -> object:
    try:
        logfire.configure(data_dir="/nonexistent")
    except Exception as exc:
        return type(exc).__name__
    return "set up"


def work_printed(**options: Any) -> bool:
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        set_up(**options)
        with logfire.span("work"):
            pass
        logfire.force_flush()
    return "work" in printed.getvalue()


@ROWS("`console`")
def console() -> object:
    return work_printed(console=None)


@ROWS("`additional_span_processors`")
def additional_span_processors() -> object:
    set_up()
    with logfire.span("work"):
        pass
    return names()


@ROWS("`metrics`")
def metrics() -> object:
    with receiving() as (url, seen):
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
        set_up(metrics=None)
        logfire.metric_counter("orders").add(1)
        logfire.force_flush()
        return "/v1/metrics" in [path for path, _ in seen]


@ROWS("`scrubbing`")
def scrubbing() -> object:
    set_up()
    with logfire.span("work", password="hunter2"):
        pass
    return spans()[0].attributes["password"]


@ROWS("`inspect_arguments`")
def inspect_arguments() -> object:
    set_up(inspect_arguments=True)
    order = 7
    with logfire.span(f"load {order}"):
        pass
    return own(spans()[0])


def own(span: Any) -> dict[str, Any]:
    """The attributes of a span that are not Logfire's own."""
    ours = {key: value for key, value in span.attributes.items() if not re.match(r"logfire\.|code\.", key)}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in ours.items()}


@ROWS("`sampling=SamplingOptions(head=0.0)`")
def head_sampling() -> object:
    set_up(sampling=logfire.SamplingOptions(head=0.0))
    with logfire.span("work"):
        pass
    return names()


@ROWS("`sampling=SamplingOptions(tail=...)`")
def tail_sampling() -> object:
    set_up(sampling=logfire.SamplingOptions.level_or_duration(level_threshold="error", duration_threshold=60))
    with logfire.span("work"):
        pass
    return names()


@ROWS("`min_level`")
def min_level() -> object:
    set_up(min_level="error")
    logfire.info("paid")
    logfire.error("out of stock")
    return names()


@ROWS("`add_baggage_to_attributes`")
def baggage() -> object:
    set_up()
    with logfire.set_baggage(user="7"), logfire.span("work"):
        pass
    return own(spans()[0])


@ROWS("`distributed_tracing=False`")
def distributed_tracing() -> object:
    set_up(distributed_tracing=False)
    app = shop()
    logfire.instrument_fastapi(app)
    request(app, headers={"traceparent": PARENT})
    return [server().parent is None, len(server().links)]


@ROWS("`code_source`, `variables`, `advanced`")
def service_options() -> object:
    return [name for name in ("code_source", "variables", "advanced") if name in parameters(logfire.configure)]


def parameters(function: Callable[..., Any]) -> list[str]:
    return list(inspect.signature(function).parameters)


def request(app: Any, path: str = "/orders/7", **options: Any) -> Any:
    """Send one request to an application in this process."""

    async def send() -> Any:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            return await client.get(path, **options)

    return asyncio.run(send())


def server() -> Any:
    [span] = [span for span in spans() if span.kind is trace.SpanKind.SERVER]
    return span


def shop() -> FastAPI:
    app = FastAPI()

    @app.get("/orders/{id}")
    def order(id: int) -> int:
        return id

    @app.get("/health")
    def health() -> str:
        return "ok"

    @app.get("/failing")
    def failing() -> None:
        raise ValueError("no stock")

    return app


async def order(request: Any) -> Any:
    return PlainTextResponse("kettle")


def starlette() -> Starlette:
    return Starlette(routes=[Route("/orders/{id}", order)])


@ROWS("`instrument_fastapi(app)`")
def instrument_fastapi() -> object:
    set_up()
    app = shop()
    logfire.instrument_fastapi(app)
    request(app, headers={"traceparent": PARENT})
    return [server().name, server().kind.name, f"{server().parent.span_id:016x}" in PARENT]


@ROWS("`instrument_starlette(app)`")
def instrument_starlette() -> object:
    set_up()
    app = starlette()
    try:
        logfire.instrument_starlette(app)
    except RuntimeError:
        return NOT_INSTALLED
    request(app)
    return [server().name, server().kind.name]


@ROWS("`instrument_asgi(app)`")
def instrument_asgi() -> object:
    set_up()
    request(logfire.instrument_asgi(starlette()))
    return [server().name, server().kind.name]


@ROWS("`capture_headers=True`")
def capture_headers() -> object:
    set_up()
    app = shop()
    logfire.instrument_fastapi(app, capture_headers=True)
    request(app, headers={"x-tenant": "blue", "authorization": "hunter2"})
    return {key: value for key, value in own(server()).items() if re.search("tenant|authorization", key)}


@ROWS("`excluded_urls`")
def excluded_urls() -> object:
    set_up()
    app = shop()
    logfire.instrument_fastapi(app, excluded_urls="health")
    request(app, "/health")
    request(app)
    return names()


@ROWS("`request_attributes_mapper`")
def request_attributes_mapper() -> object:
    set_up()
    app = shop()
    logfire.instrument_fastapi(app)
    request(app)
    return own(server()).get("fastapi.arguments.values")


@ROWS("`record_send_receive`, `extra_spans`")
def more_spans() -> object:
    set_up()
    app = shop()
    logfire.instrument_fastapi(app, record_send_receive=True, extra_spans=True)
    request(app)
    return len(spans())


@ROWS("`server_request_hook`")
def server_request_hook() -> object:
    set_up()
    hook = lambda span, scope: span.set_attribute("tenant", scope["path"])  # noqa: E731
    request(logfire.instrument_asgi(starlette(), server_request_hook=hook))
    return own(server())["tenant"]


@ROWS("`client_request_hook`, `client_response_hook`")
def client_hooks() -> object:
    set_up()
    calls: list[str] = []
    options: Any = {
        "client_request_hook": lambda span, scope, message: calls.append(message["type"]),
        "client_response_hook": lambda span, scope, message: calls.append(message["type"]),
    }
    request(logfire.instrument_asgi(starlette(), record_send_receive=True, **options))
    return calls


def call(method: str = "GET", **options: Any) -> Any:
    """Send one request through a client that Logfire instruments, and give back its span."""
    set_up()
    handler = lambda request: httpx.Response(200, text="kettle")  # noqa: E731
    with httpx.Client(transport=httpx.MockTransport(handler)) as client:
        logfire.instrument_httpx(client, **options)
        client.request(method, "http://orders.test/orders/7", headers={"x-tenant": "blue"}, json={"tea": 1})
    return spans()[0]


@ROWS("`instrument_httpx(client)`")
def instrument_httpx() -> object:
    span = call()
    return [span.name, span.kind.name]


@ROWS("`capture_headers=True` of httpx")
def captured_by_httpx() -> object:
    return own(call(capture_headers=True))["http.request.header.x-tenant"]


@ROWS("`capture_all`, `capture_request_body`, `capture_response_body`")
def capture_bodies() -> object:
    return own(call("POST", capture_request_body=True)).get("http.request.body.text")


@ROWS("`request_hook`, `response_hook`, `async_request_hook`, `async_response_hook`")
def httpx_hooks() -> object:
    seen: list[str] = []
    call(
        request_hook=lambda span, request: seen.append(type(request).__name__),
        response_hook=lambda span, request, response: seen.append(type(response).__name__),
    )
    return seen


@ROWS('`with logfire.span("load {id}", id=7)`')
def span() -> object:
    set_up()
    with logfire.span("load {id}", id=7):
        pass
    return [names()[0], sorted(spans()[0].attributes)]


@ROWS("`_span_name`, `_span_kind`, `_links`")
def span_options() -> object:
    set_up()
    linked = trace.SpanContext(1, 2, False)
    with logfire.span("load", _span_name="load order", _span_kind=trace.SpanKind.CONSUMER, _links=[(linked, None)]):
        pass
    return [names()[0], spans()[0].kind.name, len(spans()[0].links)]


@ROWS("`_tags`, `_level`")
def tags() -> object:
    set_up()
    with logfire.span("load", _tags=["tea"], _level="warn"):
        pass
    found = spans()[0].attributes
    return [list(found["logfire.tags"]), found["logfire.level_num"]]


def instrumented(*arguments: Any, **options: Any) -> Any:
    """The span of a function that `@logfire.instrument` decorates."""
    set_up()

    @logfire.instrument(*arguments, **options)
    def load(id: int, again: bool = False) -> int:
        return id

    with logfire.span("outer"):
        load(7)
    return spans()[0]


@ROWS("`@logfire.instrument()`")
def instrument() -> object:
    return instrumented().name.rpartition(".")[0].partition(" ")[0]


@ROWS("`span_name`")
def span_name() -> object:
    return instrumented(span_name="load order").name


@ROWS("`msg_template`, `level`")
def level() -> object:
    return instrumented("load {id}", level="warn").attributes["logfire.level_num"]


@ROWS("`extract_args`")
def extract_args() -> object:
    return own(instrumented())


@ROWS('`extract_args=["id"]`')
def extract_one() -> object:
    return own(instrumented(extract_args=["id"]))


@ROWS("`record_return`")
def record_return() -> object:
    return own(instrumented(extract_args=False, record_return=True))


@ROWS("`allow_generator`")
def allow_generator() -> object:
    set_up()

    def numbers() -> Any:
        yield 1

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(logfire.instrument()(numbers)())
    return len(caught)


@ROWS("`new_trace`")
def new_trace() -> object:
    return instrumented(new_trace=True).parent is None


@ROWS("an exception")
def exception() -> object:
    set_up()
    with contextlib.suppress(ValueError), logfire.span("load"):
        raise ValueError("no stock")
    [event] = spans()[0].events
    return [spans()[0].status.status_code.name, event.name, event.attributes["exception.message"]]


@ROWS('`logfire.info("paid {n}", n=3)`')
def info() -> object:
    set_up()
    logfire.info("paid {n}", n=3)
    return ["span", spans()[0].attributes["logfire.msg"], own(spans()[0])]


@ROWS("`LogfireLoggingHandler`, `StructlogProcessor`, `loguru_handler`")
def logging_handler() -> object:
    set_up()
    logger = logging.getLogger("shop")
    logger.addHandler(logfire.LogfireLoggingHandler())
    logger.warning("paid %s", 3)
    return ["span", spans()[0].attributes["logfire.msg"]]


@ROWS("`logfire.force_flush()`, `logfire.shutdown()`")
def flush() -> object:
    set_up()
    flushed = logfire.force_flush()
    logfire.shutdown()
    return flushed


@ROWS("`LOGFIRE_SERVICE_NAME`", LOGFIRE_SERVICE_NAME="tea")
def variable_service_name() -> object:
    set_up(service_name=None)
    return resource("service.name")


@ROWS(
    "`LOGFIRE_SERVICE_VERSION`, `LOGFIRE_ENVIRONMENT`, `LOGFIRE_RESOURCE_ATTRIBUTES`",
    LOGFIRE_SERVICE_VERSION="2",
    LOGFIRE_ENVIRONMENT="prod",
    LOGFIRE_RESOURCE_ATTRIBUTES="team=tea",
)
def variable_resource() -> object:
    set_up()
    return resource("service.version", "deployment.environment.name", "team")


@ROWS("`LOGFIRE_TRACE_SAMPLE_RATE`", LOGFIRE_TRACE_SAMPLE_RATE="0")
def variable_sample_rate() -> object:
    set_up()
    with logfire.span("work"):
        pass
    return names()


@ROWS("`OTEL_EXPORTER_OTLP_ENDPOINT`")
def otlp_endpoint() -> object:
    with receiving() as (url, seen):
        os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = url
        set_up(metrics=None)
        logfire.metric_counter("orders").add(1)
        with logfire.span("work"):
            pass
        logfire.force_flush()
    return sorted({path for path, _ in seen})


def logfire_variables() -> list[str]:
    """All variables that Logfire's own settings name."""
    source = Path(logfire.__file__).parent / "_internal" / "config_params.py"
    return sorted(set(re.findall(r"'(LOGFIRE_[A-Z_]+)'", source.read_text())))


NOT_READ = (
    "`LOGFIRE_SEND_TO_LOGFIRE`, `LOGFIRE_TOKEN`, `LOGFIRE_API_KEY`, `LOGFIRE_BASE_URL`, `LOGFIRE_CREDENTIALS_DIR`, "
    "`LOGFIRE_CONFIG_DIR`, `LOGFIRE_COMPRESSION`",
    "`LOGFIRE_CONSOLE`, `LOGFIRE_CONSOLE_COLORS`, `LOGFIRE_CONSOLE_SPAN_STYLE`, `LOGFIRE_CONSOLE_INCLUDE_TIMESTAMP`, "
    "`LOGFIRE_CONSOLE_INCLUDE_TAGS`, `LOGFIRE_CONSOLE_INCLUDE_ATTRIBUTES`, `LOGFIRE_CONSOLE_VERBOSE`, "
    "`LOGFIRE_CONSOLE_MIN_LOG_LEVEL`, `LOGFIRE_CONSOLE_SHOW_PROJECT_LINK`, `LOGFIRE_SHOW_SUMMARY`",
    "`LOGFIRE_MIN_LEVEL`, `LOGFIRE_DISTRIBUTED_TRACING`, `LOGFIRE_INSPECT_ARGUMENTS`, `LOGFIRE_RESOURCE_DETECTORS`, "
    "`LOGFIRE_PENDING_SPANS`, `LOGFIRE_IGNORE_NO_CONFIG`, `LOGFIRE_EMIT_CONFIGURATION_SPAN`",
    "`LOGFIRE_HTTPX_CAPTURE_ALL`, `LOGFIRE_AIOHTTP_CLIENT_CAPTURE_ALL`, `LOGFIRE_PYDANTIC_PLUGIN_RECORD`, "
    "`LOGFIRE_PYDANTIC_PLUGIN_INCLUDE`, `LOGFIRE_PYDANTIC_PLUGIN_EXCLUDE`",
)
"""Rows of variables that only Logfire reads."""


def read_variables(title: str) -> Callable[[], object]:
    return lambda: sorted(set(re.findall(r"\w+", title)) & set(logfire_variables()))


for each in NOT_READ:
    ROWS(each)(read_variables(each))


@ROWS("all variables")
def all_variables() -> object:
    return logfire_variables()


@ROWS("all options")
def all_options() -> object:
    functions: tuple[Any, ...] = (
        logfire.configure, logfire.instrument_fastapi, logfire.instrument_starlette, logfire.instrument_asgi,
        logfire.instrument_httpx, logfire.span, logfire.instrument,
    )  # fmt: skip
    return {function.__name__: parameters(function) for function in functions}


@ROWS("attributes of a SERVER span")
def server_attributes() -> object:
    set_up()
    app = shop()
    logfire.instrument_fastapi(app)
    request(app, "/orders/7?page=2", headers={"user-agent": "tea"})
    return sorted(key for key in own(server()) if not key.startswith("fastapi."))


@ROWS("the same with `OTEL_SEMCONV_STABILITY_OPT_IN=http`", OTEL_SEMCONV_STABILITY_OPT_IN="http")
def todays_attributes() -> object:
    shown = server_attributes()
    found = own(server())
    assert shown == sorted(key for key in found if not key.startswith("fastapi."))
    return {key: found[key] for key in ("http.request.method", "http.route", "http.response.status_code", "url.path")}


@ROWS("`?password=` in the URL")
def secret_in_the_url() -> object:
    set_up()
    app = shop()
    logfire.instrument_fastapi(app)
    request(app, "/orders/7?password=hunter2")
    return "hunter2" in str(dict(server().attributes))


def outcome(path: str) -> object:
    set_up()
    app = shop()
    logfire.instrument_fastapi(app)
    request(app, path)
    found = server().attributes
    return [server().status.status_code.name, found.get("http.status_code")]


@ROWS("status 404")
def status_404() -> object:
    return outcome("/nothing")


@ROWS("an exception that leaves the application")
def status_500() -> object:
    return [*outcome("/failing"), [event.name for event in server().events]]  # type: ignore[misc]


@ROWS("level")
def level_of_a_failure() -> object:
    outcome("/failing")
    return server().attributes.get("logfire.level_num")


@ROWS("duration metric")
def duration_metric() -> object:
    reader = InMemoryMetricReader()
    set_up(metrics=logfire.MetricsOptions(additional_readers=[reader]))
    app = shop()
    logfire.instrument_fastapi(app)
    request(app)
    data = reader.get_metrics_data()
    assert data is not None
    found = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics if "duration" in m.name]
    return [[metric.name, metric.unit] for metric in found]


if __name__ == "__main__":
    logging.disable(logging.NOTSET)
    ROWS.main("logfire", "opentelemetry-sdk")
