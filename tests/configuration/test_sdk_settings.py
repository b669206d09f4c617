"""The other `OTEL_*` variables: what counts, what is repaired, and what is said about it."""

from __future__ import annotations

import logging

import pytest
from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, Counter, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics import Histogram as HistogramInstrument
from opentelemetry.sdk.metrics.export import AggregationTemporality
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation
from opentelemetry.sdk.trace.id_generator import IdGenerator, RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Sampler

from asgi_trace._configuration import sdk_settings
from asgi_trace._configuration.environment import Environment

OTLP = "OTEL_EXPORTER_OTLP_"


def sampler_from(variables: dict[str, str]) -> tuple[Sampler, dict[str, str]]:
    environment = Environment(variables)
    return sdk_settings.sampler(None, environment), environment.problems


@pytest.mark.parametrize(
    ("name", "share", "description"),
    [
        ("", "", "ParentBased{root:AlwaysOnSampler"),
        ("always_on", "", "AlwaysOnSampler"),
        (" Always_Off ", "", "AlwaysOffSampler"),
        ("parentbased_always_off", "", "ParentBased{root:AlwaysOffSampler"),
        ("traceidratio", "0.25", "TraceIdRatioBased{0.25}"),
        ("PARENTBASED_TRACEIDRATIO", " 0.1 ", "ParentBased{root:TraceIdRatioBased{0.1}"),
        ("traceidratio", "", "TraceIdRatioBased{1.0}"),
    ],
)
def test_samplers_by_name(name: str, share: str, description: str) -> None:
    """OTEL_TRACES_SAMPLER counts in any case and with blanks; without an _ARG the ratio is 1."""
    sampler, problems = sampler_from({"OTEL_TRACES_SAMPLER": name, "OTEL_TRACES_SAMPLER_ARG": share})
    assert sampler.get_description().startswith(description)
    assert problems == {}


def test_wrong_samplers_sample_everything() -> None:
    """An unknown sampler is the default one, a wrong ratio is 1: rather too many spans than none."""
    sampler, problems = sampler_from({"OTEL_TRACES_SAMPLER": "sometimes"})
    assert sampler.get_description().startswith("ParentBased{root:AlwaysOnSampler")
    assert problems["OTEL_TRACES_SAMPLER"].endswith("not 'sometimes'; 'parentbased_always_on' is used instead")
    sampler, problems = sampler_from({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "7"})
    assert sampler.get_description() == "TraceIdRatioBased{1.0}"
    assert problems == {
        "OTEL_TRACES_SAMPLER_ARG": "OTEL_TRACES_SAMPLER_ARG must be a number from 0 to 1, not '7'; 1.0 is used instead"
    }


def test_samplers_and_id_generators_of_other_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed entry point is a name too; one that cannot be made is a problem."""

    class Ids(RandomIdGenerator):
        pass

    def install(group: str, name: str) -> object:
        if name == "broken":
            raise ImportError("its module is gone")
        return {"mine": lambda argument: ALWAYS_ON, "ids": Ids, "none": lambda argument: None}.get(name)

    monkeypatch.setattr(sdk_settings, "plugin", install)
    assert sampler_from({"OTEL_TRACES_SAMPLER": "mine"}) == (ALWAYS_ON, {})
    for wrong in ("broken", "none", "nobody"):
        assert list(sampler_from({"OTEL_TRACES_SAMPLER": wrong})[1]) == ["OTEL_TRACES_SAMPLER"]

    def ids(name: str) -> tuple[IdGenerator, dict[str, str]]:
        environment = Environment({"OTEL_PYTHON_ID_GENERATOR": name})
        return sdk_settings.id_generator(environment), environment.problems

    assert isinstance(ids("ids")[0], Ids)
    assert type(ids("")[0]) is RandomIdGenerator
    for wrong in ("broken", "nobody"):
        generator, problems = ids(wrong)
        assert type(generator) is RandomIdGenerator
        assert problems["OTEL_PYTHON_ID_GENERATOR"].endswith("'random' is used instead")


@pytest.mark.parametrize(
    ("text", "names", "used"),
    [
        ("", ["otlp"], None),
        ("otlp", ["otlp"], None),
        ("none", [], None),
        ("None", [], None),
        ("console, OTLP", ["console", "otlp"], None),
        ("otlp,otlp", ["otlp"], None),
        ("otlp_proto_grpc", ["otlp_proto_grpc"], None),
        ("OTLP_proto_http", ["otlp_proto_http"], None),
        ("none,console", ["console"], None),
        ("jaeger", ["otlp"], "'otlp'"),
        ("console,zipkin", ["console"], "'console'"),
        (",", ["otlp"], "'otlp'"),
    ],
)
def test_exporters_by_name(text: str, names: list[str], used: str | None) -> None:
    """Lists work, `none` adds nothing, and of a list with unknown names the known ones are used."""
    environment = Environment({"OTEL_TRACES_EXPORTER": text})
    assert sdk_settings.exporters_from(environment, "OTEL_TRACES_EXPORTER") == names
    if used is None:
        assert environment.problems == {}
    else:
        assert environment.problems["OTEL_TRACES_EXPORTER"].endswith(f"not {text!r}; {used} is used instead")


def test_batch_sizes_are_repaired() -> None:
    """Garbage gives the default, and a batch above the queue, which the SDK refuses, is the queue."""
    environment = Environment(
        {
            "OTEL_BSP_SCHEDULE_DELAY": "often",
            "OTEL_BSP_MAX_QUEUE_SIZE": "100",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "200",
            "OTEL_BSP_EXPORT_TIMEOUT": "",
        }
    )
    batching = sdk_settings.batching(None, None, None, environment)
    assert (batching.queue_size, batching.batch_size, batching.largest_batch, batching.delay) == (100, 100, 100, 5.0)
    assert sdk_settings.export_timeout(environment, "OTEL_BSP_EXPORT_TIMEOUT") is None
    assert sorted(environment.problems) == ["OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "OTEL_BSP_SCHEDULE_DELAY"]
    small = Environment({"OTEL_BSP_MAX_QUEUE_SIZE": "10"})
    assert sdk_settings.batching(None, None, None, small).largest_batch == 10
    assert small.problems == {}
    wrong = Environment({"OTEL_BSP_MAX_QUEUE_SIZE": "0", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "1.5"})
    assert sdk_settings.batching(None, None, None, wrong).queue_size == sdk_settings.QUEUE_SIZE
    assert len(wrong.problems) == 2


def test_span_limits() -> None:
    """Empty is unset (128 and unlimited length), the general limit stands behind the special one, garbage is named."""
    unset = sdk_settings.span_limits(Environment({"OTEL_SPAN_EVENT_COUNT_LIMIT": "", "OTEL_ATTRIBUTE_COUNT_LIMIT": ""}))
    assert (unset.max_events, unset.max_span_attributes, unset.max_span_attribute_length) == (128, 128, None)
    environment = Environment(
        {
            "OTEL_ATTRIBUTE_COUNT_LIMIT": "5",
            "OTEL_LINK_ATTRIBUTE_COUNT_LIMIT": "0",
            "OTEL_SPAN_LINK_COUNT_LIMIT": "many",
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "80",
            "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "-1",
        }
    )
    limits = sdk_settings.span_limits(environment)
    assert (limits.max_span_attributes, limits.max_event_attributes, limits.max_link_attributes) == (5, 5, 0)
    assert (limits.max_links, limits.max_attribute_length, limits.max_span_attribute_length) == (128, 80, 80)
    assert environment.problems == {
        "OTEL_SPAN_LINK_COUNT_LIMIT": "OTEL_SPAN_LINK_COUNT_LIMIT must be a whole number of at least 0, not 'many'; "
        "128 is used instead",
        "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT must be a whole number of at "
        "least 0, not '-1'; 80 is used instead",
    }


def test_metric_settings() -> None:
    """Interval, temporality, histogram and exemplars follow their variables, and garbage is named."""
    environment = Environment(
        {
            "OTEL_METRIC_EXPORT_INTERVAL": "1000",
            "OTEL_METRIC_EXPORT_TIMEOUT": "x",
            OTLP + "METRICS_TEMPORALITY_PREFERENCE": "Delta",
            OTLP + "METRICS_DEFAULT_HISTOGRAM_AGGREGATION": "base2_exponential_bucket_histogram",
            "OTEL_METRICS_EXEMPLAR_FILTER": "always_off",
        }
    )
    assert sdk_settings.metric_times(environment) == (1000.0, 30_000.0)
    preferences = sdk_settings.metric_preferences(environment)
    assert preferences["preferred_temporality"][Counter] is AggregationTemporality.DELTA
    aggregation = preferences["preferred_aggregation"][HistogramInstrument]
    assert isinstance(aggregation, ExponentialBucketHistogramAggregation)
    assert isinstance(sdk_settings.exemplar_filter(environment), AlwaysOffExemplarFilter)
    assert list(environment.problems) == ["OTEL_METRIC_EXPORT_TIMEOUT"]
    wrong = Environment(dict.fromkeys(("OTEL_METRICS_EXEMPLAR_FILTER", OTLP + "METRICS_TEMPORALITY_PREFERENCE"), "?"))
    assert isinstance(sdk_settings.exemplar_filter(wrong), TraceBasedExemplarFilter)
    assert sdk_settings.metric_preferences(wrong)["preferred_temporality"] == {}
    assert len(wrong.problems) == 2


@pytest.mark.parametrize(
    ("text", "value", "wrong"),
    [("true", True, 0), ("TRUE", True, 0), ("", False, 0), ("false", False, 0), ("1", False, 1)],
)  # fmt: skip
def test_sdk_disabled(text: str, value: bool, wrong: int) -> None:
    """Only `true`, in any case, switches the SDK off; what is neither true nor false is named."""
    environment = Environment({"OTEL_SDK_DISABLED": text})
    assert (sdk_settings.disabled(environment), len(environment.problems)) == (value, wrong)


def test_log_level() -> None:
    """OTEL_LOG_LEVEL is a level's name."""
    assert sdk_settings.log_level(Environment({"OTEL_LOG_LEVEL": "Warn"})) == logging.WARNING
    assert sdk_settings.log_level(Environment({})) is None
    environment = Environment({"OTEL_LOG_LEVEL": "loud"})
    assert sdk_settings.log_level(environment) is None
    assert list(environment.problems) == ["OTEL_LOG_LEVEL"]
