"""Spans in any order become rows: tree, clocks, exceptions, times."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_trace.viewer.analysis.stack_traces import where
from asgi_trace.viewer.analysis.timeline import build, self_times
from asgi_trace.viewer.receive.records import Link, SpanRecord

from ..support.viewer import SPANS, STACKTRACE, failing_checkout, make_log, make_span, make_timeline, make_trace, ms


def test_rows_stand_in_tree_order_with_their_place_in_time() -> None:
    """Children follow their parent by start, with depth, guides and offset."""
    timeline = make_timeline(
        make_span("late", 6, 9, parent="root"),
        make_span("leaf", 2, 3, parent="early"),
        make_span("root", 0, 10, kind="SERVER", status=200),
        make_span("early", 1, 5, parent="root"),
    )
    assert [(row.span.name, row.depth, row.start, row.duration, row.guides) for row in timeline.rows] == [
        ("root", 0, 0, ms(10), ()),
        ("early", 1, ms(1), ms(4), (True,)),
        ("leaf", 2, ms(2), ms(1), (True, False)),
        ("late", 1, ms(6), ms(3), (False,)),
    ]
    assert (timeline.title, timeline.status, timeline.duration, timeline.failed) == ("root", 200, ms(10), False)


@given(st.permutations([*failing_checkout().rows]))
@settings(max_examples=30)
def test_the_order_of_arrival_does_not_matter(rows: list[object]) -> None:
    """Any order of the same spans gives the same timeline."""
    spans = [row.span for row in rows]  # type: ignore[attr-defined]
    expected = [row.span.span_id for row in failing_checkout().rows]
    assert [row.span.span_id for row in make_timeline(*spans).rows] == expected


def test_a_span_without_its_parent_is_a_root_that_says_so() -> None:
    """A missing parent costs no span, and the real root stays the entry."""
    timeline = make_timeline(make_span("stray", 0, 1, parent="gone"), make_span("root", 5, 9, kind="SERVER"))
    assert [(row.span.name, row.note) for row in timeline.rows] == [
        ("stray", "its parent was not received"),
        ("root", ""),
    ]
    assert timeline.title == "root"


def test_a_circle_of_parents_is_cut() -> None:
    """Spans that are each other's parents are all shown, once."""
    timeline = make_timeline(make_span("a", 0, 2, parent="b"), make_span("b", 1, 2, parent="a"))
    assert [(row.span.name, row.depth, row.note) for row in timeline.rows] == [
        ("a", 0, "its parents form a circle"),
        ("b", 1, ""),
    ]
    own = make_timeline(make_span("self", parent="self"))
    assert [row.span.name for row in own.rows] == ["self"]


@given(SPANS)
def test_every_span_has_exactly_one_row(spans: list[SpanRecord]) -> None:
    """Whatever the parents, no span is lost or doubled, and each row comes after its parent."""
    trace = make_trace(*spans)
    timeline = build(trace)
    assert sorted(row.span.span_id for row in timeline.rows) == sorted(trace.spans)
    assert all(row.parent < index for index, row in enumerate(timeline.rows))
    assert min(row.start for row in timeline.rows) == 0
    assert all(row.end <= timeline.length for row in timeline.rows)


def test_a_clock_that_is_behind_is_moved_into_its_callers_time() -> None:
    """A service whose clock is five seconds off is centred in the call; what it did moves along, and a note says so."""
    timeline = make_timeline(
        make_span("GET /", 0, 100, id="a", kind="SERVER"),
        make_span("GET", 10, 90, id="b", parent="a", kind="CLIENT"),
        make_span("GET /stock", -5000, -4940, id="c", parent="b", kind="SERVER", service="stock"),
        make_span("SELECT", -4990, -4980, id="d", parent="c", service="stock"),
        logs=(make_log("selected", -4985, service="stock", span_id="d"),),
    )
    rows = {row.span.name: row for row in timeline.rows}
    assert (rows["GET /stock"].start, rows["SELECT"].start) == (ms(20), ms(30))
    assert timeline.duration == ms(100)
    assert [line.offset for line in timeline.logs] == [ms(35)]
    assert timeline.notes == ("the clock of stock was moved by +5020.0 ms",)


def test_an_answer_to_a_caller_that_gave_up_may_begin_late() -> None:
    """After a failed call, a server that starts late is shown where it says."""
    timeline = make_timeline(
        make_span("GET", 0, 10, id="b", kind="CLIENT", failed=True),
        make_span("GET /stock", 30, 50, id="c", parent="b", kind="SERVER", service="stock"),
    )
    assert [row.start for row in timeline.rows] == [0, ms(30)]


def test_one_process_needs_no_clock_correction() -> None:
    """Work that goes on after its parent has ended stays where it is."""
    timeline = make_timeline(
        make_span("GET /", 0, 10, kind="SERVER"), make_span("background", 20, 30, parent="GET /", kind="INTERNAL")
    )
    assert [(row.start, row.shift) for row in timeline.rows] == [(0, 0), (ms(20), 0)]
    assert (timeline.duration, timeline.length) == (ms(10), ms(30))


def test_an_exception_belongs_to_where_it_happened() -> None:
    """The rows that an exception only passed through know that it is not theirs."""
    found = {row.span.span_id: row.failure for row in failing_checkout().rows}
    assert found["h"] is not None
    assert found["h"].first
    assert found["h"].where == "stock.py:31 in take"
    assert found["g"] is not None
    assert not found["g"].first
    assert found["e"] is not None
    assert found["e"].first
    assert found["a"] is None


def test_an_exception_that_was_logged_counts_like_an_event() -> None:
    """With exceptions as log records the row still shows what happened."""
    timeline = make_timeline(
        make_span("GET /", id="a", kind="SERVER", failed=True),
        logs=(make_log("failed", span_id="a", attributes={"exception.type": "KeyError", "exception.message": "'x'"}),),
    )
    assert str(timeline.rows[0].failure) == "KeyError: 'x'"


@pytest.mark.parametrize(
    ("stacktrace", "place"),
    [
        (STACKTRACE, "stock.py:31 in take"),
        ('  File "C:\\app\\site-packages\\x.py", line 3, in f\n', "x.py:3 in f"),
        ('  File "/usr/lib/python3.12/json/decoder.py", line 3, in decode\n', "decoder.py:3 in decode"),
        ("no traceback", ""),
        ("", ""),
    ],
)
def test_the_innermost_frame_of_ones_own(stacktrace: str, place: str) -> None:
    """The place of an exception is the last frame that is no library's, else the last."""
    assert where(stacktrace) == place


def test_a_client_call_says_whom_it_called() -> None:
    """A bare method says nothing; with a template the name is enough."""
    timeline = make_timeline(
        make_span("GET", 0, 1, kind="CLIENT", attributes={"server.address": "stock", "server.port": 80}),
        make_span("GET /stock/{sku}", 2, 3, kind="CLIENT", attributes={"server.address": "stock"}),
        make_span("GET", 4, 5, kind="CLIENT", attributes={"server.address": "stock"}, id="x"),
    )
    assert [row.label for row in timeline.rows] == ["GET stock:80", "GET /stock/{sku}", "GET stock"]


def test_a_trace_of_log_lines_alone_has_no_rows() -> None:
    """Log lines whose spans were not sampled still make a timeline."""
    timeline = make_timeline(logs=(make_log("b", 2), make_log("a", 1)))
    assert (timeline.title, timeline.status, timeline.failed, timeline.duration) == ("log lines only", None, None, None)
    assert [(line.record.body, line.offset) for line in timeline.logs] == [("a", 0), ("b", ms(1))]


def test_time_of_ones_own_is_what_no_child_covers() -> None:
    """Children that overlap, stick out or lie in a row are counted once."""
    timeline = make_timeline(
        make_span("root", 0, 100),
        make_span("a", 10, 40, parent="root"),
        make_span("b", 30, 60, parent="root"),
        make_span("c", 90, 130, parent="root"),
    )
    alone = dict(zip((row.span.name for row in timeline.rows), self_times(timeline), strict=True))
    assert alone == {"root": ms(40), "a": ms(30), "b": ms(30), "c": ms(40)}


def test_links_stay_with_their_span() -> None:
    """A link to another trace reaches the row."""
    link = Link("f" * 32, "e" * 16, {})
    assert make_timeline(make_span("root", links=(link,))).rows[0].span.links == (link,)


def test_a_chain_of_ten_thousand_spans_is_no_problem() -> None:
    """Neither recursion nor quadratic work: the deepest trace takes about a second at most."""
    spans = [
        make_span(f"s{number}", number, 20_000, parent=f"s{number - 1}" if number else "", exception=f"E: {number % 7}")
        for number in range(10_000)
    ]
    begun = time.process_time()
    timeline = make_timeline(*reversed(spans))
    assert time.process_time() - begun < 5
    assert len(timeline.rows) == 10_000
    assert timeline.rows[-1].depth == 9_999
