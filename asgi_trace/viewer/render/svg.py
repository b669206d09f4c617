"""The terminal's lines as an SVG picture, for a README or a report: no font to install, light and dark.

Bars, rules and the tree are drawn as shapes, so that the picture is the same in every font; each piece of text is
stretched to the columns that it takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..text import columns
from .markup import Markup, element
from .screen import UNICODE, Line

_COLUMN, _LINE, _MARGIN = 8.0, 19.0, 20.0
_BARS = {UNICODE.full: (0.0, 1.0), UNICODE.left_half: (0.0, 0.5), UNICODE.right_half: (0.5, 1.0)}
_TREE = {"│": "v19", "├": "v19m0-9.5h6", "└": "v9.5h6"}

_STYLE = """
svg{--ground:#fff;--text:#1b2129;--muted:#68737f;--bad:#c0263a;--good:#14733f;--warn:#8a5a00;--line:#d5dae0;
--s0:#0b7fa4;--s1:#8b46c9;--s2:#2f62d6;--s3:#a36a00;--s4:#2c8449;--s5:#b03d78}
@media (prefers-color-scheme:dark){svg{--ground:#0e1217;--text:#e3e8ee;--muted:#98a4b1;--bad:#ff7684;--good:#5fd08f;
--warn:#e5b356;--line:#39434e;--s0:#45c0e4;--s1:#c590f5;--s2:#84a9ff;--s3:#e0ab45;--s4:#68c886;--s5:#f08cbe}}
text{font:13.3px ui-monospace,"SF Mono","Cascadia Code",Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre}
.ground{fill:var(--ground);stroke:var(--line)}.plain{fill:var(--text)}.bold{fill:var(--text);font-weight:bold}
.dim{fill:var(--muted)}.bad{fill:var(--bad)}.good{fill:var(--good)}.warn{fill:var(--warn)}
.s0{fill:var(--s0)}.s1{fill:var(--s1)}.s2{fill:var(--s2)}.s3{fill:var(--s3)}.s4{fill:var(--s4)}.s5{fill:var(--s5)}
.rule{stroke:var(--line)}.tree{stroke:var(--muted);fill:none;opacity:.6}
"""


def picture(lines: Sequence[Line], title: str) -> str:
    """An SVG document that shows `lines` as the terminal would, with `title` for screen readers."""
    width = max((sum(columns(piece) for piece, _ in line) for line in lines), default=0) * _COLUMN + 2 * _MARGIN
    height = len(lines) * _LINE + 2 * _MARGIN
    shapes = [shape for number, line in enumerate(lines) for shape in _line(line, _MARGIN + number * _LINE)]
    ground = element("rect", x="0.5", y="0.5", width=f"{width - 1}", height=f"{height - 1}", rx="8", class_="ground")
    drawing = element(
        "svg",
        element("title", title),
        element("style", Markup(_STYLE)),
        ground,
        *shapes,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width:g} {height:g}",
        width=f"{width:g}",
        height=f"{height:g}",
        role="img",
        aria_label=title,
    )
    return drawing + "\n"


def _line(line: Line, top: float) -> Iterable[Markup]:
    x = _MARGIN
    for piece, style in line:
        name = style.replace("service:", "s") or "plain"
        for text in _runs(piece):
            yield from _run(text, name, x, top)
            x += columns(text) * _COLUMN


def _runs(piece: str) -> list[str]:
    """`piece` cut where text, bar, rule, tree and space meet."""
    runs: list[str] = []
    before = ""
    for char in piece:
        kind = _kind(char)
        if runs and kind == before and kind != "tree":
            runs[-1] += char
        else:
            runs.append(char)
        before = kind
    return runs


def _kind(char: str) -> str:
    if char in _BARS:
        return "bar"
    if char in _TREE:
        return "tree"
    return "rule" if char == UNICODE.rule else "text"


def _run(text: str, name: str, x: float, top: float) -> Iterable[Markup]:
    kind = _kind(text[0])
    middle = top + _LINE / 2
    if kind == "bar":
        begin = x + _BARS[text[0]][0] * _COLUMN
        end = x + (len(text) - 1 + _BARS[text[-1]][1]) * _COLUMN
        yield element(
            "rect", x=f"{begin:g}", y=f"{middle - 4:g}", width=f"{end - begin:g}", height="8", rx="2", class_=name
        )
    elif kind == "tree":
        yield element("path", d=f"M{x + _COLUMN / 2:g} {top:g}{_TREE[text]}", class_="tree")
    elif kind == "rule":
        yield element("path", d=f"M{x:g} {middle:g}h{len(text) * _COLUMN:g}", class_="rule")
    elif words := text.strip():
        x += columns(text[: len(text) - len(text.lstrip())]) * _COLUMN
        length = f"{columns(words) * _COLUMN:g}"
        yield element("text", words, x=f"{x:g}", y=f"{top + 14:g}", textLength=length, class_=name)
