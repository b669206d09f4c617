"""What the HTTP metrics say: the conventions' instruments and labels, and the same values as the span."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import time_ns
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.metrics import MeterProvider as APIMeterProvider
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter, ExemplarFilter, MeterProvider, TraceBasedExemplarFilter
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import SpanKind
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from asgi_trace import TraceMiddleware, server_span, set_route
from asgi_trace._otel.metrics import Metrics
from asgi_trace._types import ASGIApp, Message, Receive, Scope, Send
from asgi_trace.httpx import AsyncTraceTransport, TraceTransport
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import (
    GONE,
    OK,
    REQUEST,
    TRACE_ID,
    TRACEPARENT,
    body,
    drive,
    http_scope,
    responding,
    serve,
    start,
    websocket_scope,
)

DURATION = "http.server.request.duration"
ACTIVE = "http.server.active_requests"
REQUEST_SIZE = "http.server.request.body.size"
RESPONSE_SIZE = "http.server.response.body.size"
SERVER = (DURATION, ACTIVE, REQUEST_SIZE, RESPONSE_SIZE)
CLIENT = tuple(name.replace("server", "client") for name in SERVER)
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class Meters:
    """A MeterProvider and what it has collected."""

    def __init__(self, exemplar_filter: ExemplarFilter | None = None) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider(
            [self._reader], exemplar_filter=exemplar_filter or TraceBasedExemplarFilter(), shutdown_on_exit=False
        )

    def collected(self) -> dict[str, Any]:
        """Name -> metric."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {m.name: m for group in data.resource_metrics for scope in group.scope_metrics for m in scope.metrics}

    def points(self, name: str = DURATION) -> list[Any]:
        """The data points of one instrument."""
        metrics = self.collected()
        return list(metrics[name].data.data_points) if name in metrics else []

    def point(self, name: str = DURATION) -> Any:
        """The one data point of one instrument."""
        [point] = self.points(name)
        return point

    def active(self, name: str = ACTIVE) -> list[int]:
        """What the gauge stands at, for each of its attribute sets."""
        return [point.value for point in self.points(name)]


@pytest.fixture
def meters() -> Iterator[Meters]:
    """Instruments that are read back."""
    made = Meters()
    yield made
    made.provider.shutdown()


def labels(point: HistogramDataPoint | NumberDataPoint) -> dict[str, Any]:
    return dict(point.attributes or {})


def seconds(*spans: Any) -> float:
    return float(sum(span.end_time - span.start_time for span in spans)) / 1e9


def traced(app: ASGIApp, meters: Meters, **options: Any) -> TraceMiddleware:
    return TraceMiddleware(app, meter_provider=meters.provider, **options)


# What is recorded


def test_the_servers_instruments_are_the_conventions(meters: Meters, spans: CapturedSpans) -> None:
    """Names, kinds, units, descriptions and buckets are those of the semantic conventions."""
    drive(traced(OK, meters, metrics=SERVER))
    collected = meters.collected()
    described = {name: (metric.unit, metric.description) for name, metric in collected.items()}
    assert described == {
        DURATION: ("s", "Duration of HTTP server requests."),
        ACTIVE: ("{request}", "Number of active HTTP server requests."),
        REQUEST_SIZE: ("By", "Size of HTTP server request bodies."),
        RESPONSE_SIZE: ("By", "Size of HTTP server response bodies."),
    }
    assert meters.point().explicit_bounds == SECONDS
    assert not collected[ACTIVE].data.is_monotonic
    assert isinstance(meters.point(REQUEST_SIZE), HistogramDataPoint)


def test_the_clients_instruments_are_the_conventions(meters: Meters, spans: CapturedSpans) -> None:
    """The client's mirror the server's, in the convention's own words."""
    transport = TraceTransport(httpx.MockTransport(answer_hello), meter_provider=meters.provider, metrics=CLIENT)
    with httpx.Client(transport=transport) as client:
        client.get("http://shop.test/")
    collected = meters.collected()
    described = {name: (metric.unit, metric.description) for name, metric in collected.items()}
    assert described == {
        "http.client.request.duration": ("s", "Duration of HTTP client requests."),
        "http.client.active_requests": ("{request}", "Number of active HTTP requests."),
        "http.client.request.body.size": ("By", "Size of HTTP client request bodies."),
        "http.client.response.body.size": ("By", "Size of HTTP client response bodies."),
    }
    assert meters.point("http.client.request.duration").explicit_bounds == SECONDS


def test_instruments_belong_to_the_scope_of_the_spans(meters: Meters, spans: CapturedSpans) -> None:
    """Meter and tracer carry one name, version and schema."""
    drive(traced(OK, meters))
    data: Any = meters._reader.get_metrics_data()
    scope, span_scope = data.resource_metrics[0].scope_metrics[0].scope, spans.server.instrumentation_scope
    assert span_scope is not None
    assert (scope.name, scope.version, scope.schema_url) == (
        span_scope.name,
        span_scope.version,
        span_scope.schema_url,
    )


def test_only_the_duration_is_on_by_default(meters: Meters, spans: CapturedSpans) -> None:
    """The one stable instrument is recorded without asking, the others by name."""
    drive(traced(OK, meters))
    assert set(meters.collected()) == {DURATION}


def test_the_labels_are_the_conventions(meters: Meters, spans: CapturedSpans) -> None:
    """Method, scheme, route, status and version label the duration and the sizes; the gauge has what is known at the
    start."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route("/orders/{id}")
        await OK(scope, receive, send)

    drive(traced(app, meters, metrics=SERVER), http_scope("/orders/7", "POST", scheme="https", http_version="2"))
    known_at_start = {"http.request.method": "POST", "url.scheme": "https"}
    known_at_end = {
        **known_at_start,
        "http.route": "/orders/{id}",
        "http.response.status_code": 200,
        "network.protocol.version": "2",
    }
    seen = {name: labels(meters.point(name)) for name in SERVER}
    assert seen == {
        DURATION: known_at_end,
        ACTIVE: known_at_start,
        REQUEST_SIZE: known_at_end,
        RESPONSE_SIZE: known_at_end,
    }


def raising(exc: BaseException, *messages: Message) -> ASGIApp:
    return responding(*messages, exc)


class Missing(Exception):
    """Somebody's own exception."""


ENDINGS: dict[str, tuple[ASGIApp, Sequence[Any]]] = {
    "200": (OK, [REQUEST]),
    "404": (responding(start(404), body()), [REQUEST]),
    "503": (responding(start(503), body()), [REQUEST]),
    "raises": (raising(Missing()), [REQUEST]),
    "raises a builtin": (raising(ValueError()), [REQUEST]),
    "raises after 200": (raising(Missing(), start(200)), [REQUEST]),
    "raises after 500": (raising(Missing(), start(500), body()), [REQUEST]),
    "background fails": (raising(Missing(), start(200), body()), [REQUEST]),
    "cancelled": (raising(asyncio.CancelledError(), start(200)), [REQUEST]),
    "exits": (raising(SystemExit()), [REQUEST]),
    "never starts": (responding(), [REQUEST]),
    "never ends": (responding(start(200)), [REQUEST]),
    "client leaves": (raising(OSError(), start(200)), [GONE]),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_error_type_and_status_are_the_spans(ending: str, meters: Meters, spans: CapturedSpans) -> None:
    """Whatever happens to a request, metric and span tell the same story: status, error and duration."""
    app, script = ENDINGS[ending]
    drive(traced(app, meters, metrics=SERVER), script=script)
    point, span = meters.point(), spans.server
    shared = ("http.response.status_code", "error.type")
    recorded = span.attributes or {}
    assert {key: labels(point)[key] for key in shared if key in labels(point)} == {
        key: recorded[key] for key in shared if key in recorded
    }
    assert point.sum == seconds(span)
    assert (point.count, meters.active()) == (1, [0])


def test_the_value_is_the_spans_own_duration(meters: Meters, spans: CapturedSpans) -> None:
    """Both come from the same two clock readings, so dashboards and traces cannot disagree."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(float(scope["path"][1:]) / 1000)
        await OK(scope, receive, send)

    middleware = traced(app, meters)

    async def run() -> None:
        await asyncio.gather(*(serve(middleware, http_scope(f"/{n}")) for n in range(20)))

    asyncio.run(run())
    point = meters.point()
    assert point.count == 20
    assert point.sum == pytest.approx(seconds(*spans), rel=1e-12)
    assert (point.min, point.max) == (min(map(seconds, spans)), max(map(seconds, spans)))


def test_background_work_does_not_lengthen_the_value(meters: Meters, spans: CapturedSpans) -> None:
    """What runs after the last message is in neither, failing or not."""

    delivered: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await OK(scope, receive, send)
        delivered.append(time_ns())
        await asyncio.sleep(0.05)
        raise Missing

    drive(traced(app, meters))
    assert meters.point().sum == seconds(spans.server)
    assert (spans.server.end_time or 0) <= delivered[0]
    assert "error.type" not in labels(meters.point())


def test_websockets_are_not_counted_as_requests(meters: Meters, spans: CapturedSpans) -> None:
    """A connection that stays for hours would drown the durations; the convention has no instrument for it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})

    drive(traced(app, meters, metrics=SERVER), websocket_scope(), [{"type": "websocket.connect"}])
    assert meters.collected() == {}
    assert len(spans) == 1


# Exemplars, sampling, exclusion


def exemplar_ids(point: HistogramDataPoint) -> list[tuple[int | None, int | None]]:
    return [(exemplar.trace_id, exemplar.span_id) for exemplar in point.exemplars]


def test_the_exemplar_points_at_the_requests_span(meters: Meters, spans: CapturedSpans) -> None:
    """From a bucket one gets to the trace that fell into it, not to whatever span was current at the end."""
    tracer = spans.tracer_provider.get_tracer("shop")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        with tracer.start_as_current_span("render"):
            await OK(scope, receive, send)

    drive(traced(app, meters, metrics=SERVER))
    context, collected = spans.server.context, meters.collected()
    for name in (DURATION, REQUEST_SIZE, RESPONSE_SIZE):
        [point] = collected[name].data.data_points
        assert exemplar_ids(point) == [(context.trace_id, context.span_id)]


@pytest.mark.parametrize("headers", [[], [(b"traceparent", TRACEPARENT[:-1] + b"0")]])
def test_an_unsampled_request_is_counted(headers: list[tuple[bytes, bytes]], meters: Meters) -> None:
    """Metrics see all of the traffic; the default exemplar filter leaves out what no trace can be found for."""
    with capture_spans(ALWAYS_OFF):
        drive(traced(responding(start(503), body()), meters), http_scope(headers=headers))
    point = meters.point()
    assert labels(point)["error.type"] == "503"
    assert (point.count, exemplar_ids(point)) == (1, [])
    assert point.sum > 0


def test_an_unsampled_request_has_an_exemplar_where_the_sdk_wants_one() -> None:
    """With the filter `always_on` the ids of an unsampled request are there, and they are the caller's trace's."""
    meters, seen = Meters(AlwaysOnExemplarFilter()), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(server_ids())
        await OK(scope, receive, send)

    with capture_spans(ALWAYS_OFF):
        drive(traced(app, meters), http_scope(headers=[(b"traceparent", TRACEPARENT[:-1] + b"0")]))
    assert exemplar_ids(meters.point()) == seen
    assert seen[0][0] == TRACE_ID
    meters.provider.shutdown()


def server_ids() -> tuple[int, int]:
    context = server_span().get_span_context()
    return context.trace_id, context.span_id


def test_a_request_is_counted_without_a_tracer_provider(meters: Meters) -> None:
    """Metrics alone work: no span, and the exemplar is the SDK's business."""
    drive(traced(responding(start(404), body()), meters, metrics=SERVER))
    assert labels(meters.point())["http.response.status_code"] == 404
    assert meters.active() == [0]


def test_an_excluded_request_is_not_counted(meters: Meters, spans: CapturedSpans) -> None:
    """Excluded means silent in metrics too, the gauge included."""
    app = traced(OK, meters, metrics=SERVER, exclude="^/health$")
    drive(app, http_scope("/health"))
    assert meters.collected() == {}
    drive(app, http_scope("/orders"))
    assert meters.point().count == 1


# The gauge


def test_the_gauge_counts_what_is_in_progress(meters: Meters, spans: CapturedSpans) -> None:
    """It stands at the number of requests that have begun and not ended."""
    seen = []

    async def run() -> None:
        gate = asyncio.Event()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await gate.wait()
            await OK(scope, receive, send)

        middleware = traced(app, meters, metrics=ACTIVE)
        tasks = [asyncio.create_task(serve(middleware)) for _ in range(3)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        seen.extend(meters.active())
        gate.set()
        await asyncio.gather(*tasks)

    asyncio.run(run())
    assert (seen, meters.active()) == ([3], [0])


EXCEPTIONS = [ValueError(), OSError(), asyncio.CancelledError(), SystemExit(), KeyboardInterrupt(), GeneratorExit()]
STEPS = st.one_of(
    st.sampled_from([start(200), start(404), start(500), start(200, trailers=True), body(), body(b"x", True)]),
    st.sampled_from(
        [{"type": "http.response.trailers", "headers": []}, {"type": "http.response.pathsend", "path": ""}]
    ),
    st.sampled_from([{"type": "http.response.debug"}, {}, "receive", "pause"]),
    st.sampled_from(EXCEPTIONS),
)
RECEIVED = st.sampled_from([REQUEST, GONE, {"type": "http.request", "body": b"xy", "more_body": True}, {}, OSError()])


@settings(max_examples=150, deadline=None)
@given(
    steps=st.lists(STEPS, max_size=6),
    script=st.lists(RECEIVED, max_size=3),
    cancel_at=st.none() | st.integers(0, 3),
    broken_send=st.none() | st.tuples(st.integers(0, 3), st.sampled_from(EXCEPTIONS)),
    sampled=st.booleans(),
    websocket=st.booleans(),
)
def test_the_gauge_returns_to_zero_after_every_ending(
    steps: list[Any],
    script: list[Any],
    cancel_at: int | None,
    broken_send: tuple[int, BaseException] | None,
    sampled: bool,
    websocket: bool,
) -> None:
    """Whatever an application, its client and its server do to a request, it ends once, and the gauge knows."""
    meters = Meters()
    pauses = 0

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for step in steps:
            if isinstance(step, BaseException):
                raise step
            if step == "receive":
                await receive()
            elif step == "pause":
                await pause()
            else:
                await send(dict(step))

    class Pause:
        def __await__(self) -> Any:
            yield

    async def pause() -> None:
        await Pause()

    messages = iter(script)

    async def receive() -> Message:
        await pause()
        message = next(messages, GONE)
        if isinstance(message, BaseException):
            raise message
        return message

    sends = 0

    async def send(message: Message) -> None:
        nonlocal sends
        sends += 1
        await pause()
        if broken_send is not None and broken_send[0] == sends:
            raise broken_send[1]

    ending: BaseException | None = None
    with capture_spans(None if sampled else ALWAYS_OFF) as spans:
        scope = websocket_scope() if websocket else http_scope()
        running: Any = traced(app, meters, metrics=SERVER)(scope, receive, send)
        try:  # a server's event loop, as small as can be
            while True:
                running.send(None)
                pauses += 1
                if pauses == cancel_at:
                    running.throw(asyncio.CancelledError())
                if pauses > 50:
                    running.close()
        except BaseException as exc:
            ending = exc
        assert isinstance(ending, (StopIteration, RuntimeError, *map(type, EXCEPTIONS)))
        assert len(spans.of_kind(SpanKind.SERVER)) == (1 if sampled else 0)

    assert meters.active() == ([] if websocket else [0])
    assert sum(point.count for point in meters.points()) == (0 if websocket else 1)
    meters.provider.shutdown()


def test_the_gauge_returns_to_zero_when_the_task_is_dropped(meters: Meters, spans: CapturedSpans) -> None:
    """A request that the garbage collector closes in the middle has ended, too."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(200))
        await receive()

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def ignore(message: Message) -> None:
        return

    async def run() -> None:
        running = traced(app, meters, metrics=SERVER)(http_scope(), never, ignore)
        running.send(None)
        assert meters.active() == [1]
        running.close()

    asyncio.run(run())
    assert meters.active() == [0]


# Cardinality


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(
        st.fixed_dictionaries(
            {
                "method": st.text(max_size=9),
                "path": st.text(max_size=9).map("/".__add__),
                "scheme": st.text(max_size=5),
                "http_version": st.text(max_size=4),
                "query_string": st.binary(max_size=9),
                "headers": st.lists(
                    st.tuples(
                        st.sampled_from([b"host", b"user-agent", b"x-forwarded-proto", b"forwarded", b"traceparent"]),
                        st.binary(max_size=12),
                    ),
                    max_size=4,
                ),
            }
        ),
        min_size=5,
        max_size=20,
    )
)
def test_a_caller_cannot_make_labels(requests: list[dict[str, Any]]) -> None:
    """Methods, paths, hosts, schemes, versions and headers of any kind fall into the same few attribute sets."""
    meters = Meters()
    app = traced(responding(start(404), body()), meters, metrics=SERVER, trusted_proxies="127.0.0.1")
    with capture_spans():
        for request in requests:
            drive(app, {**http_scope(), **request, "raw_path": None})
    for name in SERVER:
        for point in meters.points(name):
            found = labels(point)
            assert found.pop("http.request.method") in {"_OTHER", "GET", "PUT", "POST", "HEAD"}
            assert found.pop("url.scheme") in {"http", "https", "ws", "wss"}
            assert found.pop("network.protocol.version", "2") in {"1.0", "1.1", "2", "3"}
            assert found == ({} if name == ACTIVE else {"http.response.status_code": 404})
    meters.provider.shutdown()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"method": "get"}, {"http.request.method": "_OTHER"}),
        ({"method": "BREW"}, {"http.request.method": "_OTHER"}),
        ({"method": "QUERY"}, {"http.request.method": "QUERY"}),
        ({"scheme": "https"}, {"url.scheme": "https"}),
        ({"scheme": "gopher"}, {"url.scheme": "http"}),
        ({"scheme": None}, {"url.scheme": "http"}),
        ({"http_version": "2.0"}, {"network.protocol.version": "2"}),
        ({"http_version": "3"}, {"network.protocol.version": "3"}),
        ({"http_version": "7.1"}, {"network.protocol.version": None}),
    ],
)
def test_labels_are_normalised(keys: dict[str, Any], expected: dict[str, Any], meters: Meters) -> None:
    """What the convention knows keeps its name, everything else is one thing or left out."""
    drive(traced(OK, meters), http_scope(**keys))
    found = labels(meters.point())
    assert {name: found.get(name) for name in expected} == expected


def test_the_host_is_no_label(meters: Meters, spans: CapturedSpans) -> None:
    """`server.address` comes from a header: opt-in in the convention, and so left out."""
    for host in (b"a.test", b"b.test", b"c.test:8443"):
        drive(traced(OK, meters, metrics=SERVER), http_scope(headers=[(b"host", host)]))
    assert [len(meters.points(name)) for name in SERVER] == [1, 1, 1, 1]


# Sizes


def test_each_request_keeps_its_own_sizes(meters: Meters, spans: CapturedSpans) -> None:
    """A hundred requests at once, of sizes all different, on one middleware: none has bytes of another."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        set_route(scope["path"])
        size, more_body = 0, True
        while more_body:
            message = await receive()
            size, more_body = size + len(message["body"]), message["more_body"]
            await asyncio.sleep(0)
        await send(start(200))
        for _ in range(size):
            await send(body(b"123", True))
            await asyncio.sleep(0)
        await send(body())

    middleware = traced(app, meters, metrics=(REQUEST_SIZE, RESPONSE_SIZE))

    def upload(size: int) -> list[Message]:
        return [{"type": "http.request", "body": b"x", "more_body": n + 1 < size} for n in range(size)]

    async def run() -> None:
        await asyncio.gather(*(serve(middleware, http_scope(f"/{n}"), upload(n)) for n in range(1, 101)))

    asyncio.run(run())
    sizes = {
        name: {labels(p)["http.route"]: p.sum for p in meters.points(name)} for name in (REQUEST_SIZE, RESPONSE_SIZE)
    }
    assert sizes == {
        REQUEST_SIZE: {f"/{n}": n for n in range(1, 101)},
        RESPONSE_SIZE: {f"/{n}": 3 * n for n in range(1, 101)},
    }


def test_sizes_are_those_on_the_wire(meters: Meters, spans: CapturedSpans) -> None:
    """A body that is compressed further in counts compressed."""

    async def many(request: Any) -> PlainTextResponse:
        return PlainTextResponse("a" * 100_000)

    app = Starlette(routes=[Route("/", many)], middleware=[Middleware(GZipMiddleware)])
    served = drive(traced(app, meters, metrics=RESPONSE_SIZE), http_scope(headers=[(b"accept-encoding", b"gzip")]))
    sent = sum(len(message.get("body", b"")) for message in served.messages)
    assert 0 < sent < 1000
    assert meters.point(RESPONSE_SIZE).sum == sent


def test_a_file_that_the_server_sends_counts(meters: Meters, spans: CapturedSpans, tmp_path: Path) -> None:
    """Bytes that never pass through the application have left all the same."""
    file = tmp_path / "report"
    file.write_bytes(b"0123456789")
    with file.open("rb") as opened:
        opened.seek(4)
        zerocopy = {"type": "http.response.zerocopysend", "file": opened}
        for message in (
            {"type": "http.response.pathsend", "path": str(file)},
            {**zerocopy, "file": opened.fileno(), "offset": 1},
            {**zerocopy, "count": 2, "offset": 3},
            zerocopy,
        ):
            drive(traced(responding(start(200), message), meters, metrics=RESPONSE_SIZE))
    point = meters.point(RESPONSE_SIZE)
    assert (point.count, point.sum) == (4, 10 + 9 + 2 + 6)


def test_an_answer_to_head_has_no_body(meters: Meters, spans: CapturedSpans) -> None:
    """What an application sends in answer to HEAD, the server keeps back."""
    drive(traced(OK, meters, metrics=RESPONSE_SIZE), http_scope(method="HEAD"))
    assert meters.point(RESPONSE_SIZE).sum == 0


def test_a_response_without_a_body_has_size_zero(meters: Meters, spans: CapturedSpans) -> None:
    """An empty response is a measurement of nought, and one request is one measurement."""
    drive(traced(responding(start(204), body()), meters, metrics=(REQUEST_SIZE, RESPONSE_SIZE)))
    for name in (REQUEST_SIZE, RESPONSE_SIZE):
        assert (meters.point(name).count, meters.point(name).sum) == (1, 0)


# Without a provider, with a late one, with a broken one


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


# The client


def answer_hello(request: httpx.Request) -> httpx.Response:
    return httpx.Response(200, content=b"hello")


def fail(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectTimeout("too slow")


def cancel(request: httpx.Request) -> httpx.Response:
    raise asyncio.CancelledError


CLIENT_DURATION, CLIENT_ACTIVE = CLIENT[:2]
ANSWERS: dict[str, tuple[Callable[[httpx.Request], httpx.Response], dict[str, Any]]] = {
    "200": (answer_hello, {"http.response.status_code": 200, "network.protocol.version": None}),
    "404": (lambda request: httpx.Response(404), {"http.response.status_code": 404, "error.type": "404"}),
    "timeout": (fail, {"error.type": "httpx.ConnectTimeout"}),
    "cancelled": (cancel, {}),
}


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_clients_labels_and_value_are_its_spans(
    answer: str, asynchronous: bool, meters: Meters, spans: CapturedSpans
) -> None:
    """Method, server and outcome label a client's duration, which is its span's, and its gauge returns to zero."""
    handler, expected = ANSWERS[answer]
    options: Any = {"meter_provider": meters.provider, "metrics": CLIENT}
    url, extensions = "http://shop.test:8443/orders/7?page=2", {"url_template": "/orders/{id}"}

    async def run() -> None:
        transport = AsyncTraceTransport(httpx.MockTransport(handler), **options)
        async with httpx.AsyncClient(transport=transport) as client:
            await client.post(url, extensions=extensions)

    try:
        if asynchronous:
            asyncio.run(run())
        else:
            with httpx.Client(transport=TraceTransport(httpx.MockTransport(handler), **options)) as client:
                client.post(url, extensions=extensions)
    except (httpx.ConnectTimeout, asyncio.CancelledError):
        assert answer in ("timeout", "cancelled")
    known_at_start = {
        "http.request.method": "POST",
        "server.address": "shop.test",
        "server.port": 8443,
        "url.template": "/orders/{id}",
    }
    found = labels(meters.point(CLIENT_DURATION))
    found.pop("network.protocol.version", None)
    assert found == {**known_at_start, **{key: value for key, value in expected.items() if value is not None}}
    assert labels(meters.point(CLIENT_ACTIVE)) == known_at_start
    assert meters.point(CLIENT_DURATION).sum == seconds(spans.client)
    assert found.get("error.type") == (spans.client.attributes or {}).get("error.type")
    assert meters.active(CLIENT_ACTIVE) == [0]


def test_a_clients_sizes_are_those_of_its_bodies(meters: Meters, spans: CapturedSpans) -> None:
    """Bytes sent and bytes received are counted, streamed or not."""
    transport = TraceTransport(
        httpx.MockTransport(lambda request: httpx.Response(200, content=request.read() * 2)),
        meter_provider=meters.provider,
        metrics=CLIENT,
    )
    with httpx.Client(transport=transport) as client:
        client.post("http://shop.test/", content=b"12345")
        client.post("http://shop.test/", content=iter([b"123", b"4567"]))
    sent, received = (meters.point(name) for name in CLIENT[2:])
    assert (sent.count, sent.sum) == (2, 12)
    assert (received.count, received.sum) == (2, 24)
