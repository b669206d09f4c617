# mypy: ignore-errors
# Logfire is not installed beside the tests: this runs in an environment of its own.
"""What Logfire shows of spans of your own, of its variables, and of a server: rows of `logfire_probe`."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import logfire
from logfire_shared import (
    ROWS,
    names,
    own,
    request,
    resource,
    server,
    set_up,
    shop,
    spans,
)
from opentelemetry import trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from probe import receiving


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
