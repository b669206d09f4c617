"""Who records: the resource out of arguments, variables and detectors."""

from __future__ import annotations

import logging
import os

import pytest

from asgi_trace._configuration.environment import Environment
from asgi_trace._configuration.resource import build_resource, resource_attributes


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
