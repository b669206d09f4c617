"""The timeline as lines in a terminal: the picture, its width, its characters, its colours."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgi_trace.viewer.analysis.summary import RouteStats
from asgi_trace.viewer.analysis.timeline import Timeline
from asgi_trace.viewer.receive.records import Link, LogRecord
from asgi_trace.viewer.render.screen import Screen, to_text
from asgi_trace.viewer.render.terminal import MAX_LOGS, MAX_ROWS, metric_table, stray_log_table, trace_lines
from asgi_trace.viewer.render.wording import SERVICE_COLOURS, Colours
from asgi_trace.viewer.text import columns

from ..support.viewer import failing_checkout, make_log, make_span, make_timeline

ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def draw(timeline: Timeline, screen: Screen, heading: str = "") -> str:
    return to_text(trace_lines(timeline, screen, heading=heading), screen)


def test_a_failed_request_is_one_picture() -> None:
    """Tree, services, bars, status, the exception where it happened, log lines and the cause, in 80 columns."""
    assert draw(failing_checkout(), Screen(width=80), "2. a checkout that fails").splitlines() == [
        "────────────────────────────────────────────────────────────────────────────────",
        "  2. a checkout that fails",
        "✗ POST /checkout → 502 in 100 ms",
        "  trace 4bf92f3577b34da6a3ce929d0e0e4736 · 8 spans · 3 services",
        "",
        "✗ shop      POST /checkout                   502 ━━━━━━━━━━━━━━━━━━━━━   100 ms",
        "  shop      ├ dependency customer                ━                       3.0 ms",
        "✗ shop      └ → POST /orders                 502  ━━━━━━━━━━━━━━━━━━━╸  93.0 ms",
        "✗ orders      └ POST /orders                 502  ━━━━━━━━━━━━━━━━━━━   89.0 ms",
        "✗ orders        └ reserve                         ╺━━━━━━━━━━━━━━━━━╸   86.0 ms",
        "                  ✗ HTTPStatusError: 500",
        "✗ orders          └ → POST /stock            500  ╺━━━━━━━━━━━━━━━━━╸   83.0 ms",
        "✗ inventory         └ POST /stock            500   ━━━━━━━━━━━━━━━━━    79.0 ms",
        "✗ inventory           └ → UPDATE stock               ━━━━━━━━━━━━━━╸    68.0 ms",
        "                        ✗ sqlite3.IntegrityError: CHECK constraint failed:",
        "                          quantity >= 0",
        "                          at stock.py:31 in take",
        "",
        "  logs",
        "    +500 µs shop      INFO  checkout of ada",
        "   +15.0 ms inventory INFO  taking 3 umbrellas",
        "   +97.0 ms shop      ERROR no order",
        "",
        "  → inventory made POST /checkout fail: sqlite3.IntegrityError: CHECK constraint",
        "    failed: quantity >= 0 (in “UPDATE stock”, stock.py:31 in take); orders (502)",
        "    and shop (502) only passed it on.",
        "  → 68.0 ms of 100 ms went into “UPDATE stock” of inventory.",
        "",
    ]


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_line_is_wider_than_the_screen(width: int) -> None:
    """At any width the picture fits."""
    for line in draw(failing_checkout(), Screen(width=width), "heading " * 30).splitlines():
        assert columns(line) <= width


def test_a_screen_without_unicode_gets_ascii_of_the_same_shape() -> None:
    """With an ASCII terminal nothing breaks, and the columns still stand below each other."""
    timeline = make_timeline(
        make_span("GET /", 0, 10, id="a", kind="SERVER", status=200), make_span("日本", 1, 9, parent="a", kind="CLIENT")
    )
    text = draw(timeline, Screen(width=70, unicode=False))
    assert text.isascii()
    rows = text.splitlines()[4:6]
    assert [len(row) for row in rows] == [69, 69]
    assert rows[1].startswith("  shop `-> ????")
    assert [row.index("=") for row in rows] == [41, 42]


def test_colour_adds_nothing_but_colour() -> None:
    """Without its escape sequences the coloured text is the plain text."""
    plain, coloured = (draw(failing_checkout(), Screen(width=90, colour=colour)) for colour in (False, True))
    stripped = "\n".join(line.rstrip() for line in ESCAPE.sub("", coloured).split("\n"))
    assert stripped == plain
    assert "\x1b[1;31m" in coloured
    assert "\x1b" not in plain


@given(st.text(), st.text(), st.text(max_size=200))
def test_nothing_that_was_sent_controls_the_terminal(name: str, value: str, body: str) -> None:
    """Names, messages and log lines from the network carry no escape sequence and forge no line."""
    quiet = make_timeline(make_span("x", failed=True, exception="E: m"), logs=(make_log("m"),))
    loud = make_timeline(
        make_span(f"{name}\x1b[2J\n", id="x", service=f"{value}\x07", failed=True, exception=f"E: \x1b]0;t\x07{value}"),
        logs=(make_log(body + "\r\x9b1A", service=value),),
    )
    text = draw(loud, Screen(width=100))
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)
    assert len(text.splitlines()) <= len(draw(quiet, Screen(width=100)).splitlines()) + 12


def test_long_traces_are_cut_with_a_count() -> None:
    """Ten thousand spans and as many log lines fill no terminal."""
    spans = [make_span(f"s{number}", number, number + 1) for number in range(10_000)]
    timeline = make_timeline(*spans, logs=tuple(make_log(f"l{number}") for number in range(1_000)))
    lines = draw(timeline, Screen()).splitlines()
    assert len(lines) < 250
    assert f"  … {10_000 - MAX_ROWS:,} more spans" in lines
    assert f"  … {1_000 - MAX_LOGS} more lines" in lines


def test_deep_rows_say_how_deep_they_are() -> None:
    """The tree stops moving to the right, the depth is written instead."""
    spans = [make_span(f"s{n}", n, 50, parent=f"s{n - 1}" if n else "") for n in range(20)]
    lines = draw(make_timeline(*spans), Screen(width=80)).splitlines()
    assert any("(19) s19" in line for line in lines)
    assert all(columns(line) <= 80 for line in lines)


def test_a_linked_root_and_a_missing_parent_are_explained_below_their_rows() -> None:
    """An untrusted caller's trace id stands where its span would have been."""
    text = draw(
        make_timeline(
            make_span("GET /", 0, 9, id="a", kind="SERVER", links=(Link("f" * 32, "e" * 16, {}),)),
            make_span("stray", 1, 2, parent="gone"),
        ),
        Screen(width=100),
    )
    assert f"a new trace: the caller's {'f' * 32} is linked, not continued" in text
    assert "its parent was not received" in text


def test_a_trace_of_log_lines_alone_can_be_drawn() -> None:
    """No spans, no rows, no bars."""
    assert draw(make_timeline(logs=(make_log("alone", severity="WARNING"),)), Screen(width=60)).splitlines()[1:] == [
        "  log lines only",
        "  trace 4bf92f3577b34da6a3ce929d0e0e4736 · 0 spans · 1 serv…",
        "",
        "  logs",
        "      +0 µs shop WARN  alone",
        "",
    ]


def test_metrics_are_a_table() -> None:
    """One line for each route, with requests, errors, median and maximum."""
    routes = [
        RouteStats("shop", "POST", "/checkout", 2, 1, 75.4e6, 80e6, 90e6),
        RouteStats("inventory", "GET", "/stock/{sku}", 12_000, 0, None, None, None),
    ]
    assert to_text(metric_table(routes, Screen(width=79), Colours()), Screen()).splitlines()[1:] == [
        "  metrics (histograms of http.server, as received)",
        "                                    requests  errors      p50      p95      max",
        "  shop       POST /checkout                2       1  75.4 ms  80.0 ms  90.0 ms",
        "  inventory  GET /stock/{sku}         12,000       0        ?        ?        ?",
        "",
    ]
    assert metric_table([], Screen(), Colours()) == []


def test_log_lines_outside_any_request() -> None:
    """They are listed by service; nothing is printed when there are none."""
    logs = [LogRecord(1, "WARNING", "low\nmemory", "shop"), LogRecord(2, "info", "x" * 200, "inventory")]
    text = to_text(stray_log_table(logs, Screen(width=60), Colours()), Screen())
    assert text.splitlines()[1:3] == [
        "  shop      WARN  low",
        "  inventory INFO  " + "x" * 81 + "…",
    ]
    assert stray_log_table([], Screen(), Colours()) == []


def test_every_service_keeps_its_colour() -> None:
    """The same service has the same colour in every trace; there are only so many."""
    colours = Colours()
    assert [colours(name) for name in ("a", "b", "a", "c")] == [0, 1, 0, 2]
    assert all(colours(str(number)) < SERVICE_COLOURS for number in range(50))


class Stream(io.StringIO):
    """A stream that may be a terminal, in some encoding."""

    def __init__(self, terminal: bool, encoding: str) -> None:
        super().__init__()
        self._terminal, self._encoding = terminal, encoding

    def isatty(self) -> bool:
        return self._terminal

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._encoding


@pytest.mark.parametrize(
    ("terminal", "environ", "wanted", "colour"),
    [
        (True, {}, True, True),
        (False, {}, True, False),
        (True, {"NO_COLOR": "1"}, True, False),
        (True, {"NO_COLOR": ""}, True, True),
        (True, {"TERM": "dumb"}, True, False),
        (True, {}, False, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    terminal: bool, environ: dict[str, str], wanted: bool, colour: bool
) -> None:
    """A pipe, NO_COLOR, a dumb terminal and --no-color all mean plain text."""
    assert Screen.of(Stream(terminal, "utf-8"), environ, colour=wanted).colour is colour


@pytest.mark.parametrize(
    ("encoding", "expected"), [("utf-8", True), ("ascii", False), ("latin-1", False), ("?", False)]
)
def test_characters_follow_the_encoding(encoding: str, expected: bool) -> None:
    """Bars and tree are ASCII where the encoding knows no others."""
    assert Screen.of(Stream(True, encoding), {}).unicode is expected


def test_the_width_is_the_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    """COLUMNS counts, within what can still be read."""
    for columns_variable, width in (("90", 90), ("20", 60), ("500", 140)):
        monkeypatch.setenv("COLUMNS", columns_variable)
        assert Screen.of(Stream(True, "utf-8"), {}).width == width
