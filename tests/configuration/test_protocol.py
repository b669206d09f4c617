"""Which protocol, and where each signal goes over HTTP: by argument, by variable, and by the exporter's name."""

from __future__ import annotations

from typing import Any

import pytest

from asgi_trace._export.collector import Collector
from asgi_trace._export.signals import LOGS, SIGNALS, TRACES

from ..support.collectors import GRPC, HTTP, FaultyCollector
from ..support.configuration import built, read

OTLP = "OTEL_EXPORTER_OTLP_"
OVER_HTTP = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}


def urls(variables: dict[str, str], **arguments: Any) -> list[str]:
    """Where traces, metrics and logs go."""
    found = [read(variables, signal, **arguments) for signal in SIGNALS]
    assert [problems for _, problems in found] == [{}, {}, {}]
    return [collector.target + (f"?{collector.query}" if collector.query else "") for collector, _ in found]


def below(base: str, query: str = "") -> list[str]:
    """The URLs of the three signals below one base."""
    return [f"{base}/v1/{name}{query}" for name in ("traces", "metrics", "logs")]


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("", below("http://localhost:4318")),
        ("http://collector:4318", below("http://collector:4318")),
        ("http://collector:4318/", below("http://collector:4318")),
        ("http://collector", below("http://collector")),
        ("https://collector", below("https://collector")),
        ("https://vendor.test/otlp", below("https://vendor.test/otlp")),
        ("https://vendor.test/otlp/", below("https://vendor.test/otlp")),
        ("https://vendor.test/otlp?token=a", below("https://vendor.test/otlp", "?token=a")),
        ("http://[::1]:4318", below("http://[::1]:4318")),
        ("http://collector:4318/v1/traces", below("http://collector:4318/v1/traces")),
    ],
)
def test_a_general_endpoint_gets_the_paths(endpoint: str, expected: list[str]) -> None:
    """The general variable is the base of all signals, whatever its path."""
    assert urls({**OVER_HTTP, OTLP + "ENDPOINT": endpoint}) == expected


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("http://collector:4318", below("http://collector:4318")),
        ("http://collector:4318/v1/traces", below("http://collector:4318")),
        ("http://collector:4318/v1/metrics/", below("http://collector:4318")),
        ("https://vendor.test/otlp/v1/logs", below("https://vendor.test/otlp")),
        ("https://vendor.test/otlp/v2/logs", below("https://vendor.test/otlp/v2/logs")),
        ("https://me:hunter2@vendor.test", below("https://vendor.test")),
    ],
)
def test_the_argument_is_the_general_one(endpoint: str, expected: list[str]) -> None:
    """`endpoint=` is for all signals: a path that names one signal names each of them in turn."""
    elsewhere = {OTLP + "ENDPOINT": "http://elsewhere", OTLP + "TRACES_ENDPOINT": "http://elsewhere"}
    assert urls(elsewhere, endpoint=endpoint, protocol=HTTP) == expected


@pytest.mark.parametrize("endpoint", ["http://c:1", "http://c:1/", "http://c:1/custom", "https://c/a/b/?key=a"])
def test_a_signals_own_endpoint_is_taken_as_it_is(endpoint: str) -> None:
    """Its own variable holds the whole URL; the other signals keep the general one."""
    variables = {**OVER_HTTP, OTLP + "ENDPOINT": "http://general:1", OTLP + "METRICS_ENDPOINT": endpoint}
    expected = below("http://general:1")
    expected[1] = endpoint if "/" in endpoint.removeprefix("http://") else f"{endpoint}/"
    assert urls(variables) == expected


@pytest.mark.parametrize(
    ("endpoint", "insecure", "plaintext"),
    [
        ("collector:4318", "", False),
        ("collector:4318", "true", True),
        ("http://collector:4318", "false", True),
        ("https://collector:4318", "true", False),
    ],
)
def test_tls_follows_the_rule_of_grpc(endpoint: str, insecure: str, plaintext: bool) -> None:
    """A scheme says it, else INSECURE does, and the default is TLS."""
    found, problems = read({**OVER_HTTP, OTLP + "ENDPOINT": endpoint, OTLP + "INSECURE": insecure})
    assert (found.plaintext, found.tls is None, problems) == (plaintext, plaintext, {})
    assert found.target.startswith("http://" if plaintext else "https://")


@pytest.mark.parametrize(
    ("variables", "arguments", "expected"),
    [
        ({}, {}, GRPC),
        ({"PROTOCOL": "grpc"}, {}, GRPC),
        ({"PROTOCOL": " HTTP/protobuf "}, {}, HTTP),
        ({"PROTOCOL": ""}, {}, GRPC),
        ({"TRACES_PROTOCOL": "http/protobuf"}, {}, HTTP),
        ({"METRICS_PROTOCOL": "http/protobuf"}, {}, GRPC),
        ({"PROTOCOL": "http/protobuf", "TRACES_PROTOCOL": "grpc"}, {}, GRPC),
        ({"PROTOCOL": "http/protobuf"}, {"protocol": "grpc"}, GRPC),
        ({"PROTOCOL": "grpc"}, {"protocol": "http/protobuf"}, HTTP),
    ],
)
def test_which_protocol(variables: dict[str, str], arguments: dict[str, str], expected: str) -> None:
    """The argument wins over a signal's own variable, that over the general one; gRPC is the default."""
    found, problems = read({OTLP + name: text for name, text in variables.items()}, TRACES, **arguments)
    assert (found.protocol, problems) == (expected, {})


def test_json_is_said_and_sent_as_protobuf() -> None:
    """OpenTelemetry Python has no OTLP/JSON: one problem, and protobuf over HTTP."""
    found, problems = read({OTLP + "LOGS_PROTOCOL": "http/json"}, LOGS)
    assert found.protocol == HTTP
    assert problems == {
        OTLP + "LOGS_PROTOCOL": "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL must be 'grpc' or 'http/protobuf', not 'http/json'; "
        "'http/protobuf' is used instead"
    }
    with pytest.raises(ValueError, match=r"^protocol must be 'grpc' or 'http/protobuf', not 'http/json'"):
        read({}, protocol="http/json")


@pytest.mark.parametrize("endpoint", ["unix:/run/otel.sock", "dns:///collector:4318"])
def test_targets_of_grpc_alone(endpoint: str) -> None:
    """What HTTP cannot reach is a wrong argument, and a wrong variable."""
    with pytest.raises(ValueError, match=r"^endpoint must be like 'http://collector:4318' for OTLP over HTTP, not "):
        read({}, endpoint=endpoint, protocol=HTTP)
    found, problems = read({**OVER_HTTP, OTLP + "ENDPOINT": endpoint})
    assert found.target == "http://localhost:4318/v1/traces"
    assert list(problems) == [OTLP + "ENDPOINT"]


def test_the_session_of_another_library_is_said() -> None:
    """A credential provider for HTTP makes a session of requests, which is not used."""
    _, problems = read({**OVER_HTTP, "OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER": "mine"})
    assert list(problems) == ["OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER"]


def test_nothing_secret_is_printed() -> None:
    """Neither a query, nor headers, nor credentials are in the name of a collector."""
    found: Collector = read(
        {**OVER_HTTP, "ALL_PROXY": "http://me:hunter2@proxy:1"},
        endpoint="https://me:hunter2@collector/otlp?token=hunter2",
        headers={"api-key": "hunter2"},
    )[0]
    assert "hunter2" not in repr(found)
    assert "hunter2" not in found.target


@pytest.mark.parametrize(
    ("exporter", "variables", "paths"),
    [
        ("otlp_proto_http", {}, {"/v1/traces", "/v1/metrics", "/v1/logs"}),
        ("otlp_proto_http", {OTLP + "PROTOCOL": "grpc"}, {"/v1/traces", "/v1/metrics", "/v1/logs"}),
        ("otlp", OVER_HTTP, {"/v1/traces", "/v1/metrics", "/v1/logs"}),
    ],
)
def test_an_exporters_name_may_hold_the_protocol(exporter: str, variables: dict[str, str], paths: set[str]) -> None:
    """`otlp_proto_http` is OTLP over HTTP, whatever the protocol is elsewhere; all signals arrive."""
    with FaultyCollector(HTTP) as receiver:
        with built(
            variables, exporter=exporter, metrics=exporter, logs=exporter, endpoint=receiver.endpoint
        ) as tracing:
            tracing.tracer_provider.get_tracer("test").start_span("a").end()
            meters: Any = tracing.meter_provider
            meters.get_meter("test").create_counter("orders").add(1)
            loggers: Any = tracing.logger_provider
            loggers.get_logger("test").emit(body="a", timestamp=1)
            assert tracing.force_flush(60_000)
        assert set(receiver.report()["paths"]) == paths


def test_grpc_by_name() -> None:
    """`otlp_proto_grpc` is OTLP over gRPC, whatever the protocol is elsewhere."""
    with (
        FaultyCollector(GRPC) as receiver,
        built(OVER_HTTP, exporter="otlp_proto_grpc", endpoint=receiver.endpoint) as tracing,
    ):
        tracing.tracer_provider.get_tracer("test").start_span("a").end()
        assert tracing.force_flush(60_000)
        assert receiver.spans == ["a"]
