"""The chart that the README shows: one SVG, written by hand, readable on a light page and on a dark one.

It brings its own card, because a picture in a README follows the reader's system and not the page around it.
"""

from __future__ import annotations

from xml.sax.saxutils import escape

from .cases import BARE, SAMPLED, UNSAMPLED
from .results import COLD, CONFIGURED, HOT, SDK_PROVIDER, Results
from .tables import figure, title

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 760, 196, 64, 92, 34
_STYLE = """
  .card { fill: #ffffff; stroke: #d1d9e0 } .text { fill: #1f2328 } .dim { fill: #59636e } .grid { stroke: #d1d9e0 }
  .ours { fill: #0969da } .ours-un { fill: #80b3ec } .peer { fill: #818b98 } .peer-un { fill: #c5cbd3 }
  text { font: 13px -apple-system, BlinkMacSystemFont, "Segoe UI", "Noto Sans", Helvetica, Arial, sans-serif }
  .title { font-size: 16px; font-weight: 600 } .small { font-size: 12px } .strong { font-weight: 600 }
  @media (prefers-color-scheme: dark) {
    .card { fill: #0d1117; stroke: #3d444d } .text { fill: #f0f6fc } .dim { fill: #9198a1 } .grid { stroke: #2f353d }
    .ours { fill: #4493f8 } .ours-un { fill: #1f4f8f } .peer { fill: #7d8590 } .peer-un { fill: #3f4751 }
  }
"""


def svg(results: Results, clock: str = COLD) -> str:
    """Overhead per request of every peer around a bare application, sampled and unsampled, as horizontal bars."""
    if clock not in results.clocks():
        clock = HOT
    bars = _bars(results, clock)
    height = _TOP + _ROW * len(bars) + 44
    most = max((value for _, sampled, unsampled in bars for value in (sampled, unsampled or 0.0)), default=1.0)
    scale = (_WIDTH - _LEFT - _RIGHT) / most
    caches = "caches evicted between requests" if clock == COLD else "hot loop"
    below = f"CPU time over the bare ASGI application, {caches}; less is better"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        'role="img" aria-label="CPU time that tracing adds to a request, for each library">',
        f"<style>{_STYLE}</style>",
        f'<rect class="card" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="8"/>',
        '<text class="text title" x="20" y="32">What tracing adds to a request</text>',
        f'<text class="dim small" x="20" y="52">{below}</text>',
        *_legend(),
        *_grid(most, scale, height),
    ]
    for number, (peer, sampled, unsampled) in enumerate(bars):
        parts += _row(_TOP + number * _ROW, peer, sampled, unsampled, scale)
    parts.append("</svg>\n")
    return "\n".join(parts)


def _bars(results: Results, clock: str) -> list[tuple[str, float, float | None]]:
    bars = []
    for peer in results.peers(clock):
        sampled = results.get(clock, f"server/{BARE}/{SAMPLED}", peer)
        unsampled = results.get(clock, f"server/{BARE}/{UNSAMPLED}", peer)
        if sampled is not None:
            bars.append((peer, sampled.over, unsampled.over if unsampled is not None else None))
    return sorted(bars, key=lambda bar: (bar[0] not in (SDK_PROVIDER, CONFIGURED), bar[1]))


def _legend() -> list[str]:
    return [
        f'<rect class="peer" x="{_LEFT}" y="66" width="11" height="11" rx="2"/>',
        f'<text class="dim small" x="{_LEFT + 17}" y="76">the caller samples</text>',
        f'<rect class="peer-un" x="{_LEFT + 140}" y="66" width="11" height="11" rx="2"/>',
        f'<text class="dim small" x="{_LEFT + 157}" y="76">the caller does not</text>',
    ]


def _grid(most: float, scale: float, height: int) -> list[str]:
    step = next(each for each in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000) if most / each <= 8)
    parts = []
    for number in range(int(most / step) + 1):
        x = _LEFT + number * step * scale
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{_TOP - 8}" x2="{x:.1f}" y2="{height - 36}"/>')
        unit = " µs" if number == 0 else ""
        parts.append(
            f'<text class="dim small" x="{x:.1f}" y="{height - 18}" text-anchor="middle">{number * step}{unit}</text>'
        )
    return parts


def _row(y: int, peer: str, sampled: float, unsampled: float | None, scale: float) -> list[str]:
    kind, strong = ("ours", " strong") if peer in (SDK_PROVIDER, CONFIGURED) else ("peer", "")
    parts = [
        f'<text class="text{strong}" x="{_LEFT - 12}" y="{y + 18}" text-anchor="end">{escape(title(peer))}</text>',
        _bar(kind, y + 2, sampled, scale),
        _label(y + 12, sampled, scale, strong),
    ]
    if unsampled is not None:
        parts += [_bar(f"{kind}-un", y + 15, unsampled, scale), _label(y + 25, unsampled, scale, strong)]
    return parts


def _bar(kind: str, y: int, value: float, scale: float) -> str:
    return f'<rect class="{kind}" x="{_LEFT}" y="{y}" width="{max(value * scale, 1.5):.1f}" height="11" rx="2"/>'


def _label(y: int, value: float, scale: float, strong: str) -> str:
    x = _LEFT + max(value * scale, 1.5) + 6
    return f'<text class="text small{strong}" x="{x:.1f}" y="{y}">{figure(value)}</text>'
