"""Where a collector listens: every form that people write, by argument and by variable."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from asgi_trace._export.endpoint import endpoint

from ..support.configuration import read

OTLP = "OTEL_EXPORTER_OTLP_"


LIKE = "must be like 'http://collector:4317', 'https://collector:4317' or 'collector:4317'"


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
    found, problems = read({OTLP + name: value for name, value in variables.items()}, **arguments)
    assert (found.target, found.plaintext, problems) == (target, plaintext, {})
