"""What `configure()` returns: flushes and stops whatever it has set up."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Any

from opentelemetry import _logs as logs_api
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api
from opentelemetry.sdk.resources import Resource

from .._export.forking import in_child
from .._export.pipeline import Pipeline
from .._export.signals import SIGNALS
from .._otel.stop import STOP_SECONDS
from .._sdk.forks import renew_instance_id
from .prepared_thread import PreparedThread
from .stop_budget import StopBudget
from .within import within


class Tracing:
    """What `configure()` has set up. Flushes it and shuts it down; as a context manager, at the end of the block.

        with configure("nightly-job") as tracing:
            ...

    `tracer_provider`, `meter_provider` and `logger_provider` are the SDK's. The first one does nothing when
    `OTEL_SDK_DISABLED` is true; the second one is None without metrics, the third one without logs.
    """

    def __init__(
        self,
        tracer_provider: trace_api.TracerProvider,
        meter_provider: metrics_api.MeterProvider | None = None,
        logger_provider: Any = None,
        *,
        pipelines: Sequence[Pipeline] = (),
        budget: StopBudget | None = None,
        resource: Resource | None = None,
    ) -> None:
        self.tracer_provider = tracer_provider
        self.meter_provider = meter_provider
        self.logger_provider: logs_api.LoggerProvider | None = logger_provider
        self.stopped: bool = False
        """Whether `shutdown()` has been called."""
        self._providers: list[Any] = []
        if not isinstance(tracer_provider, trace_api.NoOpTracerProvider):
            self._providers += [each for each in (tracer_provider, meter_provider, logger_provider) if each]
        self._pipelines = pipelines
        self._budget = budget or StopBudget()
        self._resource = resource
        self._threads = [PreparedThread("asgi-trace-stop", provider.shutdown) for provider in self._providers]
        in_child(self._renew)

    def _renew(self) -> None:
        if self._resource is not None:
            renew_instance_id(self._resource)

    @property
    def enabled(self) -> bool:
        """False when `OTEL_SDK_DISABLED` is true."""
        return not isinstance(self.tracer_provider, trace_api.NoOpTracerProvider)

    @property
    def lost(self) -> Mapping[str, int]:
        """How many "spans", "logs" and "data points" never arrived, over all exporters.

        Rejected by a collector, dropped at a full queue, not to be encoded, too large, or given up after an outage or
        at the stop. Every exporter counts for itself. What readers and processors of your own lose is not known here.
        """
        counts = dict.fromkeys([signal.things for signal in SIGNALS], 0)
        for pipeline in self._pipelines:
            counts[pipeline.losses.things] += pipeline.losses.count
        return MappingProxyType(counts)

    def force_flush(self, timeout_millis: float = STOP_SECONDS * 1000) -> bool:
        """Send what is queued, and wait for it for `timeout_millis` milliseconds at most.

        True when everything that was recorded before has arrived, and nothing was lost since the last call. False when
        the time is over, or something was lost: see `lost`.
        """
        calls = [partial(provider.force_flush, int(timeout_millis)) for provider in self._providers]
        return within(timeout_millis / 1000, *calls)

    def shutdown(self, timeout_millis: float = STOP_SECONDS * 1000) -> None:
        """Send what is queued and stop for good, within `timeout_millis` milliseconds. A second call is harmless.

        It is called at the interpreter's exit without you. All calls together wait 4 seconds at most, and a flush that
        has just failed shortens that. A call waits for one that is under way. What was not sent by then is in `lost`.
        """
        self.stopped = True
        self._budget.begin_stop()
        deadline = time.monotonic() + min(timeout_millis / 1000, self._budget.left())
        for thread in self._threads:
            thread.go()
        ended = [thread.wait(deadline - time.monotonic()) for thread in self._threads]
        for pipeline in self._pipelines:
            pipeline.close()
        if not all(ended):
            for thread in self._threads:  # what was cut off ends at once
                thread.wait(0.1)
            for pipeline in self._pipelines:
                pipeline.give_up()

    def __enter__(self) -> Tracing:
        """The block gets this object."""
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Call `shutdown()`."""
        self.shutdown()
