"""What `configure(logs=...)` takes beside names. Imported only where such a thing is passed, with the SDK's logs."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk._logs import LogRecordProcessor
from opentelemetry.sdk._logs.export import LogRecordExporter


def check(chosen: list[Any]) -> None:
    """Raises TypeError for what is no exporter and no processor of log records."""
    for each in chosen:
        if not isinstance(each, (str, LogRecordExporter, LogRecordProcessor)):
            raise TypeError(
                "logs must be True, False, names like 'otlp', LogRecordExporters, LogRecordProcessors or a list of"
                f" them, not {each!r}"
            )
