"""What opens below a row: everything that the span says about itself, and its log lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timezone

from ..analysis.timeline import LogLine, Row
from ..receive.records import LogRecord, Value, Values
from ..text import block, duration, one_line
from .layout import chip
from .markup import Markup, element, joined, text, text_block
from .wording import Colours, severity_of

LOG_COLUMNS = ("at", "service", "level", "message")


def panel(row: Row, logs: Sequence[LogLine], colours: Colours) -> Markup:
    """The details of one span."""
    span = row.span
    facts: Values = {
        "kind": span.kind,
        "starts at": f"+{duration(row.start)}, {moment(span.start)}",
        "span id": span.span_id,
        "parent id": span.parent_id or "none: a root",
        "reported by": " ".join(part for part in (span.scope, span.instance and f"(instance {span.instance})") if part),
        "status": f"error: {span.message}" if span.message else "error" if row.failed else "",
        "clock moved by": f"{row.shift / 1e6:+.3f} ms" if row.shift else "",
    }
    resource = {key: value for key, value in span.resource.items() if key not in ("service.name",)}
    return element(
        "div",
        pairs({key: value for key, value in facts.items() if value}),
        *_titled("Attributes", span.attributes),
        *(part for event in span.events for part in _event(event.name, event.time - span.start, event.attributes)),
        *(
            part
            for link in span.links
            for part in _titled("Link", {"trace id": link.trace_id, "span id": link.span_id, **link.attributes})
        ),
        logs_table(logs, colours, heading="Logs of this span"),
        *_titled("Resource", resource),
        class_="panel",
    )


def moment(nanoseconds: int) -> str:
    """A moment in UTC, in words where it is none."""
    try:
        found = datetime.fromtimestamp(nanoseconds / 1e9, timezone.utc)
    except (OverflowError, OSError, ValueError):
        return "an unknown time"
    return found.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC" if nanoseconds > 0 else "an unknown time"


def _titled(title: str, values: Values) -> list[Markup]:
    return [element("h3", title), pairs(values)] if values else []


def _event(name: str, offset: int, values: Values) -> list[Markup]:
    stacktrace = values.get("exception.stacktrace")
    rest = {key: value for key, value in values.items() if key != "exception.stacktrace"}
    parts = [text("h3", f"Event: {name}, {duration(offset)} after the start"), pairs(rest)]
    return [*parts, text_block(str(stacktrace))] if stacktrace else parts


def pairs(values: Values) -> Markup:
    """Names and values as a table."""
    return element(
        "table",
        *(
            element("tr", text("th", key, scope="row"), element("td", _shown(value), class_="mono"))
            for key, value in values.items()
        ),
        class_="pairs",
    )


def _shown(value: Value) -> str:
    if isinstance(value, str):
        return block(value)
    return block(json.dumps(value, ensure_ascii=False, default=str))


def logs_table(lines: Sequence[LogLine], colours: Colours, heading: str = "Logs", *, linked: bool = False) -> Markup:
    """Log lines in time order; nothing without any. `linked`: each leads to its span."""
    if not lines:
        return Markup()
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in LOG_COLUMNS)))
    rows = [log_row(line.record, f"+{duration(line.offset)}", colours, linked=linked) for line in lines]
    table = element("table", head, element("tbody", *rows), class_="list logs")
    return joined((element("h3", f"{heading} ({len(lines):,})"), table))


def log_row(record: LogRecord, at: str, colours: Colours, *, linked: bool = False) -> Markup:
    """One log line; its attributes and its stack trace open with it."""
    severity = severity_of(record)
    tone = "bad" if record.is_error else "warn" if severity == "WARN" else "muted"
    stacktrace = record.attributes.get("exception.stacktrace")
    rest = {key: value for key, value in record.attributes.items() if key != "exception.stacktrace"}
    message: list[str] = [block(record.body)]
    if rest or stacktrace:
        more: list[Markup] = [pairs(rest)] if rest else []
        more += [text_block(str(stacktrace))] if stacktrace else []
        message = [element("details", element("summary", block(record.body)), *more)]
    when = element("a", at, href=f"#span-{one_line(record.span_id)}") if linked and record.span_id else at
    return element(
        "tr",
        element("td", when, class_="right muted"),
        element("td", chip(record.service, colours)),
        element("td", severity, class_=tone),
        element("td", *message, class_="message"),
    )
