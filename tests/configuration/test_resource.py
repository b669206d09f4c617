"""Who records: the resource out of arguments, variables and detectors."""

from __future__ import annotations

import logging
import os
import time
import uuid
from typing import Any

import pytest
from opentelemetry.sdk.resources import Resource, ResourceDetector

from asgi_trace._configuration import resource
from asgi_trace._configuration.environment import Environment
from asgi_trace._configuration.resource import build_resource, resource_attributes


def test_the_resource(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Arguments beat OTEL_SERVICE_NAME beats OTEL_RESOURCE_ATTRIBUTES; bad pairs are said once, and not by the SDK."""

    def found(service_name: str | None, attributes: dict[str, object] | None = None) -> dict[str, object]:
        environment = Environment(os.environ)
        given = resource_attributes(service_name, attributes, environment)
        attributes = dict(build_resource(given, environment).attributes)
        problems.update(environment.problems)
        uuid.UUID(str(attributes.pop("service.instance.id")))
        return attributes

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


SECONDS = "which took longer than 0.5 seconds"


class Hanging(ResourceDetector):
    def detect(self) -> Resource:
        time.sleep(60)
        return Resource({"late": True})


class Failing(ResourceDetector):
    def detect(self) -> Resource:
        raise OSError("no metadata service")


class Cloud(ResourceDetector):
    def detect(self) -> Resource:
        return Resource({"cloud": "blue", "team": "cloud's"})


DETECTORS = {"hanging": Hanging, "failing": Failing, "cloud": Cloud, "hanging too": Hanging}


class Point:
    """An entry point."""

    def __init__(self, name: str) -> None:
        self.name = name

    def load(self) -> Any:
        return DETECTORS[self.name]


@pytest.mark.parametrize(
    ("names", "found", "problem"),
    [
        ("cloud", {"cloud": "blue", "team": "a"}, ""),
        ("otel,cloud", {"cloud": "blue", "team": "cloud's"}, ""),
        ("cloud, nobody", {"cloud": "blue", "team": "a"}, "names 'nobody', which is not installed"),
        ("failing,cloud", {"cloud": "blue", "team": "a"}, "names 'failing', which failed (OSError('no metadata"),
        ("hanging,cloud", {"cloud": "blue", "team": "a"}, f"names 'hanging', {SECONDS}; left out"),
        ("hanging,hanging too", {"team": "a"}, f"names 'hanging', {SECONDS}, and names 'hanging too', {SECONDS}"),
        ("*", {"cloud": "blue", "team": "a"}, "names 'failing', which failed"),
    ],
)
def test_resource_detectors(names: str, found: dict[str, str], problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Detectors count in their order; one that hangs, fails or is not there is named, and costs seconds at most."""

    def installed(group: str, name: str | None = None) -> list[Point]:
        return [Point(each) for each in DETECTORS if name in (None, each)]

    monkeypatch.setattr(resource, "entry_points", installed)
    monkeypatch.setattr(resource, "DETECTOR_SECONDS", 0.5)
    environment = Environment({"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": names, "OTEL_RESOURCE_ATTRIBUTES": "team=a"})
    began = time.monotonic()
    attributes = build_resource({}, environment).attributes
    assert time.monotonic() - began < 10
    assert {key: attributes.get(key) for key in found} == found
    assert "late" not in attributes
    assert problem in "".join(environment.problems.values())
    assert len(environment.problems) == bool(problem)


def test_the_sdks_detectors_are_known() -> None:
    """The SDK's own detectors have the names that its documentation gives them."""
    attributes = build_resource({}, Environment({"OTEL_EXPERIMENTAL_RESOURCE_DETECTORS": "os,process"})).attributes
    assert {"os.type", "process.pid"} <= attributes.keys()
