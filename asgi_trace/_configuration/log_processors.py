"""Where emitted log records go: into a queue with a thread, or straight to a console that a person watches."""

from __future__ import annotations

from copy import copy

from opentelemetry.context import Context
from opentelemetry.sdk._logs import LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk._logs.export import LogRecordExporter

from .._export.queue import Batching
from .._export.signals import LOGS
from .queued_export import ImmediateExport, QueuedExport
from .stop_budget import StopBudget


class BatchingLogRecordProcessor(QueuedExport[ReadableLogRecord], LogRecordProcessor):
    """Hands log records to an exporter in batches, from a thread of its own."""

    def __init__(self, exporter: LogRecordExporter, batching: Batching, budget: StopBudget) -> None:
        super().__init__(exporter, LOGS, batching, budget)

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Queue a record."""
        self._put(_readable(log_record))


class ImmediateLogRecordProcessor(ImmediateExport[ReadableLogRecord], LogRecordProcessor):
    """Hands each log record to an exporter at once."""

    def __init__(self, exporter: LogRecordExporter) -> None:
        super().__init__(exporter, LOGS)

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Export a record."""
        self._put(_readable(log_record))


def _readable(log_record: ReadWriteLogRecord) -> ReadableLogRecord:
    """What an exporter gets. The record lets go of its context, which may hold much that is not logged."""
    record = copy(log_record.log_record)
    record.context = Context()
    assert log_record.resource is not None  # noqa: S101 - the SDK's logger sets it
    return ReadableLogRecord(record, log_record.resource, log_record.instrumentation_scope, log_record.limits)
