"""One trace as a section of the saved page: its head, a row that opens for each span, and its log lines."""

from __future__ import annotations

from collections.abc import Sequence

from ..analysis.cause import explain, time_spent
from ..analysis.critical_path import critical_path
from ..analysis.timeline import LogLine, Row, Timeline
from ..text import one_line, plural
from .markup import Markup, element
from .panel import logs_table, moment, panel
from .waterfall import axis, cells, is_cause, logs_by_span, row_class, title
from .wording import Colours, outcome_style, took


def trace_section(timeline: Timeline, colours: Colours, heading: str) -> Markup:
    """The whole section."""
    cause = explain(timeline)
    logs_of = logs_by_span(timeline)
    path = critical_path(timeline)
    rows = [
        _row(
            row,
            timeline,
            colours,
            logs_of.get(row.span.span_id, []),
            path.get(index, ()),
            culprit=is_cause(cause, index),
        )
        for index, row in enumerate(timeline.rows)
    ]
    facts = (
        f"{plural(len(timeline.rows), 'span')} in {plural(len(timeline.services), 'service')}, "
        f"from {moment(timeline.start)}, trace "
    )
    return element(
        "section",
        element(
            "div",
            element("h2", one_line(timeline.title)),
            status_badge(timeline),
            element("span", took(timeline.duration), class_="right"),
            class_="head",
        ),
        element("p", one_line(heading), class_="facts") if heading else "",
        element("p", facts, element("code", timeline.trace_id), class_="facts"),
        *verdicts(timeline),
        element("div", axis(timeline.length), *rows, class_="rows") if rows else "",
        logs_table(timeline.logs, colours),
        class_="card trace-section",
        id=f"t{timeline.trace_id}",
    )


def status_badge(timeline: Timeline) -> Markup:
    """The status code of the request, in the colour of its outcome."""
    tone = outcome_style(timeline.failed)
    return element("span", str(timeline.status), class_=f"badge {tone}") if timeline.status else Markup()


def verdicts(timeline: Timeline) -> list[Markup]:
    """The sentences: why it failed, where the time went, and what is odd about the trace."""
    cause, spent = explain(timeline), time_spent(timeline)
    found = [element("p", cause.sentence, class_="verdict" + (" fatal" if cause.fatal else ""))] if cause else []
    found += [element("p", spent, class_="verdict")] if spent else []
    return found + [element("p", f"{one_line(note)}.", class_="verdict") for note in timeline.notes]


def _row(
    row: Row,
    timeline: Timeline,
    colours: Colours,
    logs: Sequence[LogLine],
    stretches: Sequence[tuple[int, int]],
    *,
    culprit: bool,
) -> Markup:
    name = element("span", element("span", title(row), class_="title"), class_="name")
    summary = element("summary", *cells(row, timeline, colours, name, stretches, is_cause=culprit), class_="grid")
    return element(
        "details",
        summary,
        panel(row, logs, colours),
        class_=row_class(row, colours, is_cause=culprit),
        open="open" if culprit else "",
    )
