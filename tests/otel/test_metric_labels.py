"""Labels, exemplars and sampling: what a measurement is filed under, which no caller can make up."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import AlwaysOnExemplarFilter
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from asgi_trace import server_span
from asgi_trace._types import Receive, Scope, Send
from asgi_trace.testing import CapturedSpans, capture_spans

from ..support.asgi import (
    OK,
    TRACE_ID,
    TRACEPARENT,
    body,
    drive,
    http_scope,
    responding,
    start,
)
from ..support.metrics import (
    ACTIVE,
    DURATION,
    REQUEST_SIZE,
    RESPONSE_SIZE,
    SERVER,
    Meters,
    labels,
    traced,
)


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


def test_labels_are_those_that_the_request_came_with(meters: Meters) -> None:
    """An application that writes another scheme into its scope, as a proxy's headers ask for, changes no label."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope.update(scheme="https", http_version="3")
        await OK(scope, receive, send)

    drive(traced(app, meters, metrics=SERVER))
    assert [labels(meters.point(name))["url.scheme"] for name in SERVER] == ["http"] * 4
    assert labels(meters.point())["network.protocol.version"] == "1.1"


def test_requests_that_differ_in_one_label_are_different_points(meters: Meters) -> None:
    """Status, method, scheme, version and error each make a point of their own, again and again."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send(start(404 if scope["method"] == "PUT" else 200))
        if scope["method"] == "DELETE":
            raise ValueError
        await send(body(b""))

    middleware = traced(app, meters)
    different: list[dict[str, Any]] = [
        {},
        {"method": "PUT"},
        {"method": "DELETE"},
        {"scheme": "https"},
        {"http_version": "1.0"},
    ]
    for keys in different * 3:
        drive(middleware, http_scope(**keys))
    assert [point.count for point in meters.points(DURATION)] == [3] * len(different)
