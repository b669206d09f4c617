"""The links of every page lead somewhere: files, headings, well-formed addresses."""

from __future__ import annotations

import pytest

from tests.support.pages import Page, broken_links, pages

PAGES = {page.name: page for page in pages()}


def test_pages_are_found_in_every_folder() -> None:
    """Pages of the top level, of the installed package and of the benchmarks are among those that are tested."""
    assert {"README.md", "CHANGELOG.md", "benchmarks/RESULTS.md"} <= PAGES.keys()


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name: str) -> None:
    """Every link of a page has a target: a file of the repository, a heading, or a well-formed https address."""
    assert broken_links(PAGES[name], PAGES) == []


FROM = "asgi_trace/routes/README.md"
HERE = {
    FROM: "# Routes\n\n## The adapters\n\n## The adapters\n\n## `configure()`, and *more*\n",
    "README.md": "# asgi-trace\n\n## What it costs\n",
}


@pytest.mark.parametrize(
    "target",
    [
        "#the-adapters",
        "#the-adapters-1",
        "#configure-and-more",
        "../../README.md",
        "../../README.md#what-it-costs",
        "../middleware.py",
        "django.py",
        "../../tests/",
        "https://opentelemetry.io/docs/",
        "http://127.0.0.1:16686/",
    ],
)
def test_right_links_pass(target: str) -> None:
    """Headings, relative files and folders, and https addresses are targets."""
    assert _broken(f"[text]({target})") == []


@pytest.mark.parametrize(
    "text",
    [
        "[a](#the-adapter)",
        "[a](#the-adapters-2)",
        "[a](README.md#nothing)",
        "[a](../../README.md#what-costs)",
        "[a](../routing.md)",
        "![a](page.png)",
        "[a](../../../README.md)",
        "[a](/README.md)",
        "[a](django.py#L3)",
        "[a](http://opentelemetry.io/)",
        "[a](https://opentelemetry)",
        "<http://example.com/>",
        '<img src="nowhere.png">',
        '<source srcset="nowhere.png">',
        "[a][b]\n\n[b]: nowhere.md",
    ],
)
def test_wrong_links_are_found(text: str) -> None:
    """A link to what is not there is found, in every form that Markdown and HTML have for it."""
    assert len(_broken(text)) == 1


@pytest.mark.parametrize("text", ["`[a](nowhere.md)`", "```\n[a](nowhere.md)\n```", "<!-- [a](nowhere.md) -->"])
def test_code_and_comments_have_no_links(text: str) -> None:
    """What looks like a link in code or in a comment is none."""
    assert _broken(text) == []


def _broken(text: str) -> list[str]:
    others = {name: Page(name, known) for name, known in HERE.items()}
    return broken_links(Page(FROM, f"{HERE[FROM]}\n{text}\n"), others | {FROM: Page(FROM, f"{HERE[FROM]}\n{text}\n")})
