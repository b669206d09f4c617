"""The self-contained HTML page and the SVG picture: complete, well-formed, harmless."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asgi_trace.viewer.analysis.summary import RouteStats
from asgi_trace.viewer.analysis.timeline import Timeline
from asgi_trace.viewer.receive.records import Event, Link, LogRecord
from asgi_trace.viewer.render.html import MAX_SPANS, Page, render, write
from asgi_trace.viewer.render.markup import Markup, element
from asgi_trace.viewer.render.screen import Screen
from asgi_trace.viewer.render.svg import picture
from asgi_trace.viewer.render.terminal import trace_lines

from ..support.viewer import STACKTRACE, TRACE_ID, failing_checkout, make_log, make_span, make_timeline

VOID = {"meta"}
LOADING = {"src", "srcset", "action", "formaction", "data", "poster", "background", "ping", "manifest", "xlink:href"}


class Reader(HTMLParser):
    """What a browser would make of the page: elements, attributes, text; complains about tags that do not match."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    @property
    def tags(self) -> list[str]:
        return [tag for tag, _ in self.elements]

    @property
    def text(self) -> str:
        return "".join(self.texts)


PAGE = Page(
    [failing_checkout(), make_timeline(make_span("GET /", kind="SERVER", status=200, trace_id="a"))],
    [RouteStats("shop", "POST", "/checkout", 2, 1, 75.4e6, 80e6, None)],
    [LogRecord(1, "WARNING", "low memory", "shop", attributes={"free": 12})],
    title="asgi-trace demo",
    headings={TRACE_ID: "2. a checkout that fails"},
    remarks=["Three services."],
)


def test_the_page_says_everything() -> None:
    """Title, headings, services, routes, statuses, the cause, log lines, metrics and the stack trace are on it."""
    reader = Reader(render(PAGE))
    for text in (
        "asgi-trace demo",
        "Three services.",
        "2. a checkout that fails",
        "POST /checkout",
        "inventory made POST /checkout fail: sqlite3.IntegrityError: CHECK constraint failed: quantity >= 0 (in "
        "“UPDATE stock”, stock.py:31 in take); orders (502) and shop (502) only passed it on.",
        "68.0 ms of 100 ms went into “UPDATE stock” of inventory.",
        "taking 3 umbrellas",
        "Logs outside any request",
        "low memory",
        "75.4 ms",
        STACKTRACE.strip(),
    ):
        assert text in reader.text


def test_the_page_loads_nothing() -> None:
    """No script, no external resource, only links inside the page; a policy forbids the rest."""
    page = render(PAGE)
    reader = Reader(page)
    assert not {"script", "link", "img", "iframe", "object", "embed", "base", "form", "audio", "video"} & set(
        reader.tags
    )
    for _, attributes in reader.elements:
        assert not LOADING & set(attributes)
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("href", "#").startswith("#")
    style = page[page.index("<style>") : page.index("</style>")]
    assert not re.search(r"url\(|@import|expression|@font-face", style)
    policies = [attributes["content"] for _, attributes in reader.elements if "http-equiv" in attributes]
    digest = base64.b64encode(hashlib.sha256(style.removeprefix("<style>").encode()).digest()).decode()
    assert policies == [f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"]
    assert not [name for _, attributes in reader.elements for name in attributes if name == "style"]


def test_every_span_can_be_opened_and_the_cause_is_open() -> None:
    """One `details` for each span; the one where the failure began shows its stack trace at once."""
    reader = Reader(render(Page([failing_checkout()])))
    rows = [attributes for tag, attributes in reader.elements if tag == "details"]
    assert len(rows) == 8
    assert [index for index, attributes in enumerate(rows) if "open" in attributes] == [7]
    assert reader.tags.count("summary") == 8


def test_links_inside_the_page_lead_somewhere() -> None:
    """Each entry of the index points to its trace."""
    reader = Reader(render(PAGE))
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    targets = [attributes["href"][1:] for tag, attributes in reader.elements if tag == "a"]
    assert len(ids) == len(set(ids))
    assert len(targets) == 3
    assert set(targets) <= set(ids)


def test_it_is_readable_in_the_dark_on_a_phone_and_without_a_mouse() -> None:
    """Both colour schemes, a narrow layout, a language, landmarks and labels are there."""
    page = render(PAGE)
    assert "prefers-color-scheme: dark" in page
    assert "max-width: 720px" in page
    assert '<html lang="en">' in page
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    tags = Reader(page).tags
    assert [tags.count(tag) for tag in ("main", "nav", "header", "h1")] == [1, 1, 1, 1]


def hostile_timeline(text: str) -> Timeline:
    span = make_span(
        f"x{text}",
        id="a",
        kind="SERVER",
        service=f"s{text}",
        failed=True,
        exception=f"E: {text}",
        stacktrace=f"t{text}",
        attributes={f"k{text}": f"v{text}", "list": [f"l{text}", 1], "map": {f"m{text}": True}},
        events=(Event(f"e{text}", 1, {f"a{text}": text}),),
        links=(Link("f" * 32, "e" * 16, {"why": text}),),
    )
    logs = (make_log(f"b{text}", service=f"s{text}", severity=text, attributes={f"x{text}": text}, span_id="a"),)
    return make_timeline(span, make_span(text, id="b", parent="gone"), logs=logs)


ATTACKS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'--><svg onload=alert(1)>",
    "</style><script>",
    "</pre></details></section>",
    "&lt;b&gt;",
    "javascript:alert(1)",
    "]]><!--",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_markup_in_spans_and_logs_stays_text(attack: str) -> None:
    """Names, attributes, events, links and log lines can add no element, and read as they were sent."""
    page = Reader(render(Page([hostile_timeline(attack)], title=attack, headings={TRACE_ID: attack}, remarks=[attack])))
    plain = Reader(render(Page([hostile_timeline("harmless")], title="t", headings={TRACE_ID: "h"}, remarks=["r"])))
    assert page.tags == plain.tags
    assert [sorted(attributes) for _, attributes in page.elements] == [sorted(a) for _, a in plain.elements]
    assert f"v{attack}" in page.text
    assert f"b{attack}" in page.text


@given(st.text(max_size=60))
@settings(max_examples=60)
def test_no_text_breaks_the_page(text: str) -> None:
    """Any text at all leaves the page well-formed and free of control characters."""
    page = render(Page([hostile_timeline(text)], title=text, headings={TRACE_ID: text}, remarks=[text]))
    Reader(page)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
    page.encode("utf-8")


def test_elements_escape_what_is_not_markup() -> None:
    """Text and attribute values are escaped, markup is not escaped twice, empty attributes are left out."""
    inner = element("b", "a<b", title='"&"', id="")
    assert inner == '<b title="&quot;&amp;&quot;">a&lt;b</b>'
    assert element("p", inner, "&", class_="x", aria_label="y") == f'<p class="x" aria-label="y">{inner}&amp;</p>'
    assert isinstance(inner, Markup)


def test_an_empty_page_says_so() -> None:
    """Before the first trace there is a page already."""
    assert "No trace has arrived yet." in Reader(render(Page([]))).text


def test_ten_thousand_spans_fit_on_a_page() -> None:
    """A huge trace is rendered in seconds."""
    spans = [make_span(f"s{number}", number, number + 1, parent="s0" if number else "") for number in range(10_000)]
    timeline = make_timeline(*spans)
    begun = time.process_time()
    page = render(Page([timeline]))
    assert time.process_time() - begun < 20
    assert page.count("<details") == 10_000


def test_older_traces_make_room_and_the_page_says_how_many() -> None:
    """Beyond the limit the newest traces stay."""
    half = [make_span(f"s{number}", number, number + 1) for number in range(MAX_SPANS // 2)]
    big = make_timeline(*half)
    page = render(Page([failing_checkout(), big, big]))
    assert "1 more trace did not fit on this page." in page
    assert "UPDATE stock" not in page


def test_times_beyond_the_calendar_do_not_break_the_page() -> None:
    """A sender with a wild clock is shown with what can be shown."""
    assert "an unknown time" in render(Page([make_timeline(make_span("x", start=1e20, end=1e20))]))


def test_the_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    """Writing makes the directory, replaces the old file, and leaves nothing else behind."""
    target = tmp_path / "new" / "page.html"
    write(Page([]), target)
    write(PAGE, target)
    assert target.read_text("utf-8").startswith("<!DOCTYPE html>")
    assert [path.name for path in target.parent.iterdir()] == ["page.html"]


def test_the_picture_is_an_svg_that_needs_nothing() -> None:
    """The terminal's lines become well-formed SVG with a title, and with bars instead of characters."""
    lines = trace_lines(failing_checkout(), Screen(width=100))
    drawn = picture(lines, "Timeline of <POST> & more")
    root = ElementTree.fromstring(drawn)
    names = [element.tag.rpartition("}")[2] for element in root.iter()]
    assert names.count("rect") == 1 + 8
    assert {"text", "path", "title"} < set(names)
    assert not {"script", "image", "use", "a", "foreignObject"} & set(names)
    assert "━" not in drawn
    assert "url(" not in drawn
    texts = "".join(element.text or "" for element in root.iter())
    assert "Timeline of <POST> & more" in texts
    assert "orders (502)" in texts
