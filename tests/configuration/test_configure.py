"""`configure()` in a process of its own: what it sets up, what it refuses, and that it works once."""

from __future__ import annotations

import json

import pytest

from ..support.otlp_receiver import Receiver, closed_port
from ..support.subprocess import check

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


HEAD = """
    import logging, sys
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
    from opentelemetry import metrics, trace
    from asgi_trace import configure
    tracer = trace.get_tracer("test")
"""


def test_environment_alone() -> None:
    """With OTEL_* variables and no argument, spans arrive under their service's name with what the variables say."""
    script = (
        HEAD
        + """
    with configure() as tracing:
        assert trace.get_tracer_provider() is tracing.tracer_provider
        assert tracing.meter_provider is None
        for _ in range(100):
            with tracer.start_as_current_span("work"):
                pass
        assert tracing.force_flush()
    with tracer.start_as_current_span("too late"):
        pass
    tracing.shutdown()
    assert not tracing.force_flush(100)
    """
    )
    with Receiver() as collector:
        check(
            script,
            OTEL_SERVICE_NAME="orders",
            OTEL_RESOURCE_ATTRIBUTES="team=blue",
            OTEL_TRACES_SAMPLER="parentbased_traceidratio",
            OTEL_TRACES_SAMPLER_ARG="1.0",
            OTEL_EXPORTER_OTLP_HEADERS="api-key=a",
            OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
            **{ENDPOINT: collector.endpoint},
        )
        assert [span.name for span in collector.spans] == ["work"] * 100
        resource = collector.resources[0]
        assert (resource["service.name"], resource["team"]) == ("orders", "blue")
        assert collector.metadata[0]["api-key"] == "a"


def test_arguments_win() -> None:
    """What is passed beats the variable of the same meaning."""
    script = (
        HEAD
        + """
    configure(
        "mine", endpoint=sys.stdin.read(), headers={"Api-Key": "mine"}, sampler=1.0, exporter="otlp",
        resource_attributes={"team": "red"}, timeout=5, compression="none", metrics=True,
    )
    tracer.start_span("work").end()
    metrics.get_meter("test").create_counter("orders").add(3)
    """
    )
    with Receiver() as collector, closed_port() as elsewhere:
        script = script.replace("sys.stdin.read()", repr(collector.endpoint))
        check(
            script,
            OTEL_SERVICE_NAME="theirs",
            OTEL_RESOURCE_ATTRIBUTES="team=blue",
            OTEL_TRACES_SAMPLER="always_off",
            OTEL_TRACES_EXPORTER="none",
            OTEL_EXPORTER_OTLP_HEADERS="api-key=theirs",
            **{ENDPOINT: f"http://127.0.0.1:{elsewhere}"},
        )
        assert [span.name for span in collector.spans] == ["work"]
        assert collector.metric_names == ["orders"]
        resource = collector.resources[0]
        assert (resource["service.name"], resource["team"]) == ("mine", "red")
        assert collector.metadata[0]["api-key"] == "mine"


def test_disabled() -> None:
    """OTEL_SDK_DISABLED builds nothing and starts no thread; the global provider stays, and propagation goes on."""
    script = (
        HEAD
        + """
    import asyncio, threading
    from asgi_trace import TraceMiddleware
    from opentelemetry import propagate
    with configure("orders", metrics=True, endpoint="http://127.0.0.1:1") as tracing:
        assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        assert isinstance(tracing.tracer_provider, trace.NoOpTracerProvider) and tracing.meter_provider is None
        assert threading.active_count() == 1
        assert not tracer.start_span("work").is_recording()
        assert tracing.force_flush()
        traceparent = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        carrier = {}
        async def app(scope, receive, send):
            propagate.inject(carrier)
        scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"traceparent", traceparent)]}
        asyncio.run(TraceMiddleware(app)(scope, None, None))
        assert carrier["traceparent"].encode() == traceparent
    try:
        configure()
    except RuntimeError:
        print("once")
    """
    )
    assert check(script, OTEL_SDK_DISABLED="TRUE") == "once\n"


def test_without_the_extra() -> None:
    """Without gRPC every name of the package can be imported, and calling configure() says what to install."""
    script = """
        import sys
        sys.modules["grpc"] = None
        import asgi_trace
        from asgi_trace import *
        from asgi_trace import configure
        assert hasattr(asgi_trace, "configure")
        for call in (configure, asgi_trace.configure):
            try:
                call("orders", sampler=0.1)
            except ImportError as exc:
                print(exc)
    """
    assert check(script) == "configure() needs the SDK and gRPC: pip install 'asgi-trace[otlp]'\n" * 2


def test_log_level() -> None:
    """OTEL_LOG_LEVEL sets the level of OpenTelemetry's loggers and ours, but not one that somebody has set."""
    script = (
        HEAD
        + """
    logging.getLogger("asgi_trace").setLevel("ERROR")
    configure(exporter="none")
    print(logging.getLogger("opentelemetry").level, logging.getLogger("asgi_trace").level)
    """
    )
    assert check(script, OTEL_LOG_LEVEL="debug") == "10 40\n"


def test_console_and_none() -> None:
    """`console` prints a span when it ends, `none` sends nothing anywhere and still makes ids."""
    script = (
        HEAD
        + """
    tracing = configure("orders", exporter=["console", "none"], metrics="none")
    with tracer.start_as_current_span("work") as span:
        assert span.is_recording()
    print("printed before")
    """
    )
    out = check(script)
    assert json.loads(out.partition("printed before")[0])["name"] == "work"


def test_prometheus_scrape() -> None:
    """A Prometheus reader stands in for OTLP: a real scrape shows what was recorded."""
    pytest.importorskip("opentelemetry.exporter.prometheus")
    script = (
        HEAD
        + """
    import urllib.request
    from opentelemetry.exporter.prometheus import PrometheusMetricReader
    from prometheus_client import start_http_server
    configure("orders", exporter="none", metrics=PrometheusMetricReader())
    metrics.get_meter("test").create_counter("orders").add(3)
    server, thread = start_http_server(0, "127.0.0.1")
    print(urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics").read().decode())
    server.shutdown()
    server.server_close()
    """
    )
    lines = check(script, PYTHONWARNINGS="").splitlines()
    assert [line.rpartition(" ")[2] for line in lines if line.startswith("orders_total{")] == ["3.0"]


def test_more_span_processors_come_first() -> None:
    """A span processor that is passed sees, and may change, a span before the exporters do."""
    script = (
        HEAD
        + """
    from opentelemetry.sdk.trace import SpanProcessor
    class Tenant(SpanProcessor):
        def on_start(self, span, parent_context=None):
            span.set_attribute("tenant", "blue")
    configure(exporter="console", span_processors=[Tenant()])
    tracer.start_span("work").end()
    """
    )
    assert json.loads(check(script))["attributes"] == {"tenant": "blue"}


def test_nothing_is_imported_before_it_is_needed() -> None:
    """Importing the package imports neither the SDK nor gRPC; asking for configure() does."""
    script = """
        import sys
        import asgi_trace
        print("opentelemetry.sdk" in sys.modules, "grpc" in sys.modules)
        asgi_trace.configure
        print("opentelemetry.sdk" in sys.modules, "grpc" in sys.modules)
    """
    assert check(script) == "False False\nTrue True\n"
