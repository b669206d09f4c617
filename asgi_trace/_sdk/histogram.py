"""A measurement for a histogram of the SDK, with the aggregations of each set of labels remembered.

The SDK cleans, copies and hashes the labels of every measurement to find the aggregation that they belong to. The
labels of HTTP metrics are few and plain, so here the first measurement with a set of labels takes the SDK's way, and
later ones are written into the points that it has found, as the SDK writes. Not remembered, and so left to the SDK each
time: aggregations that a collection discards (delta temporality), those beyond the cardinality limit, and whatever an
SDK keeps otherwise than a trial expects.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import cache
from time import time_ns
from typing import Any, NamedTuple, TypeAlias

from opentelemetry.context import Context, get_current
from opentelemetry.sdk.metrics import MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics._internal._view_instrument_match import _hash_attributes
from opentelemetry.sdk.metrics._internal.aggregation import _ExplicitBucketHistogramAggregation
from opentelemetry.sdk.metrics._internal.exemplar.exemplar_reservoir import AlignedHistogramBucketExemplarReservoir
from opentelemetry.sdk.metrics._internal.instrument import _Histogram
from opentelemetry.sdk.metrics._internal.measurement import Measurement
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import INVALID_SPAN, set_span_in_context

from .._guard import logger
from .._otel.api import SPAN_KEY
from .._otel.metrics import Labels, LabelsOf, Measured
from .._types import Attributes
from .span import _Span
from .tracer import TracerProvider
from .unsampled_span import UnsampledSpan

Record: TypeAlias = Callable[[float, Labels, Measured], object]
"""Records a value for the request that it was measured of."""

Add: TypeAlias = Callable[[float, Attributes, Measured, bool], object]
"""Adds a value to one point; the last argument says whether it may be an exemplar. The labels are never changed."""

MAX_REMEMBERED = 1000


class FastHistogram:
    """Measures with one histogram of the SDK; `labels_of` makes the labels."""

    __slots__ = ("_consumer", "_histogram", "_known", "_labels_of", "_storages")

    def __init__(self, histogram: Any, labels_of: LabelsOf) -> None:
        self._histogram = histogram
        self._labels_of = labels_of
        self._consumer = histogram._measurement_consumer
        self._storages: Any = None
        self._known: dict[Labels, tuple[Attributes, tuple[Add, ...]]] = {}

    def record(self, value: float, labels: Labels, measured: Measured) -> None:
        """See `Record`."""
        consumer = self._consumer
        if consumer._reader_storages is not self._storages:  # a reader came or went
            self._known = {}
            self._storages = consumer._reader_storages
        known = self._known.get(labels)
        if known is None or not self._histogram._is_enabled() or not 0 <= value < math.inf:
            made = self._labels_of(labels)
            self._histogram.record(value, made, measured.context)
            if known is None and len(self._known) < MAX_REMEMBERED:
                self._remember(labels, made)
            return
        made, points = known
        exemplars = consumer._sdk_config.exemplar_filter
        kind = type(measured.span)
        if type(exemplars) is TraceBasedExemplarFilter and (kind is UnsampledSpan or kind is _Span):
            # What the filter says, without a context and a span context to look into.
            chosen = kind is _Span and measured.span.is_sampled()
        else:
            chosen = exemplars.should_sample(value, time_ns(), made, measured.context or get_current())
        for add in points:
            add(value, made, measured, chosen)

    def _remember(self, key: Labels, labels: Attributes) -> None:
        found: list[Add] = []
        for storage in self._storages.values():
            for match in storage._get_or_init_view_instrument_match(self._histogram):
                kept = match._view._attribute_keys
                shown = labels if kept is None else {name: labels[name] for name in labels if name in kept}
                aggregation = match._attributes_aggregation.get(_hash_attributes(shown))
                if aggregation is None or match._reset_on_collect:
                    return
                if type(aggregation) is _ExplicitBucketHistogramAggregation:
                    found.append(_Buckets(aggregation).add)
                else:
                    found.append(_Point(self._histogram, aggregation).add)
        self._known[key] = labels, tuple(found)


class _Point:
    """An aggregation of any kind."""

    __slots__ = ("_aggregate", "_histogram")

    def __init__(self, histogram: Any, aggregation: Any) -> None:
        self._histogram = histogram
        self._aggregate = aggregation.aggregate

    def add(self, value: float, labels: Attributes, measured: Measured, chosen: bool) -> None:
        """See `Add`."""
        context = measured.context or get_current()
        self._aggregate(Measurement(value, time_ns(), self._histogram, context, labels), chosen)


class _Buckets:
    """An aggregation into explicit buckets, written into as its own method does.

    Its `aggregate()` takes 8,400 instructions, 12,200 more with an exemplar, and an object around the measurement.
    """

    __slots__ = ("_aggregation", "_boundaries", "_exemplars", "_lock", "_reservoir")

    def __init__(self, aggregation: Any) -> None:
        self._aggregation = aggregation
        self._boundaries = aggregation._boundaries
        self._lock = aggregation._lock
        self._reservoir = reservoir = aggregation._reservoir
        aligned = type(reservoir) is AlignedHistogramBucketExemplarReservoir
        self._exemplars: Any = reservoir._reservoir_storage if aligned else None
        if aligned and tuple(reservoir._boundaries) != self._boundaries:
            self._exemplars = None

    def add(self, value: float, labels: Attributes, measured: Measured, chosen: bool) -> None:
        """See `Add`."""
        point = self._aggregation
        bucket = bisect_left(self._boundaries, value)
        lock = self._lock
        lock.acquire()  # not `with`, which takes twice the instructions
        try:
            counts = point._value
            if counts is None:  # the first one since a collection
                counts = point._value = [0] * (len(self._boundaries) + 1)
            counts[bucket] += 1
            point._sum += value
            if point._record_min_max:
                if value < point._min:
                    point._min = value
                if value > point._max:
                    point._max = value
        finally:
            lock.release()
        if chosen:
            if type(measured.span) is _Span and self._exemplars is not None:
                self._keep(bucket, value, labels, measured.span)
            else:
                self._reservoir.offer(value, time_ns(), labels, measured.context or get_current())

    def _keep(self, bucket: int, value: float, labels: Attributes, span: _Span) -> None:
        """What the reservoir does: the last exemplar of each bucket stays."""
        trace_id, span_id = span.ids()  # no span context is made
        with self._reservoir._lock:
            exemplar = self._exemplars[bucket]
            exemplar._ExemplarBucket__value = value
            exemplar._ExemplarBucket__time_unix_nano = time_ns()
            exemplar._ExemplarBucket__attributes = labels
            exemplar._ExemplarBucket__trace_id = trace_id
            exemplar._ExemplarBucket__span_id = span_id
            exemplar._ExemplarBucket__offered = True


def fast_record(histogram: Any, labels_of: LabelsOf) -> Record | None:
    """A faster `record` of an instrument that is a histogram of the SDK and works as expected; else None."""
    if type(histogram) is _Histogram and _same_as_sdk():
        return FastHistogram(histogram, labels_of).record
    return None


class _InContext(NamedTuple):
    """What is measured in a trial."""

    context: Context

    @property
    def span(self) -> Any:
        """See `Measured`."""
        return self.context.get(SPAN_KEY)


@cache
def _same_as_sdk() -> bool:
    """Whether both ways collect the same points, and leave the same exemplars; found out once."""
    try:
        tracer = TracerProvider(ALWAYS_ON, Resource.get_empty(), shutdown_on_exit=False).get_tracer("check")
        contexts = [set_span_in_context(each, Context()) for each in (tracer.start_span("check"), INVALID_SPAN)]
        expected = _points(lambda histogram: histogram.record, contexts)
        if expected == _points(in_contexts, contexts):
            return True
        reason = "its points differ from ours"
    except Exception as exc:
        reason = repr(exc)
    logger.info("the SDK's own way of measuring is used, since this version is not as expected: %s", reason)
    return False


def in_contexts(histogram: Any) -> Callable[[float, Attributes, Context], object]:
    """Our way of measuring, called like the SDK's `record`."""
    fast = FastHistogram(histogram, dict)
    return lambda value, labels, context: fast.record(value, tuple(labels.items()), _InContext(context))


def _points(way: Callable[[Any], Any], contexts: Sequence[Context]) -> list[Any]:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader], shutdown_on_exit=False)
    record = way(provider.get_meter("check").create_histogram("check"))
    seen: list[Any] = []
    for number in range(4):
        for value, labels in ((0.5, {"a": 1}), (1, {"a": 1}), (7.0, {"a": "1", "b": "é"}), (2000.0, {"a": 1})):
            record(value, dict(labels), contexts[number % len(contexts)])
        data: Any = reader.get_metrics_data()
        points = data.resource_metrics[0].scope_metrics[0].metrics[0].data.data_points
        for p in points:
            exemplars = [(e.value, e.trace_id, e.span_id, e.filtered_attributes) for e in p.exemplars]
            seen.append((dict(p.attributes), p.count, p.sum, p.min, p.max, list(p.bucket_counts), exemplars))
    provider.shutdown()
    return seen
