"""The logs of `configure()`: the SDK's LoggerProvider, and the records of the standard library that go to it.

Imported only where logs are exported: `logs_can_be_imported()` says how.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

from opentelemetry.sdk import _logs as sdk
from opentelemetry.sdk._logs.export import ConsoleLogRecordExporter, LogRecordExporter
from opentelemetry.sdk.resources import Resource

from .._export.log_exporter import OTLPLogRecordExporter
from .._export.signals import LOGS
from .._logs.export import LogExport
from .._logs.hook import watch
from . import sdk_settings
from .construction import Construction
from .environment import Environment
from .log_processors import BatchingLogRecordProcessor, ImmediateLogRecordProcessor


class LoggerProvider(sdk.LoggerProvider):
    """See `opentelemetry.sdk._logs.LoggerProvider`. `watch()` exports the records of the standard library's loggers."""

    def __init__(self, resource: Resource, limits: sdk.LogRecordLimits, meters: Any = None) -> None:
        # SDKs before 1.44 read the limits from the environment for each record, and older ones do not measure
        # themselves: they take no argument for it.
        known = inspect.signature(sdk.LoggerProvider).parameters
        given = {"log_record_limits": limits, "meter_provider": meters}
        options: dict[str, Any] = {name: value for name, value in given.items() if name in known}
        super().__init__(resource, shutdown_on_exit=False, **options)
        # The number of attributes that a limit cuts off is on the record. A warning for each is too much.
        warnings.filterwarnings("ignore", category=sdk.LogRecordDroppedAttributesWarning)
        self._limits = limits
        self._end_watch: Callable[[], None] | None = None

    def watch(self) -> None:
        """Export the records of the standard library's loggers from now on, until `shutdown()`."""
        if self._end_watch is None:
            self._end_watch = watch(LogExport(self, self._limits))

    def shutdown(self) -> None:
        """Export what is queued, and no record any more."""
        if self._end_watch is not None:
            self._end_watch()
        super().shutdown()


def logger_provider(made: Construction) -> LoggerProvider:
    """A provider with a processor for each name, exporter and processor of the settings."""
    provider = LoggerProvider(made.resource, _limits(made.environment), made.meters)
    for each in made.settings.log_exporters:
        if isinstance(each, sdk.LogRecordProcessor):
            provider.add_log_record_processor(each)
            continue
        processor = _processor(each, made)
        made.add(processor)
        provider.add_log_record_processor(processor)
    return provider


def _processor(
    chosen: str | LogRecordExporter, made: Construction
) -> BatchingLogRecordProcessor | ImmediateLogRecordProcessor:
    if chosen == "console":
        return ImmediateLogRecordProcessor(ConsoleLogRecordExporter(out=sys.stdout))
    if isinstance(chosen, str):
        limit = sdk_settings.export_timeout(made.environment, "OTEL_BLRP_EXPORT_TIMEOUT")
        chosen = OTLPLogRecordExporter(made.collector(LOGS, chosen, limit))
    return BatchingLogRecordProcessor(chosen, sdk_settings.log_batching(made.environment), made.budget)


def _limits(environment: Environment) -> sdk.LogRecordLimits:
    """`OTEL_LOGRECORD_ATTRIBUTE_*_LIMIT`, else `OTEL_ATTRIBUTE_*_LIMIT`. Unset is 128, and no limit of length."""
    limit = partial(sdk_settings.count_limit, environment)
    count = limit(("OTEL_LOGRECORD_ATTRIBUTE_COUNT_LIMIT", "OTEL_ATTRIBUTE_COUNT_LIMIT"), 128)
    length = limit(("OTEL_LOGRECORD_ATTRIBUTE_VALUE_LENGTH_LIMIT", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT"), -1)
    return record_limits(count, length)


def record_limits(count: int, length: int) -> sdk.LogRecordLimits:
    """At most `count` attributes of at most `length` characters; -1 is no limit.

    SDKs from 1.44 on have two limits more, those of log records alone, which would else be read from the environment,
    and take -1 for no limit. Older ones refuse -1, and read what is not given from the environment: they are told
    afterwards.
    """
    if "max_log_record_attributes" in inspect.signature(sdk.LogRecordLimits).parameters:
        return sdk.LogRecordLimits(count, length, count, length)
    limits: Any = sdk.LogRecordLimits(0, 0)
    limits.max_attributes = None if count < 0 else count
    limits.max_attribute_length = None if length < 0 else length
    return limits  # type: ignore[no-any-return]
