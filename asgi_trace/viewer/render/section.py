"""One trace as a section of the page: its head, a row that opens for each span, and its log lines.

Also the pieces that the rest of the page shares with it. All text goes through `text` (control and direction
characters) and `markup` (escaping).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone

from ..analysis.cause import explain, time_spent
from ..analysis.timeline import LogLine, Row, Timeline
from ..receive.records import LogRecord, Value, Values
from ..text import block, duration, one_line, plural
from .markup import Markup, element, joined
from .wording import Colours, outcome_style, remarks_on, severity_of, took


def chip(service: str, colours: Colours) -> Markup:
    return element("span", one_line(service), class_=f"chip c{colours(service)}", title=one_line(service))


def trace_section(timeline: Timeline, colours: Colours, heading: str) -> Markup:
    cause = explain(timeline)
    spent = time_spent(timeline)
    tone = outcome_style(timeline.failed)
    facts = (
        f"{plural(len(timeline.rows), 'span')} in {plural(len(timeline.services), 'service')}, "
        f"from {moment(timeline.start)}, trace "
    )
    verdicts = [element("p", cause.sentence, class_="verdict" + (" fatal" if cause.fatal else ""))] if cause else []
    verdicts += [element("p", spent, class_="verdict")] if spent else []
    verdicts += [element("p", f"{one_line(note)}.", class_="verdict") for note in timeline.notes]
    logs_of: dict[str, list[LogLine]] = {}
    for line in timeline.logs:
        logs_of.setdefault(line.record.span_id, []).append(line)
    origin = cause.row if cause is not None else -1
    rows = [
        _row(row, timeline, colours, logs_of.get(row.span.span_id, []), is_cause=index == origin)
        for index, row in enumerate(timeline.rows)
    ]
    return element(
        "section",
        element(
            "div",
            element("h2", one_line(timeline.title)),
            element("span", str(timeline.status), class_=f"badge {tone}") if timeline.status else "",
            element("span", took(timeline.duration), class_="right"),
            class_="head",
        ),
        element("p", one_line(heading), class_="facts") if heading else "",
        element("p", facts, element("code", timeline.trace_id), class_="facts"),
        *verdicts,
        element("div", _axis(timeline.length), *rows, class_="rows") if rows else "",
        logs_table(timeline.logs, colours),
        class_="card trace",
        id=f"t{timeline.trace_id}",
    )


def moment(nanoseconds: int) -> str:
    try:
        moment = datetime.fromtimestamp(nanoseconds / 1e9, timezone.utc)
    except (OverflowError, OSError, ValueError):
        return "an unknown time"
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"


def _axis(total: int) -> Markup:
    ticks = element("span", *(element("span", duration(total * part / 4)) for part in range(5)), class_="ticks")
    cells = ("service", "span", "", ticks, element("span", "duration", class_="right"))
    return element(
        "div",
        *(cell if isinstance(cell, Markup) else element("span", cell) for cell in cells),
        class_="axis grid",
        aria_hidden="true",
    )


def _row(row: Row, timeline: Timeline, colours: Colours, logs: Sequence[LogLine], *, is_cause: bool) -> Markup:
    total = max(timeline.length, 1)
    left = min(max(row.start / total, 0.0), 0.997) * 100
    width = min(max(row.duration / total * 100, 0.0), 100 - left)
    failed = row.failed
    depth = f"--d:{min(row.depth, 24)}"
    kind = "→ " if row.span.kind == "CLIENT" else ""
    remarks = [element("span", text, class_="warn") for text in remarks_on(row)]
    if row.failure is not None and row.failure.first:
        text = str(row.failure) if is_cause else str(row.failure).split("\n", 1)[0]
        place = f" at {row.failure.where}" if row.failure.where and is_cause else ""
        remarks.append(element("span", f"✗ {one_line(text + place)}", class_="bad"))
    summary = element(
        "summary",
        chip(row.span.service, colours),
        element(
            "span",
            element("span", kind + one_line(row.label), class_="title"),
            class_="name",
            style=depth,
        ),
        element("span", str(row.status or ""), class_="status " + ("bad" if failed else "good")),
        element(
            "span",
            element("span", class_="bar", style=f"--l:{left:.3f}%;--w:{width:.3f}%"),
            class_="track",
            aria_hidden="true",
        ),
        element("span", took(row.span.duration), class_="duration"),
        element("span", *remarks, class_="name remarks", style=depth) if remarks else "",
        class_="grid",
    )
    state = " open" if is_cause else ""
    classes = f"row c{colours(row.span.service)}" + (" failed" if failed else "")
    classes += (" cause" if is_cause else "") + (" root" if row.parent < 0 else "")
    return Markup(f'<details class="{classes}"{state}>{summary}{_panel(row, logs, colours)}</details>')


def _panel(row: Row, logs: Sequence[LogLine], colours: Colours) -> Markup:
    span = row.span
    facts = {
        "kind": span.kind,
        "starts at": f"+{duration(row.start)}, {moment(span.start)}",
        "span id": span.span_id,
        "parent id": span.parent_id or "none: a root",
        "reported by": " ".join(part for part in (span.scope, span.instance and f"(instance {span.instance})") if part),
        "status": f"error: {span.message}" if span.message else "error" if row.failed else "",
        "clock moved by": f"{row.shift / 1e6:+.3f} ms" if row.shift else "",
    }
    return element(
        "div",
        _pairs({key: value for key, value in facts.items() if value}),
        *_titled("Attributes", span.attributes),
        *(part for event in span.events for part in _event(event.name, event.time - span.start, event.attributes)),
        *(
            part
            for link in span.links
            for part in _titled("Link", {"trace id": link.trace_id, "span id": link.span_id, **link.attributes})
        ),
        logs_table(logs, colours, heading="Logs of this span"),
        class_="panel",
    )


def _titled(title: str, values: Values) -> list[Markup]:
    return [element("h3", title), _pairs(values)] if values else []


def _event(name: str, offset: int, values: Values) -> list[Markup]:
    stacktrace = values.get("exception.stacktrace")
    rest = {key: value for key, value in values.items() if key != "exception.stacktrace"}
    title = f"Event: {one_line(name)}, {duration(offset)} after the start"
    parts = [element("h3", title), _pairs(rest)]
    return [*parts, element("pre", block(str(stacktrace)))] if stacktrace else parts


def _pairs(values: Values) -> Markup:
    return element(
        "table",
        *(
            element("tr", element("th", one_line(key), scope="row"), element("td", _shown(value), class_="mono"))
            for key, value in values.items()
        ),
        class_="pairs",
    )


def _shown(value: Value) -> str:
    if isinstance(value, str):
        return block(value)
    return block(json.dumps(value, ensure_ascii=False, default=str))


def logs_table(lines: Sequence[LogLine], colours: Colours, heading: str = "Logs") -> Markup:
    if not lines:
        return Markup()
    return joined(
        (
            element("h3", f"{heading} ({len(lines)})"),
            element(
                "table",
                element("thead", element("tr", *(element("th", name, scope="col") for name in LOG_COLUMNS))),
                element("tbody", *(log_row(line.record, f"+{duration(line.offset)}", colours) for line in lines)),
                class_="list logs",
            ),
        )
    )


LOG_COLUMNS = ("at", "service", "level", "message")


def log_row(record: LogRecord, moment: str, colours: Colours) -> Markup:
    severity = severity_of(record)
    tone = "bad" if severity in ("ERROR", "FATAL") else "warn" if severity == "WARN" else "muted"
    stacktrace = record.attributes.get("exception.stacktrace")
    rest = {key: value for key, value in record.attributes.items() if key != "exception.stacktrace"}
    message: list[str] = [block(record.body)]
    if rest or stacktrace:
        more: list[Markup] = [_pairs(rest)] if rest else []
        more += [element("pre", block(str(stacktrace)))] if stacktrace else []
        message = [element("details", element("summary", block(record.body)), *more)]
    return element(
        "tr",
        element("td", moment, class_="right muted"),
        element("td", chip(record.service, colours)),
        element("td", severity, class_=tone),
        element("td", *message, class_="message"),
    )
