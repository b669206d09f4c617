"""Settings and providers as `configure()` makes them, without anything global."""

from __future__ import annotations

from typing import Any

from asgi_trace._configuration.environment import Environment
from asgi_trace._configuration.otlp_settings import CollectorArguments, collector
from asgi_trace._configuration.providers import build
from asgi_trace._configuration.settings import settings_from
from asgi_trace._configuration.tracing import Tracing
from asgi_trace._export.collector import Collector
from asgi_trace._export.signals import TRACES, Signal


def built(variables: dict[str, str] | None = None, **arguments: Any) -> Tracing:
    """The providers of `configure(**arguments)`; no exporter where none is named."""
    environment = Environment(variables or {})
    return build(settings_from(environment, {"exporter": "none", **arguments}), environment)


def read(variables: dict[str, str], signal: Signal = TRACES, **arguments: Any) -> tuple[Collector, dict[str, str]]:
    """The collector of one signal, from variables and from arguments of `configure()`; and the problems."""
    environment = Environment(variables)
    return collector(signal, CollectorArguments.checked(**arguments), environment), environment.problems
