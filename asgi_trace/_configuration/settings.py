"""All settings of one `configure()`: from its arguments and the environment to what the providers are built from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.sdk.metrics.export import MetricReader
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.sdk.trace.sampling import Sampler

from .._export.queue import Batching
from . import sdk_settings
from .environment import Environment, argument, type_names
from .importing import logs_can_be_imported
from .otlp_settings import CollectorArguments
from .resource import resource_attributes


@dataclass(frozen=True)
class Settings:
    """What the providers are built from. `readers` is None where metrics are off.

    `log_exporters` is empty where logs are off; else they are names, LogRecordExporters and LogRecordProcessors.
    """

    resource_attributes: Mapping[str, Any]
    sampler: Sampler
    exporters: Sequence[str | SpanExporter]
    collector: CollectorArguments
    batching: Batching
    span_processors: Sequence[SpanProcessor]
    readers: Sequence[str | MetricReader] | None
    log_exporters: list[Any]


_COLLECTOR = (
    "protocol",
    "endpoint",
    "insecure",
    "headers",
    "timeout",
    "compression",
    "certificate",
    "client_key",
    "client_certificate",
    "max_export_bytes",
)


def settings_from(environment: Environment, arguments: Mapping[str, Any]) -> Settings:
    """Check the arguments of `configure()`, and read the variables of those that were left out or are None.

    Raises ValueError or TypeError with the name of the argument that is wrong.
    """
    given = arguments.get
    _say_unread(environment)
    return Settings(
        resource_attributes=resource_attributes(given("service_name"), given("resource_attributes"), environment),
        sampler=sdk_settings.sampler(given("sampler"), environment),
        exporters=_exporters("exporter", given("exporter"), SpanExporter, environment, "OTEL_TRACES_EXPORTER"),
        collector=CollectorArguments.checked(
            **{name: arguments[name] for name in _COLLECTOR if arguments.get(name) is not None}
        ),
        batching=sdk_settings.batching(
            given("schedule_delay_millis"), given("max_queue_size"), given("max_export_batch_size"), environment
        ),
        span_processors=_all_are(SpanProcessor, "span_processors", given("span_processors", ())),
        readers=_readers(given("metrics", False), environment),
        log_exporters=_log_exporters(given("logs", False), environment),
    )


def _say_unread(environment: Environment) -> None:
    """Variables that say something, and are not heard here."""
    if environment.text("OTEL_CONFIG_FILE"):
        environment.note("OTEL_CONFIG_FILE", "is not read: use the other OTEL_* variables, or arguments of configure()")


def _readers(
    metrics: bool | str | MetricReader | Sequence[str | MetricReader], environment: Environment
) -> Sequence[str | MetricReader] | None:
    """The readers, or None for no metrics: False asks whether `OTEL_METRICS_EXPORTER` names an exporter."""
    if metrics is False and environment.text("OTEL_METRICS_EXPORTER") is None:
        return None
    chosen = None if isinstance(metrics, bool) else metrics
    default = "none" if metrics is False else "otlp"
    return _exporters("metrics", chosen, MetricReader, environment, "OTEL_METRICS_EXPORTER", default) or None


def _log_exporters(logs: Any, environment: Environment) -> list[Any]:
    """False asks whether the variable names an exporter; True is the variable's exporters, else OTLP."""
    if logs is False and environment.text("OTEL_LOGS_EXPORTER") is None:
        return []
    if isinstance(logs, bool):
        return list(sdk_settings.exporters_from(environment, "OTEL_LOGS_EXPORTER", "otlp" if logs else "none"))
    chosen: list[Any] = []
    for item in logs if isinstance(logs, Sequence) and not isinstance(logs, str) else [logs]:
        chosen += argument("logs", sdk_settings.exporters, item) if isinstance(item, str) else [item]
    if not all(isinstance(item, str) for item in chosen):
        with logs_can_be_imported():
            from .log_arguments import check
        check(chosen)
    return chosen


def _exporters(
    name: str, value: Any, kind: type, environment: Environment, variable: str, default: str = "otlp"
) -> list[Any]:
    """Names, and objects of one kind: those of an argument, or the names of its variable."""
    if value is None:
        return list(sdk_settings.exporters_from(environment, variable, default))
    items: list[Any] = []
    for item in [value] if isinstance(value, (str, kind)) else list(_all_are((str, kind), name, value)):
        items += argument(name, sdk_settings.exporters, item) if isinstance(item, str) else [item]
    return items


def _all_are(kinds: type | tuple[type, ...], name: str, values: Any) -> Sequence[Any]:
    if not isinstance(values, Sequence) or not all(isinstance(value, kinds) for value in values):
        raise TypeError(f"{name} must be a list of {type_names(kinds)}, not {values!r}")
    return values
