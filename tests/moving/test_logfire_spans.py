"""Spans, logs and metrics of Logfire: what Logfire showed stands in `logfire.json`, what we show is run here."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan

from asgi_trace import traced
from asgi_trace.testing import CapturedSpans
from tests.support.asgi import attributes_of
from tests.support.metrics import Meters
from tests.support.moving import without_row
from tests.support.moving_recorded import RecordedCases, shown_by
from tests.support.otlp_receiver import Receiver, plain
from tests.support.subprocess import check

from .our_shop import configured, fastapi_shop, served

OWN = RecordedCases("Spans and logs of your own, from Logfire", "logfire")
SERVER = RecordedCases("Spans and metrics of a server, from Logfire", "logfire")


def started(name: str, **options: Any) -> ReadableSpan:
    """A span that `start_as_current_span` starts."""
    spans = CapturedSpans()
    with spans.tracer_provider.get_tracer("shop").start_as_current_span(name, **options):
        pass
    return spans[0]


@OWN.ours('`with logfire.span("load {id}", id=7)`')
def span() -> object:
    found = started("load", attributes={"id": 7})
    assert attributes_of(found) == {"id": 7}
    return [found.name, sorted(attributes_of(found))]


@OWN.ours("`_span_name`, `_span_kind`, `_links`")
def span_options() -> object:
    links = [trace.Link(trace.SpanContext(1, 2, False))]
    found = started("load order", kind=trace.SpanKind.CONSUMER, links=links)
    return [found.name, found.kind.name, len(found.links)]


@OWN.ours("`_tags`, `_level`")
def tags() -> object:
    found = attributes_of(started("load", attributes={"tags": ["tea"]}))
    assert found == {"tags": ("tea",)}
    return found


def of_traced(name: str | None = None, **options: Any) -> ReadableSpan:
    """The span of a function that `traced` decorates."""
    spans = CapturedSpans()

    def load(id: int, again: bool = False) -> int:
        return id

    decorated: Callable[[int], int] = traced(name, tracer_provider=spans.tracer_provider, **options)(load)
    with spans.tracer_provider.get_tracer("shop").start_as_current_span("outer"):
        assert decorated(7) == 7
    return spans[0]


def said(found: ReadableSpan) -> dict[str, Any]:
    """The attributes of a `traced` span but for where it is in the code."""
    return {key: value for key, value in attributes_of(found).items() if not key.startswith("code.")}


@OWN.ours("`@logfire.instrument()`")
def instrument() -> object:
    found = of_traced()
    assert found.name == "of_traced.load"  # the qualified name, which for a function of a module is `load`
    return found.name


@OWN.ours("`span_name`")
def span_name() -> object:
    return of_traced("load order").name


@OWN.ours("`msg_template`, `level`")
def level() -> object:
    return attributes_of(of_traced("load")).get("logfire.level_num")


@OWN.ours("`extract_args`")
def extract_args() -> object:
    return said(of_traced())


@OWN.ours('`extract_args=["id"]`')
def extract_one() -> object:
    return said(of_traced(attributes=lambda id, **rest: {"id": id}))


@OWN.ours("`record_return`")
def record_return() -> object:
    return said(of_traced())


@OWN.ours("`allow_generator`")
def allow_generator() -> object:
    spans = CapturedSpans()

    def numbers() -> Iterator[int]:
        yield 1

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert list(traced("numbers", tracer_provider=spans.tracer_provider)(numbers)()) == [1]
    assert len(spans) == 1
    return len(caught)


@OWN.ours("`new_trace`")
def new_trace() -> object:
    assert started("load", context=Context()).parent is None
    return of_traced().parent is None


@OWN.ours("an exception")
def exception() -> object:
    spans = CapturedSpans()

    @traced("load", tracer_provider=spans.tracer_provider)
    def load() -> None:
        raise ValueError("no stock")

    with contextlib.suppress(ValueError):
        load()
    [event] = spans[0].events
    assert event.attributes is not None
    return [spans[0].status.status_code.name, event.name, event.attributes["exception.message"]]


def logged(line: str) -> Any:
    """The log record of a line in a process with `configure("shop", logs=True)`."""
    program = f"import logging\nfrom asgi_trace import configure\nconfigure('shop', logs=True)\n{line}"
    with Receiver() as receiver:
        check(program, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.endpoint)
        assert receiver.spans == []
        [record] = receiver.logs
    return record


@OWN.ours('`logfire.info("paid {n}", n=3)`')
def info() -> object:
    record = logged("log = logging.getLogger('shop'); log.setLevel('INFO'); log.info('paid 3', extra={'n': 3})")
    assert plain(record.attributes)["n"] == 3
    return ["log record", record.body.string_value, {"n": 3}]


@OWN.ours("`LogfireLoggingHandler`, `StructlogProcessor`, `loguru_handler`")
def logging_handler() -> object:
    return ["log record", logged("logging.getLogger('shop').warning('paid %s', 3)").body.string_value]


@OWN.ours("`logfire.force_flush()`, `logfire.shutdown()`")
def flush() -> object:
    with configured() as (tracing, _):
        flushed = tracing.force_flush()
        tracing.shutdown()
        assert tracing.stopped
        return flushed


@pytest.mark.parametrize("row", OWN.titles())
def test_spans_of_your_own(row: str) -> None:
    """A row about own spans and logs says what Logfire showed and what we show."""
    OWN.check(row)


@pytest.mark.parametrize("function", ["span", "instrument"])
def test_every_option_has_a_row(function: str) -> None:
    """Each argument of `logfire.span` and `@logfire.instrument` has a row."""
    options = set(shown_by("logfire", "all options")[function])
    if function == "span":
        options -= {"msg_template", "attributes"}  # they stand in the call that the row shows
    assert without_row(OWN.heading, options) == set()


TODAY = ("http.request.method", "http.route", "http.response.status_code", "url.path")


@SERVER.ours("attributes of a SERVER span")
def server_attributes() -> object:
    found = attributes_of(served(fastapi_shop(), "/orders/7?page=2", {"user-agent": "tea"}).server)
    assert {*TODAY, "url.query", "user_agent.original"} <= found.keys()
    return sorted(found)


@SERVER.ours("the same with `OTEL_SEMCONV_STABILITY_OPT_IN=http`")
def todays_attributes() -> object:
    found = attributes_of(served(fastapi_shop(), "/orders/7?page=2").server)
    return {key: found[key] for key in TODAY}


@SERVER.ours("`?password=` in the URL")
def secret_in_the_url() -> object:
    found = attributes_of(served(fastapi_shop(), "/orders/7?password=hunter2").server)
    assert found["url.query"] == "password=REDACTED"
    return "hunter2" in str(found)


def outcome(path: str) -> tuple[ReadableSpan, list[object]]:
    span = served(fastapi_shop(), path).server
    return span, [span.status.status_code.name, attributes_of(span)["http.response.status_code"]]


@SERVER.ours("status 404")
def status_404() -> object:
    return outcome("/nothing")[1]


@SERVER.ours("an exception that leaves the application")
def status_500() -> object:
    span, shown = outcome("/failing")
    return [*shown, [event.name for event in span.events]]


@SERVER.ours("level")
def level_of_a_failure() -> object:
    return attributes_of(outcome("/failing")[0]).get("logfire.level_num")


@SERVER.ours("duration metric")
def duration_metric() -> object:
    meters = Meters()
    served(fastapi_shop(), meter_provider=meters.provider)
    shown = [[metric.name, metric.unit] for metric in meters.collected().values()]
    assert shown == [["http.server.request.duration", "s"]]
    return shown


@pytest.mark.parametrize("row", SERVER.titles())
def test_spans_of_a_server(row: str) -> None:
    """A row about SERVER spans and metrics says what Logfire showed and what we show."""
    SERVER.check(row)
