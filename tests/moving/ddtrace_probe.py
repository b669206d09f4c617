# mypy: ignore-errors
# ddtrace is not installed beside the tests: this runs in an environment of its own.
"""What ddtrace shows, row by row: run by the campaign in ddtrace's own environment, sends nothing off the loopback."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(
    {
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        "DD_TRACE_STARTUP_LOGS": "false",
        "DD_AGENTLESS_LOG_SUBMISSION_ENABLED": "false",
        "DD_DYNAMIC_INSTRUMENTATION_ENABLED": "false",
        "DD_CRASHTRACKING_ENABLED": "false",
    }
)
os.environ.setdefault("DD_TRACE_AGENT_URL", "http://127.0.0.1:9")

import ddtrace
import httpx
from ddtrace.contrib.asgi import TraceMiddleware
from ddtrace.trace import TraceFilter, tracer
from probe import Rows, receiving
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

ROWS = Rows()
PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SPANS: list[Any] = []


class Keep(TraceFilter):
    """Keeps finished spans; nothing is left to be sent."""

    def process_trace(self, trace: list[Any]) -> None:
        SPANS.extend(trace)


def keep() -> None:
    tracer.configure(trace_processors=[Keep()])


async def order(request: Any) -> Any:
    return PlainTextResponse("kettle")


async def failing(request: Any) -> Any:
    raise ValueError("no stock")


async def status(request: Any) -> Any:
    return PlainTextResponse("", status_code=int(request.path_params["code"]))


def shop() -> Starlette:
    routes = [Route("/orders/{id}", order), Route("/failing", failing), Route("/status/{code}", status)]
    return Starlette(routes=routes)


def request(app: Any, path: str = "/orders/7", **options: Any) -> Any:
    """Send one request to an application in this process."""

    async def send() -> Any:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.test") as client:
            return await client.get(path, **options)

    return asyncio.run(send())


def served(path: str = "/orders/7", headers: dict[str, str] | None = None, **options: Any) -> Any:
    """The span of one request through ddtrace's middleware."""
    keep()
    request(TraceMiddleware(shop(), **options), path, headers=headers)
    [span] = [span for span in SPANS if span.name == "asgi.request"]
    return span


def called(status: int = 200, url: str = "http://orders.test/orders/7") -> tuple[Any, dict[str, str]]:
    """The span of one request of a patched client, and the headers that it sent."""
    keep()
    ddtrace.patch(httpx=True)
    seen: dict[str, str] = {}

    def answer(request: Any) -> Any:
        seen.update(request.headers)
        return httpx.Response(status)

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        client.get(url)
    return SPANS[0], seen


def sent() -> list[str]:
    """The names of the propagation headers that a patched client sends."""
    return sorted(name for name in called()[1] if name.startswith(("x-datadog", "trace", "baggage", "b3", "x-b3")))


def tags(span: Any, *names: str) -> dict[str, Any]:
    found = {**span.get_tags(), **span.get_metrics()} if hasattr(span, "get_tags") else {**span._meta, **span._metrics}
    return {name: found.get(name) for name in names}


def child(program: str, *command: str, **variables: str) -> str:
    """What a program in a process of its own prints last."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), **variables}
    done = subprocess.run([*command, sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@ROWS("`ddtrace-run uvicorn shop:app`")
def ddtrace_run() -> object:
    program = "import json, ddtrace_probe as p; p.keep(); p.request(p.shop())\n"
    program += "print(json.dumps([span.resource for span in p.SPANS]))"
    resources = json.loads(child(program, str(Path(sys.executable).parent / "ddtrace-run")))
    return [resource for resource in resources if resource.startswith("GET ")]


@ROWS("`ddtrace.contrib.asgi.TraceMiddleware(app)`")
def middleware() -> object:
    span = served()
    return [span.name, span.resource]


@ROWS("`span_modifier`")
def span_modifier() -> object:
    span = served(span_modifier=lambda span, scope: span.set_tag("tenant", scope["path"]))
    return tags(span, "tenant")


@ROWS("`handle_exception_span`")
def handle_exception_span() -> object:
    span = served("/failing", handle_exception_span=lambda error, span: span.set_tag("handled", str(error)))
    return tags(span, "handled")


@ROWS("`tracer`, `integration_config`")
def middleware_options() -> object:
    return [name for name in ("tracer", "integration_config") if name in parameters()]


def parameters() -> list[str]:
    return list(inspect.signature(TraceMiddleware.__init__).parameters)


@ROWS("`patch(httpx=True)`, `patch_all()`")
def patch() -> object:
    span, _ = called()
    return [span.name, span.resource]


def own() -> Any:
    """The span of a function that `tracer.wrap` decorates, below another one."""
    keep()

    @tracer.wrap("load", service="shop", resource="load order")
    def load(id: int) -> int:
        tracer.current_span().set_tag("tenant", "blue")
        return id

    with tracer.trace("outer"):
        load(7)
    [span] = [span for span in SPANS if span.name == "load"]
    return span


@ROWS('`@tracer.wrap("load")`')
def wrap() -> object:
    span = own()
    return [span.name, span.parent_id is not None]


@ROWS("`service=`, `resource=`, `span_type=`")
def wrap_options() -> object:
    span = own()
    return [span.service, span.resource]


@ROWS('`tracer.trace("load")`')
def trace() -> object:
    keep()
    with tracer.trace("load"):
        pass
    return SPANS[0].name


@ROWS('`tracer.current_span().set_tag("tenant", "blue")`')
def set_tag() -> object:
    return tags(own(), "tenant")


@ROWS("`tracer.flush()`, `tracer.shutdown()`")
def flush() -> object:
    with receiving() as (url, seen):
        program = "from ddtrace.trace import tracer\nwith tracer.trace('load'): pass\ntracer.flush(); tracer.shutdown()"
        child(program + "\nprint()", DD_TRACE_AGENT_URL=url)
        return any(path.endswith("/traces") for path, _ in seen)


def sees_the_current_span() -> bool:
    """Whether OpenTelemetry's API has ddtrace's current span."""
    from opentelemetry.trace import get_current_span

    keep()
    with tracer.trace("load"):
        return get_current_span().get_span_context().is_valid


@ROWS("OpenTelemetry's current span inside `tracer.trace()`")
def current_span() -> object:
    return sees_the_current_span()


@ROWS("the same with `DD_TRACE_OTEL_ENABLED=true`", DD_TRACE_OTEL_ENABLED="true")
def shared_current_span() -> object:
    return sees_the_current_span()


@ROWS("`ddtrace.opentelemetry.TracerProvider()` with `DD_TRACE_OTEL_ENABLED=true`", DD_TRACE_OTEL_ENABLED="true")
def our_middleware_on_their_provider() -> object:
    sys.path.append(str(Path(__file__).parents[2]))  # where asgi_trace is
    from ddtrace.opentelemetry import TracerProvider

    import asgi_trace

    keep()
    app = asgi_trace.TraceMiddleware(shop(), tracer_provider=TracerProvider())
    request(app, headers={"traceparent": PARENT})
    [span] = SPANS
    route = tags(span, "http.route")["http.route"]
    return [span.resource, route, f"{span.trace_id:032x}" in PARENT, f"{span.parent_id:016x}" in PARENT]


@ROWS("`DD_SERVICE`", DD_SERVICE="tea")
def service() -> object:
    return served().service


@ROWS("`DD_ENV`, `DD_VERSION`", DD_ENV="prod", DD_VERSION="2", DD_SERVICE="tea")
def env_and_version() -> object:
    return tags(served(), "env", "version")


@ROWS("`DD_TAGS`", DD_TAGS="team:tea")
def global_tags() -> object:
    return tags(served(), "team")


@ROWS("`DD_TRACE_AGENT_URL`, `DD_AGENT_HOST`, `DD_TRACE_AGENT_PORT`")
def agent_url() -> object:
    with receiving() as (url, seen):
        child(
            "from ddtrace.trace import tracer\nwith tracer.trace('load'): pass\ntracer.shutdown()\nprint()",
            DD_TRACE_AGENT_URL=url,
        )
        return sorted({path for path, _ in seen if path.endswith("/traces")})


@ROWS("`DD_TRACE_ENABLED=false`")
def disabled() -> object:
    with receiving() as (url, seen):
        program = "from ddtrace.trace import tracer\nwith tracer.trace('load'): pass\ntracer.shutdown()\nprint()"
        child(program, DD_TRACE_AGENT_URL=url, DD_TRACE_ENABLED="false")
        return any(path.endswith("/traces") for path, _ in seen)


@ROWS("`DD_TRACE_SAMPLE_RATE=0`", DD_TRACE_SAMPLE_RATE="0")
def sample_rate() -> object:
    return [sends_sampled(), len(SPANS)]


def sends_sampled() -> bool:
    """Whether the client's `traceparent` says that the trace is sampled."""
    return bool(int(called()[1]["traceparent"][-2:], 16) & 1)


RULES = "`DD_TRACE_SAMPLING_RULES`, `DD_TRACE_RATE_LIMIT`, `DD_SPAN_SAMPLING_RULES`"


@ROWS(RULES, DD_TRACE_SAMPLING_RULES='[{"sample_rate": 0}]')
def sampling_rules() -> object:
    return [sends_sampled(), *known_variables(RULES)]


@ROWS("`DD_TRACE_HEADER_TAGS=x-tenant:tenant`", DD_TRACE_HEADER_TAGS="x-tenant:tenant")
def header_tags() -> object:
    return tags(served(headers={"x-tenant": "blue"}), "tenant")


@ROWS("`DD_TRACE_HTTP_SERVER_ERROR_STATUSES=404-499`", DD_TRACE_HTTP_SERVER_ERROR_STATUSES="404-499")
def error_statuses() -> object:
    return bool(served("/status/404").error)


@ROWS("`DD_TRACE_PROPAGATION_STYLE` is not set")
def propagation() -> object:
    return sent()


@ROWS("`DD_TRACE_PROPAGATION_STYLE=tracecontext`", DD_TRACE_PROPAGATION_STYLE="tracecontext")
def tracecontext_only() -> object:
    return sent()


@ROWS(
    "`DD_TRACE_PROPAGATION_STYLE_EXTRACT=b3`, `DD_TRACE_PROPAGATION_STYLE_INJECT=b3`",
    DD_TRACE_PROPAGATION_STYLE_EXTRACT="b3",
    DD_TRACE_PROPAGATION_STYLE_INJECT="b3",
)
def b3_only() -> object:
    names = ("x-b3-traceid", "x-b3-spanid", "x-b3-sampled")
    ids = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "1")
    headers = {"b3": "-".join(ids), **dict(zip(names, ids, strict=True))}
    return f"{served(headers=headers).trace_id:032x}" == ids[0]


LOGGED = """
import io, logging, ddtrace
from ddtrace.trace import tracer
printed = io.StringIO()
handler = logging.StreamHandler(printed)
handler.setFormatter(logging.Formatter("%(dd.trace_id)s %(dd.span_id)s %(message)s"))
logging.getLogger().addHandler(handler)
with tracer.trace("load") as span:
    logging.getLogger("shop").warning("paid")
ids = printed.getvalue().split()[:2]
print(ids in ([f"{span.trace_id:032x}", str(span.span_id)], [str(span.trace_id), str(span.span_id)]))
"""


@ROWS("`DD_LOGS_INJECTION=true`")
def logs_injection() -> object:
    run = str(Path(sys.executable).parent / "ddtrace-run")
    return [child(LOGGED, run, DD_LOGS_INJECTION="true") == "True", "dd.trace_id", "dd.span_id"]


@ROWS("`DD_TRACE_128_BIT_TRACEID_GENERATION_ENABLED` is not set")
def wide_ids() -> object:
    return served().trace_id.bit_length() > 64


@ROWS("`DD_TRACE_128_BIT_TRACEID_GENERATION_ENABLED=false`", DD_TRACE_128_BIT_TRACEID_GENERATION_ENABLED="false")
def narrow_ids() -> object:
    return served().trace_id.bit_length() > 64


@ROWS("`DD_TRACE_OBFUSCATION_QUERY_STRING_REGEXP`, `DD_HTTP_SERVER_TAG_QUERY_STRING`")
def query() -> object:
    return tags(served("/orders/7?password=hunter2&page=2"), "http.url")["http.url"].partition("?")[2]


def known_variables(text: str) -> list[str]:
    """Those of the variables in a text that stand in ddtrace's source."""
    folder = Path(ddtrace.__file__).parent / "internal" / "settings"
    source = "\n".join(path.read_text() for path in folder.glob("*.py"))
    return [name for name in re.findall(r"DD_[A-Z0-9_]+", text) if re.search(rf"\b{name}\b", source)]


NOT_READ = (
    "`DD_TRACE_CLIENT_IP_ENABLED`, `DD_TRACE_CLIENT_IP_HEADER`",
    "`DD_INSTRUMENTATION_TELEMETRY_ENABLED`, `DD_REMOTE_CONFIGURATION_ENABLED`, `DD_TRACE_STARTUP_LOGS`, "
    "`DD_CRASHTRACKING_ENABLED`",
    "`DD_PROFILING_ENABLED`, `DD_APPSEC_ENABLED`, `DD_DYNAMIC_INSTRUMENTATION_ENABLED`, `DD_RUNTIME_METRICS_ENABLED`",
)
"""Rows of variables that only ddtrace reads."""


def read_variables(title: str) -> Callable[[], object]:
    return lambda: known_variables(title)


for each in NOT_READ:
    ROWS(each)(read_variables(each))


@ROWS("name of a SERVER span")
def server_name() -> object:
    span = served()
    return [span.name, span.resource]


@ROWS("the route")
def route() -> object:
    return tags(served(), "http.route")["http.route"]


@ROWS("kind")
def kind() -> object:
    return tags(served(), "span.kind")["span.kind"].upper()


@ROWS("status code")
def status_code() -> object:
    return tags(served(), "http.status_code")


@ROWS("URL, method, user agent")
def http_tags() -> object:
    return tags(served(headers={"user-agent": "tea"}), "http.method", "http.url", "http.useragent")


@ROWS("a response of 500 is an error")
def status_500() -> object:
    return bool(served("/status/500").error)


@ROWS("a response of 404 is an error")
def status_404() -> object:
    return bool(served("/status/404").error)


@ROWS("an exception that leaves the application is an error")
def exception() -> object:
    return bool(served("/failing").error)


@ROWS("where the exception stands")
def exception_tags() -> object:
    return tags(served("/failing"), "error.type", "error.message")


@ROWS("name of a CLIENT span")
def client_name() -> object:
    return called()[0].name


@ROWS("a client's response of 404 is an error")
def client_404() -> object:
    return bool(called(404)[0].error)


@ROWS("a client's URL")
def client_url() -> object:
    return tags(called(url="http://user:hunter2@orders.test/orders/7?page=2")[0], "http.url")["http.url"]


@ROWS("trace ids have 128 bits")
def ids() -> object:
    return served().trace_id.bit_length() > 64


@ROWS("`traceparent` of the caller is followed")
def followed() -> object:
    span = served(headers={"traceparent": PARENT})
    return [f"{span.trace_id:032x}" in PARENT, f"{span.parent_id:016x}" in PARENT]


@ROWS("`x-datadog-trace-id` of the caller is followed")
def datadog_followed() -> object:
    headers = {"x-datadog-trace-id": "42", "x-datadog-parent-id": "43", "x-datadog-sampling-priority": "1"}
    return served(headers=headers).trace_id == 42


@ROWS("headers to the next service")
def headers_out() -> object:
    return sent()


@ROWS("all options")
def all_options() -> object:
    return parameters()


if __name__ == "__main__":
    logging.getLogger("ddtrace").setLevel(logging.CRITICAL)
    ROWS.main("ddtrace")
