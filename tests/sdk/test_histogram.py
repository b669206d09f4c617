"""Our way of measuring with the SDK's histogram: the same points and exemplars, for every reader and view."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip(
    "asgi_trace._sdk.histogram", reason="this SDK is older than our way of measuring", exc_type=ImportError
)

from opentelemetry.context import Context
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, AlwaysOnExemplarFilter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, InMemoryMetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, ExplicitBucketHistogramAggregation, View
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

from asgi_trace._options.redact import Redaction
from asgi_trace._propagation.traceparent import read_remote_parent
from asgi_trace._sdk import histogram as module
from asgi_trace._sdk.histogram import FastHistogram, _InContext, fast_record, in_contexts
from asgi_trace._sdk.tracer import TracerProvider
from asgi_trace._sdk.unsampled_span import UnsampledSpan
from asgi_trace._semconv.server import ServerDescription

LABELS: list[dict[str, str | int]] = [
    {"method": "GET", "status": 200},
    {"method": "GET", "status": 200},
    {"method": "GET", "status": "200"},
    {"status": 200, "method": "GET"},
    {},
    {"method": "GET", "status": 500},
    {"method": "GET", "status": 200},
]
REMOTE: Any = read_remote_parent(b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-00")
TRACER: Any = TracerProvider(ALWAYS_ON, shutdown_on_exit=False).get_tracer("test")
SAMPLED: Any = read_remote_parent(b"00-" + b"c" * 32 + b"-" + b"d" * 16 + b"-01")
SEEN: Any = TRACER.start_span("seen")
SEEN.get_span_context()
NOT_SAMPLED: Any = TRACER.start_span("recorded, and not sampled")
NOT_SAMPLED._context = SpanContext(9, 10, False, TraceFlags(0))
SPANS = [
    TRACER.start_span("root"),
    TRACER.start_from_facts("GET", SpanKind.SERVER, SAMPLED, (ServerDescription(Redaction(())),), 1),
    SEEN,
    NOT_SAMPLED,
]
CONTEXTS = [
    *(set_span_in_context(span, Context()) for span in SPANS),
    set_span_in_context(NonRecordingSpan(SpanContext(5, 6, True, TraceFlags(1))), Context()),
    set_span_in_context(NonRecordingSpan(SpanContext(7, 8, False, TraceFlags(0))), Context()),
    set_span_in_context(UnsampledSpan(REMOTE), Context()),
    Context({"other": 1}),
    Context(),
]
VALUES = [0.1, 3, 0.0, -1.0, float("nan"), float("inf"), 70.5]
DELTA: dict[type, AggregationTemporality] = {Histogram: AggregationTemporality.DELTA}


def points(reader: InMemoryMetricReader) -> list[Any]:
    """Everything that a collection has, but for the times."""
    data: Any = reader.get_metrics_data()
    found = []
    for metric in data.resource_metrics[0].scope_metrics[0].metrics if data else ():
        for point in metric.data.data_points:
            exemplars = [(each.value, each.trace_id, each.span_id) for each in point.exemplars]
            key = sorted((dict(point.attributes) or {}).items(), key=str)
            sums = point.count, point.sum, point.min, point.max, point.bucket_counts
            found.append((metric.name, key, sums, exemplars))
    return found


SETTINGS: dict[str, Callable[[], dict[str, Any]]] = {
    "plain": lambda: {"metric_readers": [InMemoryMetricReader()]},
    "two readers": lambda: {"metric_readers": [InMemoryMetricReader(), InMemoryMetricReader()]},
    "delta": lambda: {"metric_readers": [InMemoryMetricReader(preferred_temporality=DELTA)]},
    "all exemplars": lambda: {
        "metric_readers": [InMemoryMetricReader()],
        "exemplar_filter": AlwaysOnExemplarFilter(),
    },
    "no exemplars": lambda: {
        "metric_readers": [InMemoryMetricReader()],
        "exemplar_filter": AlwaysOffExemplarFilter(),
    },
    "views": lambda: {
        "metric_readers": [InMemoryMetricReader()],
        "views": [
            View(instrument_name="duration", name="one", attribute_keys={"method"}),
            View(instrument_name="duration", name="two", aggregation=ExplicitBucketHistogramAggregation([1.0, 5.0])),
            View(instrument_name="duration", name="three", aggregation=DropAggregation()),
        ],
    },
    "few sets of labels": lambda: {
        "metric_readers": [InMemoryMetricReader()],
        "views": [View(instrument_name="duration", aggregation_cardinality_limit=2)],
    },
}


@pytest.mark.parametrize("name", SETTINGS)
def test_both_ways_collect_the_same(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """For any readers, views, temporality, exemplars, labels, values and contexts, over several collections."""
    if "few" in name and "aggregation_cardinality_limit" not in View.__init__.__code__.co_varnames:
        return
    seen = []
    for way in (lambda histogram: histogram.record, in_contexts):
        caplog.clear()
        settings = SETTINGS[name]()
        provider = MeterProvider(shutdown_on_exit=False, **settings)
        record = way(provider.get_meter("test").create_histogram("duration"))
        collected = []
        for _ in range(3):
            for number, labels in enumerate(LABELS * 9):  # every value meets every context
                record(VALUES[number % len(VALUES)], dict(labels), CONTEXTS[number % len(CONTEXTS)])
            collected.append([points(reader) for reader in settings["metric_readers"]])
        seen.append((collected, [record.getMessage() for record in caplog.records]))
    assert seen[0] == seen[1]


def test_a_set_of_labels_is_looked_up_once() -> None:
    """The second measurement with the same labels goes straight to its aggregation; what is remembered is bounded."""
    provider = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    fast = FastHistogram(provider.get_meter("test").create_histogram("duration"), dict)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MAX_REMEMBERED", 2)
        for number in (1, 2, 3, 1, 2, 3):
            fast.record(1.0, (("a", number),), _InContext(CONTEXTS[0]))
    assert list(fast._known) == [(("a", 1),), (("a", 2),)]


def test_a_histogram_that_is_switched_off_measures_nothing() -> None:
    """The SDK is asked each time whether the meter is enabled."""
    reader = InMemoryMetricReader()
    provider: Any = MeterProvider([reader], shutdown_on_exit=False)
    histogram: Any = provider.get_meter("test").create_histogram("duration")
    record = in_contexts(histogram)
    record(1.0, {"a": 1}, CONTEXTS[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(histogram), "_is_enabled", lambda self: False)
        record(1.0, {"a": 1}, CONTEXTS[0])
    assert [sums[0] for _, _, sums, _ in points(reader)] == [1]


def test_an_sdk_that_measures_otherwise_is_used_itself(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the trial differs, or a name that is needed is gone, the SDK's own `record` is called, as one INFO says."""
    caplog.set_level("INFO")
    histogram: Any = MeterProvider([], shutdown_on_exit=False).get_meter("test").create_histogram("duration")
    assert fast_record(histogram, dict) is not None
    for broken in (lambda value: value, lambda value: 1 / 0):
        module._same_as_sdk.cache_clear()
        monkeypatch.setattr(module, "_hash_attributes", broken)
        original = FastHistogram.record
        monkeypatch.setattr(FastHistogram, "record", lambda self, value, *args, _o=original: _o(self, value + 1, *args))
        caplog.clear()
        assert [fast_record(histogram, dict), fast_record(histogram, dict)] == [None, None]
        assert [record.levelname for record in caplog.records] == ["INFO"]
        monkeypatch.undo()
    module._same_as_sdk.cache_clear()
