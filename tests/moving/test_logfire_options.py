"""Options and variables of Logfire: what Logfire showed stands in `logfire.json`, what we show is run here."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import httpx
import pytest
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from asgi_trace import configure
from asgi_trace.httpx import TraceTransport
from asgi_trace.testing import CapturedSpans
from tests.support.asgi import attributes_of
from tests.support.collectors import HTTP, FaultyCollector
from tests.support.configuration import built
from tests.support.moving import without_row
from tests.support.moving_recorded import RecordedCases, shown_by
from tests.support.otlp_receiver import Receiver
from tests.support.pages import PACKAGE
from tests.support.subprocess import run

from .our_shop import PARENT, configured, fastapi_shop, resource, served, starlette_shop

CONFIGURE = RecordedCases("Options of `logfire.configure`", "logfire")
INSTRUMENT = RecordedCases("Options of Logfire's instrumentations", "logfire")
VARIABLES = RecordedCases("Variables of Logfire", "logfire")


@CONFIGURE.ours("`service_name`")
def service_name() -> object:
    return resource({"service_name": "shop"}, "service.name")


@CONFIGURE.ours("`service_version`, `environment`, `resource_attributes`")
def resource_attributes() -> object:
    given = {"service.version": "2", "deployment.environment.name": "prod", "team": "tea"}
    return resource({"resource_attributes": given}, *given)


@CONFIGURE.ours("`send_to_logfire`, `token`, `api_key`, `local`, `config_dir`, `data_dir`")
def send_to_logfire() -> object:
    built()
    return "set up"


def prints_work(*arguments: str) -> bool:
    """Whether a process that ends a span has printed it."""
    program = f"""
        from opentelemetry import trace
        from asgi_trace import configure

        configure({", ".join(["'shop'", *arguments])})
        with trace.get_tracer("shop").start_as_current_span("work"):
            pass
    """
    with Receiver() as receiver:
        printed = run(program, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        assert receiver.named("work")
    return "work" in printed.stdout


@CONFIGURE.ours("`console`")
def console() -> object:
    assert prints_work("exporter=['otlp', 'console']")
    return prints_work()


@CONFIGURE.ours("`additional_span_processors`")
def additional_span_processors() -> object:
    with configured() as (_, spans):
        return [span.name for span in spans]


@CONFIGURE.ours("`metrics`")
def metrics() -> object:
    assert built(metrics=InMemoryMetricReader()).meter_provider is not None
    return built().meter_provider is not None


@CONFIGURE.ours("`scrubbing`")
def scrubbing() -> object:
    spans = CapturedSpans()
    with spans.tracer_provider.get_tracer("shop").start_as_current_span("work", attributes={"password": "hunter2"}):
        pass
    [masked] = served(fastapi_shop(), "/orders/7?badge=hunter2", redact="badge")
    assert attributes_of(masked)["url.query"] == "badge=REDACTED"
    return attributes_of(spans[0])["password"]


@CONFIGURE.ours("`inspect_arguments`")
def inspect_arguments() -> object:
    spans, order = CapturedSpans(), 7
    with spans.tracer_provider.get_tracer("shop").start_as_current_span(f"load {order}"):
        pass
    return attributes_of(spans[0])


@CONFIGURE.ours("`sampling=SamplingOptions(head=0.0)`")
def head_sampling() -> object:
    with configured(sampler=0.0) as (_, spans):
        return [span.name for span in spans]


@CONFIGURE.ours("`sampling=SamplingOptions(tail=...)`")
def tail_sampling() -> object:
    with configured() as (_, spans):
        return [span.name for span in spans]


def exported_logs(program: str) -> list[Any]:
    """The log records that arrive from a process with `configure("shop", logs=True)`."""
    lines = ["import logging", "from asgi_trace import configure", "configure('shop', logs=True)", program]
    with Receiver() as receiver:
        done = run("\n".join(lines), OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        assert done.returncode == 0, done.stderr
        return list(receiver.logs)


@CONFIGURE.ours("`min_level`")
def min_level() -> object:
    program = "log = logging.getLogger('shop'); log.setLevel('ERROR'); log.info('paid'); log.error('out of stock')"
    return [record.body.string_value for record in exported_logs(program)]


@CONFIGURE.ours("`add_baggage_to_attributes`")
def add_baggage_to_attributes() -> object:
    spans = CapturedSpans()
    token = context.attach(baggage.set_baggage("user", "7"))
    try:
        with spans.tracer_provider.get_tracer("shop").start_as_current_span("work"):
            pass
    finally:
        context.detach(token)
    return attributes_of(spans[0])


@CONFIGURE.ours("`distributed_tracing=False`")
def distributed_tracing() -> object:
    span = served(fastapi_shop(), headers={"traceparent": PARENT}, trust=False).server
    return [span.parent is None, len(span.links)]


@CONFIGURE.ours("`code_source`, `variables`, `advanced`")
def service_options() -> object:
    refused = []
    for option in ("code_source", "variables", "advanced"):
        arguments: Any = {option: None}
        with pytest.raises(TypeError, match=option):
            configure(**arguments)
        refused.append(f"{option}: TypeError")
    return refused


@pytest.mark.parametrize("row", CONFIGURE.titles())
def test_options_of_configure(row: str) -> None:
    """A row about `logfire.configure` says what Logfire showed and what we show."""
    CONFIGURE.check(row)


@INSTRUMENT.ours("`instrument_fastapi(app)`")
def instrument_fastapi() -> object:
    span = served(fastapi_shop(), headers={"traceparent": PARENT}).server
    assert span.parent is not None
    return [span.name, span.kind.name, f"{span.parent.span_id:016x}" in PARENT]


def name_and_kind() -> list[str]:
    span = served(starlette_shop()).server
    return [span.name, span.kind.name]


@INSTRUMENT.ours("`instrument_starlette(app)`")
def instrument_starlette() -> object:
    return name_and_kind()


@INSTRUMENT.ours("`instrument_asgi(app)`")
def instrument_asgi() -> object:
    return name_and_kind()


@INSTRUMENT.ours("`capture_headers=True`")
def capture_headers() -> object:
    headers = {"x-tenant": "blue", "authorization": "hunter2"}
    found = attributes_of(served(fastapi_shop(), headers=headers, capture_request_headers=".*").server)
    shown = {key: value for key, value in found.items() if key.startswith("http.request.header.")}
    assert shown == {
        "http.request.header.x-tenant": ("blue",),
        "http.request.header.authorization": ("REDACTED",),
        **{key: value for key, value in shown.items() if not re.search("tenant|authorization", key)},
    }
    return shown


@INSTRUMENT.ours("`excluded_urls`")
def excluded_urls() -> object:
    app = fastapi_shop()
    return [span.name for path in ("/health", "/orders/7") for span in served(app, path, exclude="health")]


@INSTRUMENT.ours("`request_attributes_mapper`")
def request_attributes_mapper() -> object:
    return attributes_of(served(fastapi_shop()).server).get("fastapi.arguments.values")


@INSTRUMENT.ours("`record_send_receive`, `extra_spans`")
def more_spans() -> object:
    return len(served(fastapi_shop()))


@INSTRUMENT.ours("`server_request_hook`")
def server_request_hook() -> object:
    def hook(span: trace.Span, scope: Any) -> None:
        span.set_attribute("tenant", scope["path"])

    return attributes_of(served(starlette_shop(), on_request=hook).server)["tenant"]


@INSTRUMENT.ours("`client_request_hook`, `client_response_hook`")
def client_hooks() -> object:
    calls: list[str] = []
    served(starlette_shop(), on_response=lambda span, scope, message: calls.append(message["type"]))
    assert calls == ["http.response.start"]
    return calls


def called(**options: Any) -> dict[str, Any]:
    """The attributes of the span of one request through `TraceTransport`."""
    spans = CapturedSpans()
    inner = httpx.MockTransport(lambda request: httpx.Response(200, text="kettle"))
    transport = TraceTransport(inner, tracer_provider=spans.tracer_provider, **options)
    with httpx.Client(transport=transport) as client:
        client.post("http://orders.test/orders/7", headers={"x-tenant": "blue"}, json={"tea": 1})
    assert spans.client.name == "POST"
    return attributes_of(spans.client)


@INSTRUMENT.ours("`instrument_httpx(client)`")
def instrument_httpx() -> object:
    spans = CapturedSpans()
    inner = httpx.MockTransport(lambda request: httpx.Response(200))
    options = TraceTransport.for_client(transport=inner, tracer_provider=spans.tracer_provider)
    with httpx.Client(**options) as client:
        client.get("http://orders.test/orders/7")
    return [spans.client.name, spans.client.kind.name]


@INSTRUMENT.ours("`capture_headers=True` of httpx")
def captured_by_httpx() -> object:
    return called(capture_request_headers=".*")["http.request.header.x-tenant"]


@INSTRUMENT.ours("`capture_all`, `capture_request_body`, `capture_response_body`")
def capture_bodies() -> object:
    return called().get("http.request.body.text")


@INSTRUMENT.ours("`request_hook`, `response_hook`, `async_request_hook`, `async_response_hook`")
def httpx_hooks() -> object:
    seen: list[str] = []
    called(
        on_request=lambda span, request: seen.append(type(request).__name__),
        on_response=lambda span, request, response: seen.append(type(response).__name__),
    )
    assert seen == ["Request", "Response"]
    return seen


@pytest.mark.parametrize("row", INSTRUMENT.titles())
def test_options_of_instrumentations(row: str) -> None:
    """A row about Logfire's instrumentations says what Logfire showed and what we show."""
    INSTRUMENT.check(row)


@VARIABLES.ours("`LOGFIRE_SERVICE_NAME`")
def variable_service_name() -> object:
    return resource({}, "service.name", variables={"OTEL_SERVICE_NAME": "tea"})


@VARIABLES.ours("`LOGFIRE_SERVICE_VERSION`, `LOGFIRE_ENVIRONMENT`, `LOGFIRE_RESOURCE_ATTRIBUTES`")
def variable_resource() -> object:
    text = "service.version=2,deployment.environment.name=prod,team=tea"
    names = [pair.partition("=")[0] for pair in text.split(",")]
    return resource({}, *names, variables={"OTEL_RESOURCE_ATTRIBUTES": text})


@VARIABLES.ours("`LOGFIRE_TRACE_SAMPLE_RATE`")
def variable_sample_rate() -> object:
    variables = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}
    with configured(variables) as (_, spans):
        return [span.name for span in spans]


@VARIABLES.ours("`OTEL_EXPORTER_OTLP_ENDPOINT`")
def otlp_endpoint() -> object:
    program = """
        from opentelemetry import metrics, trace
        from asgi_trace import configure

        configure("shop", metrics=True)
        metrics.get_meter("shop").create_counter("orders").add(1)
        with trace.get_tracer("shop").start_as_current_span("work"):
            pass
    """
    with FaultyCollector(HTTP) as collector:
        run(program, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf")
        return sorted(set(collector.report()["paths"]))


def names_that_we_read(title: str) -> list[str]:
    """Those of the variables in a cell that stand in the source of the package."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    return [name for name in re.findall(r"[A-Z_]{4,}", title) if name in source]


for title in VARIABLES.rows:
    if "not read" in VARIABLES.rows[title]["same?"]:
        VARIABLES.ours(title)(partial(names_that_we_read, title))


@pytest.mark.parametrize("row", VARIABLES.titles())
def test_variables(row: str) -> None:
    """A row about a variable says what Logfire showed and what we show."""
    VARIABLES.check(row)


def test_every_variable_has_a_row() -> None:
    """Each variable that Logfire's own settings name has a row."""
    assert without_row(VARIABLES.heading, shown_by("logfire", "all variables")) == set()


@pytest.mark.parametrize(
    "function", ["configure", "instrument_fastapi", "instrument_starlette", "instrument_asgi", "instrument_httpx"]
)
def test_every_option_has_a_row(function: str) -> None:
    """Each argument of Logfire's functions has a row, but for what is handed on to contrib."""
    options = set(shown_by("logfire", "all options")[function]) - {"app", "client", "kwargs", "opentelemetry_kwargs"}
    cases = CONFIGURE if function == "configure" else INSTRUMENT
    assert without_row(cases.heading, options) == set()
