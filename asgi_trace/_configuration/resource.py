"""The resource of every span, metric and log record: what is known about this service and this process.

Later words win: the SDK's own name, a `service.instance.id`, the detectors, `OTEL_RESOURCE_ATTRIBUTES`,
`OTEL_SERVICE_NAME`, the arguments of `configure()`. `Resource.create()` of the SDK is not used: it waits for a detector
that hangs, and so does the interpreter's exit.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Mapping
from importlib.metadata import entry_points, version
from threading import Thread
from typing import Any

from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    TELEMETRY_SDK_LANGUAGE,
    TELEMETRY_SDK_NAME,
    TELEMETRY_SDK_VERSION,
    Resource,
)

from .environment import Environment, argument, pairs

DETECTORS = "opentelemetry_resource_detector"
DETECTOR_SECONDS = 5.0
"""How long all detectors together may take."""
_VARIABLES = "otel"  # the name of the detector that reads the two variables; the last one, unless it is named


def resource_attributes(
    service_name: str | None, attributes: Mapping[str, Any] | None, environment: Environment
) -> dict[str, Any]:
    """What the arguments and `OTEL_SERVICE_NAME` say about this service. Raises ValueError, TypeError."""
    given = dict(argument("resource_attributes", dict, attributes, Mapping)) if attributes is not None else {}
    for key, value in given.items():
        _check_attribute(key, value)
    if service_name is not None:
        given[SERVICE_NAME] = argument("service_name", _some_text, service_name)
    elif SERVICE_NAME not in given and (name := environment.text("OTEL_SERVICE_NAME")):
        given[SERVICE_NAME] = name
    return given


def build_resource(attributes: Mapping[str, Any], environment: Environment) -> Resource:
    """The resource, with `attributes` above all else."""
    found = Resource(
        {
            TELEMETRY_SDK_LANGUAGE: "python",
            TELEMETRY_SDK_NAME: "opentelemetry",
            TELEMETRY_SDK_VERSION: version("opentelemetry-sdk"),
            SERVICE_INSTANCE_ID: str(uuid.uuid4()),
        }
    )
    for detected in _detected(environment):
        found = found.merge(detected)
    found = found.merge(Resource(attributes))
    if not str(found.attributes.get(SERVICE_NAME, "")).strip():
        found = found.merge(Resource({SERVICE_NAME: f"unknown_service:{os.path.basename(sys.executable)}"}))
    return found


def _detected(environment: Environment) -> list[Resource]:
    """What the detectors of `OTEL_EXPERIMENTAL_RESOURCE_DETECTORS` say, each in a thread that may hang for ever."""
    variable = "OTEL_EXPERIMENTAL_RESOURCE_DETECTORS"
    names = _detector_names(environment.text(variable) or "")
    detections = {name: _Detection(name) for name in names if name != _VARIABLES}
    deadline = time.monotonic() + DETECTOR_SECONDS
    problems = [problem for each in detections.values() if (problem := each.problem(deadline - time.monotonic()))]
    if problems:
        environment.note(variable, f"{', and '.join(problems)}; left out")
    return [_from_variables(environment) if name == _VARIABLES else detections[name].resource for name in names]


def _detector_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if "*" in names:
        known = {point.name for point in entry_points(group=DETECTORS)} - {_VARIABLES, *names}
        where = names.index("*")
        names[where : where + 1] = sorted(known)
    return [*dict.fromkeys(names), *([] if _VARIABLES in names else [_VARIABLES])]


def _from_variables(environment: Environment) -> Resource:
    good, wrong = pairs(environment.text("OTEL_RESOURCE_ATTRIBUTES") or "")
    if wrong:
        environment.note("OTEL_RESOURCE_ATTRIBUTES", f"must be like 'key=value,key=value'; {wrong} is left out")
    return Resource(good)


class _Detection:
    """One detector at work, in a daemon thread: neither `configure()` nor the interpreter's exit waits for it."""

    def __init__(self, name: str) -> None:
        self.resource = Resource({})
        self._name = name
        self._problem = ""
        self._thread = Thread(target=self._run, name=f"asgi-trace-detector-{name}", daemon=True)
        self._thread.start()

    def problem(self, seconds: float) -> str:
        """Wait for so long. Returns what is wrong with this detector, or ""."""
        self._thread.join(max(0.0, seconds))
        if self._thread.is_alive():
            self.resource = Resource({})
            return f"names {self._name!r}, which took longer than {DETECTOR_SECONDS:g} seconds"
        return self._problem

    def _run(self) -> None:
        try:
            point = next(iter(entry_points(group=DETECTORS, name=self._name)), None)
            if point is None:
                self._problem = f"names {self._name!r}, which is not installed"
            else:
                self.resource = point.load()().detect()
        except Exception as exc:
            self._problem = f"names {self._name!r}, which failed ({exc!r})"


def _some_text(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be empty; leave it out to use OTEL_SERVICE_NAME")
    return text


def _check_attribute(key: object, value: object) -> None:
    if not isinstance(key, str) or not key:
        raise TypeError(f"resource_attributes must have str keys, not {key!r}")
    values = value if isinstance(value, (list, tuple)) else (value,)
    kinds = {next((kind for kind in (str, bool, int, float) if isinstance(item, kind)), None) for item in values}
    if None in kinds or len(kinds) > 1:
        raise TypeError(f"resource_attributes[{key!r}] must be str, bool, int, float or a list of one of them")
