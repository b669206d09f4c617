"""`asgi-trace view`: receive until told to stop, print each trace when it looks complete, keep the page fresh.

A trace that grows after it was printed is printed again. The page is rewritten at most once in `_PAGE_EVERY` seconds,
and never so often that writing it takes more than a tenth of the time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from .analysis.summary import from_histograms, from_spans
from .analysis.timeline import build
from .receive.store import Store
from .render.html import Page, write
from .render.screen import Screen, to_text
from .render.terminal import metric_table, route_table, trace_lines
from .render.wording import Colours
from .text import plural

_POLL = 0.2
_QUIET = 1.0
_PATIENCE = 5.0
_PAGE_EVERY = 2.0


@dataclass
class Live:
    """Shows what `store` receives. `write_out` gets text for standard output; `page` is the HTML file, if any."""

    store: Store
    screen: Screen
    write_out: Callable[[str], None]
    page: Path | None = None
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        self._colours = Colours()
        self._printed: dict[str, int] = {}
        self._on_page: tuple[int, ...] = ()
        self._next_page = 0.0

    def run(self, stop: Event) -> None:
        """Print and write until `stop` is set; then once more, for what came last. Raises OSError for the page."""
        while not stop.wait(_POLL):
            self.step()
        self.step(final=True)

    def skip_what_is_here(self) -> None:
        """Print nothing of the traces that have arrived so far, unless they grow."""
        self._printed.update((trace.trace_id, trace.version) for trace in self.store.traces())

    def step(self, *, final: bool = False) -> None:
        """Print the traces that are complete now (all of them when `final`) and refresh the page when it is due."""
        quiet, patience = (0.0, 0.0) if final else (_QUIET, _PATIENCE)
        for trace in self.store.changed(self._printed, quiet=quiet, patience=patience):
            self.write_out(to_text(trace_lines(build(trace), self.screen, self._colours), self.screen))
        if self.page is not None and (final or self.clock() >= self._next_page):
            self._refresh(self.page)

    def _refresh(self, path: Path) -> None:
        traces = self.store.traces()
        state = tuple(trace.version for trace in traces) + tuple(point.count for point in self.store.histograms())
        begun = self.clock()
        if state != self._on_page or not self._next_page:
            write(
                Page(
                    [build(trace) for trace in traces],
                    from_histograms(self.store.histograms()),
                    self.store.stray_logs(),
                    title="asgi-trace view",
                    remarks=self._losses(),
                ),
                path,
            )
            self._on_page = state
        took = self.clock() - begun
        self._next_page = self.clock() + max(_PAGE_EVERY, 10 * took)

    def summary(self) -> str:
        """What was seen in all: the metrics, then one line of counts."""
        traces = self.store.traces()
        spans = sum(len(trace.spans) for trace in traces)
        failed = sum(build(trace).failed is True for trace in traces)
        tables = [
            *route_table(from_spans(self.store.routes()), self.screen, self._colours),
            *metric_table(from_histograms(self.store.histograms()), self.screen, self._colours),
        ]
        counts = f"{plural(len(traces), 'trace')}, {failed} failed, {plural(spans, 'span')}"
        return to_text(tables, self.screen) + "\n".join([counts, *self._losses()]) + "\n"

    def _losses(self) -> list[str]:
        lost = self.store.forgotten()
        if not (lost.traces or lost.spans or lost.logs or lost.series):
            return []
        kinds = (
            (lost.traces, "trace"),
            (lost.spans, "span"),
            (lost.logs, "log line"),
            (lost.series, "metric update"),
        )
        named = ", ".join(plural(count, noun) for count, noun in kinds if count)
        return [f"forgotten to stay within memory: {named}"]
