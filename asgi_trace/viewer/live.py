"""`asgi-trace view` in the terminal: print each trace when it looks complete, and keep the page's file fresh.

A trace that grows after it was printed is printed again. The file is rewritten at most once in `_PAGE_EVERY` seconds,
and never so often that writing it takes more than a tenth of the time. Under more traffic than a person can read, only
what failed is printed in full, and the others are counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from .analysis.summary import from_histograms, from_spans
from .analysis.timeline import build
from .receive.records import LogRecord
from .receive.store import Forgotten, Store, Trace
from .render.html import MAX_SPANS, Page, write
from .render.screen import Screen, to_text
from .render.terminal import metric_table, route_table, stray_log_table, trace_lines
from .render.wording import Colours
from .text import plural

_POLL = 0.2
_QUIET = 1.0
_PATIENCE = 5.0
_PAGE_EVERY = 2.0
_LOSSES_EVERY = 10.0
_READABLE = 20
"""Traces that are printed in full after one look at the store; of more, only those that failed, as many again."""


@dataclass
class Live:
    """Shows what `store` receives. `write_out` gets text for standard output, `complain` sentences about what is
    wrong; `page` is the HTML file, if any.
    """

    store: Store
    screen: Screen
    write_out: Callable[[str], None]
    page: Path | None = None
    clock: Callable[[], float] = time.monotonic
    complain: Callable[[str], None] = lambda sentence: None

    def __post_init__(self) -> None:
        self.has_run: bool = False
        self._colours = Colours()
        self._printed: dict[str, int] = {}
        self._on_page = -1
        self._next_page = 0.0
        self._page_failed = False
        self._told = Forgotten()
        self._next_losses = 0.0
        self._seen_errors: list[LogRecord] = []

    def run(self, stop: Event, *, linger: float = 0.0) -> None:
        """Print and write until `stop` is set; then once more, for what came in the `linger` seconds after it.

        Raises OSError when the file cannot be written the first time.
        """
        self.has_run = True
        while not stop.wait(_POLL):
            self.step()
        time.sleep(linger)
        self.step(final=True)

    def skip_what_is_here(self) -> None:
        """Print nothing of the traces that have arrived so far, unless they grow."""
        self._printed.update((trace.trace_id, trace.version) for trace in self.store.traces())

    def step(self, *, final: bool = False) -> None:
        """Print the traces that are complete now (all of them when `final`) and refresh the page when it is due."""
        quiet, patience = (0.0, 0.0) if final else (_QUIET, _PATIENCE)
        self._print(self.store.changed(self._printed, quiet=quiet, patience=patience))
        self._print_stray_errors()
        if not final:
            self._tell_losses()
        if self.page is not None and (final or self.clock() >= self._next_page):
            self._refresh(self.page)

    def _print(self, traces: list[Trace]) -> None:
        shown = traces
        if len(traces) > _READABLE:
            failed = [trace for trace in traces if trace.failed]
            shown = failed[-_READABLE:] or traces[-1:]
        for trace in shown:
            self.write_out(to_text(trace_lines(build(trace), self.screen, self._colours), self.screen))
        if len(shown) < len(traces):
            self.write_out(f"  … {plural(len(traces) - len(shown), 'more trace')} at the same time\n")

    def _print_stray_errors(self) -> None:
        """Lines of ERROR and above that belong to no trace."""
        errors = [log for log in self.store.stray_logs() if log.is_error]
        seen = {id(log) for log in self._seen_errors}
        new = [log for log in errors if id(log) not in seen]
        self._seen_errors = errors
        if new:
            self.write_out(to_text(stray_log_table(new, self.screen, self._colours), self.screen))

    def _tell_losses(self) -> None:
        """Say what has been lost since it was last said, at most every few seconds."""
        lost = self.store.forgotten()
        if lost != self._told and self.clock() >= self._next_losses:
            self._told = lost
            self._next_losses = self.clock() + _LOSSES_EVERY
            for sentence in losses(lost):
                self.complain(f"{sentence} so far; raise --max-memory or --max-traces to keep more")

    def _refresh(self, path: Path) -> None:
        begun = self.clock()
        version = self.store.version
        if version != self._on_page:
            try:
                write(self._page_content(), path)
            except OSError as exc:
                if self._on_page < 0 and not self._page_failed:
                    raise
                if not self._page_failed:
                    self.complain(f"the page cannot be written: {exc}. The viewer goes on without it.")
                self._page_failed = True
            self._on_page = version
        took = self.clock() - begun
        self._next_page = self.clock() + max(_PAGE_EVERY, 10 * took)

    def _page_content(self) -> Page:
        traces = self.store.traces()
        room, first = MAX_SPANS, len(traces)
        while first > 0 and room > 0:
            first -= 1
            room -= max(1, len(traces[first].spans))
        return Page(
            [build(trace) for trace in traces[first:]],
            from_histograms(self.store.histograms()),
            self.store.stray_logs(),
            title="asgi-trace view",
            remarks=losses(self.store.forgotten()),
            left_out=first,
        )

    def summary(self) -> str:
        """What was seen in all: the figures by route, then one line of counts."""
        traces = self.store.traces()
        spans = sum(len(trace.spans) for trace in traces)
        failed = sum(build(trace).failed is True for trace in traces)
        tables = [
            *route_table(from_spans(self.store.routes()), self.screen, self._colours),
            *metric_table(from_histograms(self.store.histograms()), self.screen, self._colours),
        ]
        counts = f"{plural(len(traces), 'trace')}, {failed} failed, {plural(spans, 'span')}"
        return to_text(tables, self.screen) + "\n".join([counts, *losses(self.store.forgotten())]) + "\n"


def losses(lost: Forgotten) -> list[str]:
    """What the limits and unusable ids cost, in at most two sentences."""
    kinds = (
        (lost.traces, "trace"),
        (lost.spans, "span"),
        (lost.logs, "log line"),
        (lost.series, "metric update"),
    )
    named = ", ".join(plural(count, noun) for count, noun in kinds if count)
    said = [f"forgotten to stay within memory: {named}"] if named else []
    return said + ([f"refused for unusable ids: {plural(lost.unusable, 'span')}"] if lost.unusable else [])
