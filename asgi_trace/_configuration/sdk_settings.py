"""From arguments and environment to what the SDK's constructors take: arguments first, then `OTEL_*`, then the default.

The SDK never reads a variable that could harm it: every value is read and checked here and passed on explicitly. A
wrong argument raises, a wrong variable becomes a problem of the `Environment`. Builds parts; starts and sets nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeVar

from opentelemetry.sdk.metrics import (
    AlwaysOffExemplarFilter,
    AlwaysOnExemplarFilter,
    Counter,
    Histogram,
    ObservableCounter,
    TraceBasedExemplarFilter,
)
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.metrics.view import ExplicitBucketHistogramAggregation, ExponentialBucketHistogramAggregation
from opentelemetry.sdk.trace import SpanLimits
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, TraceIdRatioBased

from .._export.collector import GRPC, HTTP
from .._export.queue import Batching
from .environment import Environment, alternatives, argument, boolean, one_of, plugin, positive, ratio, whole_number

T = TypeVar("T")

EXPORTERS = ("otlp", "console", "none")
OTLP_PROTOCOLS = {"otlp": None, "otlp_proto_grpc": GRPC, "otlp_proto_http": HTTP}
"""The names of the OTLP exporter, each with its protocol; None is the one that is set elsewhere."""
QUEUE_SIZE, BATCH_SIZE, LARGEST_BATCH = 32_768, 512, 4096
"""Measured: a burst of 20,000 spans waits in the queue while the request path holds the interpreter, and batches that
grow carry 16,000 spans a second to a collector that takes 250 ms an answer."""
_DEFAULT_SAMPLER = "parentbased_always_on"
_RATIO_SAMPLERS = ("traceidratio", "parentbased_traceidratio")
_SAMPLERS: dict[str, Callable[[float], Sampler]] = {
    "always_on": lambda _: ALWAYS_ON,
    "always_off": lambda _: ALWAYS_OFF,
    "traceidratio": TraceIdRatioBased,
    "parentbased_always_on": lambda _: ParentBased(ALWAYS_ON),
    "parentbased_always_off": lambda _: ParentBased(ALWAYS_OFF),
    "parentbased_traceidratio": lambda share: ParentBased(TraceIdRatioBased(share)),
}
_LOG_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
_DELTA, _CUMULATIVE = AggregationTemporality.DELTA, AggregationTemporality.CUMULATIVE
_TEMPORALITIES: dict[str, dict[type, AggregationTemporality]] = {
    "cumulative": {},
    "delta": {Counter: _DELTA, Histogram: _DELTA, ObservableCounter: _DELTA},
    "lowmemory": {Counter: _DELTA, Histogram: _DELTA, ObservableCounter: _CUMULATIVE},
}
_HISTOGRAMS: dict[str, Callable[[], Any]] = {
    "explicit_bucket_histogram": ExplicitBucketHistogramAggregation,
    "base2_exponential_bucket_histogram": ExponentialBucketHistogramAggregation,
}
_EXEMPLARS: dict[str, Callable[[], Any]] = {
    "trace_based": TraceBasedExemplarFilter,
    "always_on": AlwaysOnExemplarFilter,
    "always_off": AlwaysOffExemplarFilter,
}


def disabled(environment: Environment) -> bool:
    """`OTEL_SDK_DISABLED`."""
    return environment.read("OTEL_SDK_DISABLED", boolean, False, str)


def internal_metrics(environment: Environment) -> bool:
    """`OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED`."""
    return environment.read("OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED", boolean, False, str)


def log_level(environment: Environment) -> int | None:
    """`OTEL_LOG_LEVEL`."""
    return environment.read(
        "OTEL_LOG_LEVEL", lambda text: one_of(text, _LOG_LEVELS), None, lambda _: "the level of the logging module"
    )


def sampler(value: str | float | Sampler | None, environment: Environment) -> Sampler:
    """The sampler: an argument, or `OTEL_TRACES_SAMPLER` with its `_ARG`; its name may be that of an entry point."""
    if isinstance(value, Sampler):
        return value
    if value is None:
        parse, default = partial(_sampler_of, environment), _SAMPLERS[_DEFAULT_SAMPLER](1.0)
        return environment.read("OTEL_TRACES_SAMPLER", parse, default, lambda _: repr(_DEFAULT_SAMPLER))
    if isinstance(value, str):
        return argument("sampler", partial(_sampler_of, environment, others=", a ratio or a Sampler"), value)
    return ParentBased(TraceIdRatioBased(argument("sampler", ratio, value, (str, int, float, Sampler))))


def _sampler_of(environment: Environment, text: str, others: str = "") -> Sampler:
    name = text.strip().lower()
    if name in _SAMPLERS:
        share = environment.read("OTEL_TRACES_SAMPLER_ARG", ratio, 1.0) if name in _RATIO_SAMPLERS else 1.0
        return _SAMPLERS[name](share)
    try:
        factory = plugin("opentelemetry_traces_sampler", text.strip())
        made = factory(environment.text("OTEL_TRACES_SAMPLER_ARG") or "") if factory else None
    except Exception as exc:
        raise ValueError(f"names the sampler {text!r}, which cannot be made ({exc!r})") from None
    if not isinstance(made, Sampler):
        raise ValueError(f"must be {alternatives(_SAMPLERS)}{others}, not {text!r}")
    return made


def id_generator(environment: Environment) -> IdGenerator:
    """`OTEL_PYTHON_ID_GENERATOR`."""

    def parse(text: str) -> IdGenerator:
        try:
            made = plugin("opentelemetry_id_generator", text)()
        except Exception:
            raise ValueError(f"must be 'random' or an installed entry point, not {text!r}") from None
        return made if isinstance(made, IdGenerator) else RandomIdGenerator()

    default: IdGenerator = RandomIdGenerator()
    return environment.read("OTEL_PYTHON_ID_GENERATOR", parse, default, lambda _: "'random'")


def span_limits(environment: Environment) -> SpanLimits:
    """The `OTEL_*_LIMIT` variables. Unset is 128 of each and no limit of length."""

    limit = partial(count_limit, environment)
    attributes = limit("OTEL_ATTRIBUTE_COUNT_LIMIT", 128)
    length = limit("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", SpanLimits.UNSET)
    return SpanLimits(
        max_attributes=attributes,
        max_events=limit("OTEL_SPAN_EVENT_COUNT_LIMIT", 128),
        max_links=limit("OTEL_SPAN_LINK_COUNT_LIMIT", 128),
        max_span_attributes=limit("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", attributes),
        max_event_attributes=limit("OTEL_EVENT_ATTRIBUTE_COUNT_LIMIT", attributes),
        max_link_attributes=limit("OTEL_LINK_ATTRIBUTE_COUNT_LIMIT", attributes),
        max_attribute_length=length,
        max_span_attribute_length=limit("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", length),
    )


def count_limit(environment: Environment, names: str | tuple[str, ...], default: int) -> int:
    """The limit of the first of these variables that is set. `SpanLimits.UNSET`, -1, is none, as in the SDK."""
    return environment.read(
        names,
        lambda text: whole_number(text, 0),
        default,
        lambda value: "no limit" if value == SpanLimits.UNSET else value,
    )


def batching(
    schedule_delay_millis: float | None,
    max_queue_size: int | None,
    max_export_batch_size: int | None,
    environment: Environment,
) -> Batching:
    """How spans are gathered: arguments over `OTEL_BSP_*`. A size that was set is a hard bound."""
    whole = partial(whole_number, least=1)
    queue = _or_none("max_queue_size", whole, max_queue_size, int)
    if queue is None:
        queue = environment.read("OTEL_BSP_MAX_QUEUE_SIZE", whole, QUEUE_SIZE)
    batch = _or_none("max_export_batch_size", whole, max_export_batch_size, int)
    if batch is None:
        batch = environment.read("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", whole, None, lambda _: f"up to {LARGEST_BATCH}")
    delay = _or_none("schedule_delay_millis", positive, schedule_delay_millis, (int, float))
    if delay is None:
        delay = environment.read("OTEL_BSP_SCHEDULE_DELAY", positive, 5000.0, lambda value: f"{value:g} ms")
    if batch is not None and batch > queue and max_export_batch_size is not None:
        raise ValueError(f"max_export_batch_size must not exceed max_queue_size ({queue}), as {batch} does")
    batch = _within_queue(batch, queue, "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", environment)
    return _batching(queue, batch, delay, "OTEL_BSP_MAX_QUEUE_SIZE or max_queue_size")


def log_batching(environment: Environment) -> Batching:
    """How log records are gathered: `OTEL_BLRP_*`. A size that was set is a hard bound."""
    whole = partial(whole_number, least=1)
    queue = environment.read("OTEL_BLRP_MAX_QUEUE_SIZE", whole, QUEUE_SIZE)
    batch: int | None = environment.read(
        "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", whole, None, lambda _: f"up to {LARGEST_BATCH}"
    )
    delay = environment.read("OTEL_BLRP_SCHEDULE_DELAY", positive, 1000.0, lambda value: f"{value:g} ms")
    batch = _within_queue(batch, queue, "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE", environment)
    return _batching(queue, batch, delay, "OTEL_BLRP_MAX_QUEUE_SIZE")


def _within_queue(batch: int | None, queue: int, variable: str, environment: Environment) -> int | None:
    if batch is None or batch <= queue:
        return batch
    environment.note(variable, f"must not exceed the queue's size, {queue}, as {batch} does; {queue} is used instead")
    return queue


def _batching(queue: int, batch: int | None, delay_millis: float, bound_by: str) -> Batching:
    return Batching(
        queue_size=queue,
        batch_size=min(BATCH_SIZE, queue) if batch is None else batch,
        largest_batch=min(LARGEST_BATCH, queue) if batch is None else batch,
        delay=delay_millis / 1000,
        bound_by=bound_by,
    )


def export_timeout(environment: Environment, variable: str) -> float | None:
    """`OTEL_BSP_EXPORT_TIMEOUT`, or its like for logs, in seconds."""
    milliseconds = environment.read(variable, positive, None, lambda _: "the timeout of the exporter")
    return None if milliseconds is None else milliseconds / 1000


def _or_none(name: str, parse: Callable[[Any], T], value: Any, types: type | tuple[type, ...]) -> T | None:
    return None if value is None else argument(name, parse, value, types)


def exporters(text: str) -> list[str]:
    """The exporters of one list of names, without `none`."""
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in EXPORTERS and name not in OTLP_PROTOCOLS]
    if unknown or not names:
        raise ValueError(f"must be {alternatives(EXPORTERS)}, or several of them, not {text!r}")
    return [name for name in dict.fromkeys(names) if name != "none"]


def exporters_from(environment: Environment, variable: str, default: str = "otlp") -> list[str]:
    """`OTEL_TRACES_EXPORTER` or its like for metrics and logs: the names that are known here, else `default`."""
    text = environment.text(variable) or default
    known = [name for name in text.split(",") if name.strip().lower() in {*EXPORTERS, *OTLP_PROTOCOLS}]
    used = exporters(",".join(known) or default)
    return environment.read(variable, exporters, used, lambda names: repr(",".join(names) or "none"))


def metric_preferences(environment: Environment) -> dict[str, Any]:
    """What an OTLP metric exporter prefers: temporality and the kind of histogram."""
    temporality = environment.read(
        "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", partial(_key, _TEMPORALITIES), "cumulative"
    )
    histogram = environment.read(
        "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
        partial(_key, _HISTOGRAMS),
        "explicit_bucket_histogram",
    )
    return {
        "preferred_temporality": _TEMPORALITIES[temporality],
        "preferred_aggregation": {Histogram: _HISTOGRAMS[histogram]()},
    }


def exemplar_filter(environment: Environment) -> Any:
    """`OTEL_METRICS_EXEMPLAR_FILTER`."""
    return _EXEMPLARS[environment.read("OTEL_METRICS_EXEMPLAR_FILTER", partial(_key, _EXEMPLARS), "trace_based")]()


def metric_times(environment: Environment) -> tuple[float, float]:
    """`OTEL_METRIC_EXPORT_INTERVAL` and `_TIMEOUT`, in milliseconds."""
    interval = environment.read("OTEL_METRIC_EXPORT_INTERVAL", positive, 60_000.0, lambda value: f"{value:g} ms")
    return interval, environment.read("OTEL_METRIC_EXPORT_TIMEOUT", positive, 30_000.0, lambda value: f"{value:g} ms")


def _key(choices: Mapping[str, object], text: str) -> str:
    return one_of(text, {name: name for name in choices})
