# mypy: ignore-errors
# Logfire is not installed beside the tests: this runs in an environment of its own.
"""What Logfire shows, row by row: run by the campaign in Logfire's own environment, sends nothing off the loopback."""

from __future__ import annotations

import contextlib
import io
import os
import re
from typing import Any

import httpx
import logfire
import logfire_rows  # noqa: F401 - its rows
from logfire_shared import (
    PARENT,
    ROWS,
    names,
    own,
    parameters,
    request,
    resource,
    server,
    set_up,
    shop,
    spans,
    starlette,
)
from probe import NOT_INSTALLED, receiving


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


@ROWS("all options")
def all_options() -> object:
    functions: tuple[Any, ...] = (
        logfire.configure, logfire.instrument_fastapi, logfire.instrument_starlette, logfire.instrument_asgi,
        logfire.instrument_httpx, logfire.span, logfire.instrument,
    )  # fmt: skip
    return {function.__name__: parameters(function) for function in functions}


if __name__ == "__main__":
    ROWS.main("logfire", "opentelemetry-sdk")
