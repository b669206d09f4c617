"""The SDK's meter provider, with a stop and a flush that keep their time and tell the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk import metrics as sdk
from opentelemetry.sdk.metrics.export import MetricReader

from .._export.forking import in_child
from .._export.pipeline import Pipeline
from .._sdk.forks import forget_measurements, renew_export_locks
from .stop_budget import StopBudget


class MeterProvider(sdk.MeterProvider):
    """See `opentelemetry.sdk.metrics.MeterProvider`. `pipelines` are those of its exporters."""

    def __init__(
        self,
        pipelines: Sequence[Pipeline],
        budget: StopBudget,
        *,
        metric_readers: Sequence[MetricReader] = (),
        **settings: Any,
    ) -> None:
        super().__init__(metric_readers=metric_readers, shutdown_on_exit=False, **settings)
        self._pipelines = pipelines
        self._budget = budget
        self._own_readers = metric_readers
        in_child(self._renew)

    def _renew(self) -> None:
        renew_export_locks(self._own_readers)
        forget_measurements(self)

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Collect and export now. Whether all that has arrived, and nothing was lost since the last call."""
        flushed = False
        self._budget.flush_begins()
        for pipeline in self._pipelines:
            pipeline.hurry()
        try:
            flushed = super().force_flush(timeout_millis)
        finally:
            for pipeline in self._pipelines:
                pipeline.relax()
            clean = [pipeline.losses.none_since_last_asked() for pipeline in self._pipelines]
            flushed = flushed and all(clean)
            self._budget.flush_ends(flushed)
        return flushed

    def shutdown(self, timeout_millis: float = 30_000) -> None:
        """Export a last time and stop for good, as long as the budget allows."""
        self._budget.begin_stop()
        for pipeline in self._pipelines:
            pipeline.hurry()
        super().shutdown(min(timeout_millis, self._budget.left() * 1000))
