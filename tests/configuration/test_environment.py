"""Reading `OTEL_*` variables: what counts, what is repaired, and what is said about it."""

from __future__ import annotations

import base64
import logging
import os
import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, Counter, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from asgi_trace._configuration import sdk_settings
from asgi_trace._configuration.environment import Environment
from asgi_trace._configuration.otlp_settings import CollectorArguments, collector
from asgi_trace._configuration.resource import build_resource, resource_attributes
from asgi_trace._export.collector import RETRYABLE, Collector
from asgi_trace._export.endpoint import endpoint, headers

OTLP = "OTEL_EXPORTER_OTLP_"
LIKE = "must be like 'http://collector:4317', 'https://collector:4317' or 'collector:4317'"
NO_ARGUMENTS = CollectorArguments(None, None, None, None, None, None, None, None)


def given(**arguments: Any) -> CollectorArguments:
    """Arguments of configure(), checked; those that are not named are left out."""
    names = ("endpoint", "insecure", "headers", "timeout", "compression", *TLS_FILES)
    return CollectorArguments.checked(**dict.fromkeys(names) | arguments)


TLS_FILES = ("certificate", "client_key", "client_certificate")


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of PEM files: `roots`, `key` with its `chain`, another key, and some that are none."""
    trustme = pytest.importorskip("trustme")
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    key, chain = certificate.private_key_pem.bytes(), certificate.cert_chain_pems[0].bytes()
    folder = tmp_path_factory.mktemp("pem")
    for name, content in {
        "roots": "# Zertifizierungsstelle f\u00fcr alle\n".encode() + authority.cert_pem.bytes(),
        "key": key,
        "chain": chain,
        "other key": authority.issue_cert("localhost").private_key_pem.bytes(),
        "broken key": key.replace(b"\nM", b"\nAAAA", 1),
        "broken roots": authority.cert_pem.bytes().replace(b"\nM", b"\nAAAA", 1),
        "cut off": chain[:40],
        "locked": b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        "junk": b"junk",
    }.items():
        (folder / name).write_bytes(content)
    return folder


def read(variables: dict[str, str], signal: str = "TRACES") -> tuple[Collector, dict[str, str]]:
    environment = Environment(variables)
    return collector(signal, NO_ARGUMENTS, environment), environment.problems


@pytest.mark.parametrize(
    ("text", "target", "plaintext"),
    [
        ("", "localhost:4317", True),
        ("   ", "localhost:4317", True),
        ("http://collector:4317", "collector:4317", True),
        ("HTTP://collector:4317", "collector:4317", True),
        ("https://collector:4317", "collector:4317", False),
        ("http://collector:4317/", "collector:4317", True),
        (" http://collector:4317 ", "collector:4317", True),
        ("http://collector", "collector:4317", True),
        ("https://collector", "collector:443", False),
        ("collector:4317", "collector:4317", False),
        ("otel_collector.my-ns.svc:4317", "otel_collector.my-ns.svc:4317", False),
        ("http://[::1]:4317", "[::1]:4317", True),
        ("[::1]:4317", "[::1]:4317", False),
        ("http://::1", "[::1]:4317", True),
        ("unix:/run/otel.sock", "unix:/run/otel.sock", True),
        ("unix:///run/otel.sock", "unix:///run/otel.sock", True),
        ("dns:///collector:4317", "dns:///collector:4317", False),
    ],
)
def test_every_form_of_an_endpoint_works(text: str, target: str, plaintext: bool) -> None:
    """URLs, `host:port` and gRPC's own targets are reached, plain or by TLS as they say, without a complaint."""
    found, problems = read({OTLP + "ENDPOINT": text})
    assert (found.target, found.plaintext, problems) == (target, plaintext, {})


@pytest.mark.parametrize(
    ("where", "insecure", "plaintext"),
    [
        ("collector:4317", "true", True),
        ("collector:4317", "TRUE", True),
        ("collector:4317", "false", False),
        ("collector:4317", "", False),
        ("http://collector:4317", "false", True),
        ("https://collector:4317", "true", False),
        ("unix:/run/otel.sock", "false", False),
    ],
)
def test_a_scheme_wins_over_insecure(where: str, insecure: str, plaintext: bool) -> None:
    """INSECURE decides where no scheme does, and nowhere else."""
    found, problems = read({OTLP + "ENDPOINT": where, OTLP + "INSECURE": insecure})
    assert (found.plaintext, problems) == (plaintext, {})


@pytest.mark.parametrize(
    "text",
    [
        "collector", "4317", ":4317", "http://", "http:/collector:4317", "ftp://collector:4317", "collector:otlp",
        "http://collector:0", "http://collector:65536", "not a url", "http://a:1,http://b:1", "http://[::1",
    ],
)  # fmt: skip
def test_what_is_no_endpoint_is_named_and_replaced(text: str) -> None:
    """A wrong endpoint is one problem, with its variable, what to write and what is used."""
    found, problems = read({OTLP + "ENDPOINT": text})
    assert (found.target, found.plaintext) == ("localhost:4317", True)
    (problem,) = problems.values()
    assert problem.startswith(f"OTEL_EXPORTER_OTLP_ENDPOINT {LIKE}, not ")
    assert problem.endswith("; 'http://localhost:4317' is used instead")


def test_a_path_is_dropped_aloud() -> None:
    """A path, which OTLP/HTTP would need, is not used and named; a query, which may hold a token, is not printed."""
    found, problems = read({OTLP + "ENDPOINT": "http://collector:4318/v1/traces?token=hunter2"})
    assert found.target == "collector:4318"
    assert problems == {
        OTLP + "ENDPOINT": "OTEL_EXPORTER_OTLP_ENDPOINT has a path, '/v1/traces': OTLP over gRPC has none, "
        "so it is not used"
    }


def test_credentials_in_an_endpoint_become_a_header() -> None:
    """User and password are sent as Basic authorization, as a browser would, unless a header says otherwise."""
    found, problems = read({OTLP + "ENDPOINT": "https://me:hunter%402@collector:4317"})
    basic = base64.b64encode(b"me:hunter@2").decode()
    assert (found.target, found.headers, problems) == ("collector:4317", (("authorization", f"Basic {basic}"),), {})
    found, _ = read({OTLP + "ENDPOINT": "https://me:x@collector:4317", OTLP + "HEADERS": "Authorization=mine"})
    assert found.headers == (("authorization", "mine"),)


@pytest.mark.parametrize(
    "text", ["http://me:hunter2@collector:wrong", "me:hunter2@collector", "http://me:hunt/er2@collector:4317"]
)
def test_credentials_in_a_wrong_endpoint_are_not_printed(text: str) -> None:
    """No complaint repeats what stands before the `@`, and neither does the repr of what was read."""
    found, problems = read({OTLP + "ENDPOINT": text})
    assert problems
    assert "hunt" not in str(problems) + repr(found)
    with pytest.raises(ValueError, match="must be like") as caught:
        endpoint(text)
    assert "hunt" not in str(caught.value)


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
    metrics, _ = read(variables, "METRICS")
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
        ("PROTOCOL", "http/protobuf", "must be 'grpc', not 'http/protobuf'; 'grpc' is used instead"),
    ],
)
def test_wrong_values_are_one_problem(option: str, text: str, problem: str) -> None:
    """A wrong value names its variable and what is used instead."""
    _, problems = read({OTLP + option: text, OTLP + "ENDPOINT": "collector:4317"})
    assert problems == {OTLP + option: f"{OTLP}{option} {problem}"}


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


def test_a_client_certificate_needs_no_authority(pem: Path) -> None:
    """CLIENT_KEY and CLIENT_CERTIFICATE count without CERTIFICATE; one without the other is a problem."""
    key, chain, roots = str(pem / "key"), str(pem / "chain"), str(pem / "roots")
    found, problems = read({OTLP + "CLIENT_KEY": key, OTLP + "TRACES_CLIENT_CERTIFICATE": chain})
    assert (found.certificate, found.client_key) == (None, (pem / "key").read_bytes())
    assert (found.client_certificate, problems) == ((pem / "chain").read_bytes(), {})
    found, problems = read({OTLP + "CLIENT_KEY": key, OTLP + "CERTIFICATE": roots})
    assert (found.certificate, found.client_key, found.client_certificate) == (
        (pem / "roots").read_bytes(), None, None
    )  # fmt: skip
    assert list(problems) == [OTLP + "CLIENT_CERTIFICATE"]


WRONG_FILES = [
    ("certificate", "none", "must be a file that can be read"),
    ("certificate", "junk", "must be a file of certificates in PEM format, which '{file}' is not"),
    ("certificate", "cut off", "must be a file of certificates in PEM format, which '{file}' is not"),
    ("certificate", "key", "must be a file of certificates in PEM format, which '{file}', with a * in it, is not"),
    ("certificate", "broken roots", "must be a file of certificates in PEM format: '{file}' has a broken one"),
    ("client_certificate", "key", "must be a file of certificates in PEM format, which '{file}', with a * in it, is"),
    ("client_key", "chain", "must be a file of a private key in PEM format, which '{file}', with a certificate in it,"),
    ("client_key", "broken key", "must be a private key in PEM format: '{file}' has a broken one"),
    ("client_key", "other key", "must be the key of the first certificate in '{chain}'"),
    ("client_key", "locked", "must be a private key without a password, for which nobody is asked: '{file}' has one"),
]


@pytest.mark.parametrize(("option", "name", "complaint"), WRONG_FILES)
def test_a_file_for_tls_that_cannot_work_is_found_at_once(option: str, name: str, complaint: str, pem: Path) -> None:
    """A file that is swapped, broken or no match raises as an argument, and is one problem as a variable."""
    names = {"client_key": "key", "client_certificate": "chain"} if option != "certificate" else {}
    files = {key: str(pem / file) for key, file in {**names, option: name}.items()}
    expected = f"{option} {complaint}".format(file=pem / name, chain=pem / "chain")
    with pytest.raises(ValueError, match="^" + re.escape(expected).replace(r"\*", ".*private key")):
        given(**files)
    found, problems = read({OTLP + key.upper(): file for key, file in files.items()})
    assert (found.certificate, found.client_key, found.client_certificate) == (None, None, None)
    assert list(problems) == [OTLP + option.upper()]


def test_files_for_tls_are_taken_as_they_are(pem: Path) -> None:
    """Files that fit are passed on byte for byte, a pipe that can be read once too."""
    arguments = given(certificate=pem / "roots", client_key=pem / "key", client_certificate=pem / "chain")
    assert arguments.certificate == (pem / "roots").read_bytes()
    assert arguments.client_certificate == (pem / "chain").read_bytes()
    reading, writing = os.pipe()
    os.write(writing, (pem / "key").read_bytes())
    os.close(writing)
    piped = given(client_key=f"/dev/fd/{reading}", client_certificate=pem / "chain")
    os.close(reading)
    assert piped.client_key == arguments.client_key == (pem / "key").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "variables", "target", "plaintext"),
    [
        ({"insecure": False}, {"ENDPOINT": "http://collector:4317"}, "collector:4317", False),
        ({"insecure": False}, {"TRACES_ENDPOINT": "http://collector"}, "collector:443", False),
        ({"insecure": True}, {"ENDPOINT": "https://collector:4317"}, "collector:4317", True),
        ({"insecure": False}, {}, "localhost:4317", False),
        ({"insecure": False}, {"ENDPOINT": "collector:4317", "INSECURE": "true"}, "collector:4317", False),
        ({"insecure": False}, {"ENDPOINT": "unix:/run/otel.sock"}, "unix:/run/otel.sock", False),
        ({"endpoint": "https://mine"}, {"ENDPOINT": "http://theirs", "INSECURE": "true"}, "mine:443", False),
        ({"endpoint": "mine:1", "insecure": True}, {"ENDPOINT": "https://theirs", "INSECURE": "false"}, "mine:1", True),
    ],
)
def test_arguments_say_whether_text_is_plain(
    arguments: dict[str, Any], variables: dict[str, str], target: str, plaintext: bool
) -> None:
    """`insecure` and the scheme of `endpoint` beat whatever the environment says, without a word."""
    environment = Environment({OTLP + name: value for name, value in variables.items()})
    found = collector("TRACES", given(**arguments), environment)
    assert (found.target, found.plaintext, environment.problems) == (target, plaintext, {})


@pytest.mark.parametrize(
    ("arguments", "variables", "who"),
    [
        ({"insecure": True}, {"ENDPOINT": "https://collector"}, "insecure=True"),
        ({"endpoint": "http://collector"}, {}, "the endpoint, 'http://',"),
        ({}, {"ENDPOINT": "http://me:hunter2@collector"}, "OTEL_EXPORTER_OTLP_ENDPOINT"),
        ({}, {"TRACES_ENDPOINT": "http://collector"}, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
        ({"endpoint": "collector:1"}, {"INSECURE": "true"}, "OTEL_EXPORTER_OTLP_INSECURE"),
        ({"endpoint": "unix:/run/otel.sock"}, {}, "the default"),
        ({}, {}, "the default"),
    ],
)
def test_a_file_for_tls_is_never_given_up_for_plain_text(
    arguments: dict[str, Any], variables: dict[str, str], who: str, pem: Path
) -> None:
    """An argument that names a file for TLS, beside whatever says plain text, is an error that says what to write."""
    environment = Environment({OTLP + name: value for name, value in variables.items()})
    files: tuple[dict[str, Path], ...] = (
        {"certificate": pem / "roots"},
        {"client_key": pem / "key", "client_certificate": pem / "chain"},
    )
    for named in files:
        name = next(iter(named))
        with pytest.raises(ValueError, match=f"^{name} is for TLS, and {who} says plain text: write endpoint='https:"):
            collector("TRACES", given(**arguments, **named), environment)


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


def sampler_from(variables: dict[str, str]) -> tuple[Sampler, dict[str, str]]:
    environment = Environment(variables)
    return sdk_settings.sampler(None, environment), environment.problems


@pytest.mark.parametrize(
    ("name", "share", "description"),
    [
        ("", "", "ParentBased{root:AlwaysOnSampler"),
        ("always_on", "", "AlwaysOnSampler"),
        (" Always_Off ", "", "AlwaysOffSampler"),
        ("parentbased_always_off", "", "ParentBased{root:AlwaysOffSampler"),
        ("traceidratio", "0.25", "TraceIdRatioBased{0.25}"),
        ("PARENTBASED_TRACEIDRATIO", " 0.1 ", "ParentBased{root:TraceIdRatioBased{0.1}"),
        ("traceidratio", "", "TraceIdRatioBased{1.0}"),
    ],
)
def test_samplers_by_name(name: str, share: str, description: str) -> None:
    """OTEL_TRACES_SAMPLER counts in any case and with blanks; without an _ARG the ratio is 1."""
    sampler, problems = sampler_from({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": share})
    assert sampler.get_description().startswith(description)
    assert problems == {}


def test_wrong_samplers_sample_everything() -> None:
    """An unknown sampler is the default one, a wrong ratio is 1: rather too many spans than none."""
    sampler, problems = sampler_from({"OTEL_TRACES_SAMPLER": "sometimes"})
    assert sampler.get_description().startswith("ParentBased{root:AlwaysOnSampler")
    assert problems["OTEL_TRACES_SAMPLER"].endswith("not 'sometimes'; 'parentbased_always_on' is used instead")
    sampler, problems = sampler_from({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "7"})
    assert sampler.get_description() == "TraceIdRatioBased{1.0}"
    assert problems == {
        "OTEL_TRACES_SAMPLER_ARG": "OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, not '7'; 1.0 is used instead"
    }


def test_samplers_and_id_generators_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed entry point is a name too; one that cannot be made is a problem."""

    class Ids(RandomIdGenerator):
        pass

    def install(group: str, name: str) -> object:
        if name == "broken":
            raise ImportError("its module is gone")
        return {"mine": lambda argument: ALWAYS_ON, "ids": Ids, "none": lambda argument: None}.get(name)

    monkeypatch.setattr(sdk_settings, "plugin", install)
    assert sampler_from({"OTEL_TRACES_SAMPLER": "mine"}) == (ALWAYS_ON, {})
    for wrong in ("broken", "none", "nobody"):
        assert list(sampler_from({"OTEL_TRACES_SAMPLER": wrong})[1]) == ["OTEL_TRACES_SAMPLER"]

    def ids(name: str) -> tuple[IdGenerator, dict[str, str]]:
        environment = Environment({"OTEL_PYTHON_ID_GENERATOR": name})
        return sdk_settings.id_generator(environment), environment.problems

    assert isinstance(ids("ids")[0], Ids)
    assert type(ids("")[0]) is RandomIdGenerator
    for wrong in ("broken", "nobody"):
        generator, problems = ids(wrong)
        assert type(generator) is RandomIdGenerator
        assert problems["OTEL_PYTHON_ID_GENERATOR"].endswith("'random' is used instead")


@pytest.mark.parametrize(
    ("text", "names", "used"),
    [
        ("", ["otlp"], None),
        ("otlp", ["otlp"], None),
        ("none", [], None),
        ("None", [], None),
        ("console, OTLP", ["console", "otlp"], None),
        ("otlp,otlp", ["otlp"], None),
        ("otlp_proto_grpc", ["otlp"], None),
        ("none,console", ["console"], None),
        ("jaeger", ["otlp"], "'otlp'"),
        ("console,zipkin", ["console"], "'console'"),
        (",", ["otlp"], "'otlp'"),
    ],
)
def test_exporters_by_name(text: str, names: list[str], used: str | None) -> None:
    """Lists work, `none` adds nothing, and of a list with unknown names the known ones are used."""
    environment = Environment({"OTEL_TRACES_EXPORTER": text})
    assert sdk_settings.exporters_from(environment, "OTEL_TRACES_EXPORTER") == names
    if used is None:
        assert environment.problems == {}
    else:
        assert environment.problems["OTEL_TRACES_EXPORTER"].endswith(f"not {text!r}; {used} is used instead")


def test_batch_sizes_are_repaired() -> None:
    """Garbage gives the default, and a batch above the queue, which the SDK refuses, is the queue."""
    environment = Environment(
        {
            "OTEL_BSP_SCHEDULE_DELAY": "often",
            "OTEL_BSP_MAX_QUEUE_SIZE": "100",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "200",
            "OTEL_BSP_EXPORT_TIMEOUT": "",
        }
    )
    assert sdk_settings.batching(None, None, None, environment) == {
        "schedule_delay_millis": 5000.0,
        "max_queue_size": 100,
        "max_export_batch_size": 100,
        "export_timeout_millis": 30_000.0,
    }
    assert list(environment.problems) == ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY"]
    small = Environment({"OTEL_BSP_MAX_QUEUE_SIZE": "10"})
    assert sdk_settings.batching(None, None, None, small)["max_export_batch_size"] == 10
    assert small.problems == {}
    wrong = Environment({"OTEL_BSP_MAX_QUEUE_SIZE": "0", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1.5"})
    assert sdk_settings.batching(None, None, None, wrong)["max_queue_size"] == 2048
    assert len(wrong.problems) == 2


def test_span_limits() -> None:
    """Empty is unset (128 and unlimited length), the general limit stands behind the special one, garbage is named."""
    unset = sdk_settings.span_limits(Environment({"OTEL_SPAN_EVENT_COUNT_LIMIT": "", "OTEL_ATTRIBUTE_COUNT_LIMIT": ""}))
    assert (unset.max_events, unset.max_span_attributes, unset.max_span_attribute_length) == (128, 128, None)
    environment = Environment(
        {
            "OTEL_ATTRIBUTE_COUNT_LIMIT": "5",
            "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "0",
            "OTEL_SPAN_LINK_COUNT_LIMIT": "many",
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "80",
            "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "-1",
        }
    )
    limits = sdk_settings.span_limits(environment)
    assert (limits.max_span_attributes, limits.max_event_attributes, limits.max_link_attributes) == (5, 5, 0)
    assert (limits.max_links, limits.max_attribute_length, limits.max_span_attribute_length) == (128, 80, 80)
    assert environment.problems == {
        "OTEL_SPAN_LINK_COUNT_LIMIT": "OTEL_SPAN_LINK_COUNT_LIMIT must be a whole number of at least 0, not 'many'; "
        "128 is used instead",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT must be a whole number of at "
        "least 0, not '-1'; 80 is used instead",
    }


def test_the_resource(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Arguments beat OTEL_SERVICE_NAME beats OTEL_RESOURCE_ATTRIBUTES; bad pairs are said once, and not by the SDK."""

    def found(service_name: str | None, attributes: dict[str, object] | None = None) -> dict[str, object]:
        environment = Environment(os.environ)
        given = resource_attributes(service_name, attributes, environment)
        problems.update(environment.problems)
        return dict(build_resource(given, environment).attributes)

    problems: dict[str, str] = {}
    assert str(found(None)["service.name"]).startswith("unknown_service")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.name=listed,team=a%20b,tier=1,")
    assert found(None)["service.name"] == "listed"
    assert found(None)["team"] == "a b"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "named")
    assert found(None)["service.name"] == "named"
    assert found("given", {"tier": 2, "zones": ["x"]}) == found("given", {"tier": 2}) | {"zones": ("x",)}
    assert found("given", {"service.name": "lost"})["service.name"] == "given"
    assert found(None, {"service.name": "kept"})["service.name"] == "kept"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "  ")
    assert found(None)["service.name"] == "listed"
    monkeypatch.delenv("OTEL_RESOURCE_ATTRIBUTES")
    assert str(found(None)["service.name"]).startswith("unknown_service")
    assert problems == {}
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "good=1,bad,=worse")
    with caplog.at_level(logging.DEBUG):
        assert found(None)["good"] == "1"
    assert problems["OTEL_RESOURCE_ATTRIBUTES"].endswith("; ['bad', '=worse'] is left out")
    assert caplog.records == []


def test_resource_detectors(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """OTEL_EXPERIMENTAL_RESOURCE_DETECTORS counts; one that is not installed is named."""
    monkeypatch.setenv("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "os, nobody")
    environment = Environment({"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "os, nobody"})
    with caplog.at_level(logging.DEBUG, "opentelemetry"):
        assert "os.type" in build_resource({}, environment).attributes
    assert environment.problems == {
        "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS names ['nobody'], "
        "not installed; left out"
    }
    assert caplog.records == []


def test_metric_settings() -> None:
    """Interval, temporality, histogram and exemplars follow their variables, and garbage is named."""
    environment = Environment(
        {
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_METRIC_EXPORT_TIMEOUT": "x",
            OTLP + "METRICS_TEMPORALITY_PREFERENCE": "Delta",
            OTLP + "METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram",
            "OTEL_METRICS_EXEMPLAR_FILTER": "always_off",
        }
    )
    assert sdk_settings.metric_times(environment) == (1000.0, 30_000.0)
    preferences = sdk_settings.metric_preferences(environment)
    assert preferences["preferred_temporality"][Counter] is AggregationTemporality.DELTA
    aggregation = preferences["preferred_aggregation"][HistogramInstrument]
    assert isinstance(aggregation, ExponentialBucketHistogramAggregation)
    assert isinstance(sdk_settings.exemplar_filter(environment), AlwaysOffExemplarFilter)
    assert list(environment.problems) == ["OTEL_METRIC_EXPORT_TIMEOUT"]
    wrong = Environment(dict.fromkeys(("OTEL_METRICS_EXEMPLAR_FILTER", OTLP + "METRICS_TEMPORALITY_PREFERENCE"), "?"))
    assert isinstance(sdk_settings.exemplar_filter(wrong), TraceBasedExemplarFilter)
    assert sdk_settings.metric_preferences(wrong)["preferred_temporality"] == {}
    assert len(wrong.problems) == 2


@pytest.mark.parametrize(
    ("text", "value", "wrong"),
    [("true", True, 0), ("TRUE", True, 0), ("", False, 0), ("false", False, 0), ("1", False, 1)],
)  # fmt: skip
def test_sdk_disabled(text: str, value: bool, wrong: int) -> None:
    """Only `true`, in any case, switches the SDK off; what is neither true nor false is named."""
    environment = Environment({"OTEL_SDK_DISABLED": text})
    assert (sdk_settings.disabled(environment), len(environment.problems)) == (value, wrong)


def test_log_level() -> None:
    """OTEL_LOG_LEVEL is a level's name."""
    assert sdk_settings.log_level(Environment({"OTEL_LOG_LEVEL": "Warn"})) == logging.WARNING
    assert sdk_settings.log_level(Environment({})) is None
    environment = Environment({"OTEL_LOG_LEVEL": "loud"})
    assert sdk_settings.log_level(environment) is None
    assert list(environment.problems) == ["OTEL_LOG_LEVEL"]
