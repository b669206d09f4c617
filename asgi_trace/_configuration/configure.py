"""`configure()`: the SDK, OTLP exporters and OpenTelemetry's globals, set up in one call.

The state of the process is here: which configuration it has, OpenTelemetry's global providers, an `atexit` function,
and SIGTERM where its default action is in place. settings.py reads arguments and environment, providers.py builds what
they say, tracing.py flushes and stops it, and asgi_trace._export sends.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from opentelemetry import _logs as logs_api
from opentelemetry import metrics as metrics_api
from opentelemetry import trace as trace_api

from .._guard import logger
from .environment import Environment
from .importing import sdk_can_be_imported

if TYPE_CHECKING:
    from opentelemetry.sdk._logs import LogRecordProcessor
    from opentelemetry.sdk._logs.export import LogRecordExporter

__all__ = ["Tracing", "configure"]


try:
    with sdk_can_be_imported():
        from opentelemetry.sdk.metrics.export import MetricReader
        from opentelemetry.sdk.trace import SpanProcessor
        from opentelemetry.sdk.trace.export import SpanExporter
        from opentelemetry.sdk.trace.sampling import Sampler

        from .._otel.api import global_provider
        from . import sdk_settings
        from .again import differing
        from .foreign_providers import ForeignTracing, say
        from .processes import before_child_ends
        from .providers import build
        from .settings import Settings, settings_from
        from .sigterm import before_sigterm
        from .tracing import Tracing
except ImportError as exc:
    raise ImportError("configure() needs the SDK and gRPC: pip install 'asgi-trace[otlp]'") from exc


@dataclass(frozen=True)
class _Configured:
    """The first call of `configure()` in this process: where it stands, its arguments and its result."""

    tracing: Tracing
    arguments: Mapping[str, Any]
    file: str
    line: int

    def again(self, arguments: Mapping[str, Any]) -> Tracing:
        """The result, for the same call. Raises RuntimeError for another one, and after `shutdown()`."""
        if isinstance(self.tracing, ForeignTracing):
            return self.tracing
        where = f"configure() has been called already, in {self.file}, line {self.line}"
        advice = "keep what it returned, or call it in a module of its own that the others import"
        if different := differing(self.arguments, arguments):
            raise RuntimeError(f"{where}, with another value of {', '.join(different)}, and works once: {advice}")
        if self.tracing.stopped:
            raise RuntimeError(f"{where}, and shut down since; it works once per process: {advice}")
        return self.tracing


_lock = threading.Lock()
_configured: _Configured | None = None


def configure(
    service_name: str | None = None,
    *,
    resource_attributes: Mapping[str, Any] | None = None,
    sampler: str | float | Sampler | None = None,
    exporter: str | SpanExporter | Sequence[str | SpanExporter] | None = None,
    endpoint: str | None = None,
    insecure: bool | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float | None = None,
    compression: str | None = None,
    protocol: str | None = None,
    max_export_bytes: int = 4_000_000,
    certificate: str | os.PathLike[str] | None = None,
    client_key: str | os.PathLike[str] | None = None,
    client_certificate: str | os.PathLike[str] | None = None,
    schedule_delay_millis: float | None = None,
    max_queue_size: int | None = None,
    max_export_batch_size: int | None = None,
    span_processors: Sequence[SpanProcessor] = (),
    metrics: bool | str | MetricReader | Sequence[str | MetricReader] = False,
    logs: bool | str | LogRecordExporter | LogRecordProcessor | Sequence[Any] = False,
    flush_on_sigterm: bool = True,
) -> Tracing:
    """Set up OpenTelemetry for this process: SDK, OTLP exporters, global providers. Once per process.

        configure("orders", endpoint="http://collector:4317", sampler=0.1)

    Every argument that is left out comes from its `OTEL_*` variable, and from OpenTelemetry's default after that.
    Nothing here waits for a collector, and neither does a request; the end of the process waits at most 5 seconds.
    Returns a `Tracing`, which flushes, stops and counts what was lost. Where another library has set a global tracer
    provider, that one stays: a WARNING says so, and the `Tracing` flushes it.

    Args:
        service_name: the name of this service (`OTEL_SERVICE_NAME`).
        resource_attributes: more about it, like `{"deployment.environment.name": "staging"}`; they are added to
            those of `OTEL_RESOURCE_ATTRIBUTES`.
        sampler: a ratio of the traces that start here (0.1 is one in ten; a caller's decision is followed), one of
            OpenTelemetry's names like "parentbased_traceidratio" (its ratio is `OTEL_TRACES_SAMPLER_ARG`) or a
            Sampler.
        exporter: "otlp", "console", "none", a SpanExporter, or several of them. "otlp_proto_grpc" and
            "otlp_proto_http" are OTLP by that protocol.
        endpoint: the collector, for all signals: "http://collector:4317" (plain text), "https://collector:4317" (TLS),
            "collector:4317" (TLS unless `insecure`) or any other target of gRPC, like "unix:/run/otel.sock". Over HTTP
            the usual port is 4318, and each signal's path, like `/v1/traces`, is appended.
        insecure: True is plain text, False is TLS, for an `endpoint` that does not say; beats the scheme of an endpoint
            that the environment names.
        headers: sent with every export.
        timeout: seconds for one export with all its retries (`OTEL_EXPORTER_OTLP_TIMEOUT`, else 10).
        compression: "gzip" or "none" (`OTEL_EXPORTER_OTLP_COMPRESSION`, else none).
        protocol: "grpc", the default, or "http/protobuf" (`OTEL_EXPORTER_OTLP_PROTOCOL`).
        max_export_bytes: the largest request in bytes, before compression. A larger batch is sent in parts; a single
            span that is larger is lost, counted and named.
        certificate, client_key, client_certificate: paths of PEM files for TLS; beside plain text they are an error.
        schedule_delay_millis: how many milliseconds an ended span may wait for others (`OTEL_BSP_SCHEDULE_DELAY`, else
            5,000).
        max_queue_size, max_export_batch_size: hard bounds of what waits for a collector, and of one request. Left out,
            32,768 spans may wait, and a request grows up to 4,096 of them when a collector is slow.
        span_processors: more SpanProcessors; they see each span before the exporters do.
        metrics: True to export metrics like spans (`OTEL_METRICS_EXPORTER`), or what to do instead: names as in
            `exporter`, a MetricReader such as `PrometheusMetricReader()`, or several of them. False asks whether the
            variable names an exporter; () is none.
        logs: True to export the log records of the standard library (`OTEL_LOGS_EXPORTER`), with the ids of their
            spans, or what to do instead: names as in `exporter`, a LogRecordExporter, a LogRecordProcessor or a list of
            them. False asks the variable; () is none. Handlers, levels and formatters stay as they are.
        flush_on_sigterm: send what is queued when SIGTERM ends the process by its default action; a handler that
            something else has set is left alone.

    Raises:
        TypeError, ValueError: an argument has a value that makes no sense; the message says what to write instead. A
            wrong variable only makes the logger `asgi_trace` warn.
        ImportError: the extra `otlp` is missing.
        RuntimeError: this process has been configured already with other arguments, or has been shut down. The same
            call again returns what the first one returned.
    """
    global _configured
    arguments = dict(locals())
    with _lock:
        if _configured is not None:
            return _configured.again(arguments)
        environment = Environment(os.environ)
        settings = settings_from(environment, arguments)
        tracing = _around_foreign() or _set_up(settings, environment)
        caller = sys._getframe(1)
        _configured = _Configured(tracing, arguments, caller.f_code.co_filename, caller.f_lineno)
    if tracing.enabled and not isinstance(tracing, ForeignTracing):
        atexit.register(tracing.shutdown)
        before_child_ends(tracing)
        if flush_on_sigterm:
            before_sigterm(tracing.shutdown, tracing.force_flush)
    return tracing


def _around_foreign() -> ForeignTracing | None:
    """The `Tracing` around a global tracer provider that another library has set, if there is one."""
    provider: Any = global_provider("tracer")
    if provider is None:
        return None
    say("tracer", provider, "configure() sets nothing, and what it returns flushes that one")
    return ForeignTracing(provider, global_provider("meter"), global_provider("logger"))


def _set_up(settings: Settings, environment: Environment) -> Tracing:
    """Build the providers and set them globally; say what was wrong with the environment."""
    meters, loggers = global_provider("meter"), global_provider("logger")
    if settings.readers is not None and meters is not None:
        say("meter", meters, "metrics are not exported by configure(), spans are")
        settings = replace(settings, readers=None)
    if settings.log_exporters and loggers is not None:
        say("logger", loggers, "log records are not exported by configure(), spans are")
        settings = replace(settings, log_exporters=[])
    tracing = build(settings, environment)
    level = sdk_settings.log_level(environment)
    for problem in environment.problems.values():
        logger.warning(problem)
    if tracing.enabled:
        _set_globals(tracing)
        tracing.meter_provider = tracing.meter_provider or meters
        tracing.logger_provider = tracing.logger_provider or loggers
    if level is not None:
        _set_log_level(level)
    if tracing.enabled and trace_api.get_tracer_provider() is not tracing.tracer_provider:
        tracing.shutdown(0)  # another thread has been quicker
        return _around_foreign() or tracing
    return tracing


def _set_globals(tracing: Tracing) -> None:
    if tracing.meter_provider is not None:
        metrics_api.set_meter_provider(tracing.meter_provider)
    if tracing.logger_provider is not None:
        logs_api.set_logger_provider(tracing.logger_provider)
        tracing.logger_provider.watch()  # type: ignore[attr-defined]
    trace_api.set_tracer_provider(tracing.tracer_provider)


def _set_log_level(level: int) -> None:
    for name in ("asgi_trace", "opentelemetry"):
        if logging.getLogger(name).level == logging.NOTSET:  # a level that was set stays
            logging.getLogger(name).setLevel(level)
