"""`configure()`: what it builds, what it refuses, what it says, and that it works once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

from asgi_trace._configuration import sdk_settings
from asgi_trace._configuration.environment import Environment
from asgi_trace._configuration.otlp_settings import CollectorArguments
from asgi_trace._configuration.providers import Tracing, build

from ..support.otlp_receiver import Receiver, closed_port
from ..support.subprocess import check, run

ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
HEAD = """
    import logging, sys
    logging.basicConfig(format="%(levelname)s %(name)s %(message)s")
    from opentelemetry import metrics, trace
    from asgi_trace import configure
    tracer = trace.get_tracer("test")
"""

# Each wrong call of configure(), and what its complaint must say.
WRONG = {
    "sampler='sometimes'": "ValueError: sampler must be 'always_on', 'always_off', 'traceidratio', "
    "'parentbased_always_on', 'parentbased_always_off' or 'parentbased_traceidratio', a ratio or a Sampler, "
    "not 'sometimes'",
    "sampler=7": "ValueError: sampler must be a number from 0 to 1, not 7",
    "sampler=-0.1": "ValueError: sampler must be a number from 0 to 1, not -0.1",
    "sampler=float('nan')": "ValueError: sampler must be a number from 0 to 1, not nan",
    "sampler=True": "TypeError: sampler must be str, int, float or Sampler, not bool",
    "endpoint='not a url'": "ValueError: endpoint must be like 'http://collector:4317', 'https://collector:4317' or "
    "'collector:4317', not 'not a url'",
    "endpoint='collector'": "ValueError: endpoint must be like",
    "endpoint=4317": "TypeError: endpoint must be str, not int",
    "endpoint='http://c:4317', insecure=False": "ValueError: insecure=False contradicts endpoint",
    "insecure='true'": "TypeError: insecure must be bool, not str",
    "timeout=-1": "ValueError: timeout must be a number above 0, not -1",
    "timeout=0": "ValueError: timeout must be a number above 0, not 0",
    "timeout='5'": "TypeError: timeout must be int or float, not str",
    "compression='zstd'": "ValueError: compression must be 'gzip' or 'none', not 'zstd'",
    "exporter='jaeger'": "ValueError: exporter must be 'otlp', 'console' or 'none', or several of them, not 'jaeger'",
    "exporter=[object()]": "TypeError: exporter must be a list of str or SpanExporter",
    "exporter=42": "TypeError: exporter must be a list of str or SpanExporter, not 42",
    "headers={'a b': 'hunter2'}": "ValueError: headers has a name that gRPC cannot send",
    "headers={'a': 'hunter2\\n\\x00'}": "ValueError: headers 'a' has a value that gRPC cannot send",
    "headers={'a': 1}": "TypeError: headers must map str to str",
    "headers='a=1'": "TypeError: headers must be Mapping, not str",
    "certificate='/nowhere'": "ValueError: certificate must be a file that can be read",
    "client_key='/nowhere'": "ValueError: client_key and client_certificate must be given together",
    "schedule_delay_millis=0": "ValueError: schedule_delay_millis must be a number above 0, not 0",
    "max_queue_size=0": "ValueError: max_queue_size must be a whole number of at least 1, not 0",
    "max_queue_size=1.5": "TypeError: max_queue_size must be int, not float",
    "max_queue_size=5, max_export_batch_size=6": "ValueError: max_export_batch_size must not exceed max_queue_size",
    "span_processors=[1]": "TypeError: span_processors must be a list of SpanProcessor, not [1]",
    "metrics=[1]": "TypeError: metrics must be a list of str or MetricReader, not [1]",
    "metrics='prometheus'": "ValueError: metrics must be 'otlp', 'console' or 'none', or several of them",
    "service_name=''": "ValueError: service_name must not be empty",
    "service_name=1": "TypeError: service_name must be str, not int",
    "resource_attributes=[('a', 1)]": "TypeError: resource_attributes must be Mapping, not list",
    "resource_attributes={'a': None}": "TypeError: resource_attributes['a'] must be str, bool, int, float or a list",
    "resource_attributes={'a': [1, 'x']}": "TypeError: resource_attributes['a'] must be str, bool, int, float or a",
    "resource_attributes={1: 'a'}": "TypeError: resource_attributes must have str keys, not 1",
}


@pytest.fixture(scope="module")
def complaints() -> Any:
    """What configure() says to every wrong call, in one process that is configured rightly in the end."""
    script = f"""
        import json
        from asgi_trace import configure
        said = {{}}
        for call in {list(WRONG)!r}:
            try:
                eval(f"configure({{call}})")
            except Exception as exc:
                said[call] = f"{{type(exc).__name__}}: {{exc}}"
        configure(exporter="none").shutdown()
        print(json.dumps(said))
    """
    return json.loads(check(script))


@pytest.mark.parametrize("call", WRONG)
def test_wrong_arguments_raise(call: str, complaints: dict[str, str]) -> None:
    """A wrong argument fails at once, says what to write and no secret, and can be corrected by another call."""
    assert complaints[call].startswith(WRONG[call])
    assert "hunter2" not in complaints[call]


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


GARBAGE = {
    "OTEL_LOG_LEVEL": "loud",
    "OTEL_METRICS_EXEMPLAR_FILTER": "sometimes",
    "OTEL_METRICS_EXPORTER": "pigeon",
    "OTEL_METRIC_EXPORT_INTERVAL": "often",
    "OTEL_METRIC_EXPORT_TIMEOUT": "late",
    "OTEL_PYTHON_ID_GENERATOR": "dice",
    "OTEL_RESOURCE_ATTRIBUTES": "good=1,bad",
    "OTEL_SDK_DISABLED": "perhaps",
    "OTEL_TRACES_EXPORTER": "pigeon",
    "OTEL_TRACES_SAMPLER": "sometimes",
    "OTEL_BSP_EXPORT_TIMEOUT": "x",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "x",
    "OTEL_BSP_MAX_QUEUE_SIZE": "x",
    "OTEL_BSP_SCHEDULE_DELAY": "x",
    "OTEL_ATTRIBUTE_COUNT_LIMIT": "x",
    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "x",
    "OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT": "x",
    "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "x",
    "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "x",  # makes the import of the SDK fail
    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "x",
    "OTEL_SPAN_EVENT_COUNT_LIMIT": "x",
    "OTEL_SPAN_LINK_COUNT_LIMIT": "x",
    "OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere",
    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/nowhere",
    "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/nowhere",
    "OTEL_EXPORTER_OTLP_HEADERS": "hunter2",
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://me:hunter2@nowhere:x",
    "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "nowhere",
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "x",
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": "x",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "x",
    "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION": "zstd",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "zstd",
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "x",
    "OTEL_PYTHON_EXPORTER_OTLP_GRPC_RETRYABLE_ERROR_CODES": "x",
}
SAY_AND_SEND = (
    HEAD
    + """
    import os
    before = dict(os.environ)
    configure(metrics=True)
    assert dict(os.environ) == before
    with tracer.start_as_current_span("work") as span:
        span.set_attribute("a", "b")
    metrics.get_meter("test").create_histogram("orders").record(3)
"""
)


def test_a_wrong_environment_stops_nothing() -> None:
    """With every variable wrong at once a service starts, spans and metrics arrive, and each is one warning by name."""
    with Receiver() as collector:
        done = run(SAY_AND_SEND, **{**GARBAGE, ENDPOINT: collector.endpoint})
        assert done.returncode == 0, done.stderr
        assert [span.name for span in collector.spans] == ["work"]
        assert collector.metric_names == ["orders"]
        assert collector.resources[0]["good"] == "1"
    said = done.stderr.splitlines()
    assert {line.rpartition(" asgi_trace ")[0] for line in said} == {"WARNING"}
    assert sorted(line.split(" ")[2] for line in said) == sorted(GARBAGE)
    assert "hunter2" not in done.stderr


def test_an_empty_environment_is_unset() -> None:
    """Every variable set to nothing means every default, without a word."""
    with Receiver() as collector:
        done = run(SAY_AND_SEND, **{**dict.fromkeys(GARBAGE, ""), ENDPOINT: collector.endpoint})
        assert (done.returncode, done.stderr) == (0, "")
        assert [span.name for span in collector.spans] == ["work"]
        assert collector.metric_names == ["orders"]


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


def test_a_second_call_is_an_error() -> None:
    """The second call names the first, also after shutdown()."""
    script = (
        HEAD
        + """
    def main():
        configure(exporter="none")
    main()
    for _ in range(2):
        try:
            configure(exporter="none")
        except RuntimeError as exc:
            print(exc)
        import asgi_trace._configuration.configure
        asgi_trace._configuration.configure._configured[0].shutdown()
    """
    )
    first, second = check(script).splitlines()
    assert first == second
    assert first.startswith("configure() has been called already, in <string>, line 9, and works once per process")


def test_a_module_that_is_loaded_twice(tmp_path: Path) -> None:
    """`python main.py` that serves "main:app" loads main.py twice: the same statement is not a second call."""
    (tmp_path / "main.py").write_text(
        "from asgi_trace import configure\n"
        'tracing = configure("orders", exporter="none")\n'
        'if __name__ == "__main__":\n'
        "    import main\n"
        "    assert main.tracing is tracing\n"
        '    print("ok")\n'
    )
    script = f"""
        import runpy, sys
        sys.path.insert(0, {str(tmp_path)!r})
        runpy.run_path({str(tmp_path / "main.py")!r}, run_name="__main__")
    """
    assert check(script) == "ok\n"


def test_somebody_elses_providers() -> None:
    """A global provider that is set already, which OpenTelemetry would silently keep, is an error that names it."""
    script = (
        HEAD
        + """
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.metrics import MeterProvider
    {0}
    try:
        configure(exporter="none", metrics="none")
    except RuntimeError as exc:
        print(exc)
    """
    )
    said = check(script.format("trace.set_tracer_provider(TracerProvider(shutdown_on_exit=False))"))
    assert said.startswith("a global tracer provider (opentelemetry.sdk.trace.TracerProvider) is set already")
    said = check(script.format("metrics.set_meter_provider(MeterProvider(shutdown_on_exit=False))"))
    assert said.startswith("a global meter provider (opentelemetry.sdk.metrics._internal.MeterProvider) is set already")


def test_a_provider_that_the_environment_names_comes_second() -> None:
    """OTEL_PYTHON_TRACER_PROVIDER only counts when nobody sets a provider; configure() does."""
    script = (
        HEAD
        + """
    tracing = configure(exporter="none")
    assert trace.get_tracer_provider() is tracing.tracer_provider
    """
    )
    check(script.replace('tracer = trace.get_tracer("test")', ""), OTEL_PYTHON_TRACER_PROVIDER="sdk_tracer_provider")


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


def built(exporter: Any = "none", sampler: Any = ALWAYS_ON, readers: Any = None, **batching: Any) -> Tracing:
    """Providers of this process that nobody else sees."""
    environment = Environment({})
    return build(
        environment,
        resource_attributes={},
        sampler=sampler,
        exporters=[] if exporter == "none" else [exporter],
        collector_arguments=CollectorArguments(None, None, None, None, None, None, None, None),
        batching={**sdk_settings.batching(None, None, None, environment), **batching},
        readers=readers,
    )


def test_an_exporter_of_ones_own() -> None:
    """A SpanExporter gets the spans in batches, and force_flush() hands them over."""
    memory = InMemorySpanExporter()
    with built(memory) as tracing:
        tracing.tracer_provider.get_tracer("test").start_span("work").end()
        assert memory.get_finished_spans() == ()
        assert tracing.force_flush()
        assert [span.name for span in memory.get_finished_spans()] == ["work"]


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


def test_a_sampler_of_ones_own() -> None:
    """A Sampler is taken as it is, and a ratio follows the caller's decision."""
    assert sdk_settings.sampler(ALWAYS_OFF, Environment({})) is ALWAYS_OFF
    with built(sampler=ALWAYS_OFF) as tracing:
        assert not tracing.tracer_provider.get_tracer("test").start_span("work").is_recording()
    description = sdk_settings.sampler(0.25, Environment({"OTEL_TRACES_SAMPLER": "always_on"})).get_description()
    assert description.startswith("ParentBased{root:TraceIdRatioBased{0.25}")
    assert "TraceIdRatioBased{1.0}" in sdk_settings.sampler(1, Environment({})).get_description()


def test_force_flush_tells_the_truth() -> None:
    """force_flush() is True when everything arrived, and False when the collector is not there."""
    environment = Environment({})
    with closed_port() as port:
        tracing = build(
            environment,
            resource_attributes={},
            sampler=ALWAYS_ON,
            exporters=["otlp"],
            collector_arguments=CollectorArguments.checked(
                endpoint=f"http://127.0.0.1:{port}", insecure=None, headers=None, timeout=None, compression=None,
                certificate=None, client_key=None, client_certificate=None,
            ),
            batching=sdk_settings.batching(None, None, None, environment),
        )  # fmt: skip
        with tracing:
            assert tracing.force_flush()
            tracing.tracer_provider.get_tracer("test").start_span("work").end()
            assert not tracing.force_flush()


def test_settings_reach_the_provider() -> None:
    """Limits and batch settings are those of the environment."""
    environment = Environment({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "2"})
    with build(
        environment,
        resource_attributes={"service.name": "orders"},
        sampler=ALWAYS_ON,
        exporters=[],
        collector_arguments=CollectorArguments(None, None, None, None, None, None, None, None),
        batching={},
    ) as tracing:
        assert isinstance(tracing.tracer_provider, TracerProvider)
        assert tracing.tracer_provider.resource.attributes["service.name"] == "orders"
        span: Any = tracing.tracer_provider.get_tracer("test").start_span("work", attributes={"a": 1, "b": 2, "c": 3})
        assert dict(span.attributes) == {"b": 2, "c": 3}


@pytest.mark.parametrize("used", [False, True], ids=["unused", "used"])
def test_fork(used: bool) -> None:
    """A process that is forked off after configure(), as by gunicorn --preload, sends its own spans and metrics."""
    script = (
        HEAD
        + f"""
    import os, warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # of fork() beside threads, from Python 3.12 on
    tracing = configure("orders", metrics=True)
    counter = metrics.get_meter("test").create_counter("orders")
    if {used}:
        tracer.start_span("before").end()
        assert tracing.force_flush()
    children = []
    for _ in range(2):
        if pid := os.fork():
            children.append(pid)
        else:
            for _ in range(10):
                tracer.start_span("child").end()
            counter.add(1)
            sys.exit()
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0]
    tracer.start_span("after").end()
    """
    )
    with Receiver() as collector:
        check(script, **{ENDPOINT: collector.endpoint})
        names = [span.name for span in collector.spans]
        assert (names.count("child"), names.count("after"), names.count("before")) == (20, 1, int(used))
        counts = [metric.sum.data_points[0].as_int for metric in collector.metrics if metric.name == "orders"]
        assert counts.count(1) == 2


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
