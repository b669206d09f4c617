"""The routes: requests, errors and durations from SERVER spans, with the exported histograms beside them."""

from __future__ import annotations

from collections.abc import Sequence

from ..analysis.filters import Filters
from ..analysis.summary import EDGES, RouteStats
from ..text import duration, one_line
from .layout import chip, document
from .markup import Markup, element
from .wording import Colours, took

_NUMBERS = ("requests", "errors", "p50", "p95", "max")


def routes_page(
    routes: Sequence[RouteStats], metrics: Sequence[RouteStats], colours: Colours, *, remarks: Sequence[str] = ()
) -> str:
    """The whole page."""
    content = (
        element("div", _table(routes, metrics, colours), class_="scroll")
        if routes or metrics
        else element("p", "No request has arrived yet.")
    )
    return document(
        "Routes",
        element("h1", "Routes"),
        element(
            "p",
            "Counted from SERVER spans, over everything that was seen since the start. On the right, what the services "
            "export as metrics, where they do.",
            class_="muted",
        ),
        element("section", content, class_="card"),
        active="/routes",
        remarks=remarks,
        kind="routes",
    )


def _table(routes: Sequence[RouteStats], metrics: Sequence[RouteStats], colours: Colours) -> Markup:
    exported = {(one.service, one.method, one.route): one for one in metrics}
    keys = [(one.service, one.method, one.route) for one in routes]
    only_metrics = [one for key, one in exported.items() if key not in set(keys)]
    heads = ["service", "route", *_NUMBERS, "latency"]
    heads += ["requests", "p50", "p95"] if exported else []
    right = ("service", "route", "latency")
    head = [element("th", name, scope="col", class_="" if name in right else "right") for name in heads]
    rows = [_row(one, exported.get(key), colours, bool(exported)) for key, one in zip(keys, routes, strict=True)]
    rows += [_row(None, one, colours, True) for one in only_metrics]
    groups = element("tr", element("th", "", colspan="8"), element("th", "as metrics", colspan="3", class_="right"))
    return element(
        "table",
        element("thead", groups if exported else "", element("tr", *head)),
        element("tbody", *rows),
        class_="list",
        id="routes",
    )


def _row(one: RouteStats | None, metric: RouteStats | None, colours: Colours, beside: bool) -> Markup:
    known = one or metric
    if known is None:  # pragma: no cover - a row has at least one of them
        return Markup()
    href = Filters().url(service=known.service, route=known.route or "")
    cells = [element("td", chip(known.service, colours)), element("td", element("a", one_line(known.label), href=href))]
    if one is None:
        cells += [element("td", "-", class_="right muted") for _ in _NUMBERS]
        cells.append(element("td"))
    else:
        cells += [
            element("td", f"{one.requests:,}", class_="right"),
            element("td", f"{one.errors:,}", class_="right " + ("bad" if one.errors else "muted")),
            *(element("td", took(value), class_="right") for value in (one.p50, one.p95, one.maximum)),
            element("td", _histogram(one)),
        ]
    if beside:
        numbers = ["", "", ""] if metric is None else [f"{metric.requests:,}", took(metric.p50), took(metric.p95)]
        cells += [element("td", number, class_="right muted") for number in numbers]
    return element("tr", *cells)


def _histogram(one: RouteStats) -> Markup:
    """How many requests took how long, as bars of one SVG; each bar says its bounds and its count."""
    highest = max(one.histogram, default=0)
    if not highest:
        return Markup()
    bounds = ["0", *(duration(edge) for edge in EDGES), "more"]
    shapes = []
    for number, count in enumerate(one.histogram):
        height = 22 * count / highest if count else 0.6
        label = element("title", f"{bounds[number]} to {bounds[number + 1]}: {count:,}")
        shapes.append(
            element("rect", label, x=f"{number * 9}", y=f"{24 - height:.1f}", width="8", height=f"{height:.1f}",
                    class_="bar" if count else "none")
        )  # fmt: skip
    words = f"Latency from {bounds[0]} to {bounds[-2]} and more, fastest first"
    return element(
        "svg", *shapes, viewBox=f"0 0 {len(one.histogram) * 9} 24", class_="histogram", role="img", aria_label=words
    )
