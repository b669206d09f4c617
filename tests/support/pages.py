"""The Markdown pages of the tree, and what stands in them: code blocks, links, headings.

Pages beside the code are read from the installed package, so that the tests of a wheel read what is in the wheel.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import asgi_trace

ROOT = Path(__file__).parents[2]
PACKAGE = Path(asgi_trace.__path__[0])
FOLDERS = (".ci", ".github", "benchmarks", "tests")

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
_INLINE_CODE = re.compile(r"(`+)(.+?)\1", re.DOTALL)
_HEADING = re.compile(r"^#{1,6} +(.+?)(?: +#+)?$", re.MULTILINE)
_LINK = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_REFERENCE = re.compile(r"^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
_AUTOLINK = re.compile(r"<(https?://[^>\s]+)>")
_ATTRIBUTE = re.compile(r"\b(?:src|srcset|href)=\"([^\"]+)\"")


@dataclass(frozen=True)
class Block:
    """A fenced block: its language as written (empty for none), its text, and the line where the text begins."""

    page: str
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, as editors take it: `README.md:17`."""
        return f"{self.page}:{self.line}"


@dataclass(frozen=True)
class Page:
    """A page by its path in the repository (`asgi_trace/routes/README.md`), and its text."""

    name: str
    text: str

    def blocks(self) -> list[Block]:
        """Its fenced blocks from top to bottom."""
        return [
            Block(self.name, self.text.count("\n", 0, found.start()) + 2, found[1], found[2])
            for found in _FENCE.finditer(self.text)
        ]

    def prose(self) -> str:
        """Its text without fenced blocks and HTML comments."""
        return _COMMENT.sub("", _FENCE.sub("", self.text))

    def inline_code(self) -> list[str]:
        """What stands between backticks in its prose."""
        return [" ".join(found[2].split()) for found in _INLINE_CODE.finditer(self.prose())]

    def links(self) -> list[str]:
        """The targets of its links and pictures, as written."""
        text = _INLINE_CODE.sub("``", self.prose())
        return [found[1] for pattern in (_LINK, _REFERENCE, _AUTOLINK, _ATTRIBUTE) for found in pattern.finditer(text)]

    def anchors(self) -> set[str]:
        """The names of its headings in links, by GitHub's rule: a heading that comes twice is `name` and `name-1`."""
        seen: dict[str, int] = {}
        names = set()
        for found in _HEADING.finditer(self.prose()):
            title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", found[1])
            name = re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")
            count = seen.get(name, 0)
            seen[name] = count + 1
            names.add(f"{name}-{count}" if count else name)
        return names


def pages() -> list[Page]:
    """Every page of the tree: the top level, the folders beside the package, and the package as it is installed."""
    found = {path.name: path for path in ROOT.glob("*.md")}
    for folder in FOLDERS:
        found |= {str(path.relative_to(ROOT)): path for path in (ROOT / folder).rglob("*.md")}
    found |= {str(path.relative_to(PACKAGE.parent)): path for path in PACKAGE.rglob("*.md")}
    return [Page(name, path.read_text(encoding="utf-8")) for name, path in sorted(found.items())]


def located(name: str) -> Path | None:
    """The file or folder with this path in the repository; None where this copy of the tree leaves it out."""
    top, _, rest = name.partition("/")
    if top == PACKAGE.name:
        return PACKAGE / rest
    if top.startswith(".") and not (ROOT / top).exists():
        return None
    return ROOT / name


def examples(page: Page) -> list[Block]:
    """The programs among its Python blocks: a block that begins without an import goes on from the one before it."""
    programs: list[Block] = []
    for block in page.blocks():
        if block.language != "python":
            continue
        if programs and not re.match(r"(import|from|#) ?", block.text):
            last = programs[-1]
            programs[-1] = Block(last.page, last.line, last.language, f"{last.text}\n{block.text}")
        else:
            programs.append(block)
    return programs


def broken_links(page: Page, others: dict[str, Page]) -> list[str]:
    """What is wrong with its links, one sentence a link."""
    return [
        f"{page.name}: {target}: {wrong}" for target in page.links() if (wrong := _wrong_link(page, target, others))
    ]


def _wrong_link(page: Page, target: str, others: dict[str, Page]) -> str:
    if re.match(r"[a-z][a-z0-9+.-]*:", target):
        well_formed = re.fullmatch(r"https://[\w.-]+\.[a-z]{2,}(:\d+)?(/[^\s]*)?", target)
        local = re.fullmatch(r"http://(127\.0\.0\.1|localhost):\d+(/[^\s]*)?", target)
        return "" if well_formed or local else "not a well-formed https address"
    path, _, anchor = target.partition("#")
    if path.startswith("/"):
        return "write a path relative to the page"
    name = _joined(page.name, path) if path else page.name
    if name is None:
        return "leads out of the repository"
    place = located(name)
    if place is None:
        return ""
    if name not in others and not place.exists():
        return "no such file"
    if anchor:
        if name not in others:
            return "a heading in what is not a page"
        if anchor not in others[name].anchors():
            return "no such heading"
    return ""


def _joined(page: str, path: str) -> str | None:
    parts = page.split("/")[:-1]
    for part in path.rstrip("/").split("/"):
        if part == "..":
            if not parts:
                return None
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)
