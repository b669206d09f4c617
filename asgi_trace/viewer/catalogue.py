"""What the page and the API ask: the list of traces, one trace, the calls between services. Derived once a change.

Everything that is computed of a trace is kept until the trace changes, so that a list of thousands costs what has
changed since it was last asked for.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from .analysis.filters import Filters, has_attribute, haystack
from .analysis.overview import Overview, overview
from .analysis.service_map import Call, Edge, calls_of, edges
from .analysis.timeline import Timeline, build
from .receive.store import Store, Trace

_LONG_TEXT = 64 * 1024
"""Characters of searchable text that are kept with a trace; longer ones are made anew for each search."""
_OPENED = 4
"""Traces whose timeline is kept for the next window or panel of it that is asked for."""


@dataclass
class _Entry:
    trace: Trace
    row: Overview
    calls: tuple[Call, ...]
    text: str = ""

    def contains(self, words: str) -> bool:
        text = self.text or haystack(self.trace, self.row)
        if len(text) <= _LONG_TEXT:
            self.text = text
        return words in text


@dataclass(frozen=True)
class Found:
    """A list: the rows that were asked for, the newest first, and how many there are in all."""

    rows: list[Overview]
    total: int


class Catalogue:
    """Reads `store`. Safe to use from several threads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._versions: dict[str, int] = {}
        self._entries: dict[str, _Entry] = {}
        self._opened: dict[str, tuple[Trace, Timeline, Overview]] = {}

    def find(self, filters: Filters) -> Found:
        """The traces that pass the filters."""
        wanted = [entry for entry in self._current() if filters.admits(entry.row)]
        if attribute := filters.attribute:
            wanted = [entry for entry in wanted if has_attribute(entry.trace, *attribute)]
        elif filters.q:
            words = filters.q.casefold()
            wanted = [entry for entry in wanted if entry.contains(words)]
        wanted.sort(key=lambda entry: (entry.row.time, entry.row.trace_id), reverse=True)
        return Found([entry.row for entry in wanted[: filters.limit]], len(wanted))

    def services(self) -> list[str]:
        """The names of all services that sent something."""
        return sorted({name for entry in self._current() for name in entry.row.services})

    def routes(self) -> list[str]:
        """The routes of all traces."""
        return sorted({entry.row.route for entry in self._current() if entry.row.route})

    def edges(self) -> list[Edge]:
        """The calls between services in all traces."""
        return edges(call for entry in self._current() for call in entry.calls)

    def trace(self, trace_id: str) -> tuple[Trace, Timeline, Overview] | None:
        """One trace; None when there is none of this id, or only log lines."""
        trace = self.store.trace(trace_id)
        if trace is None:
            return None
        known = self._opened.get(trace_id)
        if known is not None and known[0].version == trace.version:
            return known
        timeline = build(trace)
        row = overview(timeline)
        if row is None:
            return None
        opened = dict(list(self._opened.items())[1 - _OPENED :])
        self._opened = {**opened, trace_id: (trace, timeline, row)}  # replaced whole: other threads may be reading it
        return trace, timeline, row

    def last_good_one_like(self, row: Overview) -> Overview | None:
        """The newest trace of the same service, method and route (or name) that did not fail."""
        alike = [
            other.row
            for other in self._current()
            if other.row.failed is False
            and (other.row.service, other.row.method, other.row.route or other.row.name)
            == (row.service, row.method, row.route or row.name)
        ]
        return max(alike, key=lambda other: other.time, default=None)

    def _current(self) -> list[_Entry]:
        """The entries of all traces with spans, brought up to date."""
        with self._lock:
            snapshot = self.store.snapshot(self._versions)
            for trace_id in self._entries.keys() - snapshot.versions.keys():
                del self._entries[trace_id]
            for trace_id, trace in snapshot.changed.items():
                timeline = build(trace)
                row = overview(timeline)
                if row is not None:
                    self._entries[trace_id] = _Entry(trace, row, calls_of(timeline))
            self._versions = snapshot.versions
            return list(self._entries.values())
