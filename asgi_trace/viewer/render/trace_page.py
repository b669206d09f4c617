"""One trace on a page: the cause, the waterfall, its log lines. Everything on it is a link that works without script.

The page's script folds, opens and loads in place what the links ask the server for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from ..analysis.cause import Cause, explain
from ..analysis.critical_path import critical_path
from ..analysis.overview import Overview
from ..analysis.timeline import LogLine, Row, Timeline
from ..analysis.windows import Folded, Piece, matching, pieces, window
from ..text import one_line, plural
from .curl import curl
from .layout import bar, chip, clock, document, mark, service_link, track
from .markup import Markup, element, joined
from .panel import logs_table, panel
from .section import status_badge, verdicts
from .waterfall import Stretches, axis, cells, is_cause, logs_by_span, row_class, title
from .wording import Colours, took

_MAX_LOGS = 200


@dataclass(frozen=True)
class View:
    """What is asked for of a trace: a span that is open, spans that are folded, words to find, a range of rows."""

    trace_id: str
    span: str = ""
    fold: tuple[str, ...] = ()
    find: str = ""
    start: int = -1
    end: int = -1

    @classmethod
    def parse(cls, trace_id: str, query: Mapping[str, str]) -> View:
        """The view in a query string; nonsense in it is nothing."""

        def number(name: str) -> int:
            value = query.get(name, "")
            return int(value) if value.isascii() and value.isdigit() and len(value) < 8 else -1

        fold = tuple(one for one in query.get("fold", "").split(",") if one)[:200]
        return cls(trace_id, query.get("span", "")[:64], fold, query.get("find", "").strip()[:200],
                   number("from"), number("to"))  # fmt: skip

    def url(self, anchor: str = "", **changes: object) -> str:
        """The address of the page with this view, after `changes`."""
        wanted = replace(self, **changes)  # type: ignore[arg-type]
        pairs = {
            "span": wanted.span,
            "fold": ",".join(wanted.fold),
            "find": wanted.find,
            "from": str(wanted.start) if wanted.start >= 0 else "",
            "to": str(wanted.end) if wanted.end >= 0 else "",
        }
        query = urlencode({name: value for name, value in pairs.items() if value}, errors="replace")
        return f"/trace/{self.trace_id}" + (f"?{query}" if query else "") + (f"#{anchor}" if anchor else "")


class Waterfall:
    """The rows of one trace in one view."""

    def __init__(self, timeline: Timeline, view: View, colours: Colours) -> None:
        self._timeline, self._view, self._colours = timeline, view, colours
        self._cause: Cause | None = explain(timeline)
        self._logs = logs_by_span(timeline)
        self._path: Stretches = critical_path(timeline)
        self._parents = {row.parent for row in timeline.rows}

    def rows(self) -> list[Markup]:
        """The pieces that the view shows."""
        shown = self._pieces()
        folded = self._below_a_fold()
        return [self._piece(one) for one in shown if isinstance(one, Folded) or one not in folded]

    def found(self) -> list[int]:
        """The rows that `find` finds: in names, services, ids, attributes, exceptions and log lines."""
        words = self._view.find.casefold()
        return [index for index, row in enumerate(self._timeline.rows) if words in self._text(row)]

    def panel_of(self, span_id: str) -> Markup | None:
        """The details of a span; None when it is not here."""
        index = self._index_of(span_id)
        return None if index is None else self._panel(self._timeline.rows[index])

    def _pieces(self) -> list[Piece]:
        view, timeline = self._view, self._timeline
        if view.start >= 0:
            return window(timeline, view.start, view.end if view.end >= 0 else len(timeline.rows))
        if view.find:
            return matching(timeline, self.found())
        index = self._index_of(view.span) if view.span else None
        return pieces(timeline, self._cause, wanted=() if index is None else (index,))

    def _index_of(self, span_id: str) -> int | None:
        return next((i for i, row in enumerate(self._timeline.rows) if row.span.span_id == span_id), None)

    def _text(self, row: Row) -> str:
        span = row.span
        logs = [line.record.body for line in self._logs.get(span.span_id, ())]
        parts = [span.name, span.service, span.span_id, span.message, str(row.failure or ""), *logs]
        return "\n".join([*parts, *(f"{key}={value}" for key, value in span.attributes.items())]).casefold()

    def _below_a_fold(self) -> set[int]:
        folded = set(self._view.fold)
        hidden: set[int] = set()
        if folded:
            for index, row in enumerate(self._timeline.rows):
                if row.parent >= 0 and (row.parent in hidden or self._timeline.rows[row.parent].span.span_id in folded):
                    hidden.add(index)
        return hidden

    def _piece(self, piece: Piece) -> Markup:
        return self._folded(piece) if isinstance(piece, Folded) else self._row(piece)

    def _row(self, index: int) -> Markup:
        row = self._timeline.rows[index]
        culprit = is_cause(self._cause, index)
        is_open = row.span.span_id == self._view.span or (culprit and not self._view.span and not self._view.find)
        name = element("span", self._fold_link(index, row), self._title_link(row, is_open=is_open), class_="name")
        classes = row_class(row, self._colours, is_cause=culprit) + (" open" if is_open else "")
        stretches, lines = self._path.get(index, ()), () if is_open else self._logs.get(row.span.span_id, ())
        shown = cells(row, self._timeline, self._colours, name, stretches, lines, is_cause=culprit)
        return element(
            "div",
            element("div", *shown, class_="grid"),
            self._panel(row) if is_open else "",
            class_=classes,
            id=f"span-{row.span.span_id}",
            data_index=str(index),
            data_depth=str(row.depth),
        )

    def _fold_link(self, index: int, row: Row) -> Markup:
        if index not in self._parents:
            return element("span", class_="fold")
        view, span_id = self._view, row.span.span_id
        folded = span_id in view.fold
        fold = tuple(one for one in view.fold if one != span_id) if folded else (*view.fold, span_id)
        return element(
            "a",
            class_="fold",
            href=view.url(f"span-{span_id}", fold=fold),
            role="button",
            aria_expanded="false" if folded else "true",
            aria_label="What is below this span",
        )

    def _title_link(self, row: Row, *, is_open: bool) -> Markup:
        span_id = row.span.span_id
        return element(
            "a",
            title(row),
            class_="title",
            href=self._view.url(f"span-{span_id}", span="" if is_open else span_id),
            aria_expanded="true" if is_open else "false",
        )

    def _panel(self, row: Row) -> Markup:
        return panel(row, self._logs.get(row.span.span_id, []), self._colours)

    def _folded(self, piece: Folded) -> Markup:
        rows = self._timeline.rows[piece.start : piece.end]
        first = rows[0]
        count = plural(len(rows), "more span")
        words = f"{piece.siblings} times {title(first)}" if piece.siblings else f"… {count}"
        failed = element("span", f" {piece.failed} failed", class_="bad") if piece.failed else ""
        length = max(self._timeline.length, 1)
        low, high = min(row.start for row in rows), max(row.end for row in rows)
        link = element(
            "a",
            words,
            class_="title",
            href=self._view.url(f"from-{piece.start}", start=piece.start, end=piece.end, find="", span=""),
            role="button",
            aria_expanded="false",
        )
        grid = element(
            "div",
            chip(first.span.service, self._colours) if piece.siblings else element("span"),
            element("span", element("span", class_="fold closed"), link, failed, class_="name"),
            element("span"),
            track(bar(low / length, (high - low) / length, "bar many")),
            element("span", took(sum(row.duration for row in rows)) if piece.siblings else "", class_="duration"),
            class_="grid",
        )
        classes = f"row folded c{self._colours(first.span.service)} d{min(first.depth, 24)}"
        return element(
            "div",
            grid,
            class_=classes + (" group" if piece.siblings else ""),
            id=f"from-{piece.start}",
            data_from=str(piece.start),
            data_to=str(piece.end),
            data_depth=str(first.depth),
        )


def rows_fragment(timeline: Timeline, view: View, colours: Colours) -> str:
    """A range of rows alone, for the script that loads it."""
    return joined(Waterfall(timeline, view, colours).rows())


def panel_fragment(timeline: Timeline, view: View, colours: Colours) -> str | None:
    """The details of one span alone."""
    return Waterfall(timeline, view, colours).panel_of(view.span)


def trace_page(
    timeline: Timeline,
    row: Overview,
    view: View,
    colours: Colours,
    *,
    good_one: Overview | None = None,
    remarks: Sequence[str] = (),
) -> str:
    """The whole page. `good_one` is the last good trace of the same route, for a comparison."""
    for service in timeline.services:
        colours(service)
    waterfall = Waterfall(timeline, view, colours)
    found = len(waterfall.found()) if view.find else 0
    return document(
        row.path or row.name,
        _head(timeline, row, good_one),
        element("div", *verdicts(timeline), class_="verdicts"),
        _entries(timeline, view),
        element(
            "section",
            _tools(timeline, view, found),
            element("div", axis(timeline.length), *waterfall.rows(), class_="rows", id="rows"),
            class_="card waterfall",
            aria_label="Spans",
        ),
        _logs(timeline, colours),
        remarks=remarks,
        kind="one-trace",
    )


def _head(timeline: Timeline, row: Overview, good_one: Overview | None) -> Markup:
    request = f"{row.method} {row.path}" if row.method and row.path else timeline.title
    facts = [plural(len(timeline.rows), "span"), plural(len(timeline.services), "service")]
    if timeline.length > (timeline.duration or 0) * 1.001:
        facts.append(f"{took(timeline.length)} in all")
    command = curl(timeline.rows[timeline.entry].span)
    compare = f"/compare?{urlencode({'a': good_one.trace_id, 'b': row.trace_id})}" if good_one else ""
    return element(
        "div",
        element(
            "h1",
            mark(row.failed),
            element("span", one_line(request), class_="request"),
            status_badge(timeline),
            element("span", took(timeline.duration), class_="took"),
        ),
        element(
            "p",
            clock(row.time, with_date=True),
            " · ",
            element("a", one_line(row.service), href=service_link(row.service)),
            f" · {' · '.join(facts)} · ",
            element("code", row.trace_id, id="trace-id"),
            class_="facts",
        ),
        element(
            "div",
            element("button", "Copy trace id", type="button", data_copy=row.trace_id, hidden="hidden"),
            element("button", "Copy as curl", type="button", data_copy=command, hidden="hidden") if command else "",
            element("a", "Compare with the last good one", href=compare, class_="button") if compare else "",
            element("a", "Download OTLP/JSON", href=f"/trace/{row.trace_id}.json", class_="button"),
            element("a", "Save this page", href=f"/trace/{row.trace_id}.html", class_="button"),
            element("details", element("summary", "as curl"), element("pre", command), class_="curl")
            if command
            else "",
            class_="actions",
        ),
        class_="trace-head",
    )


def _entries(timeline: Timeline, view: View) -> Markup:
    """All spans where a request or a job begins, when there are several."""
    if len(timeline.entries) < 2:
        return Markup()
    items = []
    for index in timeline.entries[:20]:
        row = timeline.rows[index]
        link = element("a", one_line(row.label), href=view.url(f"span-{row.span.span_id}", span=row.span.span_id))
        outcome = row.failed if row.failed or row.is_timed else None
        items.append(element("li", mark(outcome), " ", link, f" {row.status or ''} {took(row.span.duration)}"))
    return element(
        "section", element("h2", f"{len(timeline.entries)} entries"), element("ul", *items), class_="card entries"
    )


def _tools(timeline: Timeline, view: View, found: int) -> Markup:
    result = element("span", f"{plural(found, 'span')} found", role="status") if view.find else ""
    return element(
        "form",
        element(
            "input",
            type="search",
            name="find",
            id="q",
            value=view.find,
            placeholder="Find in this trace",
            aria_label="Find in this trace",
            autocomplete="off",
            maxlength="200",
        ),
        element("button", "Find", type="submit"),
        element("a", "Show all", href=view.url(find="", start=-1, end=-1), class_="button")
        if view.find or view.start >= 0
        else "",
        result,
        element("span", "the thin line below a bar is the critical path", class_="muted hint"),
        method="get",
        action=f"/trace/{view.trace_id}",
        class_="filters",
        role="search",
    )


def _logs(timeline: Timeline, colours: Colours) -> Markup:
    lines: list[LogLine] = list(timeline.logs)
    if not lines:
        return Markup()
    if len(lines) > _MAX_LOGS:
        errors = [line for line in lines if line.record.is_error][:_MAX_LOGS]
        rest = [line for line in lines if not line.record.is_error][: max(0, _MAX_LOGS - len(errors))]
        lines = sorted([*errors, *rest], key=lambda line: line.offset)
    cut = len(timeline.logs) - len(lines)
    note = element("p", f"{plural(cut, 'more line')} stand with their spans.", class_="muted") if cut else ""
    return element("section", logs_table(lines, colours, linked=True), note, class_="card")
