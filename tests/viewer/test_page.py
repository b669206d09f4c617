"""The live page and the API over HTTP: addresses, filters, what works without script, limits, hostile text."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from asgi_trace.viewer.receive.files import load
from asgi_trace.viewer.receive.intake import Intake
from asgi_trace.viewer.receive.records import LogRecord, SpanRecord
from asgi_trace.viewer.receive.store import Store

from ..support.page import LivePage, live_page, request_span
from ..support.viewer import STACKTRACE, TRACE_ID, failing_checkout, make_log, make_span

CHECKOUT: list[SpanRecord | LogRecord] = [row.span for row in failing_checkout().rows]
CHECKOUT += [line.record for line in failing_checkout().logs]
TRACES: list[SpanRecord | LogRecord] = [
    request_span("/a", 1, attributes={"http.route": "/a", "app.user": 42, "app.rate": 2.0}),
    request_span("/B/7", 2, took=300, attributes={"http.route": "/B/{id}", "app.vip": True}),
    request_span("/c", 3, status=500, failed=True, service="orders", exception="KeyError: 'x'"),
    make_span("inner", 1_001, 1_002, trace_id=f"{1:032x}", parent=f"{1:016x}", service="stock"),
    make_span("no root", 4_000, 4_001, trace_id=f"{4:032x}", parent="gone"),
    make_log("the Kettle is gone", 1_001, trace_id=f"{1:032x}"),
]


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("", ["no root", "/c", "/B/7", "/a"]),
        ("?limit=2", ["no root", "/c"]),
        ("?q=kettle", ["/a"]),
        ("?q=/b/", ["/B/7"]),
        ("?q=keyerror", ["/c"]),
        ("?q=stock", ["/a"]),
        (f"?q={2:032x}", ["/B/7"]),
        (f"?q={3:016x}", ["/c"]),
        ("?q=app.user=42", ["/a"]),
        ("?q=app.user=4", []),
        ("?q=app.rate=2", ["/a"]),
        ("?q=app.vip=true", ["/B/7"]),
        ("?q=http.response.status_code=500", ["/c"]),
        ("?service=shop", ["no root", "/B/7", "/a"]),
        ("?service=stock", ["/a"]),
        ("?status=failed", ["/c"]),
        ("?status=ok", ["/B/7", "/a"]),
        ("?min=200ms", ["/B/7"]),
        ("?min=0.3s", ["/B/7"]),
        ("?min=1s", []),
        ("?route=/B/{id}", ["/B/7"]),
        ("?status=ok&service=stock", ["/a"]),
    ],
)
def test_filters(query: str, paths: list[str]) -> None:
    """The API and the page list the same traces, the newest first."""
    with live_page(*TRACES) as page:
        assert page.rows(query) == paths
        html = page.get(f"/{query}").text
        found = re.findall(r'<a class="what"[^>]*>|<a href="/trace/([0-9a-f]{32})"', html)
        assert len([one for one in found if one]) == len(paths)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?min=fast", "200ms"), ("?min=5", "200ms"), ("?min=-1s", "200ms"), ("?status=bad", "'failed' or 'ok'"),
        ("?limit=0", "whole number"), ("?limit=x", "whole number"), ("?limit=99999999999", "whole number"),
    ],
)  # fmt: skip
def test_a_bad_filter_says_what_to_write(query: str, words: str) -> None:
    """400 on the page and in the API."""
    with live_page() as page:
        for path in ("/", "/api/traces"):
            answer = page.get(f"{path}{query}")
            assert answer.status_code == 400
            assert words in answer.text
        assert words in page.get(f"/api/traces{query}").json()["error"]


def test_the_api_tells_of_traces_routes_and_services() -> None:
    """Lists have their envelope, a trace has everything, unknown ids are 404."""
    with live_page(*CHECKOUT, *TRACES) as page:
        row = page.get(f"/api/traces?q={TRACE_ID}").json()["traces"][0]
        assert row == {
            "trace_id": TRACE_ID, "name": "POST /checkout", "time": "2025-10-09T08:53:20.000000Z", "service": "shop",
            "method": None, "path": None, "route": None, "status": 502, "failed": True, "duration_ms": 100.0,
            "span_count": 8, "services": ["shop", "orders", "inventory"], "cause": row["cause"],
        }  # fmt: skip
        assert row["cause"].startswith("inventory made POST /checkout fail: sqlite3.IntegrityError")
        whole = page.get(f"/api/traces/{TRACE_ID}").json()
        assert {key: whole[key] for key in row} == row
        assert [span["span_id"] for span in whole["spans"]] == list("abcdefgh")
        assert len(whole["logs"]) == 3
        routes = page.get("/api/routes").json()["routes"]
        assert {"service": "shop", "method": "GET", "route": "/B/{id}", "requests": 1, "errors": 0, "p50_ms": 300.0,
                "p95_ms": 300.0, "max_ms": 300.0} in routes  # fmt: skip
        assert [route["route"] for route in routes if route["service"] == "inventory"] == [None]
        assert page.get("/api/services").json() == {"services": ["inventory", "orders", "shop", "stock"]}
        for unknown in ("f" * 32, "x", "..%2f..%2fetc", "f" * 10_000):
            answer = page.get(f"/api/traces/{unknown}")
            assert answer.status_code == 404
            assert page.get(f"/trace/{unknown}").status_code == 404


def test_a_trace_can_be_taken_away_and_brought_back(tmp_path: Path) -> None:
    """OTLP/JSON that another viewer reads as the same trace, and a page that needs nothing."""
    span = make_span(
        "GET /x", id="ab" * 8, kind="SERVER", failed=True, exception="KeyError: 'x'", stacktrace=STACKTRACE,
        attributes={"i": 7, "f": 0.5, "b": True, "l": ["a", 1], "m": {"k": "v"}, "n": float("nan"), "none": None},
    )  # fmt: skip
    with live_page(span, make_log("line", severity="ERROR", span_id="ab" * 8)) as page:
        answer = page.get(f"/trace/{TRACE_ID}.json")
        assert "attachment" in answer.headers["content-disposition"]
        before = page.get(f"/api/traces/{TRACE_ID}").json()
        saved = page.get(f"/trace/{TRACE_ID}.html")
        assert "sha256-" in saved.headers["content-security-policy"]
        assert "<script" not in saved.text
        assert "GET /x" in saved.text
        assert page.get(f"/trace/{TRACE_ID}.exe").status_code == 404
    with live_page() as other:
        path = tmp_path / "trace.json"
        path.write_bytes(answer.content)
        assert load(path, Intake(other.store), print) == 2
        assert other.get(f"/api/traces/{TRACE_ID}").json() == before


class Reader(HTMLParser):
    """The elements of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def links(self) -> list[str]:
        """All addresses."""
        return [attrs[name] for _, attrs in self.elements for name in ("href", "src", "action") if name in attrs]


ATTACKS = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "</style>", "//evil.test/x",
    "\u202egnp.exe", "\x1b[2J", "' onmouseover='x", "{{7*7}}", "\ud800", "%00%0d%0aSet-Cookie: a=b",
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_text_stays_text_on_every_page(attack: str) -> None:
    """Names, attributes, routes, hosts and log lines add no element and no address of their own, and break nothing."""
    attributes: dict[str, Any] = {
        "http.route": attack, "server.address": attack, f"k{attack}": attack, "url.path": attack, "url.query": attack,
        "http.request.method": attack, "db.system": attack,
    }  # fmt: skip
    spans = [
        make_span(attack, id="a1" * 8, kind="SERVER", service=f"s{attack}", failed=True, exception=f"E: {attack}",
                  stacktrace=attack, attributes=attributes),
        *(make_span(f"n{attack}", 1, 2, id=f"{n:016x}", parent="a1" * 8, kind="CLIENT", service=f"s{attack}",
                    attributes=attributes) for n in range(7)),
        make_span("good", 0, 5, trace_id="c" * 32, kind="SERVER", attributes=attributes, service=f"s{attack}"),
    ]  # fmt: skip
    with live_page(*spans, make_log(attack, span_id="a1" * 8, service=f"s{attack}"), make_log(attack, trace_id="",
                   severity="ERROR")) as page:  # fmt: skip
        quiet = {"script", "link", "meta", "img", "iframe", "object", "style", "base"}
        for path in ("/", f"/trace/{TRACE_ID}?span={'a1' * 8}", f"/trace/{TRACE_ID}?find=n", "/routes", "/map",
                     f"/compare?a={'c' * 32}&b={TRACE_ID}"):  # fmt: skip
            answer = page.get(path)
            assert answer.status_code == 200, path
            reader = Reader(answer.text)
            tags = sorted(tag for tag, _ in reader.elements if tag in quiet)
            assert tags == ["link", "link", "meta", "meta", "meta", "script"], path
            assert not [name for _, attrs in reader.elements for name in attrs if name.startswith("on")]
            assert not [name for _, attrs in reader.elements for name in attrs if name == "style"]
            assert not [link for link in reader.links() if not re.match(r"/(?!/)|#|\?", link)]
            assert "\x1b" not in answer.text
            assert "\u202e" not in answer.text
        for path in (
            "/api/traces",
            f"/api/traces/{TRACE_ID}",
            "/api/routes",
            "/api/services",
            f"/trace/{TRACE_ID}.json",
        ):
            json.loads(page.get(path).content)
        page.get(f"/trace/{TRACE_ID}.html").content.decode("utf-8")


def test_everything_on_a_trace_page_works_without_script() -> None:
    """Rows open, fold, and load by links; the culprit is open at first; search marks what it finds."""
    with live_page(*CHECKOUT) as page:
        html = page.get(f"/trace/{TRACE_ID}").text
        assert re.search(r'class="row [^"]*cause open" id="span-h"', html)
        assert STACKTRACE.splitlines()[1].strip().replace('"', "&quot;") in html
        html = page.get(f"/trace/{TRACE_ID}?span=b").text
        assert re.search(r'class="row [^"]* open" id="span-b"', html)
        html = page.get(f"/trace/{TRACE_ID}?fold=d").text
        assert 'id="span-d"' in html
        assert 'id="span-e"' not in html
        html = page.get(f"/trace/{TRACE_ID}?find=sqlite3").text
        assert "2 spans found" in html
        assert 'id="span-b"' not in html
        assert page.get(f"/trace/{TRACE_ID}?from=2&to=4").text.count('id="span-') == 2
        assert page.get(f"/trace/{TRACE_ID}/rows?from=2&to=4").text.count('id="span-') == 2
        assert "dependency customer" not in page.get(f"/trace/{TRACE_ID}/panel?span=b").text
        assert page.get(f"/trace/{TRACE_ID}/panel?span=zz").status_code == 404


def test_equal_siblings_are_grouped_and_the_culprit_is_not_hidden() -> None:
    """Forty calls are one row that opens; the one that failed stands outside."""
    spans = [make_span("GET /", 0, 500, id="root", kind="SERVER", failed=True, status=500)]
    spans += [make_span("SELECT stock", n * 10, n * 10 + 5, id=f"s{n}", parent="root", kind="CLIENT", failed=n == 39,
                        exception="E: x" if n == 39 else "") for n in range(40)]  # fmt: skip
    with live_page(*spans) as page:
        html = page.get(f"/trace/{TRACE_ID}").text
        assert "39 times → SELECT stock" in html
        assert html.count('id="span-') == 2
        start, end = re.findall(r'data-from="(\d+)" data-to="(\d+)"', html)[0]
        assert page.get(f"/trace/{TRACE_ID}/rows?from={start}&to={end}").text.count('id="span-') == 39


def test_five_thousand_spans_are_a_small_page() -> None:
    """Below 2.5 MB at first, with the culprit's whole path, and every row can be reached by a link."""
    spans = [make_span("GET /", 0, 9_000, id="root", kind="SERVER", failed=True, status=500)]
    spans += [
        make_span(f"step {n}", n, n + 1, id=f"s{n}", parent="root" if n % 60 == 1 else f"s{n - 1}",
                  failed=n > 4_990, exception="E: deep" if n == 4_999 else "")
        for n in range(1, 5_000)
    ]  # fmt: skip
    with live_page(*spans) as page:
        answer = page.get(f"/trace/{TRACE_ID}")
        assert len(answer.content) < 2_500_000
        assert 'id="span-s4999"' in answer.text
        path = {f"s{n}" for n in range(4_981, 5_000)}
        assert all(f'id="span-{one}"' in answer.text for one in path)
        ranges = [(int(a), int(b)) for a, b in re.findall(r'data-from="(\d+)" data-to="(\d+)"', answer.text)]
        assert sum(b - a for a, b in ranges) + answer.text.count('id="span-') == 5_000
        static = sum(len(page.get(f"/static/{name}").content) for name in ("page.js", "page.css"))
        assert static < 150_000
        script = page.get("/static/page.js").text
        assert len(script.splitlines()) <= 500


@pytest.mark.parametrize(
    "name", ["../page.css", "%2e%2e/command.py", "..%2f..%2fcli.py", "page.css/", "x", "/etc/passwd"]
)
def test_only_three_files_are_served(name: str) -> None:
    """No path leads out of the folder."""
    with live_page() as page:
        assert page.get(f"/static/{name}").status_code in (404, 307)
        assert page.get("/static/page.css").status_code == 200
        assert page.get("/favicon.ico").headers["content-type"] == "image/svg+xml"


def test_the_empty_page_tells_where_to_send() -> None:
    """Before the first trace there is a page already, and errors outside any trace stand on it."""
    with live_page() as page:
        html = page.get("/").text
        assert "Waiting for the first trace" in html
        assert "http://127.0.0.1:4317" in html
        assert "No request has arrived yet." in page.get("/routes").text
        assert "No call has arrived yet." in page.get("/map").text
        page.add(make_log("disk full", trace_id="", severity="FATAL"), make_log("a note", trace_id=""))
        html = page.get("/").text
        assert "disk full" in html
        assert "a note" not in html


def test_losses_are_on_the_page() -> None:
    """What was forgotten is said on every page."""
    with live_page(store=Store(max_traces=1)) as page:
        page.add(request_span("/a", 1), request_span("/b", 2))
        page.store.count_unusable(3)
        for path in ("/", "/routes", "/map"):
            assert "forgotten to stay within memory: 1 trace, 1 span" in page.get(path).text
            assert "refused for unusable ids: 3 spans" in page.get(path).text


def test_the_map_and_the_comparison() -> None:
    """Who calls whom with counts and errors, and two traces with what only one of them has."""
    good = [make_span("POST /checkout", 0, 50, id="a", kind="SERVER", status=200, trace_id="c" * 32),
            make_span("POST /orders", 5, 9, id="c", parent="a", kind="CLIENT", trace_id="c" * 32),
            make_span("only in the good one", 10, 11, id="z", parent="a", trace_id="c" * 32)]  # fmt: skip
    with live_page(*CHECKOUT, *good) as page:
        html = page.get("/map").text
        assert "shop to orders: 1 call · 1 error" in html
        assert "orders to inventory: 1 call · 1 error" in html
        link = f"/compare?a={'c' * 32}&amp;b={TRACE_ID}"
        assert link in page.get(f"/trace/{TRACE_ID}").text
        html = page.get(link.replace("&amp;", "&")).text
        assert "1 span only in the first, 6 only in the second" in html
        assert "+50.0 ms" in html
        assert page.get("/compare?a=x&b=y").status_code == 404


def test_a_page_of_many_traces_pages() -> None:
    """A hundred rows, and a link to older ones."""
    with live_page(*(request_span(f"/{n}", n) for n in range(1, 151))) as page:
        html = page.get("/").text
        assert html.count('class="what"') == 100
        assert "/?limit=400" in html


def test_the_version_of_the_store_is_told_as_it_changes() -> None:
    """The event stream begins with the state and goes on with each change."""
    with live_page() as page:
        events = listen(page)
        assert next(events) == "change"
        page.add(request_span("/a", 1))
        assert next(events) == "change"


def listen(page: LivePage) -> Any:
    with page.client.stream("GET", "/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for line in answer.iter_lines():
            if line.startswith("event: "):
                yield line.removeprefix("event: ")


def chain(levels: int) -> list[SpanRecord]:
    return [make_span(f"s{n}", n, 999, parent=f"s{n - 1}" if n else "", failed=n == levels - 1) for n in range(levels)]


@pytest.mark.parametrize(
    ("spans", "shown"),
    [
        pytest.param(chain(60), 60, id="sixty levels"),
        pytest.param(chain(2_000), 2_000, id="two thousand levels"),
        pytest.param([make_span(one, parent=other) for one, other in ("ab", "bc", "ca")], 3, id="a circle"),
        pytest.param([make_span("self", parent="self", failed=True)], 1, id="its own parent"),
        pytest.param(
            [
                make_span("GET", 0, 50, id="a", kind="CLIENT"),
                make_span("GET /", 3_600_000, 3_600_030, id="b", parent="a", kind="SERVER", service="late"),
                make_span("x", -3_600_000, -3_599_990, parent="b", service="early"),
            ],
            3, id="clocks an hour off",
        ),
        pytest.param([make_span("x", 1e15, 1e15 + 1), make_span("y", 0, 9e12)], 2, id="beyond the calendar"),
        pytest.param([make_span("x" * 512, service="y" * 512, attributes={"k" * 512: "v" * 4_096})], 1, id="long"),
        pytest.param([make_span(f"s{n}", n, n + 1, parent="gone", failed=True) for n in range(999)], 999, id="orphans"),
    ],
)  # fmt: skip
def test_odd_traces_are_shown_whole(spans: list[SpanRecord], shown: int) -> None:
    """Depth, circles, wild clocks and long names break no page, and no row is lost."""
    with live_page(*spans) as page:
        for path in ("/", "/map", "/routes", f"/compare?a={TRACE_ID}&b={TRACE_ID}", f"/trace/{TRACE_ID}.json"):
            assert page.get(path).status_code == 200
        html = page.get(f"/trace/{TRACE_ID}").text
        ranges = [(int(a), int(b)) for a, b in re.findall(r'data-from="(\d+)" data-to="(\d+)"', html)]
        assert sum(b - a for a, b in ranges) + html.count('id="span-') == shown
        assert len(page.get(f"/api/traces/{TRACE_ID}").json()["spans"]) == shown


def test_log_lines_stand_in_place() -> None:
    """A line stands below the row of its span, errors first where there are many."""
    lines = [make_log(f"line {n}", n, span_id="a") for n in range(20)] + [
        make_log("broken", 30, severity="ERROR", span_id="a")
    ]
    with live_page(make_span("GET /", 0, 100, id="a", kind="SERVER"), make_span("x", 1, 2, parent="a"), *lines) as page:
        row = page.get(f"/trace/{TRACE_ID}").text.split('id="span-a"')[1].split('id="span-x"')[0]
        assert "broken" in row
        assert "line 1<" in row
        assert "18 more log lines" in row
