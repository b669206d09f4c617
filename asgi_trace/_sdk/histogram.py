"""A measurement for a histogram of the SDK, with the aggregations of each set of labels remembered.

The SDK cleans, copies and hashes the labels of every measurement to find the aggregation that they belong to. The
labels of HTTP metrics are few and plain, so here the first measurement with a set of labels takes the SDK's way, and
later ones go straight to the aggregations that it has found. Not remembered, and so left to the SDK each time:
aggregations that a collection discards (delta temporality), those beyond the cardinality limit, and whatever an SDK
keeps otherwise than a trial expects.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from time import time_ns
from typing import Any, TypeAlias

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics._internal._view_instrument_match import _hash_attributes
from opentelemetry.sdk.metrics._internal.instrument import _Histogram
from opentelemetry.sdk.metrics._internal.measurement import Measurement
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from .._guard import logger
from .._otel.api import SPAN_KEY
from .unsampled_span import UnsampledSpan

Record: TypeAlias = Callable[[float, "dict[str, str | int]", Context], object]
"""Records a value that is finite and not negative, with labels of text and numbers that nothing changes any more."""

MAX_REMEMBERED = 1000
_new = object.__new__


class FastHistogram:
    """Measures with one histogram of the SDK."""

    __slots__ = ("_consumer", "_histogram", "_known", "_storages")

    def __init__(self, histogram: Any) -> None:
        self._histogram = histogram
        self._consumer = histogram._measurement_consumer
        self._storages: Any = None
        self._known: dict[Any, tuple[Callable[[Any, bool], object], ...]] = {}

    def record(self, value: float, labels: dict[str, str | int], context: Context) -> None:
        """See `Record`."""
        consumer, histogram = self._consumer, self._histogram
        if consumer._reader_storages is not self._storages:  # a reader came or went
            self._known = {}
            self._storages = consumer._reader_storages
        key = tuple(labels.items())
        aggregate = self._known.get(key)
        if aggregate is None or not context or not histogram._is_enabled() or not 0 <= value < math.inf:
            histogram.record(value, labels, context)
            if aggregate is None and len(self._known) < MAX_REMEMBERED:
                self._remember(key, labels)
            return
        measurement = _new(Measurement)
        now = time_ns()
        vars(measurement).update(
            value=value, time_unix_nano=now, instrument=histogram, context=context, attributes=labels
        )
        exemplars = consumer._sdk_config.exemplar_filter
        if type(exemplars) is TraceBasedExemplarFilter and type(context.get(SPAN_KEY)) is UnsampledSpan:
            chosen = False  # what the filter says, without a span context to look into
        else:
            chosen = exemplars.should_sample(value, now, labels, context)
        for each in aggregate:
            each(measurement, chosen)

    def _remember(self, key: Any, labels: dict[str, str | int]) -> None:
        found = []
        for storage in self._storages.values():
            for match in storage._get_or_init_view_instrument_match(self._histogram):
                kept = match._view._attribute_keys
                shown = labels if kept is None else {name: labels[name] for name in labels if name in kept}
                aggregation = match._attributes_aggregation.get(_hash_attributes(shown))
                if aggregation is None or match._reset_on_collect:
                    return
                found.append(aggregation.aggregate)
        self._known[key] = tuple(found)


def fast_record(histogram: Any) -> Record:
    """The `record` of an instrument: a faster one where it is a histogram of the SDK that works as expected."""
    record: Record = histogram.record
    if type(histogram) is _Histogram and _same_as_sdk():
        record = FastHistogram(histogram).record
    return record


@cache
def _same_as_sdk() -> bool:
    """Whether both ways collect the same points, and leave the same exemplars; found out once."""
    try:
        if _points(lambda histogram: histogram.record) == _points(lambda histogram: FastHistogram(histogram).record):
            return True
        reason = "its points differ from ours"
    except Exception as exc:
        reason = repr(exc)
    logger.info("the SDK's own way of measuring is used, since this version is not as expected: %s", reason)
    return False


def _points(way: Callable[[Any], Record]) -> list[Any]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    record = way(provider.get_meter("check").create_histogram("check"))
    seen: list[Any] = []
    for _ in range(2):
        for value, labels in ((0.5, {"a": 1}), (1, {"a": 1}), (7.0, {"a": "1", "b": "é"}), (2000.0, {"a": 1})):
            record(value, dict(labels), Context())
        data: Any = reader.get_metrics_data()
        points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
        seen += [(dict(p.attributes), p.count, p.sum, p.min, p.max, list(p.bucket_counts)) for p in points]
    provider.shutdown()
    return seen
