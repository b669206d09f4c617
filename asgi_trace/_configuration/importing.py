"""Importing parts of the SDK that read variables while they are imported, where a wrong value does harm."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager

from .environment import whole_number


@contextmanager
def sdk_can_be_imported() -> Generator[None, None, None]:
    """`opentelemetry.sdk.trace` fails to import with a wrong OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT: it does not see one."""
    value = os.environ.get("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "")
    try:
        whole_number(value.strip() or "0", 0)
    except ValueError:
        with _unset("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "opentelemetry.sdk.trace"):
            yield
    else:
        yield


@contextmanager
def logs_can_be_imported() -> Generator[None, None, None]:
    """`opentelemetry.sdk._logs` makes a resource while it is imported, and with it runs all detectors: not here."""
    with _unset("OTEL_EXPERIMENTAL_RESOURCE_DETECTORS", "opentelemetry.sdk._logs"):
        yield


@contextmanager
def _unset(variable: str, module: str) -> Generator[None, None, None]:
    """Within, `variable` is not set, unless `module` has been imported before."""
    value = None if module in sys.modules else os.environ.pop(variable, None)
    try:
        yield
    finally:
        if value is not None:
            os.environ[variable] = value
