"""The list of traces, the newest first, with its filters: every filter is a link or a form that makes one."""

from __future__ import annotations

from collections.abc import Sequence

from ..analysis.filters import Filters
from ..analysis.overview import Overview
from ..catalogue import Found
from ..receive.records import LogRecord
from ..text import one_line, plural
from .layout import bar, chip, clock, document, mark, select, track
from .markup import Markup, element, text
from .wording import Colours, outcome_style, severity_of, took

_STRAY_LINES = 20


def list_page(
    found: Found,
    filters: Filters,
    colours: Colours,
    *,
    services: Sequence[str],
    routes: Sequence[str],
    stray_errors: Sequence[LogRecord] = (),
    remarks: Sequence[str] = (),
    endpoints: Sequence[str] = (),
) -> str:
    """The whole page."""
    content = element(
        "div",
        _count(found, filters),
        _rows(found, filters, colours) if found.rows else _nothing(filters, endpoints),
        _more(found, filters),
        _stray_errors(stray_errors, colours),
        id="live",
        class_="live-list",
    )
    return document(
        "Traces",
        element("h1", "Traces", class_="hidden"),
        _form(filters, services, routes),
        content,
        active="/",
        remarks=remarks,
        kind="list",
    )


def _form(filters: Filters, services: Sequence[str], routes: Sequence[str]) -> Markup:
    return element(
        "form",
        element(
            "input",
            type="search",
            name="q",
            id="q",
            value=filters.q,
            placeholder="Path, name, id, log text, or key=value",
            aria_label="Search",
            autocomplete="off",
            spellcheck="false",
            maxlength="500",
        ),
        select("service", "Service", [("", "any service"), *((one, one) for one in services)], filters.service),
        select("status", "Status", [("", "any outcome"), ("failed", "failed"), ("ok", "ok")], filters.status),
        select("route", "Route", [("", "any route"), *((one, one) for one in routes)], filters.route),
        element(
            "input",
            name="min",
            value=filters.minimum_text,
            placeholder="min 200ms",
            aria_label="At least this long",
            size="9",
            autocomplete="off",
        ),
        element("button", "Filter", type="submit"),
        element("a", "Clear", href="/", class_="button") if filters.any else "",
        element("button", "Pause", type="button", id="pause", aria_pressed="false", hidden="hidden"),
        method="get",
        action="/",
        class_="filters",
        role="search",
    )


def _count(found: Found, filters: Filters) -> Markup:
    words = plural(found.total, "trace") + (" found" if filters.any else "")
    return element("p", words, class_="muted count", role="status")


def _rows(found: Found, filters: Filters, colours: Colours) -> Markup:
    longest = max((row.duration or 0 for row in found.rows), default=0) or 1
    heads = ("time", "", "service", "request", "duration", "", "spans")
    head = element("li", *(element("span", name) for name in heads), class_="trace head", aria_hidden="true")
    return element(
        "ol", head, *(_row(row, filters, colours, longest) for row in found.rows), class_="traces", id="traces"
    )


def _row(row: Overview, filters: Filters, colours: Colours, longest: int) -> Markup:
    style = outcome_style(row.failed)
    title = one_line(row.path or row.name)
    request = [element("b", one_line(row.method)), " "] if row.method and row.path else []
    why = row.cause or row.remark
    return element(
        "li",
        clock(row.time),
        element("span", mark(row.failed), text("span", str(row.status or ""), class_=style), class_="outcome"),
        element(
            "a",
            chip(row.service, colours),
            href=filters.url(service=row.service),
            class_="service",
            title="Only this service",
        ),
        element("a", *request, title, href=f"/trace/{row.trace_id}", class_="what"),
        element("span", took(row.duration), class_="right"),
        track(bar(0, (row.duration or 0) / longest, f"bar {style}")),
        element("span", str(row.span_count), class_="right muted", title=f"{row.span_count} spans"),
        text("span", why, class_="why " + ("bad" if row.cause and row.failed else "muted")) if why else "",
        class_=f"trace is-{style}",
    )


def _nothing(filters: Filters, endpoints: Sequence[str]) -> Markup:
    if filters.any:
        return element("p", "No trace matches these filters. ", element("a", "Show all", href="/"), class_="card")
    lines = "\n".join(endpoints)
    return element(
        "section",
        element("h2", "Waiting for the first trace"),
        element("p", "Any OpenTelemetry exporter can send here; most do without being told:"),
        element("pre", lines),
        element("p", "This page fills by itself.", class_="muted"),
        class_="card",
    )


def _more(found: Found, filters: Filters) -> Markup:
    if found.total <= len(found.rows):
        return Markup()
    href = filters.url(limit=min(10_000, filters.limit * 4))
    return element("p", element("a", "Show older ones", href=href, class_="button"), class_="more")


def _stray_errors(logs: Sequence[LogRecord], colours: Colours) -> Markup:
    """Lines of ERROR and above that belong to no trace, the newest first."""
    if not logs:
        return Markup()
    rows = [
        element(
            "tr",
            element("td", clock(log.time), class_="muted"),
            element("td", chip(log.service, colours)),
            element("td", severity_of(log), class_="bad"),
            element("td", one_line(log.body), class_="message"),
        )
        for log in list(logs)[: -_STRAY_LINES - 1 : -1]
    ]
    return element(
        "section",
        element("h2", "Errors outside any trace"),
        element("table", element("tbody", *rows), class_="list logs"),
        class_="card",
    )
