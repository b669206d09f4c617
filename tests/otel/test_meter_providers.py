"""Without a MeterProvider, with a late one, with a broken one, and all the way to an exporter."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.metrics import MeterProvider as APIMeterProvider
from opentelemetry.metrics import NoOpMeterProvider

from asgi_trace import TraceMiddleware
from asgi_trace._otel.metrics import Metrics
from asgi_trace.httpx import TraceTransport
from asgi_trace.testing import CapturedSpans

from ..support.asgi import (
    OK,
    drive,
)
from ..support.metrics import (
    ACTIVE,
    DURATION,
    SECONDS,
    SERVER,
    Meters,
    traced,
)


@pytest.mark.parametrize("provider", [None, NoOpMeterProvider()])
@pytest.mark.parametrize("names", [SERVER, ()])
def test_without_a_meter_provider_nothing_is_called(
    provider: APIMeterProvider | None, names: Any, spans: CapturedSpans, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No provider, or one that does nothing, costs no attribute and no call."""
    called: list[str] = []
    monkeypatch.setattr(Metrics, "started", lambda *arguments: called.append("started"))
    monkeypatch.setattr(Metrics, "finished", lambda *arguments: called.append("finished"))
    middleware = TraceMiddleware(OK, meter_provider=provider, metrics=names)
    drive(middleware)
    assert not middleware._config.metrics.live()
    assert called == []
    assert len(spans) == 1


def test_an_empty_option_switches_all_off(meters: Meters, spans: CapturedSpans) -> None:
    """`metrics=()` records nothing with a provider at hand."""
    drive(traced(OK, meters, metrics=()))
    assert meters.collected() == {}


def test_a_disabled_sdk_is_no_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SDK_DISABLED turns metrics off as it does spans."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    meters = Meters()
    middleware = traced(OK, meters, metrics=SERVER)
    assert drive(middleware).status == 200
    assert not middleware._config.metrics.live()
    meters.provider.shutdown()


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("http.server.duration", ValueError, "'http.server.duration'.*http.server.request.duration.*active_requests"),
        ((DURATION, "http.client.request.duration"), ValueError, "'http.client.request.duration'.*body.size"),
        ([DURATION, 7], TypeError, "7 is not a string.*http.server.request.duration"),
        (None, TypeError, r"None is not a sequence.*\(\) for none"),
        (True, TypeError, "True is not a sequence"),
    ],
)
def test_a_wrong_name_raises_and_lists_the_right_ones(names: Any, error: type[Exception], message: str) -> None:
    """A typo is told at construction, with the names that exist."""
    with pytest.raises(error, match=message):
        TraceMiddleware(OK, metrics=names)


def test_a_client_does_not_take_the_servers_names() -> None:
    """Each side lists its own instruments."""
    with pytest.raises(ValueError, match=r"'http.server.request.duration'.*http.client.request.duration"):
        TraceTransport(metrics=DURATION)


@pytest.mark.parametrize("names", [ACTIVE, [ACTIVE], {ACTIVE}, iter([ACTIVE])])
def test_one_name_or_any_iterable_of_names_will_do(names: Any, meters: Meters, spans: CapturedSpans) -> None:
    """A bare string is one name."""
    drive(traced(OK, meters, metrics=names))
    assert set(meters.collected()) == {ACTIVE}


def test_an_instrument_that_fails_does_not_break_a_request(
    spans: CapturedSpans, caplog: pytest.LogCaptureFixture
) -> None:
    """A provider that raises on every measurement is reported once, and responses and spans are what they were."""

    class Broken:
        def add(self, *arguments: Any) -> None:
            raise RuntimeError("broken gauge")

        record = add

    class BrokenProvider(NoOpMeterProvider):
        def get_meter(self, *arguments: Any, **keys: Any) -> Any:
            return self

        def create_histogram(self, *arguments: Any, **keys: Any) -> Any:
            return Broken()

        create_up_down_counter = create_histogram

    app = TraceMiddleware(OK, meter_provider=BrokenProvider(), metrics=SERVER)
    with caplog.at_level("WARNING", "asgi_trace"):
        served = [drive(app), drive(app)]
    assert [len(one.messages) for one in served] == [2, 2]
    assert [one.exception for one in served] == [None, None]
    assert 1 <= len(caplog.records) <= 2
    assert all("broken gauge" in str(record.exc_info) for record in caplog.records)
    assert [span.attributes is not None for span in spans] == [True, True]


LATE = """
import asyncio
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from asgi_trace import TraceMiddleware
from asgi_trace.httpx import TraceTransport
import httpx
from tests.support.asgi import OK, drive

app = TraceMiddleware(OK)
client = httpx.Client(transport=TraceTransport(httpx.MockTransport(lambda request: httpx.Response(204))))
drive(app), client.get("http://shop.test/")
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
drive(app), client.get("http://shop.test/")
[group] = reader.get_metrics_data().resource_metrics[0].scope_metrics
print(sorted((metric.name, metric.data.data_points[0].count) for metric in group.metrics))
"""


def python(code: str) -> str:
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


WAITING = """
import gc
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from asgi_trace import TraceMiddleware
from asgi_trace.httpx import AsyncTraceTransport, TraceTransport
import httpx
from tests.support.asgi import OK, drive

names = ("http.client.request.duration", "http.client.active_requests")
inner = httpx.MockTransport(lambda request: httpx.Response(204))
def build():
    transports = [TraceTransport(inner), TraceTransport(inner, metrics=names), AsyncTraceTransport(metrics=()),
                  TraceTransport(inner, metrics=names[::-1])]
    return TraceMiddleware(OK), httpx.Client(transport=transports[0])
def kept():
    gc.collect()
    return sum("Proxy" in type(thing).__name__ for thing in gc.get_objects())
build()
before = kept()
pairs = [build() for _ in range(50)]
print(kept() - before)
for number in (1, 2):
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    if number == 1:
        metrics.set_meter_provider(provider)
    else:
        pairs = [(TraceMiddleware(OK, meter_provider=provider),
                  httpx.Client(transport=TraceTransport(inner, meter_provider=provider)))]
    for app, client in [*pairs[:2], *([build()] if number == 1 else [])]:
        drive(app), client.get("http://shop.test/")
    [group] = reader.get_metrics_data().resource_metrics[0].scope_metrics
    print(sorted((metric.name, metric.data.data_points[0].count) for metric in group.metrics
                 if metric.name.endswith("duration")))
"""


def test_waiting_for_a_provider_costs_the_same_for_one_and_for_many() -> None:
    """Transports and middlewares without a provider leave nothing behind; each of them measures once one is set."""

    def counted(number: int) -> str:
        return str([(f"http.{side}.request.duration", number) for side in ("client", "server")])

    assert python(WAITING).splitlines() == ["0", counted(3), counted(1)]


def test_a_meter_provider_that_is_set_later_counts() -> None:
    """Applications are built before providers are: from when one is there, requests are counted."""
    assert python(LATE).strip() == f"[('http.client.request.duration', 1), ('{DURATION}', 1)]"


# Exporters

SCRAPED = """
import asyncio
import prometheus_client
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from asgi_trace import TraceMiddleware, configure
from tests.support.servers import uvicorn_serving

configure(service_name="orders", exporter="none", metrics=PrometheusMetricReader())

async def order(request):
    return PlainTextResponse("one order")

app = Starlette(routes=[Route("/orders/{id}", order), Mount("/metrics", prometheus_client.make_asgi_app())])
app = TraceMiddleware(app, exclude="^/metrics", metrics=["http.server.request.duration", "http.server.active_requests"])

with uvicorn_serving(app) as server:
    for number in range(3):
        server.get(f"/orders/{number}")
    server.get("/nothing")
    print(server.get("/metrics/").body.decode())
"""


def test_prometheus_scrapes_the_metrics() -> None:
    """A real scrape over HTTP shows durations by route, and the gauge at nought."""
    pytest.importorskip("opentelemetry.exporter.prometheus")
    lines = python(SCRAPED).splitlines()
    [count] = [
        line for line in lines if line.startswith("http_server_request_duration_seconds_count{") and "orders" in line
    ]
    for label in (
        'http_request_method="GET"',
        'http_response_status_code="200"',
        'http_route="/orders/{id}"',
        'url_scheme="http"',
        'network_protocol_version="1.1"',
    ):
        assert label in count
    assert count.endswith("} 3.0")
    buckets = [
        line for line in lines if line.startswith("http_server_request_duration_seconds_bucket{") and "orders" in line
    ]
    assert len(buckets) == len(SECONDS) + 1
    [gauge] = [line for line in lines if line.startswith("http_server_active_requests{")]
    assert gauge.endswith("} 0.0")
    assert "# TYPE http_server_request_duration_seconds histogram" in lines
    assert not any("/metrics" in line or "/orders/1" in line for line in lines)


EXPORTED = """
import sys
import httpx
from asgi_trace import TraceMiddleware, configure
from asgi_trace.httpx import TraceTransport
from tests.support.asgi import OK, drive
from tests.support.otlp_receiver import Receiver, plain

with Receiver() as receiver:
    with configure(service_name="orders", endpoint=receiver.endpoint, metrics=True):
        drive(TraceMiddleware(OK))
        with httpx.Client(transport=TraceTransport(httpx.MockTransport(lambda request: httpx.Response(204)))) as client:
            client.get("http://shop.test/")
    receiver.wait_for(lambda: len(receiver.metrics) >= 2 and len(receiver.spans) >= 2)
    spans = {span.kind: span for span in receiver.spans}
    for metric in sorted(receiver.metrics, key=lambda metric: metric.name):
        [point] = metric.histogram.data_points
        span = spans[3 if "client" in metric.name else 2]
        duration = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9
        print(metric.name, metric.unit, point.sum == duration, point.exemplars[0].span_id == span.span_id)
"""


def test_metrics_reach_a_collector_with_the_spans() -> None:
    """Over OTLP, values and exemplars are those of the exported spans."""
    assert python(EXPORTED).splitlines() == [
        "http.client.request.duration s True True",
        "http.server.request.duration s True True",
    ]
