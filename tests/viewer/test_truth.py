"""What the model says about a trace: failed or not or unknown, how long the request took, whose fault it was.

Terminal, page and API all show this model, so that what holds here holds in each of them.
"""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from asgi_trace.viewer.analysis.cause import explain
from asgi_trace.viewer.analysis.overview import overview
from asgi_trace.viewer.receive import http
from asgi_trace.viewer.receive.records import SpanRecord, Values
from asgi_trace.viewer.render.api import encode, list_row, plain, whole_trace

from ..support.viewer import STACKTRACE, make_log, make_span, make_timeline

SERVER = make_span("GET /", kind="SERVER", status=200)
FAILED_SERVER = make_span("POST /", 2, 8, kind="SERVER", status=500, failed=True)


def verdict(*spans: SpanRecord) -> bool | None:
    return make_timeline(*spans).failed


@pytest.mark.parametrize(
    ("spans", "failed"),
    [
        pytest.param([SERVER], False, id="one good entry"),
        pytest.param([SERVER, FAILED_SERVER], True, id="one of two entries failed"),
        pytest.param([make_span("a", kind="SERVER", status=503)], True, id="a server's 503 without status ERROR"),
        pytest.param([make_span("a", kind="SERVER", status=404)], False, id="a server's 404"),
        pytest.param([make_span("a", kind="CLIENT", status=503)], False, id="a client's 503 that it does not call one"),
        pytest.param([make_span("a", failed=True)], True, id="a job that failed"),
        pytest.param([make_span("a", kind="SERVER", status=200, parent="gone")], False, id="an orphan server"),
        pytest.param([make_span("a", kind="CONSUMER", failed=True, parent="gone")], True, id="an orphan consumer"),
        pytest.param([make_span("a", parent="gone")], None, id="no root yet"),
        pytest.param([SERVER, make_span("a", parent="gone")], None, id="an entry, and a part without its parent"),
        pytest.param([FAILED_SERVER, make_span("a", parent="gone")], True, id="a failed entry beside such a part"),
        pytest.param([make_span("a", parent="gone", failed=True)], True, id="a part without its parent failed"),
        pytest.param(
            [make_span("a", parent="gone", kind="CLIENT", failed=True, status=404)], None, id="it was only refused"
        ),
        pytest.param([replace(SERVER, end=0)], None, id="no end"),
        pytest.param([replace(SERVER, end=SERVER.start - 1)], None, id="an end before the start"),
        pytest.param([replace(FAILED_SERVER, end=0)], True, id="no end, and an error"),
        pytest.param([make_span("a", parent="b"), make_span("b", parent="a")], None, id="a circle"),
        pytest.param([SERVER, make_span("a", parent="GET /", failed=True)], False, id="it survived an inner failure"),
        pytest.param(
            [make_span("a", kind="SERVER", status=202), make_span("b", kind="PRODUCER", parent="a"),
             make_span("c", 20, 30, kind="CONSUMER", parent="b", service="worker", failed=True)],
            False,
            id="a consumer that failed after a 202",
        ),
    ],
)  # fmt: skip
def test_failed_true_false_or_unknown(spans: list[SpanRecord], failed: bool | None) -> None:
    """A trace failed when an entry failed; what is not here yet is unknown and never a success."""
    assert verdict(*spans) is failed
    row = overview(make_timeline(*spans))
    assert row is not None
    assert row.failed is failed
    assert row.cause is None or failed is not False


def test_the_first_failed_entry_fills_the_row_else_the_earliest() -> None:
    """With three entries the row is that of the 500, and without one that of the first."""
    others = [make_span(f"GET /{n}", n, n + 1, kind="SERVER", status=200) for n in range(2)]
    row = overview(make_timeline(*others, FAILED_SERVER))
    assert row is not None
    assert (row.name, row.status, row.span_count) == ("POST /", 500, 3)
    row = overview(make_timeline(*reversed(others)))
    assert row is not None
    assert (row.name, row.duration) == ("GET /0", 1_000_000)


def test_the_requests_time_is_its_own() -> None:
    """A child that goes on after the response makes the trace longer, not the request."""
    timeline = make_timeline(SERVER, make_span("background", 5, 5_000, parent="GET /"))
    assert (timeline.duration, timeline.length) == (10_000_000, 5_000_000_000)
    row = overview(timeline)
    assert row is not None
    assert list_row(row)["duration_ms"] == 10.0


STABLE: Values = {
    "http.request.method": "POST", "url.scheme": "https", "server.address": "shop.test", "server.port": 8443,
    "url.path": "/a/1", "url.query": "x=1", "http.route": "/a/{id}", "http.response.status_code": 201,
}  # fmt: skip
OLD: Values = {
    "http.method": "POST", "http.scheme": "https", "http.host": "shop.test:8443", "http.target": "/a/1?x=1",
    "http.route": "/a/{id}", "http.status_code": 201, "net.peer.ip": "10.0.0.1", "net.peer.port": 50123,
}  # fmt: skip
OLDER: Values = {
    "http.method": "POST", "http.url": "https://shop.test:8443/a/1?x=1", "http.route": "/a/{id}",
    "http.status_code": "201",
}  # fmt: skip


@pytest.mark.parametrize("values", [STABLE, OLD, OLDER], ids=["stable", "old", "older"])
def test_both_conventions_say_the_same(values: Values) -> None:
    """Method, scheme, host, port, path, query, route and status are read from whatever the sender writes."""
    request = http.read(make_span("x", kind="SERVER", attributes=values))
    assert request == http.Http("POST", "https", "shop.test", 8443, "/a/1", "x=1", "/a/{id}", 201)


def test_an_old_clients_peer_is_the_server() -> None:
    """`net.peer.*` names the server on a CLIENT span, and the caller on a SERVER span."""
    values: Values = {"net.peer.name": "db.test", "net.peer.port": 5432, "http.method": "GET"}
    assert http.read(make_span("x", kind="CLIENT", attributes=values)).host == "db.test"
    assert http.read(make_span("x", kind="SERVER", attributes=values)).host is None


@pytest.mark.parametrize(
    "values",
    [
        {"http.status_code": True}, {"http.status_code": "9999"}, {"http.status_code": [200]}, {"http.method": {}},
        {"http.url": "http://[::1"}, {"url.full": "http://a:99999/"}, {"server.port": "x"}, {"http.host": "a:b:c"},
        {"http.target": ""}, {"http.url": ""},
    ],
)  # fmt: skip
def test_nonsense_in_http_attributes_is_nothing(values: Values) -> None:
    """Wrong types and broken URLs neither raise nor count."""
    request = http.read(make_span("x", kind="CLIENT", attributes=values))
    assert (request.status, request.port, request.method) == (None, None, None)


def test_a_refusal_is_not_blamed_for_what_the_application_raised_after_it() -> None:
    """The span and the exception in the sentence are of the same span."""
    cause = explain(
        make_timeline(
            make_span("GET /", 0, 9, id="a", kind="SERVER", failed=True, status=500, exception="KeyError: 'price'"),
            make_span("GET /quotes", 1, 4, id="b", parent="a", kind="CLIENT", failed=True, status=404),
        )
    )
    assert cause is not None
    assert (cause.row, cause.error) == (0, "KeyError: 'price'")
    assert cause.sentence == "shop made GET / fail: KeyError: 'price' (in “GET /”)."


def test_an_exception_that_was_caught_is_not_blamed() -> None:
    """The stack trace of the request's exception does not speak of the inner one: it had been handled."""
    spans = [
        make_span("GET /", 0, 9, id="a", kind="SERVER", failed=True, exception="KeyError: 'x'", stacktrace=STACKTRACE),
        make_span("cache", 1, 2, id="b", parent="a", failed=True, exception="TimeoutError: 1 s"),
    ]
    cause = explain(make_timeline(*spans))
    assert cause is not None
    assert cause.row == 0
    chained = replace(
        spans[0].events[0], attributes={**spans[0].events[0].attributes, "exception.stacktrace": "TimeoutError: 1 s"}
    )
    cause = explain(make_timeline(replace(spans[0], events=(chained,)), spans[1]))
    assert cause is not None
    assert cause.row == 1


def test_a_failure_while_the_root_is_missing_does_not_claim_to_know() -> None:
    """The sentence says that the outcome is unknown."""
    timeline = make_timeline(
        make_span("work", id="a", parent="gone"), make_span("inner", 1, 2, parent="a", failed=True, exception="E: x")
    )
    row = overview(timeline)
    assert row is not None
    assert (row.failed, row.cause) == (
        None,
        "shop had a failure; whether work failed cannot be known yet: E: x (in “inner”).",
    )


def test_a_mere_refusal_has_no_cause() -> None:
    """A good answer after an expected 404 has neither cause nor remark."""
    row = overview(
        make_timeline(SERVER, make_span("GET", 1, 2, parent="GET /", kind="CLIENT", failed=True, status=404))
    )
    assert row is not None
    assert (row.failed, row.cause, row.remark) == (False, None, None)


def test_the_whole_trace_is_json_with_the_names_of_the_contract() -> None:
    """Every key is there, NaN and lone surrogates are not."""
    span = make_span(
        "GET /\ud800",
        id="a",
        kind="SERVER",
        failed=True,
        exception="E: x",
        attributes={"nan": float("nan"), "l": [1.5]},
    )
    timeline = make_timeline(span, make_span("b", parent="a", attributes={}), logs=(make_log("line", span_id="a"),))
    row = overview(timeline)
    assert row is not None
    data = json.loads(encode(whole_trace(row, timeline)))
    assert {
        "trace_id", "name", "time", "service", "method", "path", "route", "status", "failed", "duration_ms",
        "span_count", "services", "cause", "spans", "logs",
    } <= data.keys()  # fmt: skip
    assert {
        "span_id", "parent_span_id", "name", "service", "kind", "start", "duration_ms", "status", "attributes",
        "events", "links",
    } <= data["spans"][0].keys()  # fmt: skip
    assert data["logs"] == [
        {"time": "2025-10-09T08:53:20.001000Z", "severity": "INFO", "body": "line", "service": "shop", "span_id": "a",
         "attributes": {}}
    ]  # fmt: skip
    assert data["spans"][0]["attributes"] == {"nan": "NaN", "l": [1.5]}
    assert (data["spans"][0]["parent_span_id"], data["spans"][1]["parent_span_id"]) == (None, "a")
    assert (data["spans"][0]["status"], data["time"]) == ("ERROR", "2025-10-09T08:53:20.000000Z")
    assert plain([float("inf"), {"x": -float("inf")}]) == ["Infinity", {"x": "-Infinity"}]


def test_unknown_times_are_null() -> None:
    """A span without a start or an end has no time and no duration in JSON."""
    timeline = make_timeline(replace(SERVER, start=0, end=0), make_span("inner", 1, 2, parent="GET /"))
    row = overview(timeline)
    assert row is not None
    data = whole_trace(row, timeline)
    assert (data["time"], data["duration_ms"], data["spans"][0]["start"]) == (None, None, None)
    assert data["length_ms"] == 1.0
