"""The variables of contrib's httpx instrumentation: each row of the page is what a run shows."""

from __future__ import annotations

import os
from typing import Any

import httpx
import pytest
from opentelemetry.instrumentation.httpx import (
    SyncOpenTelemetryTransport,
)

from tests.support.asgi import attributes_of
from tests.support.moving import Cases, Pair, without_row
from tests.support.moving_httpx import Side, answer, both, environment

VARIABLES_OF = "Variables of contrib's httpx instrumentation"
VARIABLES = Cases(VARIABLES_OF)
URL = "http://orders.test/orders/7"


def excluded(variable: str) -> Pair:
    """Which of three requests have a span, with patterns in this variable."""

    def look(side: Side) -> object:
        seen = []
        for path in ("/health", "/client/7/info", "/orders/7"):
            side.get(f"http://orders.test{path}")
            seen.append(len(side.spans))
        return seen

    there, here = both(look, variables={variable: "health,client/.*/info"})
    assert here == [0, 0, 1]
    return there, here


@VARIABLES("`OTEL_SEMCONV_STABILITY_OPT_IN`")
def opt_in() -> Pair:
    def look(side: Side) -> tuple[set[str], list[str]]:
        side.get()
        return set(attributes_of(side.span)), sorted(side.meters.collected())

    there, here = both(look, variables={"OTEL_SEMCONV_STABILITY_OPT_IN": ""})
    assert there == ({"http.method", "http.url", "http.status_code"}, ["http.client.duration"])
    assert here == both(look)[1]
    twice = both(look, variables={"OTEL_SEMCONV_STABILITY_OPT_IN": "http/dup"})
    assert twice[0][1] == ["http.client.duration", "http.client.request.duration"]
    assert twice[1] == here
    return there, here


@VARIABLES("`OTEL_PYTHON_HTTPX_EXCLUDED_URLS`")
def excluded_urls() -> Pair:
    def look(side: Side) -> int:
        side.get("http://orders.test/health")
        return len(side.spans)

    assert both(look, here={"exclude": ("health", "client/.*/info")}) == (1, 0)
    return excluded("OTEL_PYTHON_HTTPX_EXCLUDED_URLS")


@VARIABLES("`OTEL_PYTHON_EXCLUDED_URLS`")
def all_excluded_urls() -> Pair:
    def look(side: Side) -> int:
        side.get("http://orders.test/health")
        return len(side.spans)

    both_set = {"OTEL_PYTHON_HTTPX_EXCLUDED_URLS": "orders/9", "OTEL_PYTHON_EXCLUDED_URLS": "health"}
    assert both(look, variables=both_set) == (1, 1)
    return excluded("OTEL_PYTHON_EXCLUDED_URLS")


CAPTURED = "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_"
SENT = {"x-tenant": "blue", "authorization": "hunter2"}


def headers_on_span(side: Side) -> dict[str, Any]:
    side.get(headers=SENT)
    return {name: value for name, value in attributes_of(side.span).items() if ".header." in name}


@VARIABLES("`OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_REQUEST`")
def request_headers() -> Pair:
    there, here = both(headers_on_span, variables={f"{CAPTURED}REQUEST": "X-.*"})
    assert there == {"http.request.header.x_tenant": ("blue",)}
    assert here == {"http.request.header.x-tenant": ("blue",)}
    assert here == both(headers_on_span, here={"capture_request_headers": "X-.*"})[1]
    return there, here


@VARIABLES("`OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_RESPONSE`")
def response_headers() -> Pair:
    there, here = both(headers_on_span, variables={f"{CAPTURED}RESPONSE": "x-cache"})
    assert there == {"http.response.header.x_cache": ("HIT", "stale", "MISS")}
    assert here == {"http.response.header.x-cache": ("HIT, stale", "MISS")}
    assert here == both(headers_on_span, here={"capture_response_headers": "x-cache"})[1]
    return there, here


@VARIABLES("`OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS`")
def sanitized_headers() -> Pair:
    asked = {f"{CAPTURED}REQUEST": "x-tenant,authorization"}
    sanitized = {**asked, "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS": "x-ten"}
    there, here = both(headers_on_span, variables=sanitized)
    assert sorted(there.values()) == [("[REDACTED]",), ("hunter2",)]
    assert list(here.values()) == [("REDACTED",), ("REDACTED",)]
    by_option = both(headers_on_span, variables=asked, here={"redact": "x-tenant"})[1]
    assert by_option == here
    return there, here


@VARIABLES("`OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS`")
def all_methods() -> Pair:
    def look(side: Side) -> object:
        side.get(method="BREW")
        return side.span.name, *side.attribute("http.request.method")

    switch = {"OTEL_PYTHON_INSTRUMENTATION_HTTP_CAPTURE_ALL_METHODS": "true"}
    assert both(look, variables=switch) == (("BREW", "BREW"), ("HTTP", "_OTHER"))
    listed = {"OTEL_INSTRUMENTATION_HTTP_KNOWN_METHODS": "GET,BREW"}
    assert both(look, variables=listed) == (("HTTP", "_OTHER"), ("BREW", "BREW"))
    return both(look, variables=switch)


@pytest.mark.parametrize("row", VARIABLES.titles())
def test_variables(row: str) -> None:
    """A row of the variables says what a run of both transports shows."""
    VARIABLES.check(row)


def test_every_variable_has_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable that contrib looks at to build a transport and to send a request has a row."""
    looked_at: set[str] = set()
    get = os._Environ.__getitem__

    def noting(variables: Any, name: str) -> Any:
        looked_at.add(name)
        return get(variables, name)

    with environment():
        side = Side(SyncOpenTelemetryTransport)  # its providers look at the SDK's variables
        monkeypatch.setattr(os._Environ, "__getitem__", noting)
        SyncOpenTelemetryTransport(
            httpx.MockTransport(answer),
            tracer_provider=side.spans.tracer_provider,
            meter_provider=side.meters.provider,
        ).handle_request(httpx.Request("GET", URL))
        monkeypatch.undo()
    read = {name for name in looked_at if name.startswith("OTEL_")}
    assert len(read) >= 6
    assert without_row(VARIABLES_OF, read) == set()
