"""The map: services and the calls between them as one SVG drawing, and as a table for screen readers."""

from __future__ import annotations

from collections.abc import Sequence

from ..analysis.filters import Filters
from ..analysis.service_map import Edge, layers
from ..text import clip, columns, one_line, plural
from .layout import chip, document
from .markup import Markup, element
from .wording import Colours, took

_BOX, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 170, 46, 180, 34, 16
_NAME = 20


def map_page(edges: Sequence[Edge], colours: Colours, *, remarks: Sequence[str] = ()) -> str:
    """The whole page."""
    if edges:
        drawing = element("div", _drawing(edges, colours), class_="scroll")
        content = [
            element("section", drawing, class_="card"),
            element("section", element("div", _table(edges, colours), class_="scroll"), class_="card"),
        ]
    else:
        content = [element("p", "No call has arrived yet.", class_="card")]
    return document(
        "Map",
        element("h1", "Map"),
        element(
            "p",
            "Calls between services, in the traces that are kept. Dashed: it sent no spans of its own.",
            class_="muted",
        ),
        *content,
        active="/map",
        remarks=remarks,
        kind="map",
    )


def _drawing(edges: Sequence[Edge], colours: Colours) -> Markup:
    layered = layers(edges)
    places: dict[str, tuple[float, float]] = {}
    tallest = max(len(layer) for layer in layered)
    for number, layer in enumerate(layered):
        offset = (tallest - len(layer)) * (_HEIGHT + _GAP_Y) / 2
        for position, name in enumerate(layer):
            places[name] = (_MARGIN + number * (_BOX + _GAP_X), _MARGIN + offset + position * (_HEIGHT + _GAP_Y))
    width = 2 * _MARGIN + len(layered) * _BOX + (len(layered) - 1) * _GAP_X
    height = 2 * _MARGIN + tallest * _HEIGHT + (tallest - 1) * _GAP_Y + 20
    traced = {edge.callee for edge in edges if edge.traced} | {edge.caller for edge in edges}
    received = {edge.callee: edge for edge in edges if not edge.caller}
    lines = [_arrow(edge, places) for edge in edges if edge.caller]
    boxes = [_box(name, at, name in traced, received.get(name), colours) for name, at in places.items()]
    tip = element("path", d="M0 0 8 4 0 8z", class_="tip")
    marker = element(
        "marker", tip, id="tip", viewBox="0 0 8 8", refX="7", refY="4", markerWidth="8", markerHeight="8", orient="auto"
    )
    words = f"{plural(len(places), 'service')}, {plural(len(lines), 'connection')}; the table below says the same."
    return element(
        "svg",
        element("defs", marker),
        *lines,
        *boxes,
        viewBox=f"0 0 {width} {height:g}",
        width=str(width),
        height=f"{height:g}",
        class_="service-map",
        role="img",
        aria_label=words,
    )


def _box(name: str, at: tuple[float, float], traced: bool, received: Edge | None, colours: Colours) -> Markup:
    x, y = at
    shown = one_line(name)
    label = element("text", clip(shown, _NAME), x=f"{x + 12:g}", y=f"{y + 20:g}", class_="box-name")
    facts = f"{plural(received.calls, 'request')} in" if received else "" if traced else "no spans of its own"
    below = element("text", facts, x=f"{x + 12:g}", y=f"{y + 36:g}", class_="box-facts") if facts else ""
    size = {"x": f"{x:g}", "y": f"{y:g}", "width": str(_BOX), "height": str(_HEIGHT), "rx": "8"}
    box = element("rect", **size, class_=f"box c{colours(name)}" + ("" if traced else " dashed"))
    group = element("g", element("title", shown), box, label, below)
    return element("a", group, href=Filters().url(service=name)) if traced else group


def _arrow(edge: Edge, places: dict[str, tuple[float, float]]) -> Markup:
    (x1, y1), (x2, y2) = places[edge.caller], places[edge.callee]
    begin, end = (x1 + _BOX, y1 + _HEIGHT / 2), (x2, y2 + _HEIGHT / 2)
    if x2 > x1:
        half = (end[0] - begin[0]) / 2
        bend = f"{begin[0] + half:g} {begin[1]:g} {end[0] - half:g} {end[1]:g}"
        way = f"M{begin[0]:g} {begin[1]:g}C{bend} {end[0]:g} {end[1]:g}"
        middle = ((begin[0] + end[0]) / 2, (begin[1] + end[1]) / 2)
    else:  # back to an earlier service, or to itself: below the boxes
        low = max(y1, y2) + _HEIGHT + 14
        way = f"M{x1 + _BOX / 2:g} {y1 + _HEIGHT:g}C{x1 + _BOX / 2:g} {low + 14:g} {x2 + _BOX / 2 - 40:g} {low + 14:g} "
        way += f"{x2 + _BOX / 2 - 40:g} {y2 + _HEIGHT:g}"
        middle = ((x1 + x2) / 2 + _BOX / 2 - 20, low + 6)
    label = f"{edge.calls:,} · {took(edge.durations.percentile(0.95))}"
    errors = f" · {plural(edge.errors, 'error')}" if edge.errors else ""
    title = f"{one_line(edge.caller)} to {one_line(edge.callee)}: {plural(edge.calls, 'call')}{errors}"
    wide = (columns(label) + columns(errors)) * 6.2 + 10
    ground = element(
        "rect", x=f"{middle[0] - wide / 2:.1f}", y=f"{middle[1] - 9:.1f}", width=f"{wide:.1f}", height="18", rx="4",
        class_="label-ground",
    )  # fmt: skip
    text = element(
        "text",
        label,
        element("tspan", errors, class_="bad-text") if errors else "",
        x=f"{middle[0]:.1f}",
        y=f"{middle[1] + 4:.1f}",
        class_="label",
    )
    line = element("path", d=way, class_="call" + (" failing" if edge.errors else ""), marker_end="url(#tip)")
    return element("g", element("title", title), line, ground, text)


def _table(edges: Sequence[Edge], colours: Colours) -> Markup:
    heads = ("caller", "callee", "calls", "errors", "p50", "p95", "max")
    head = (element("th", name, scope="col", class_="right" if index > 1 else "") for index, name in enumerate(heads))
    rows = []
    for edge in edges:
        caller = chip(edge.caller, colours) if edge.caller else element("span", "from outside", class_="muted")
        callee = chip(edge.callee, colours) if edge.traced else element("span", one_line(edge.callee), class_="muted")
        times = (edge.durations.percentile(0.5), edge.durations.percentile(0.95), edge.durations.maximum)
        rows.append(
            element(
                "tr",
                element("td", caller),
                element("td", callee),
                element("td", f"{edge.calls:,}", class_="right"),
                element("td", f"{edge.errors:,}", class_="right " + ("bad" if edge.errors else "muted")),
                *(element("td", took(time if edge.durations.count else None), class_="right") for time in times),
            )
        )
    return element("table", element("thead", element("tr", *head)), element("tbody", *rows), class_="list")
