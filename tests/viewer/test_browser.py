"""The live page in a real browser: found, filtered, opened, live, by keyboard, in every size and both schemes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from asgi_trace.viewer.receive.records import Values

from ..support.page import LivePage, chromium, live_page, request_span
from ..support.viewer import STACKTRACE, TRACE_ID, failing_checkout, make_log, make_span

CHECKOUT = [row.span for row in failing_checkout().rows]
LOGS = [line.record for line in failing_checkout().logs]
SOME = [request_span(f"/items/{n}", n, took=10 * n, attributes={"http.route": "/items/{id}"}) for n in range(1, 31)]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One browser for all tests of this module."""
    with chromium() as running:
        yield running


@contextmanager
def tab(browser: Any, page: LivePage, path: str = "/", **options: Any) -> Iterator[Any]:
    """A tab on an address of the page. Afterwards: no message in its console, and no request to another origin."""
    context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
    context.set_default_timeout(15_000)
    said: list[str] = []
    asked: list[str] = []
    opened = context.new_page()
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(page.url + path)
    try:
        yield opened
        assert said == []
        assert [url for url in asked if not url.startswith(page.url + "/")] == []
    finally:
        context.close()


def test_a_failed_request_is_found_and_its_cause_stands_there(browser: Any) -> None:
    """From the list to the culprit's stack trace in one click."""
    with live_page(*SOME, *CHECKOUT, *LOGS) as page, tab(browser, page) as opened:
        opened.locator("select[name=status]").select_option("failed")
        opened.get_by_role("button", name="Filter").click()
        opened.wait_for_url("**status=failed**")
        opened.locator(".why").wait_for()
        assert opened.locator(".trace a.what").count() == 1
        assert "inventory made POST /checkout fail" in opened.locator(".why").inner_text()
        opened.locator(".trace a.what").click()
        opened.locator(".row.cause .panel").wait_for()
        assert opened.locator(".row").count() == 8
        assert STACKTRACE.splitlines()[1].strip() in opened.locator(".row.cause .panel").inner_text()
        assert "taking 3 umbrellas" in opened.locator("main").inner_text()


def test_a_filter_is_a_link(browser: Any) -> None:
    """The address has the filters; going back undoes them."""
    with live_page(*SOME, *CHECKOUT) as page, tab(browser, page) as opened:
        opened.locator("#q").fill("items/7")
        opened.locator("#q").press("Enter")
        opened.wait_for_url("**/?q=items*")
        opened.locator(".trace a.what").first.wait_for()
        assert opened.locator(".trace a.what").all_inner_texts() == ["GET /items/7"]
        opened.go_back()
        assert opened.locator(".trace a.what").count() == 31
        with tab(browser, page, "/?min=290ms&service=shop") as other:
            assert other.locator(".trace a.what").all_inner_texts() == ["GET /items/30", "GET /items/29"]


def test_the_list_is_live_and_can_be_paused(browser: Any) -> None:
    """A new trace appears by itself; paused, it waits; resumed, it is there. A filter stays while it lives."""
    with live_page(SOME[0]) as page, tab(browser, page, "/?q=items") as opened:
        opened.locator("#live-state[data-state=live]").wait_for()
        page.add(SOME[1], request_span("/other", 99))
        opened.get_by_text("/items/2").wait_for()
        assert opened.get_by_text("/other").count() == 0
        opened.get_by_role("button", name="Pause").click()
        page.add(SOME[2])
        opened.wait_for_timeout(1_500)
        assert opened.get_by_text("/items/3").count() == 0
        opened.get_by_role("button", name="Resume").click()
        opened.get_by_text("/items/3").wait_for()


def test_an_open_page_catches_up_after_a_restart(browser: Any) -> None:
    """The viewer ends and begins again on the same port: the page connects by itself and shows what is there now."""
    with live_page(SOME[0]) as page:
        context = browser.new_context()
        opened = context.new_page()
        opened.goto(page.url)
        opened.locator("#live-state[data-state=live]").wait_for()
        port = page.server.port
        page.close()
        opened.locator("#live-state[data-state=reconnecting]").wait_for()
        with live_page(request_span("/after", 5), port=port):
            opened.get_by_text("/after").wait_for()
        context.close()


def test_spans_open_fold_and_are_linked_to(browser: Any) -> None:
    """Folding hides what is below and says so; an opened span is in the address; a deep link opens and scrolls."""
    with live_page(*CHECKOUT, *LOGS) as page, tab(browser, page, f"/trace/{TRACE_ID}") as opened:
        toggle = opened.locator("#span-c a.fold")
        assert toggle.get_attribute("aria-expanded") == "true"
        toggle.click()
        assert toggle.get_attribute("aria-expanded") == "false"
        assert not opened.locator("#span-d").is_visible()
        assert opened.locator("#span-b").is_visible()
        toggle.click()
        assert opened.locator("#span-h").is_visible()
        opened.locator("#span-b a.title").click()
        opened.locator("#span-b .panel").wait_for()
        assert opened.url.endswith("#span-b")
        assert opened.locator("#span-b a.title").get_attribute("aria-expanded") == "true"
        opened.locator("#span-b a.title").click()
        assert opened.locator("#span-b .panel").count() == 0
        opened.evaluate("location.hash = '#span-g'")
        opened.locator("#span-g .panel").wait_for()
        assert "target" in (opened.locator("#span-g").get_attribute("class") or "")


def test_an_open_trace_says_that_it_has_grown(browser: Any) -> None:
    """What was opened stays open; the new spans are a click away."""
    with live_page(*CHECKOUT, *LOGS) as page, tab(browser, page, f"/trace/{TRACE_ID}") as opened:
        opened.locator("#live-state[data-state=live]").wait_for()
        opened.locator("#rows[data-count]").wait_for()
        page.add(make_span("late", 99, 100, id="late", parent="a"))
        opened.get_by_text("More spans have arrived").click()
        opened.locator("#span-late").wait_for()


def test_a_search_inside_a_trace(browser: Any) -> None:
    """What is found stands with the way to it; all can be shown again."""
    with live_page(*CHECKOUT, *LOGS) as page, tab(browser, page, f"/trace/{TRACE_ID}") as opened:
        opened.locator("#q").fill("umbrellas")
        opened.locator("#q").press("Enter")
        opened.get_by_text("1 span found").wait_for()
        assert opened.locator("#span-g").count() == 1
        opened.get_by_role("link", name="Show all").click()
        opened.locator("#span-b").wait_for()
        assert opened.locator(".row").count() == 8


def test_five_thousand_spans_are_loaded_as_they_come_into_view(browser: Any) -> None:
    """The first look is small, a deep link into the middle works, groups open, and scrolling loads the rest."""
    spans = [make_span("GET /", 0, 9_000, id="root", kind="SERVER", status=200)]
    spans += [make_span(f"step {n}", n, n + 1, id=f"s{n}", parent="root") for n in range(1, 4_990)]
    spans += [make_span("SELECT x", 0.01 * n, 0.01 * n + 0.01, id=f"q{n}", parent="root") for n in range(10)]
    with live_page(*spans) as page, tab(browser, page, f"/trace/{TRACE_ID}") as opened:
        assert opened.locator("#rows > .row").count() < 400
        opened.evaluate("scrollTo(0, document.body.scrollHeight)")
        opened.locator("#span-s350").wait_for(state="attached")
        with tab(browser, page, f"/trace/{TRACE_ID}#span-s2500") as deep:
            deep.locator("#span-s2500 .panel").wait_for()
            assert deep.locator("#span-s2500 a.title").is_visible()
        group = opened.locator(".row.group a.title")
        group.last.click()
        opened.locator("#span-q9").wait_for(state="attached")
        assert group.last.get_attribute("aria-expanded") == "true"


def test_the_keyboard_is_enough(browser: Any) -> None:
    """j and k move, Enter opens, / goes to the search, Esc leaves it, arrows fold."""
    with live_page(*SOME, *CHECKOUT) as page, tab(browser, page) as opened:
        opened.keyboard.press("/")
        assert opened.evaluate("document.activeElement.id") == "q"
        opened.keyboard.type("items")
        opened.keyboard.press("Escape")
        assert opened.evaluate("document.activeElement.id") != "q"
        for key in "jjjk":
            opened.keyboard.press(key)
        assert opened.evaluate("document.activeElement.textContent") == "GET /items/29"
        opened.keyboard.press("Enter")
        opened.wait_for_url("**/trace/*")
        opened.goto(f"{page.url}/trace/{TRACE_ID}")
        opened.keyboard.press("j")
        opened.keyboard.press("j")
        assert "dependency customer" in opened.evaluate("document.activeElement.textContent")
        opened.keyboard.press("Enter")
        opened.locator("#span-b .panel").wait_for()
        opened.keyboard.press("k")
        opened.keyboard.press("ArrowLeft")
        assert not opened.locator("#span-b").is_visible()
        opened.keyboard.press("ArrowRight")
        assert opened.locator("#span-b").is_visible()


def test_ids_and_commands_are_copied(browser: Any) -> None:
    """The trace id, and the request as curl, quoted for a shell."""
    values: Values = {
        "url.scheme": "http",
        "server.address": "shop.test",
        "server.port": 8000,
        "url.query": "a=1&b=$(x)",
    }
    span = request_span("/items/it's", 1, attributes=values)
    grants = {"permissions": ["clipboard-read", "clipboard-write"]}
    with live_page(span) as page, tab(browser, page, f"/trace/{1:032x}", **grants) as opened:
        opened.get_by_role("button", name="Copy trace id").click()
        opened.get_by_text("Copied").wait_for()
        assert opened.evaluate("navigator.clipboard.readText()") == f"{1:032x}"
        opened.get_by_role("button", name="Copy as curl").click()
        opened.wait_for_timeout(200)
        copied = opened.evaluate("navigator.clipboard.readText()")
        assert copied == """curl 'http://shop.test:8000/items/it'"'"'s?a=1&b=$(x)'"""


PATHS = ("/", f"/trace/{TRACE_ID}", "/routes", "/map", f"/compare?a={'c' * 32}&b={TRACE_ID}")


@pytest.mark.parametrize("width", [400, 1280, 2560])
def test_no_page_is_wider_than_its_window(browser: Any, width: int) -> None:
    """From a phone to a large screen, long names included, without script too."""
    long = "x" * 300
    spans = [
        *CHECKOUT,
        *SOME,
        make_span(long, id="ab" * 8, trace_id="c" * 32, kind="SERVER", service=long, failed=True),
    ]
    with live_page(*spans, make_log(long, trace_id="c" * 32)) as page:
        for script in (True, False):
            for path in PATHS:
                size = {"width": width, "height": 900}
                with tab(browser, page, path, viewport=size, java_script_enabled=script) as opened:
                    if script:
                        assert opened.evaluate("document.documentElement.scrollWidth") <= width, path
                    else:
                        assert opened.locator("main").is_visible()


CONTRAST = """() => {
  const channel = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
  const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
  const ground = (element) => {
    for (; element; element = element.parentElement) {
      const color = parse(getComputedStyle(element).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !element.getClientRects().length || element.closest("svg")) continue;
    const [a, b] = [light(parse(getComputedStyle(element).color)), light(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) poor.push(`${element.className} ${ratio.toFixed(2)} ${walker.currentNode.textContent.trim()}`);
  }
  return poor;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(browser: Any, scheme: str) -> None:
    """Every text has the contrast of WCAG AA, and dark is dark."""
    good = make_span("POST /checkout", 0, 50, id="a", kind="SERVER", status=200, trace_id="c" * 32)
    with live_page(*CHECKOUT, *LOGS, *SOME, good, make_span("x", trace_id="d" * 32, parent="gone")) as page:
        for path in PATHS:
            with tab(browser, page, path, color_scheme=scheme) as opened:
                assert opened.evaluate(CONTRAST) == [], path
                ground = opened.evaluate("getComputedStyle(document.body).backgroundColor")
                assert (sum(map(int, ground[4:-1].split(","))) < 200) is (scheme == "dark")


def test_times_are_the_readers(browser: Any) -> None:
    """With script a moment is written in the browser's time zone."""
    with live_page(request_span("/a", 1)) as page:
        for zone, clock in (("Asia/Tokyo", "17:53:21.000"), ("UTC", "08:53:21.000")):
            with tab(browser, page, timezone_id=zone) as opened:
                assert opened.locator(".trace time").inner_text() == clock


def test_a_hostile_trace_runs_nothing(browser: Any) -> None:
    """No attack in a span is executed, on any page; the policy has nothing to refuse, because nothing was tried."""
    attack = "\"><script>window.hit=1</script><img src=x onerror='window.hit=1'>"
    values: Values = dict.fromkeys(("http.route", "server.address", "url.path", "db.system", attack), attack)
    spans = [
        make_span(attack, id="a1" * 8, kind="SERVER", service=attack, exception=f"E: {attack}", attributes=values),
        make_span(attack, 1, 2, id="a2" * 8, parent="a1" * 8, kind="CLIENT", service=attack, attributes=values),
    ]  # fmt: skip
    with live_page(*spans, make_log(attack, span_id="a1" * 8, service=attack)) as page:
        for path in (
            "/",
            f"/trace/{TRACE_ID}#span-{'a2' * 8}",
            "/routes",
            "/map",
            f"/compare?a={TRACE_ID}&b={TRACE_ID}",
        ):
            with tab(browser, page, path) as opened:
                opened.wait_for_timeout(300)
                assert opened.evaluate("window.hit") is None
