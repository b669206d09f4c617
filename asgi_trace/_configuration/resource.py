"""Who records: the resource of every span and metric.

The SDK reads `OTEL_RESOURCE_ATTRIBUTES` and its detectors well, but complains of a wrong pair without its variable and
takes a blank name for a name; both are put right here.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any

from opentelemetry.sdk.resources import SERVICE_NAME, Resource

from .environment import Environment, argument, pairs

_ABOUT_PAIRS = ("Invalid key value resource attribute", "invalid attribute key", "invalid key")


def resource_attributes(
    service_name: str | None, attributes: Mapping[str, Any] | None, environment: Environment
) -> dict[str, Any]:
    """What is said about this service: arguments over `OTEL_SERVICE_NAME` over `OTEL_RESOURCE_ATTRIBUTES`.

    Only what must win over the SDK's own reading of these variables.
    """
    given = dict(argument("resource_attributes", dict, attributes, Mapping)) if attributes is not None else {}
    for key, value in given.items():
        _check_attribute(key, value)
    if service_name is not None:
        given[SERVICE_NAME] = argument("service_name", _some_text, service_name)
    variables, wrong = pairs(environment.text("OTEL_RESOURCE_ATTRIBUTES") or "")
    if wrong:
        environment.note("OTEL_RESOURCE_ATTRIBUTES", f"must be like 'key=value,key=value'; {wrong} is left out")
    if SERVICE_NAME not in given and (name := environment.text("OTEL_SERVICE_NAME") or variables.get(SERVICE_NAME)):
        given[SERVICE_NAME] = name
    return given


def build_resource(attributes: Mapping[str, Any], environment: Environment) -> Resource:
    """Who records: these attributes over `OTEL_RESOURCE_ATTRIBUTES` over the SDK's detectors."""
    detectors = (environment.text("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS") or "").split(",")
    unknown = [name for name in map(str.strip, detectors) if name and not _is_detector(name)]
    if unknown:
        environment.note("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", f"names {unknown}, not installed; left out")
    with _unsaid(unknown):
        found = Resource.create(attributes)
    if not str(found.attributes.get(SERVICE_NAME, "")).strip():  # OTEL_SERVICE_NAME is blank, which is unset
        found = found.merge(Resource({SERVICE_NAME: f"unknown_service:{os.path.basename(sys.executable)}"}))
    return found


@contextmanager
def _unsaid(detectors: Sequence[str]) -> Iterator[None]:
    """Keeps the SDK from saying again what has been noted as a problem."""

    def unsaid(record: logging.LogRecord) -> bool:
        about_pair = str(record.msg).startswith(_ABOUT_PAIRS)
        about_detector = isinstance(record.args, tuple) and any(record.args[:1] == (name,) for name in detectors)
        return not about_pair and not about_detector

    loggers = [logging.getLogger(f"opentelemetry.{name}") for name in ("sdk.resources", "attributes")]
    for sdk_logger in loggers:
        sdk_logger.addFilter(unsaid)
    try:
        yield
    finally:
        for sdk_logger in loggers:
            sdk_logger.removeFilter(unsaid)


def _is_detector(name: str) -> bool:
    return name in {"*", "otel"} or any(entry_points(group="opentelemetry_resource_detector", name=name))


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
