"""An SDK that is not as our spans expect: its own spans are used, and nobody is harmed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk import trace as official
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    Decision,
    ParentBased,
    SamplingResult,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext

from asgi_trace import _sdk as sdk
from asgi_trace._sdk import encoder_check, sampler_thresholds, span_check
from asgi_trace._sdk import tracer as drop_in
from asgi_trace._sdk.encoder import official_bytes

from ..support.configuration import built
from ..support.otlp_receiver import Receiver
from ..support.sdk import Stage, heard
from ..support.versions import installed

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """What is known of the real SDK is not what a test makes of it."""
    span_check.same_as_sdk.cache_clear()
    encoder_check.writes_official_bytes.cache_clear()
    yield
    span_check.same_as_sdk.cache_clear()
    encoder_check.writes_official_bytes.cache_clear()


def after(function: Callable[..., Any], change: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """`function`, with something done to `self` and its result."""

    def changed(self: Any, *args: Any, **kwargs: Any) -> Any:
        return change(self, function(self, *args, **kwargs))

    return changed


def another_field(patch: Patch) -> None:
    """The SDK's spans hold one thing more."""
    patch.setattr(official.Span, "__init__", after(official.Span.__init__, lambda self, _: setattr(self, "_more", 1)))


def another_readable_field(patch: Patch) -> None:
    """What an exporter gets holds one thing more."""
    init = official.ReadableSpan.__init__
    patch.setattr(official.ReadableSpan, "__init__", after(init, lambda self, _: setattr(self, "_more", 1)))


def another_cleaning(patch: Patch) -> None:
    """Text that was kept as it is, is changed."""

    def lower(self: Any, _: Any) -> None:
        self._dict = {key: f"{value} cleaned" for key, value in self._dict.items()}

    patch.setattr(BoundedAttributes, "__init__", after(BoundedAttributes.__init__, lower))


def a_snapshot_of_another_kind(patch: Patch) -> None:
    """A span is handed on as something else."""

    class Snapshot(official.ReadableSpan):
        pass

    def made(self: Any, found: Any) -> Any:
        found.__class__ = Snapshot
        return found

    patch.setattr(official.Span, "_readable_span", after(official.Span._readable_span, made))


def other_questions(patch: Patch) -> None:
    """A sampler is asked in another way."""
    start = official.Tracer.start_span

    def started(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.sampler.should_sample(parent_context=None, trace_id=1, name="a", kind=None, attributes=None)
        return start(self, *args, **kwargs)

    patch.setattr(official.Tracer, "start_span", started)


def other_ids(patch: Patch) -> None:
    """The span's number is asked for first."""
    start = official.Tracer.start_span

    def started(self: Any, *args: Any, **kwargs: Any) -> Any:
        self.id_generator.generate_span_id()
        return start(self, *args, **kwargs)

    patch.setattr(official.Tracer, "start_span", started)


def nothing_to_ask(patch: Patch) -> None:
    """A method that is called here is gone."""
    patch.delattr(official.Tracer, "_is_enabled")
    patch.setattr(official.Tracer, "start_span", lambda self, name: NonRecordingSpan(SpanContext(1, 2, False)))


def values_without_control_characters(patch: Patch) -> None:
    """Text loses the characters that no terminal shows."""

    def clean(self: Any, _: Any) -> None:
        self._dict = {
            key: "".join(filter(str.isprintable, value)) if isinstance(value, str) else value
            for key, value in self._dict.items()
        }

    patch.setattr(BoundedAttributes, "__init__", after(BoundedAttributes.__init__, clean))


def no_nan(patch: Patch) -> None:
    """A value that is not a number is dropped where an attribute is set."""
    set_item = BoundedAttributes.__setitem__

    def set_number(self: Any, key: str, value: Any) -> None:
        if value == value:
            set_item(self, key, value)

    patch.setattr(BoundedAttributes, "__setitem__", set_number)


def short_keys(patch: Patch) -> None:
    """Keys are cut."""
    original = BoundedAttributes._setitem_locked
    patch.setattr(BoundedAttributes, "_setitem_locked", lambda self, key, value: original(self, key[:255], value))


def a_count_in_the_class(patch: Patch) -> None:
    """Spans are counted in the tracer's class."""
    patch.setattr(official.Tracer, "started", 0, raising=False)

    def count(self: Any, span: Any) -> Any:
        official.Tracer.started += 1  # type: ignore[attr-defined]
        return span

    patch.setattr(official.Tracer, "start_span", after(official.Tracer.start_span, count))


def a_list_in_the_module(patch: Patch) -> None:
    """Spans in flight are kept in a list of the module."""
    patch.setattr(official, "_in_flight", [], raising=False)

    def keep(self: Any, _: Any) -> None:
        official._in_flight.append(self._context)  # type: ignore[attr-defined]

    patch.setattr(official.Span, "__init__", after(official.Span.__init__, keep))


def a_metric(patch: Patch) -> None:
    """Each span is measured with an instrument of its own."""
    create = official.Tracer.__init__

    def created(self: Any, *args: Any, **kwargs: Any) -> None:
        create(self, *args, **kwargs)
        provider = kwargs["meter_provider"] or NoOpMeterProvider()
        self._spans = provider.get_meter("sdk").create_counter("spans")

    def count(self: Any, span: Any) -> Any:
        self._spans.add(1)
        return span

    patch.setattr(official.Tracer, "__init__", created)
    patch.setattr(official.Tracer, "start_span", after(official.Tracer.start_span, count))


def no_empty_name(patch: Patch) -> None:
    """A span without a name gets one, with a warning."""

    def named(self: Any, _: Any) -> None:
        if not self._name:
            self._name = "unnamed"
            official.logger.warning("a span has no name")

    patch.setattr(official.Span, "__init__", after(official.Span.__init__, named))


def no_empty_new_name(patch: Patch) -> None:
    """The empty name is refused where a span is renamed."""
    rename = official.Span.update_name
    patch.setattr(official.Span, "update_name", lambda self, name: rename(self, name) if name else None)


def trimmed_names(patch: Patch) -> None:
    """Spaces around a new name go."""
    rename = official.Span.update_name
    patch.setattr(official.Span, "update_name", lambda self, name: rename(self, name.strip()))


def a_word_about_late_names(patch: Patch) -> None:
    """A name that comes after the end is logged in other words."""

    def rename(self: Any, name: str) -> None:
        if self._end_time is None:
            self._name = name
        else:
            official.logger.warning("the name %s comes too late", name)

    patch.setattr(official.Span, "update_name", rename)


def other_limits(patch: Patch) -> None:
    """Of too many attributes the newest is dropped, not the oldest."""
    original = BoundedAttributes._setitem_locked

    def keep_the_oldest(self: Any, key: str, value: Any) -> None:
        if self.maxlen is None or len(self._dict) < self.maxlen or key in self._dict:
            original(self, key, value)
        else:
            self.dropped += 1

    patch.setattr(BoundedAttributes, "_setitem_locked", keep_the_oldest)


INHERITED = [other_limits, a_word_about_late_names]
"""What our spans leave to the SDK in any case, so that a change needs no standing aside."""
STRANGE = [
    another_field,
    another_readable_field,
    another_cleaning,
    a_snapshot_of_another_kind,
    other_questions,
    other_ids,
    nothing_to_ask,
    values_without_control_characters,
    no_nan,
    short_keys,
    a_count_in_the_class,
    a_list_in_the_module,
    a_metric,
    no_empty_name,
    no_empty_new_name,
    trimmed_names,
]


@pytest.mark.parametrize("strange", STRANGE, ids=lambda strange: strange.__name__)
def test_an_sdk_that_differs_is_left_alone(
    strange: Callable[[Patch], None], monkeypatch: Patch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its own tracer and spans do the work, as they would without us, which is said in one INFO record."""
    caplog.set_level("INFO")
    strange(monkeypatch)
    stage = Stage(sdk.TracerProvider)
    assert type(stage.tracer) is official.Tracer
    for number in range(3):
        stage.provider.get_tracer(str(number))
    assert [(record.name, record.levelname) for record in caplog.records] == [("asgi_trace", "INFO")]
    assert "the SDK's own spans are used" in caplog.text
    span = stage.tracer.start_span("name")
    assert type(span) in (official._Span, NonRecordingSpan)
    span.end()
    assert len(stage.processor.ended) == (type(span) is official._Span)


@pytest.mark.parametrize("changed", INHERITED, ids=lambda changed: changed.__name__)
def test_an_sdk_that_differs_where_it_is_asked_is_followed(
    changed: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    """A rule that our spans have from the SDK at run time holds for them as well."""
    changed(monkeypatch)
    limits = official.SpanLimits(max_span_attributes=2)
    seen = []
    for kind in (official.TracerProvider, sdk.TracerProvider):
        span: Any = Stage(kind, limits=limits).tracer.start_span("name", attributes={"a": 1})
        span.set_attributes({"b": 2, "c": 3})
        span.set_attribute("d", 4)
        with heard() as messages:
            span.end()
            span.update_name("late")
        seen.append((dict(span.attributes), span.dropped_attributes, messages))
    assert seen[0] == seen[1]


NEWEST = (1, 45)
"""The newest SDK that our spans and encoder have been compared with."""


def test_the_newest_sdk_is_matched() -> None:
    """With the newest SDK that is known, or a later one, our spans, our encoder and our histogram do the work."""
    if installed("opentelemetry-sdk") < NEWEST:
        return  # an older one may be unlike; what happens then is tested above
    assert span_check.same_as_sdk(drop_in.adopt)
    assert encoder_check.writes_official_bytes()
    # Not what is remembered: a test may have changed the SDK when it was first asked for.
    assert import_module("asgi_trace._sdk.histogram")._same_as_sdk.__wrapped__()
    assert type(Stage(sdk.TracerProvider).tracer) is drop_in.Tracer


def test_what_the_sdk_adds_elsewhere_is_inherited(monkeypatch: Patch) -> None:
    """A change to what is not replaced here is no difference: our spans have it at once."""

    monkeypatch.setattr(official.Span, "add_event", lambda self, *args, **kwargs: self.set_attribute("event", args[0]))
    stage = Stage(sdk.TracerProvider)
    if not span_check.same_as_sdk(drop_in.adopt):  # the fields of this SDK differ anyhow
        return
    assert type(stage.tracer) is drop_in.Tracer
    span: Any = stage.tracer.start_span("name")
    span.add_event("something")
    assert dict(span.attributes) == {"event": "something"}


def test_asking_the_sdk_is_quick_silent_and_done_once(caplog: pytest.LogCaptureFixture) -> None:
    """The comparison takes milliseconds, reaches no processor, sampler or meter of the service, and is not repeated."""
    caplog.set_level("INFO")
    began = time.perf_counter()
    stage = Stage(sdk.TracerProvider)
    assert time.perf_counter() - began < 1
    for number in range(3):
        stage.provider.get_tracer(str(number))
    assert span_check.same_as_sdk.cache_info().misses == 1
    assert (stage.processor.told, stage.ids.asked, caplog.records) == ([], [], [])


WITHOUT = """
import {module} as module
import opentelemetry.sdk.trace as official
from opentelemetry.exporter.otlp.proto.common import trace_encoder
del module.{name}
from asgi_trace import _sdk as sdk
provider = sdk.TracerProvider(shutdown_on_exit=False)
with provider.get_tracer("a").start_as_current_span("name") as span:
    span.set_attribute("a", 1)
print(type(provider) is official.TracerProvider, type(span) is official._Span, sdk.span_encoder())
"""


@pytest.mark.parametrize(
    ("module", "name"),
    [("opentelemetry.attributes", "BoundedAttributes"), ("opentelemetry.sdk.trace.sampling", "TraceIdRatioBased")],
)
def test_an_sdk_without_a_name_that_is_needed(module: str, name: str) -> None:
    """Something that cannot be imported one day is no reason for a service not to start."""
    program = WITHOUT.format(module=module, name=name)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.split() == ["True", "True", "None"]


# --- samplers ---


def test_samplers_that_are_unlike_are_asked(monkeypatch: Patch) -> None:
    """Where a standard sampler keeps its branches elsewhere, or answers otherwise, it is asked each time."""
    known = ParentBased(ALWAYS_ON)
    assert sampler_thresholds.thresholds(known) is not None
    hidden = ParentBased(ALWAYS_ON)
    del hidden._root
    assert sampler_thresholds.thresholds(hidden) is None
    assert sampler_thresholds.thresholds(StaticSampler(Decision.RECORD_AND_SAMPLE)) is None

    def never(self: Any, *args: Any, **kwargs: Any) -> SamplingResult:
        return SamplingResult(Decision.DROP)

    monkeypatch.setattr(StaticSampler, "should_sample", never)
    assert sampler_thresholds.thresholds(known) is None
    stage = Stage(sdk.TracerProvider, known)
    assert not stage.tracer.start_span("name", Context()).is_recording()


@pytest.mark.parametrize("where", ["instance", "class", "leaf", "leaf's class"])
def test_a_sampler_with_another_method_is_asked(where: str, monkeypatch: Patch) -> None:
    """A standard sampler whose `should_sample` was replaced decides itself, though it agrees at every trial."""
    leaf = TraceIdRatioBased(1.0)
    sampler: Any = ParentBased(leaf)
    owner: Any = {"instance": sampler, "class": ParentBased, "leaf": leaf, "leaf's class": TraceIdRatioBased}[where]
    original = owner.should_sample

    def by_name(*args: Any, **kwargs: Any) -> SamplingResult:
        if "secret" in (*args, *kwargs.values()):
            return SamplingResult(Decision.DROP)
        result: SamplingResult = original(*args, **kwargs)
        return result

    monkeypatch.setattr(owner, "should_sample", by_name)
    assert sampler_thresholds.thresholds(sampler) is None
    tracer = Stage(sdk.TracerProvider, sampler).tracer
    assert [tracer.start_span(name, Context()).is_recording() for name in ("open", "secret")] == [True, False]


# --- configure() ---


@pytest.mark.parametrize("strange", [False, True])
def test_what_configure_builds(strange: bool, monkeypatch: Patch) -> None:
    """Its provider and the exporter's encoder are ours; spans arrive, also where the SDK's own classes do the work."""
    if strange:
        another_field(monkeypatch)
        monkeypatch.setattr(encoder_check, "official_bytes", lambda spans: official_bytes(spans) + b"\x78\x00")
    with Receiver() as receiver:
        tracing = built(exporter="otlp", endpoint=receiver.endpoint, service_name="built")
        with tracing:
            tracer = tracing.tracer_provider.get_tracer("test")
            assert type(tracing.tracer_provider) is sdk.TracerProvider
            ours = not strange and span_check.same_as_sdk(drop_in.adopt)
            assert type(tracer) is (drop_in.Tracer if ours else official.Tracer)
            with tracer.start_as_current_span("outer", attributes={"a": [1, 2], "b": "c"}) as outer:
                outer.add_event("event", {"d": 1})
                tracer.start_span("inner").end()
            assert tracing.force_flush()
        assert [span.name for span in receiver.spans] == ["inner", "outer"]
        assert receiver.spans[0].parent_span_id == receiver.spans[1].span_id
        assert [event.name for event in receiver.spans[1].events] == ["event"]
        assert receiver.resources[0]["service.name"] == "built"
