"""The OTLP exporter of log records. A file of its own, since the SDK's logs are imported only where they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk._logs.export import LogRecordExporter, LogRecordExportResult

from .batch import Batches
from .collector import Collector
from .delivery import Delivery
from .encode import encode_logs
from .signals import LOGS


class OTLPLogRecordExporter(LogRecordExporter):
    """Exports log records."""

    def __init__(self, collector: Collector) -> None:
        self.delivery = Delivery(collector, LOGS)
        self.batches: Batches[Any] = Batches(self.delivery, encode_logs, _name)

    def ship(self, records: Sequence[Any]) -> int:
        """Send a batch. Returns how many of it were lost."""
        return self.batches.send(records)

    def export(self, batch: Sequence[Any]) -> LogRecordExportResult:
        """Send a batch. FAILURE when anything of it was lost."""
        return LogRecordExportResult.FAILURE if self.ship(batch) else LogRecordExportResult.SUCCESS

    def shutdown(self) -> None:
        """Stop at once; the processor has waited for what was under way."""
        self.delivery.close()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nothing waits in here."""
        return True


def _name(record: Any) -> str:
    return f"the log record {str(record.log_record.body)[:60]!r} of {record.instrumentation_scope.name!r}"
