"""Printing traces as they become complete, the page that follows, and progress lines."""

from __future__ import annotations

import io
from pathlib import Path
from threading import Event, Timer

import pytest

from asgi_trace.viewer.live import Live
from asgi_trace.viewer.receive.files import Saver
from asgi_trace.viewer.receive.signals import TRACES, from_data
from asgi_trace.viewer.receive.store import Store
from asgi_trace.viewer.render.progress import Progress
from asgi_trace.viewer.render.screen import Screen

from ..support.viewer import make_log, make_span, otlp_json


class Clock:
    """Seconds that pass when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


class View:
    """A live view whose time the test drives."""

    def __init__(self, page: Path | None = None, **limits: int) -> None:
        self.clock = Clock()
        self.store = Store(clock=self.clock, **limits)
        self.printed: list[str] = []
        self.live = Live(self.store, Screen(width=80), self.printed.append, page, self.clock)

    def after(self, seconds: float) -> list[str]:
        """What is printed when so many seconds have passed."""
        self.clock.now += seconds
        self.printed.clear()
        self.live.step()
        return [text.splitlines()[1] for text in self.printed]


def test_a_trace_is_printed_once_when_it_is_complete() -> None:
    """Not while spans may still come, and not again."""
    view = View()
    view.store.add_span(make_span("child", 1, 2, parent="root"))
    assert view.after(1.5) == []
    view.store.add_span(make_span("root", 0, 3, kind="SERVER", status=200))
    assert view.after(0.5) == []
    assert view.after(0.5) == ["✓ root → 200 in 3.0 ms"]
    assert view.after(9) == []


def test_a_trace_that_grows_is_printed_again() -> None:
    """A late span, or a late log line, shows the trace anew."""
    view = View()
    view.store.add_span(make_span("root", 0, 3))
    assert len(view.after(1)) == 1
    view.store.add_log(make_log("late"))
    assert len(view.after(1)) == 1


def test_a_trace_without_its_root_is_printed_after_a_while() -> None:
    """Patience has an end."""
    view = View()
    view.store.add_span(make_span("orphan", parent="gone"))
    assert view.after(4.9) == []
    assert view.after(0.1) == ["? orphan in 10.0 ms"]


def test_what_was_there_can_be_skipped() -> None:
    """Only what arrives afterwards is printed."""
    view = View()
    view.store.add_span(make_span("old", trace_id="a"))
    view.live.skip_what_is_here()
    view.store.add_span(make_span("new", trace_id="b"))
    assert view.after(5) == ["✓ new in 10.0 ms"]


def test_the_page_follows_but_not_too_often(tmp_path: Path) -> None:
    """It exists at once, is rewritten when something came, and rests in between."""
    page = tmp_path / "page.html"
    view = View(page)
    view.after(0)
    assert "No trace has arrived yet." in page.read_text("utf-8")
    view.store.add_span(make_span("first"))
    view.after(1)
    assert "first" not in page.read_text("utf-8")
    view.after(1)
    assert "first" in page.read_text("utf-8")
    page.unlink()
    view.after(5)
    assert not page.exists()


def test_the_end_shows_what_is_left_and_sums_up(tmp_path: Path) -> None:
    """On stop the unfinished traces are printed, the page is written, and losses are named."""
    page = tmp_path / "page.html"
    view = View(page, max_traces=2)
    for number in range(3):
        view.store.add_span(make_span(f"s{number}", number, number + 1, trace_id=f"t{number}", failed=number == 2))
    stop = Event()
    stop.set()
    view.live.run(stop)
    assert [text.splitlines()[1][:4] for text in view.printed] == ["✓ s1", "✗ s2"]
    assert "s2" in page.read_text("utf-8")
    assert view.live.summary().splitlines() == [
        "2 traces, 1 failed, 2 spans",
        "forgotten to stay within memory: 1 trace, 1 span",
    ]


def test_it_runs_until_told_to_stop() -> None:
    """A trace that arrives meanwhile is printed."""
    printed: list[str] = []
    store, stop = Store(), Event()
    store.add_span(make_span("GET /", kind="SERVER"))
    timer = Timer(0.4, stop.set)
    timer.start()
    Live(store, Screen(), printed.append).run(stop)
    timer.join()
    assert len(printed) == 1


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def test_progress_is_plain_lines_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """No escape sequence, no line that is overwritten; what is only under way is not mentioned."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", newline="\n")
    progress = Progress(stream)
    progress.doing("starting")
    progress.done("started")
    progress.warn("but slowly")
    progress.clear()
    stream.seek(0)
    assert stream.read() == "✓ started\n! but slowly\n"


def test_progress_on_a_terminal_replaces_what_was_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pending line goes when it is done, and at the end."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    progress = Progress(stream, colour=False)
    progress.doing("starting")
    progress.done("started")
    progress.doing("waiting")
    progress.clear()
    shown = stream.getvalue()
    assert [shown.count(word) > 0 for word in ("starting…", "✓ started\n", "waiting…")] == [True] * 3
    assert shown.endswith("\x1b[1A\x1b[2K")  # the last line is erased, and the cursor is back
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")


def test_losses_are_said_when_they_happen() -> None:
    """At once, and again when there are more, but not with every look."""
    view = View(max_traces=1)
    said: list[str] = []
    view.live.complain = said.append
    for number in range(3):
        view.store.add_span(make_span("x", trace_id=f"t{number}"))
    view.after(0.1)
    view.store.add_span(make_span("x", trace_id="t4"))
    view.after(0.1)
    assert len(said) == 1
    assert said[0].startswith("forgotten to stay within memory: 2 traces, 2 spans so far")
    view.after(20)
    assert said[1].startswith("forgotten to stay within memory: 3 traces, 3 spans so far")


def test_a_full_disk_is_said_and_the_viewer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's file was written once and cannot be any more: one sentence, and traces are still printed."""
    page = tmp_path / "page.html"
    view = View(page)
    said: list[str] = []
    view.live.complain = said.append
    view.after(0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("asgi_trace.viewer.live.write", full)
    for number in range(3):
        view.store.add_span(make_span("GET /", trace_id=f"t{number}"))
        assert len(view.after(30)) == 1
    assert len(said) == 1
    assert "No space left on device" in said[0]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_loses_what_is_saved_and_says_so() -> None:
    """`--save` on a full disk: one sentence, everything is counted, nothing is raised."""
    said: list[str] = []
    saver = Saver(Path("/dev/full"), said.append)
    for _ in range(5):
        saver.add(TRACES, from_data(TRACES, otlp_json("GET /")))
    saver.close()
    assert (saver.saved, saver.lost, len(said)) == (0, 5, 1)
    saver.close()


def test_errors_outside_any_trace_are_printed_once() -> None:
    """ERROR and above stand in the terminal; other lines do not."""
    view = View()
    view.store.add_log(make_log("the disk is full", trace_id="", severity="CRITICAL"))
    view.store.add_log(make_log("a note", trace_id=""))
    view.after(0.1)
    assert "the disk is full" in "".join(view.printed)
    assert "a note" not in "".join(view.printed)
    view.after(0.1)
    assert view.printed == []


def test_a_flood_is_not_printed_in_full() -> None:
    """Of a hundred traces at once those that failed are printed, and the others are counted."""
    view = View()
    for number in range(100):
        view.store.add_span(make_span("GET /", trace_id=f"t{number}", kind="SERVER", failed=number == 50))
    view.clock.now += 2
    view.live.step()
    assert [text.splitlines()[0][:1] for text in view.printed] == ["─", " "]
    assert "✗ GET /" in view.printed[0]
    assert view.printed[1] == "  … 99 more traces at the same time\n"
