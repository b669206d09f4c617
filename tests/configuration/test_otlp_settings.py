"""`OTEL_EXPORTER_OTLP_*`: what counts, what is repaired, and what is said about it."""

from __future__ import annotations

import pytest

from asgi_trace._export.collector import RETRYABLE
from asgi_trace._export.endpoint import headers
from asgi_trace._export.signals import METRICS

from ..support.configuration import read

OTLP = "OTEL_EXPORTER_OTLP_"


def test_a_signals_own_variable_beats_the_general_one() -> None:
    """TRACES_ variables count for traces and not for metrics; an empty one is unset; a wrong one falls back."""
    variables = {
        OTLP + "ENDPOINT": "http://general:1",
        OTLP + "TRACES_ENDPOINT": "http://traces:2",
        OTLP + "METRICS_ENDPOINT": "",
        OTLP + "TIMEOUT": "3",
        OTLP + "TRACES_TIMEOUT": "soon",
        OTLP + "HEADERS": "a=1",
        OTLP + "TRACES_HEADERS": "b=2",
    }
    traces, problems = read(variables)
    metrics, _ = read(variables, METRICS)
    assert (traces.target, traces.timeout, traces.headers) == ("traces:2", 3.0, (("b", "2"),))
    assert (metrics.target, metrics.timeout, metrics.headers) == ("general:1", 3.0, (("a", "1"),))
    assert problems == {
        OTLP + "TRACES_TIMEOUT": "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT must be a number above 0, not 'soon'; "
        "3 seconds is used instead"
    }


@pytest.mark.parametrize(
    ("option", "text", "field", "value"),
    [
        ("COMPRESSION", "none", "gzip", False),
        ("COMPRESSION", "", "gzip", False),
        ("COMPRESSION", " GZIP ", "gzip", True),
        ("TIMEOUT", "", "timeout", 10.0),
        ("TIMEOUT", "2.5", "timeout", 2.5),
        ("PROTOCOL", "grpc", "target", "localhost:4317"),
        ("HEADERS", "", "headers", ()),
        ("HEADERS", "Api-Key=a%20b%3D, x = y ,", "headers", (("api-key", "a b="), ("x", "y"))),
        ("HEADERS", "k-bin=ab", "headers", (("k-bin", b"ab"),)),
        ("CERTIFICATE", "", "certificate", None),
    ],
)
def test_right_values_are_taken_without_a_word(option: str, text: str, field: str, value: object) -> None:
    """What OpenTelemetry allows works as it says, where the SDK itself raises or breaks too."""
    found, problems = read({OTLP + option: text})
    assert (getattr(found, field), problems) == (value, {})


@pytest.mark.parametrize(
    ("option", "text", "problem"),
    [
        ("COMPRESSION", "deflate", "must be 'gzip' or 'none', not 'deflate'; 'none' is used instead"),
        ("INSECURE", "yes", "must be 'true' or 'false', not 'yes'; False is used instead"),
        ("TIMEOUT", "-1", "must be a number above 0, not '-1'; 10 seconds is used instead"),
        ("TIMEOUT", "inf", "must be a number above 0, not 'inf'; 10 seconds is used instead"),
        ("TIMEOUT", "nan", "must be a number above 0, not 'nan'; 10 seconds is used instead"),
        ("TIMEOUT", "10000", "is in seconds; '10000' is read as 10 seconds instead"),
        ("PROTOCOL", "zipkin", "must be 'grpc' or 'http/protobuf', not 'zipkin'; 'grpc' is used instead"),
        (
            "PROTOCOL",
            "http/json",
            "must be 'grpc' or 'http/protobuf', not 'http/json'; 'http/protobuf' is used instead",
        ),
    ],
)
def test_wrong_values_are_one_problem(option: str, text: str, problem: str) -> None:
    """A wrong value names its variable and what is used instead."""
    _, problems = read({OTLP + option: text, OTLP + "ENDPOINT": "collector:4317"})
    assert list(problems) == [OTLP + option]
    assert problems[OTLP + option].startswith(f"{OTLP}{option} {problem}")


def test_wrong_headers_are_left_out_and_never_printed() -> None:
    """One bad pair does not take the others with it, and its text, which may be a token, stays secret."""
    good, wrong = headers("a=1,hunter2,=hunter2,b c=hunter2,grpc-x=hunter2,d=h\u00fcnter2,e=hunt%0Aer2")
    assert good == {"a": "1"}
    assert [complaint.split(" ")[1] for complaint in wrong] == ["2", "3", "4", "5", "6", "7"]
    found, problems = read({OTLP + "HEADERS": "a=1,hunter2"})
    assert found.headers == (("a", "1"),)
    assert "hunter2" not in str(problems) + repr(found)
    assert problems == {
        OTLP + "HEADERS": "OTEL_EXPORTER_OTLP_HEADERS is used without what is wrong in it: pair 2 must be like "
        "'name=value'"
    }


def test_grpc_variables_of_the_python_sdk_count() -> None:
    """The retryable codes and the credential provider are read, and repaired when they are wrong."""
    prefix = "OTEL_PYTHON_EXPORTER_OTLP_GRPC_"
    found, problems = read({prefix + "RETRYABLE_ERROR_CODES": "unavailable, aborted"})
    assert {code.name for code in found.retryable} == {"UNAVAILABLE", "ABORTED"}
    assert problems == {}
    wrong = {prefix + "RETRYABLE_ERROR_CODES": "SOON", prefix + "CREDENTIAL_PROVIDER": "nobody"}
    found, problems = read({**wrong, OTLP + "ENDPOINT": "https://collector"})
    assert (found.retryable, found.credentials) == (RETRYABLE, None)
    assert list(problems) == [prefix + "CREDENTIAL_PROVIDER", prefix + "RETRYABLE_ERROR_CODES"]
