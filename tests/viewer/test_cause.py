"""The sentence that names the culprit of a failure, and the one that says where the time went."""

from __future__ import annotations

import pytest
from hypothesis import given

from asgi_trace.viewer.analysis.cause import explain, time_spent
from asgi_trace.viewer.receive.records import SpanRecord, Values

from ..support.viewer import SPANS, failing_checkout, make_span, make_timeline


def sentence(*spans: SpanRecord) -> str | None:
    cause = explain(make_timeline(*spans))
    return None if cause is None else cause.sentence


def test_the_service_that_failed_is_named_and_so_are_those_who_passed_it_on() -> None:
    """The deepest failure is the cause, with its exception and place; its callers only passed it on."""
    cause = explain(failing_checkout())
    assert cause is not None
    assert (cause.service, cause.fatal, cause.row) == ("inventory", True, 7)
    assert cause.error == "sqlite3.IntegrityError: CHECK constraint failed: quantity >= 0"
    assert cause.passed_on == (("orders", 502), ("shop", 502))
    assert cause.sentence == (
        "inventory made POST /checkout fail: sqlite3.IntegrityError: CHECK constraint failed: quantity >= 0 "
        "(in “UPDATE stock”, stock.py:31 in take); orders (502) and shop (502) only passed it on."
    )


def test_a_request_that_went_well_has_no_cause() -> None:
    """Nothing failed, nothing to explain; nor in a trace of log lines alone."""
    assert sentence(make_span("GET /", kind="SERVER", status=200)) is None
    assert sentence() is None


def test_a_service_that_fails_alone_has_nobody_to_blame() -> None:
    """Without callers in the trace the sentence ends with the error."""
    assert sentence(make_span("GET /", kind="SERVER", failed=True, status=500, exception="ValueError: no")) == (
        "shop made GET / fail: ValueError: no (in “GET /”)."
    )


def test_an_error_without_an_exception_is_told_by_its_status() -> None:
    """A 503 without an exception is still named."""
    assert sentence(make_span("GET /", kind="SERVER", failed=True, status=503)) == (
        "shop made GET / fail: status 503 (in “GET /”)."
    )
    assert sentence(make_span("job", failed=True, attributes={"error.type": "incomplete_response"})) == (
        "shop made job fail: incomplete_response (in “job”)."
    )
    assert sentence(make_span("job", failed=True)) == "shop made job fail: it reported an error (in “job”)."


PEER: Values = {"server.address": "payments.test", "server.port": 443}


def test_a_service_that_cannot_be_reached_is_told_apart() -> None:
    """A call that nobody answered names the peer and the transport's error."""
    assert sentence(
        make_span("GET /", 0, 9, id="a", kind="SERVER", failed=True, status=500),
        make_span(
            "GET", 1, 8, parent="a", kind="CLIENT", failed=True, attributes={**PEER}, exception="ConnectError: refused"
        ),
    ) == ("shop made GET / fail: no answer from payments.test:443: ConnectError: refused.")


def test_a_peer_that_is_not_traced_is_named_by_its_address() -> None:
    """A 5xx from a service without spans is that service's."""
    assert sentence(
        make_span("GET /", 0, 9, id="a", kind="SERVER", failed=True, status=502),
        make_span("GET", 1, 8, parent="a", kind="CLIENT", failed=True, status=503, attributes={**PEER}),
    ) == ("shop made GET / fail: payments.test:443, which sent no spans, answered 503.")


def test_the_exception_of_an_ancestor_explains_a_silent_span() -> None:
    """A failed span without an exception borrows that of its own service's nearest ancestor."""
    cause = explain(
        make_timeline(
            make_span("GET /", 0, 9, id="a", kind="SERVER", failed=True, status=500, exception="KeyError: 'sku'"),
            make_span("look up", 1, 8, parent="a", failed=True),
        )
    )
    assert cause is not None
    assert cause.error == "KeyError: 'sku'"


def test_a_failure_that_was_repeated_with_success_is_not_blamed() -> None:
    """The first call failed, the second went well: the request failed for its own reason."""
    assert sentence(
        make_span("GET /", 0, 30, id="a", kind="SERVER", failed=True, status=500, exception="ValueError: own"),
        make_span("GET", 1, 5, id="b", parent="a", kind="CLIENT", failed=True, attributes={**PEER}),
        make_span("GET", 6, 9, id="c", parent="a", kind="CLIENT", attributes={**PEER}),
    ) == ("shop made GET / fail: ValueError: own (in “GET /”).")


def test_of_failures_in_a_row_the_last_counts() -> None:
    """What came before the last failure did not stop the request."""
    cause = explain(
        make_timeline(
            make_span("GET /", 0, 30, id="root", kind="SERVER", failed=True, status=500),
            make_span("tolerated", 1, 5, parent="root", failed=True),
            make_span("fatal", 6, 9, parent="root", failed=True),
        )
    )
    assert cause is not None
    assert cause.row == 2


def test_of_failures_side_by_side_the_first_counts() -> None:
    """Concurrent calls: the one that failed first brought the others down."""
    cause = explain(
        make_timeline(
            make_span("GET /", 0, 30, id="root", kind="SERVER", failed=True, status=500),
            make_span("cancelled by it", 1, 10, parent="root", failed=True),
            make_span("first", 2, 9, parent="root", failed=True),
        )
    )
    assert cause is not None
    assert cause.row == 2


def test_the_exception_that_came_up_leads_the_way_down() -> None:
    """Of several failed calls, the one with the very exception that the request failed with is the cause."""
    cause = explain(
        make_timeline(
            make_span("GET /", 0, 30, id="root", kind="SERVER", failed=True, exception="E: this"),
            make_span("guilty", 1, 5, parent="root", failed=True, exception="E: this"),
            make_span("later", 6, 9, parent="root", failed=True, exception="E: other"),
        )
    )
    assert cause is not None
    assert cause.row == 1


def test_a_failure_that_the_request_survived_is_told_as_such() -> None:
    """A failed part of a good request is mentioned, and not fatal."""
    cause = explain(
        make_timeline(
            make_span("GET /", 0, 9, id="a", kind="SERVER", status=200),
            make_span("cache", 1, 2, parent="a", failed=True, exception="TimeoutError: 1 s"),
        )
    )
    assert cause is not None
    assert not cause.fatal
    assert cause.sentence == (
        "shop had a failure, but GET / answered 200 all the same: TimeoutError: 1 s (in “cache”)."
    )


def test_a_refused_call_in_a_good_request_is_no_failure() -> None:
    """A 404 that the caller expected needs no explanation, though its CLIENT span is an error."""
    assert (
        sentence(
            make_span("GET /", 0, 9, id="a", kind="SERVER", status=404),
            make_span("GET", 1, 8, parent="a", kind="CLIENT", failed=True, status=404),
        )
        is None
    )


def test_a_failure_below_a_caller_that_called_it_a_refusal() -> None:
    """A service in between that answers 409 is no error itself; the cause below it is still found."""
    cause = explain(
        make_timeline(
            make_span("POST /", 0, 30, id="a", kind="SERVER", failed=True, status=502),
            make_span("POST", 1, 29, id="b", parent="a", kind="CLIENT", failed=True, status=409),
            make_span("POST /o", 2, 28, id="c", parent="b", kind="SERVER", service="orders", status=409),
            make_span("POST", 3, 27, id="d", parent="c", kind="CLIENT", service="orders", failed=True, status=500),
            make_span("POST /s", 4, 26, id="e", parent="d", kind="SERVER", service="stock", failed=True, status=500),
        )
    )
    assert cause is not None
    assert (cause.service, cause.passed_on) == ("stock", (("shop", 502),))


def test_hostile_names_stay_on_one_line() -> None:
    """Escape sequences in names and messages do not reach the sentence."""
    text = sentence(
        make_span("GET\x1b[2J /\n", kind="SERVER", failed=True, exception="E: a\nb\x1b]0;t\x07", service="\x07s")
    )
    assert text == "s made GET / fail: E: a b (in “GET /”)."


@given(SPANS)
def test_any_trace_can_be_explained(spans: list[SpanRecord]) -> None:
    """Circles, strays and contradictions never raise, and a failed request always has a cause."""
    timeline = make_timeline(*spans)
    cause = explain(timeline)
    assert not timeline.failed or cause is not None
    time_spent(timeline)


def test_the_span_that_took_most_of_the_time_is_named() -> None:
    """A slow request says where its time went."""
    timeline = make_timeline(
        make_span("GET /", 0, 640, kind="SERVER"), make_span("ask", 10, 614, parent="GET /", service="inventory")
    )
    assert time_spent(timeline) == "604 ms of 640 ms went into “ask” of inventory."


@pytest.mark.parametrize(("duration", "busy"), [(90, 80), (640, 100)])
def test_a_quick_or_evenly_spread_request_needs_no_such_sentence(duration: float, busy: float) -> None:
    """Below 0.1 s, or when no span has half of it, nothing is said."""
    timeline = make_timeline(
        make_span("GET /", 0, duration, kind="SERVER"),
        *(
            make_span(f"part {number}", number * busy, (number + 1) * busy, parent="GET /")
            for number in range(int(duration // busy))
        ),
    )
    assert time_spent(timeline) is None
