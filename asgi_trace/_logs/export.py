"""Emits each record of the standard library as one of OpenTelemetry's, for the span that it belongs to."""

from __future__ import annotations

import logging
import threading

from opentelemetry.context import get_value
from opentelemetry.sdk._logs import Logger, LoggerProvider, LogRecordLimits, ReadWriteLogRecord

from .._guard import Guard
from .._log_correlation import span_context_of
from .._otel.api import SUPPRESS
from .record import translate

_emitting = threading.local()
"""Whether this thread is emitting a record."""


class LogExport:
    """Called with a record, emits it. Never raises, and emits nothing from within an export or an emit.

    What an exporter or a processor logs while it works would be exported again, and again: within `suppressed()`, which
    every exporting processor of ours and of the SDK sets, nothing is emitted, whichever logger it comes from.
    """

    def __init__(self, provider: LoggerProvider, limits: LogRecordLimits) -> None:
        self._provider = provider
        self._limits = limits
        self._loggers: dict[str, Logger] = {}
        self._guard = Guard()

    def __call__(self, record: logging.LogRecord) -> None:
        """Emit `record` with the ids of its span: those that `TraceContextFilter` would put on it."""
        if getattr(_emitting, "now", False) or get_value(SUPPRESS):
            return
        _emitting.now = True
        try:
            logger = self._logger(record.name)
            logger.emit(
                ReadWriteLogRecord(  # type: ignore[arg-type]  # taken as it is, with these limits in every SDK
                    translate(record, span_context_of(record)),
                    resource=logger.resource,
                    instrumentation_scope=logger.instrumentation_scope,
                    limits=self._limits,
                )
            )
        except Exception:
            self._guard.report("exporting a log record")
        finally:
            _emitting.now = False

    def _logger(self, name: str) -> Logger:
        if name not in self._loggers:
            self._loggers[name] = self._provider.get_logger(name)  # type: ignore[assignment]
        return self._loggers[name]
