"""Set-up, options and variables of ddtrace: what ddtrace showed stands in `ddtrace.json`, what we show is run here."""

from __future__ import annotations

import io
import logging
import re
from functools import partial
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.propagators.b3 import B3MultiFormat
from opentelemetry.trace import Status, StatusCode

from asgi_trace import TraceMiddleware, traced
from asgi_trace.httpx import TraceTransport
from asgi_trace.logging import TraceContextFilter
from asgi_trace.testing import CapturedSpans
from tests.support.asgi import attributes_of, drive, http_scope
from tests.support.collectors import HTTP, FaultyCollector
from tests.support.moving import without_row
from tests.support.moving_recorded import RecordedCases, shown_by
from tests.support.otlp_receiver import Receiver
from tests.support.pages import PACKAGE
from tests.support.subprocess import check

from .our_shop import PARENT, call, configured, resource, served, starlette_shop

OPTIONS = RecordedCases("Set-up and options of ddtrace", "ddtrace")
VARIABLES = RecordedCases("Variables of ddtrace", "ddtrace")


@OPTIONS.ours("`ddtrace-run uvicorn shop:app`")
def ddtrace_run() -> object:
    with configured() as (tracing, spans):
        drive(starlette_shop(), http_scope("/orders/7"))
        tracing.force_flush()
        return [span.name for span in spans if span.name != "work"]


@OPTIONS.ours("`ddtrace.contrib.asgi.TraceMiddleware(app)`")
def middleware() -> object:
    assert served(starlette_shop()).server.name == "GET /orders/{id}"
    return served(starlette_shop()).server.name


@OPTIONS.ours("`span_modifier`")
def span_modifier() -> object:
    def hook(span: trace.Span, scope: Any) -> None:
        span.set_attribute("tenant", scope["path"])

    return {"tenant": attributes_of(served(starlette_shop(), on_request=hook).server)["tenant"]}


@OPTIONS.ours("`handle_exception_span`")
def handle_exception_span() -> object:
    [event] = served(starlette_shop(), "/failing").server.events
    assert event.attributes is not None
    assert event.attributes["exception.message"] == "no stock"
    return {"exception.message": event.attributes["exception.message"]}


@OPTIONS.ours("`tracer`, `integration_config`")
def middleware_options() -> object:
    for option in ("tracer", "integration_config"):
        given: Any = {option: None}
        with pytest.raises(TypeError, match=option):
            TraceMiddleware(starlette_shop(), **given)
    return "TypeError"


@OPTIONS.ours("`patch(httpx=True)`, `patch_all()`")
def patch() -> object:
    span, _ = call()
    assert span.name == "GET"
    return span.name


@OPTIONS.ours('`@tracer.wrap("load")`')
def wrap() -> object:
    return [of_traced().name, of_traced().parent is not None]


def of_traced(**options: Any) -> Any:
    """The span of a function that `traced` decorates, below another one."""
    spans = CapturedSpans()

    @traced("load", tracer_provider=spans.tracer_provider, **options)
    def load(id: int) -> int:
        trace.get_current_span().set_attribute("tenant", "blue")
        return id

    with spans.tracer_provider.get_tracer("shop").start_as_current_span("outer"):
        load(7)
    return spans[0]


@OPTIONS.ours("`service=`, `resource=`, `span_type=`")
def wrap_options() -> object:
    found = of_traced(attributes={"kind": "order"})
    assert attributes_of(found)["kind"] == "order"
    assert found.name == "load"
    return found.name


@OPTIONS.ours('`tracer.trace("load")`')
def tracer_trace() -> object:
    spans = CapturedSpans()
    with spans.tracer_provider.get_tracer("shop").start_as_current_span("load"):
        pass
    return spans[0].name


@OPTIONS.ours('`tracer.current_span().set_tag("tenant", "blue")`')
def set_tag() -> object:
    return {"tenant": attributes_of(of_traced())["tenant"]}


EXPORTS = """
    from opentelemetry import trace
    from asgi_trace import configure

    with configure("shop") as tracing:
        with trace.get_tracer("shop").start_as_current_span("load"):
            pass
        tracing.force_flush()
"""


@OPTIONS.ours("`tracer.flush()`, `tracer.shutdown()`")
def flush() -> object:
    with Receiver() as receiver:
        check(EXPORTS, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        return len(receiver.named("load")) == 1


def sees_the_current_span() -> bool:
    spans = CapturedSpans()
    with spans.tracer_provider.get_tracer("shop").start_as_current_span("load"):
        return trace.get_current_span().get_span_context().is_valid


@OPTIONS.ours("OpenTelemetry's current span inside `tracer.trace()`")
def current_span() -> object:
    return sees_the_current_span()


@OPTIONS.ours("the same with `DD_TRACE_OTEL_ENABLED=true`")
def shared_current_span() -> object:
    return sees_the_current_span()


@OPTIONS.ours("`ddtrace.opentelemetry.TracerProvider()` with `DD_TRACE_OTEL_ENABLED=true`")
def middleware_on_a_provider() -> object:
    span = served(starlette_shop(), headers={"traceparent": PARENT}).server
    assert span.parent is not None
    ids = [f"{span.context.trace_id:032x}" in PARENT, f"{span.parent.span_id:016x}" in PARENT]
    return [span.name, attributes_of(span)["http.route"], *ids]


@pytest.mark.parametrize("row", OPTIONS.titles())
def test_options(row: str) -> None:
    """A row about set-up or an option says what ddtrace showed and what we show."""
    OPTIONS.check(row)


def test_every_option_of_the_middleware_has_a_row() -> None:
    """Each argument of ddtrace's middleware has a row."""
    options = set(shown_by("ddtrace", "all options")) - {"self", "app"}
    assert without_row(OPTIONS.heading, options) == set()


@VARIABLES.ours("`DD_SERVICE`")
def service() -> object:
    return resource({}, "service.name", variables={"OTEL_SERVICE_NAME": "tea"})["service.name"]


@VARIABLES.ours("`DD_ENV`, `DD_VERSION`")
def env_and_version() -> object:
    text = "deployment.environment.name=prod,service.version=2"
    found = resource({}, "deployment.environment.name", "service.version", variables={"OTEL_RESOURCE_ATTRIBUTES": text})
    assert list(found.values()) == ["prod", "2"]
    return found


@VARIABLES.ours("`DD_TAGS`")
def global_tags() -> object:
    return resource({}, "team", variables={"OTEL_RESOURCE_ATTRIBUTES": "team=tea"})


@VARIABLES.ours("`DD_TRACE_AGENT_URL`, `DD_AGENT_HOST`, `DD_TRACE_AGENT_PORT`")
def agent_url() -> object:
    with FaultyCollector(HTTP) as collector:
        check(EXPORTS, OTEL_EXPORTER_OTLP_ENDPOINT=collector.endpoint, OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf")
        paths = sorted(set(collector.report()["paths"]))
    assert paths == ["/v1/traces"]
    return paths


@VARIABLES.ours("`DD_TRACE_ENABLED=false`")
def disabled() -> object:
    with Receiver() as receiver:
        check(EXPORTS, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint, OTEL_SDK_DISABLED="true")
        return receiver.batches > 0


def sampled_out(variables: dict[str, str] | None = None, **options: Any) -> list[object]:
    """Whether a client sends a sampled `traceparent` where nothing is to be sampled, and how many spans there are."""
    sent: list[str] = []

    def answer(request: Any) -> Any:
        sent.append(request.headers["traceparent"])
        return httpx.Response(200)

    with configured(variables, **options) as (tracing, spans):
        transport = TraceTransport(httpx.MockTransport(answer), tracer_provider=tracing.tracer_provider)
        with httpx.Client(transport=transport) as client:
            client.get("http://orders.test/orders/7")
    return [bool(int(sent[0][-2:], 16) & 1), len(spans)]


@VARIABLES.ours("`DD_TRACE_SAMPLE_RATE=0`")
def sample_rate() -> object:
    shown = sampled_out({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"})
    assert shown == [False, 0]
    return shown


@VARIABLES.ours("`DD_TRACE_SAMPLING_RULES`, `DD_TRACE_RATE_LIMIT`, `DD_SPAN_SAMPLING_RULES`")
def sampling_rules() -> object:
    title = "`DD_TRACE_SAMPLING_RULES`, `DD_TRACE_RATE_LIMIT`, `DD_SPAN_SAMPLING_RULES`"
    assert [shown_by("ddtrace", title)[0], sampled_out(sampler=0.0)[0]] == [False, False]
    return [False, *names_that_we_read(title)]


@VARIABLES.ours("`DD_TRACE_HEADER_TAGS=x-tenant:tenant`")
def header_tags() -> object:
    found = served(starlette_shop(), headers={"x-tenant": "blue"}, capture_request_headers="x-tenant").server
    shown = {key: value for key, value in attributes_of(found).items() if "tenant" in key}
    assert shown == {"http.request.header.x-tenant": ("blue",)}
    return shown


@VARIABLES.ours("`DD_TRACE_HTTP_SERVER_ERROR_STATUSES=404-499`")
def error_statuses() -> object:
    def hook(span: trace.Span, scope: Any, message: Any) -> None:
        if 404 <= message["status"] <= 499:
            span.set_status(Status(StatusCode.ERROR))

    hooked = served(starlette_shop(), "/status/404", on_response=hook).server
    assert hooked.status.status_code is StatusCode.ERROR
    return served(starlette_shop(), "/status/404").server.status.status_code is StatusCode.ERROR


@VARIABLES.ours("`DD_TRACE_PROPAGATION_STYLE` is not set")
def propagation() -> object:
    assert sent() == ["traceparent"]
    return sent()


def sent() -> list[str]:
    """The names of the propagation headers that the transport sends."""
    return sorted(name for name in call()[1] if re.match("x-datadog|trace|baggage|b3|x-b3", name))


@VARIABLES.ours("`DD_TRACE_PROPAGATION_STYLE=tracecontext`")
def tracecontext_only() -> object:
    return sent()


@VARIABLES.ours("`DD_TRACE_PROPAGATION_STYLE_EXTRACT=b3`, `DD_TRACE_PROPAGATION_STYLE_INJECT=b3`")
def b3_only() -> object:
    _, trace_id, span_id, _ = PARENT.split("-")
    headers = {"x-b3-traceid": trace_id, "x-b3-spanid": span_id, "x-b3-sampled": "1"}
    found = served(starlette_shop(), headers=headers, propagator=B3MultiFormat()).server
    return f"{found.context.trace_id:032x}" == trace_id


@VARIABLES.ours("`DD_LOGS_INJECTION=true`")
def logs_injection() -> object:
    printed = io.StringIO()
    handler = logging.StreamHandler(printed)
    handler.addFilter(TraceContextFilter())
    handler.setFormatter(logging.Formatter("%(trace_id)s %(span_id)s"))
    spans = CapturedSpans()
    with spans.tracer_provider.get_tracer("shop").start_as_current_span("load") as span:
        handler.handle(logging.makeLogRecord({"msg": "paid"}))
    ids = span.get_span_context()
    assert printed.getvalue().split() == [f"{ids.trace_id:032x}", f"{ids.span_id:016x}"]
    return [True, "trace_id", "span_id"]


def has_128_bits() -> bool:
    """Whether one of a few trace ids has a bit above the 64th set."""
    return any(served(starlette_shop()).server.context.trace_id.bit_length() > 64 for _ in range(3))


@VARIABLES.ours("`DD_TRACE_128_BIT_TRACEID_GENERATION_ENABLED` is not set")
def wide_ids() -> object:
    return has_128_bits()


@VARIABLES.ours("`DD_TRACE_128_BIT_TRACEID_GENERATION_ENABLED=false`")
def narrow_ids() -> object:
    return has_128_bits()


@VARIABLES.ours("`DD_TRACE_OBFUSCATION_QUERY_STRING_REGEXP`, `DD_HTTP_SERVER_TAG_QUERY_STRING`")
def query() -> object:
    found = attributes_of(served(starlette_shop(), "/orders/7?password=hunter2&page=2").server)["url.query"]
    assert found == "password=REDACTED&page=2"
    return found


def names_that_we_read(title: str) -> list[str]:
    """Those of the variables in a cell that stand in the source of the package."""
    source = "\n".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    return [name for name in re.findall(r"DD_[A-Z0-9_]+", title) if name in source]


for title in VARIABLES.rows:
    if VARIABLES.rows[title]["same?"].startswith("not read:"):
        VARIABLES.ours(title)(partial(names_that_we_read, title))


@pytest.mark.parametrize("row", VARIABLES.titles())
def test_variables(row: str) -> None:
    """A row about a variable says what ddtrace showed and what we show."""
    VARIABLES.check(row)
