"""Wrong arguments raise, and wrong variables stop nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ..support.otlp_receiver import Receiver
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
    "headers={'a b': 'hunter2'}": "ValueError: headers has a name that cannot be sent",
    "headers={'a': 'hunter2\\n\\x00'}": "ValueError: headers 'a' has a value that cannot be sent",
    "headers={'a': 1}": "TypeError: headers must map str to str",
    "headers='a=1'": "TypeError: headers must be Mapping, not str",
    "certificate='/nowhere'": "ValueError: certificate must be a file that can be read",
    "client_key='/nowhere'": "ValueError: client_key and client_certificate must be given together",
    "protocol='http/json'": "ValueError: protocol must be 'grpc' or 'http/protobuf', not 'http/json'",
    "protocol=1": "TypeError: protocol must be str, not int",
    "protocol='http/protobuf', endpoint='unix:/a'": "ValueError: endpoint must be like 'http://collector:4318'",
    "max_export_bytes=0": "ValueError: max_export_bytes must be a whole number of at least 1, not 0",
    "max_export_bytes='4MB'": "TypeError: max_export_bytes must be int, not str",
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


GARBAGE = {
    "OTEL_LOG_LEVEL": "loud",
    "OTEL_METRICS_EXEMPLAR_FILTER": "sometimes",
    "OTEL_METRICS_EXPORTER": "pigeon",
    "OTEL_METRIC_EXPORT_INTERVAL": "often",
    "OTEL_METRIC_EXPORT_TIMEOUT": "late",
    "OTEL_PYTHON_ID_GENERATOR": "dice",
    "OTEL_CONFIG_FILE": "/nowhere",
    "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "nobody",
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
    "OTEL_EXPORTER_OTLP_PROTOCOL": "zipkin",
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
