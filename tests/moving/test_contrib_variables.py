"""contrib's environment variables on the server, and `opentelemetry-instrument`: each row is what both sides show."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from opentelemetry import instrumentation
from opentelemetry.instrumentation import fastapi as contribs_fastapi
from opentelemetry.util import http
from opentelemetry.util.http import get_excluded_urls

from asgi_trace._types import Scope
from tests.support.asgi import body, http_scope, responding, start
from tests.support.moving import Cases, Pair, without_row
from tests.support.moving_server import Build, contrib, environment, ours, shown
from tests.support.pages import PACKAGE
from tests.support.subprocess import environment as of_a_process

from .shop import instrumented_once, instrumentor
from .shop import ours as around_the_shop

HEADING = "Variables of contrib"
VARIABLES = Cases(HEADING)
FEW: Any = {"exclude_spans": ["receive", "send"]}


def excluded(build: Build, *scopes: Scope, **variables: str) -> list[bool]:
    """Which of the requests leave no span."""
    with environment(**variables), instrumented_once(), pytest.MonkeyPatch.context() as patch:
        # contrib reads the variables once, when its module is imported.
        patch.setattr(contribs_fastapi, "_excluded_urls_from_env", get_excluded_urls("FASTAPI"))
        return [not shown(build, dict(scope)).spans.finished for scope in scopes]


PATHS = [http_scope(path) for path in ("/orders/7", "/nowhere", "/health", "/a/health/b")]


@VARIABLES("`OTEL_PYTHON_EXCLUDED_URLS`")
def excluded_urls() -> Pair:
    sides: list[list[list[bool]]] = [[], []]
    for patterns in ("health", "^http://shop.test:8000/orders", "shop.test:8000/health$,nowhere", "health , orders/7"):
        for side, build in zip(sides, (instrumentor, around_the_shop), strict=True):
            side.append(excluded(build, *PATHS, OTEL_PYTHON_EXCLUDED_URLS=patterns))
    assert sides[0][0] == [False, False, True, True]
    return sides[0], sides[1]


@VARIABLES("`OTEL_PYTHON_FASTAPI_EXCLUDED_URLS`")
def excluded_urls_of_fastapi() -> Pair:
    alone = [excluded(build, *PATHS, OTEL_PYTHON_FASTAPI_EXCLUDED_URLS="health") for build in (instrumentor, ours())]
    assert alone == [[False, False, True, True]] * 2
    both = {"OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "health", "OTEL_PYTHON_EXCLUDED_URLS": "orders"}
    there, here = (excluded(build, *PATHS, **both) for build in (instrumentor, around_the_shop))
    assert there == [False, False, True, True]
    assert here == [True, False, True, True]
    return there, here


ANSWER = responding(start(200, [(b"x-till", b"9"), (b"set-cookie", b"id=1"), (b"content-length", b"0")]), body())
ASKING: Any = {"headers": [(b"x-door", b"a"), (b"x-door", b"b"), (b"authorization", b"Bearer 1")]}


def captured(build: Build, **variables: str) -> dict[str, Any]:
    """The captured headers on the span."""
    with environment(**variables):
        attributes = shown(build, http_scope(**ASKING)).attributes
    return {name: value for name, value in attributes.items() if ".header." in name}


def of_direction(direction: str, patterns: str, options: tuple[str, str]) -> Pair:
    variable = f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_{direction}"
    there = captured(contrib(ANSWER, **FEW), **{variable: patterns})
    here = captured(ours(ANSWER), **{variable: patterns})
    # The option replaces the variable there, and is added to it here.
    name = patterns.split(",")[0]
    assert len(captured(contrib(ANSWER, **{options[0]: [name]}, **FEW), **{variable: patterns})) == 1
    assert captured(ours(ANSWER, **{options[1]: [name]}), **{variable: patterns}) == here
    return there, here


@VARIABLES("`OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST`")
def captured_request() -> Pair:
    options = ("http_capture_headers_server_request", "capture_request_headers")
    there, here = of_direction("REQUEST", "X-Do.*,authorization", options)
    assert there == {"http.request.header.x_door": ("a", "b"), "http.request.header.authorization": ("Bearer 1",)}
    assert here == {"http.request.header.x-door": ("a", "b"), "http.request.header.authorization": ("REDACTED",)}
    return there, here


@VARIABLES("`OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE`")
def captured_response() -> Pair:
    options = ("http_capture_headers_server_response", "capture_response_headers")
    there, here = of_direction("RESPONSE", "x-till,Set-Cookie", options)
    assert there == {"http.response.header.x_till": ("9",), "http.response.header.set_cookie": ("id=1",)}
    assert here == {"http.response.header.x-till": ("9",), "http.response.header.set-cookie": ("REDACTED",)}
    return there, here


@VARIABLES("`OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS`")
def sanitized() -> Pair:
    variables = {
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST": "x-door",
        "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS": "^X-d",
    }
    there, here = (list(captured(build, **variables).values()) for build in (contrib(**FEW), ours()))
    assert there == [("[REDACTED]", "[REDACTED]")]
    assert here == [("REDACTED", "REDACTED")]
    return there, here


@VARIABLES("`OTEL_SEMCONV_STABILITY_OPT_IN`")
def conventions() -> Pair:
    there, here = [], []
    for value in ("", "http", "http/dup"):
        with environment(OTEL_SEMCONV_STABILITY_OPT_IN=value):
            there.append(shown(contrib(**FEW)).attributes.keys())
            here.append(shown(ours()).attributes.keys())
    assert [("http.method" in keys, "http.request.method" in keys) for keys in there] == [
        (True, False),
        (False, True),
        (True, True),
    ]
    assert here[0] == here[1] == here[2]
    assert "http.request.method" in here[0]
    return there, here


@VARIABLES("`OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS=true`")
def all_methods() -> Pair:
    def methods(**variables: str) -> list[str]:
        with environment(OTEL_SEMCONV_STABILITY_OPT_IN="http", **variables):
            sides = [shown(build, http_scope("/", "BREW")) for build in (contrib(**FEW), ours())]
        return [side.attributes["http.request.method"] for side in sides]

    assert methods(OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS="GET,POST,BREW") == ["_OTHER", "BREW"]
    there, here = methods(OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS="true")
    assert (there, here) == ("BREW", "_OTHER")
    return there, here


PROGRAM = """
import json, logging

from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from asgi_trace import TraceMiddleware, configure
from tests.support.asgi import drive, http_scope

warnings = []
handler = logging.Handler()
handler.emit = lambda record: warnings.append(record.getMessage())
logging.getLogger("asgi_trace").addHandler(handler)

before = trace.get_tracer_provider()
tracing = configure("orders")
app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False})
app.add_middleware(TraceMiddleware)
spans = InMemorySpanExporter()
tracing.tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
drive(app, http_scope("/orders/7"))
print(json.dumps({
    "provider before": type(before).__name__,
    "kept": tracing.tracer_provider is before,
    "makers": [span.instrumentation_scope.name for span in spans.get_finished_spans() if span.kind.name == "SERVER"],
    "warnings": warnings,
}))
"""


# What the package opentelemetry-distro has for `opentelemetry-instrument`: the SDK's configurator as an entry point.
DISTRO = {
    "shop_distro.py": "from opentelemetry.sdk._configuration import _OTelSDKConfigurator as Configurator\n",
    "shop_distro-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: shop-distro\nVersion: 1\n",
    "shop_distro-1.dist-info/entry_points.txt": "[opentelemetry_configurator]\nanything = shop_distro:Configurator\n",
}


@cache
def under_the_command(**variables: str) -> tuple[dict[str, Any], str]:
    """What the program prints under `opentelemetry-instrument`, and what stands on its standard error."""
    run = "from opentelemetry.instrumentation.auto_instrumentation import run; run()"
    silent = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    with TemporaryDirectory() as folder:
        for name, text in DISTRO.items():
            path = Path(folder, name)
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
        environment = of_a_process(**silent, **variables)
        environment["PYTHONPATH"] += os.pathsep + folder
        done = subprocess.run(
            [sys.executable, "-c", run, sys.executable, "-c", PROGRAM],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return printed, done.stderr


def patched() -> tuple[dict[str, Any], str]:
    """With every instrumentation that is installed."""
    return under_the_command(OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH="wrong")


def left_to_us() -> tuple[dict[str, Any], str]:
    """Without the instrumentation of FastAPI, and without a configurator of that name."""
    return under_the_command(OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="fastapi,httpx", OTEL_PYTHON_CONFIGURATOR="another")


@VARIABLES("`OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=fastapi`")
def disabled_instrumentations() -> Pair:
    there, here = patched()[0], left_to_us()[0]
    assert there["makers"] == ["opentelemetry.instrumentation.fastapi"]
    assert here["makers"] == ["asgi_trace"]
    return there["makers"], here["makers"]


@VARIABLES("`OTEL_PYTHON_CONFIGURATOR`, `OTEL_PYTHON_DISTRO`")
def configurator() -> Pair:
    with_theirs, without = patched()[0], left_to_us()[0]
    assert with_theirs["provider before"] == "TracerProvider"
    assert with_theirs["kept"]
    assert len([warning for warning in with_theirs["warnings"] if "provider" in warning]) == 1
    assert without["provider before"] == "ProxyTracerProvider"
    assert not without["kept"]
    return with_theirs["provider before"], without["provider before"]


def read_by_us(variable: str) -> bool:
    return any(variable in path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))


@VARIABLES("`OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH`")
def gevent() -> Pair:
    there = "value must be `patch_all`" in patched()[1]
    assert there
    return there, read_by_us("OTEL_PYTHON_AUTO_INSTRUMENTATION_EXPERIMENTAL_GEVENT_PATCH")


@pytest.mark.parametrize("row", VARIABLES.titles())
def test_a_row_says_what_a_run_shows(row: str) -> None:
    """A variable that the page calls the same does the same with both libraries, and any other one does not."""
    VARIABLES.check(row)


def test_every_variable_of_the_server_has_a_row() -> None:
    """Each variable in the source of contrib's server instrumentations, and of what they stand on, is in the table."""
    (folder,) = instrumentation.__path__
    core = [*Path(folder).glob("*.py"), *Path(folder).glob("auto_instrumentation/*.py")]
    servers = [path for name in ("asgi", "fastapi") for path in Path(folder, name).rglob("*.py")]
    assert http.__file__ is not None
    files = [*core, *servers, *Path(http.__file__).parent.rglob("*.py")]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    found = set(re.findall(r"\bOTEL_[A-Z0-9_]*[A-Z0-9]\b", text))
    assert len(found) > 8
    found -= {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"}  # the SDK's, an example in a help text
    assert {name for name in without_row(HEADING, found) if "_CLIENT_" not in name} == set()
