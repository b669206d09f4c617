"""The timeline as one HTML file: no script, no external resource, readable offline, in light and dark, by keyboard.

A content security policy in the page forbids everything but its own style, so that even a mistake in escaping could
load or run nothing. All text goes through `text` (control and direction characters) and `markup` (escaping).
"""

from __future__ import annotations

import base64
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from ..analysis.summary import RouteStats
from ..analysis.timeline import Timeline
from ..receive.records import LogRecord
from ..text import duration, one_line, plural
from .layout import chip, mark, static
from .markup import Markup, element, joined
from .panel import LOG_COLUMNS, log_row, moment
from .section import trace_section
from .wording import Colours, outcome_style, took

MAX_SPANS = 10_000
"""Spans on one page; later traces are left out, and the page says so."""


def policy() -> str:
    """What a saved page may do: show its own style, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(static("page.css").encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True)
class Page:
    """What one page shows. `headings` gives a trace id a line of its own; `remarks` stand below the title; `left_out`
    counts traces that were left out before."""

    timelines: Sequence[Timeline]
    routes: Sequence[RouteStats] = ()
    stray_logs: Sequence[LogRecord] = ()
    title: str = "asgi-trace"
    headings: Mapping[str, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    left_out: int = 0


def write(page: Page, path: Path) -> None:
    """Write the page to `path` in one step: a reader sees the old file or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_text(render(page), encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def render(page: Page) -> str:
    """The whole page as text."""
    shown, left_out = _fitting(page.timelines)
    colours = Colours()
    for timeline in shown:
        for service in timeline.services:
            colours(service)
    remarks = list(page.remarks)
    left_out += page.left_out
    if left_out:
        remarks.append(f"{plural(left_out, 'more trace')} did not fit on this page.")
    body = element(
        "div",
        _header(page, shown, remarks, colours),
        element(
            "main",
            *(trace_section(timeline, colours, page.headings.get(timeline.trace_id, "")) for timeline in shown),
            _metrics(page.routes, colours),
            _stray_logs(page.stray_logs, colours),
            id="traces",
        ),
        element("footer", "Made by asgi-trace. The page is one file: no script, nothing loaded from anywhere."),
        class_="page saved",
    )
    head = joined(
        (
            element("meta", charset="utf-8"),
            element("meta", http_equiv="Content-Security-Policy", content=policy()),
            element("meta", name="viewport", content="width=device-width, initial-scale=1"),
            element("title", one_line(page.title)),
            element("style", Markup(static("page.css"))),
        )
    )
    skip = element("a", "Skip to the traces", href="#traces", class_="skip")
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head><body>{skip}{body}</body></html>\n'


def _fitting(timelines: Sequence[Timeline]) -> tuple[list[Timeline], int]:
    """The newest timelines that fit on a page, at least one, and how many do not."""
    shown: list[Timeline] = []
    room = MAX_SPANS
    for timeline in reversed(timelines):
        room -= len(timeline.rows)
        if room < 0 and shown:
            break
        shown.append(timeline)
    return shown[::-1], len(timelines) - len(shown)


def _header(page: Page, shown: Sequence[Timeline], remarks: Iterable[str], colours: Colours) -> Markup:
    spans = sum(len(timeline.rows) for timeline in shown)
    now = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    services = dict.fromkeys(service for timeline in shown for service in timeline.services)
    legend = element("ul", *(element("li", chip(name, colours)) for name in services), class_="legend")
    index = element(
        "nav",
        element("ol", *(element("li", _index_entry(timeline, page)) for timeline in shown), class_="index"),
        class_="card",
        aria_label="Traces",
    )
    return element(
        "header",
        element("h1", one_line(page.title)),
        element("p", f"{plural(len(shown), 'trace')}, {plural(spans, 'span')}. Written {now}.", class_="muted"),
        *(element("p", one_line(remark), class_="muted") for remark in remarks),
        legend,
        index if shown else element("p", "No trace has arrived yet.", class_="card"),
    )


def _index_entry(timeline: Timeline, page: Page) -> Markup:
    heading = one_line(page.headings.get(timeline.trace_id, ""))
    tone = outcome_style(timeline.failed)
    return element(
        "a",
        mark(timeline.failed),
        element(
            "span",
            element("b", one_line(timeline.title)),
            element("span", f"  {heading}" if heading else "", class_="muted"),
            class_="what",
        ),
        element("span", str(timeline.status or ""), class_=tone),
        element("span", plural(len(timeline.rows), "span"), class_="right muted spans"),
        element("span", took(timeline.duration), class_="right"),
        href=f"#t{timeline.trace_id}",
    )


def _metrics(routes: Sequence[RouteStats], colours: Colours) -> Markup:
    if not routes:
        return Markup()
    names = ("service", "route", "requests", "errors", "median", "max")
    heads = (element("th", name, scope="col", class_="right" if index > 1 else "") for index, name in enumerate(names))
    return element(
        "section",
        element("h2", "Metrics"),
        element("p", "From the histograms of http.server, as the services exported them.", class_="facts"),
        element(
            "div",
            element(
                "table",
                element("thead", element("tr", *heads)),
                element("tbody", *(_metric_row(route, colours) for route in routes)),
                class_="list",
            ),
            class_="scroll",
        ),
        class_="card",
        id="metrics",
    )


def _metric_row(route: RouteStats, colours: Colours) -> Markup:
    times = ("?" if value is None else duration(value) for value in (route.p50, route.maximum))
    return element(
        "tr",
        element("td", chip(route.service, colours)),
        element("td", one_line(route.label)),
        element("td", f"{route.requests:,}", class_="right"),
        element("td", f"{route.errors:,}", class_="right " + ("bad" if route.errors else "muted")),
        *(element("td", time, class_="right") for time in times),
    )


def _stray_logs(logs: Sequence[LogRecord], colours: Colours) -> Markup:
    if not logs:
        return Markup()
    return element(
        "section",
        element("h2", "Logs outside any request"),
        element(
            "table",
            element("thead", element("tr", *(element("th", name, scope="col") for name in LOG_COLUMNS))),
            element("tbody", *(log_row(log, moment(log.time)[11:23], colours) for log in logs)),
            class_="list logs",
        ),
        class_="card",
    )
