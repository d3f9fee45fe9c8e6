"""Delivery over time as a picture (SVG): messages per second both ways, and the cuts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

__all__ = ["draw"]

_WIDTH, _LEFT, _RIGHT = 880, 64, 16
_TOP, _PANEL, _GAP, _CUTS = 58, 120, 34, 26
_COLUMNS: Final = 260

_STYLE: Final = """
  text { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 12px }
  .ground { fill: #ffffff; stroke: #d0d7de } .ink { fill: #1f2328 } .soft { fill: #59636e } .axis { stroke: #a5adb6 }
  .out { fill: #0b5cad } .in { fill: #2da44e } .cut { stroke: #b3261e; stroke-opacity: 0.5 } .rss { stroke: #8a5a00 }
  .rss { fill: none; stroke-width: 1.5 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; stroke: #30363d } .ink { fill: #e6edf3 } .soft { fill: #9198a1 } .axis { stroke: #545d68 }
    .out { fill: #58a6ff } .in { fill: #3fb950 } .cut { stroke: #ff7b72 } .rss { stroke: #d29922 }
  }
"""


def draw(result: dict[str, Any]) -> str:
    """The picture of a long run.

    Args:
        result: as `long_run` returns it, with its `series`.
    """
    series = result["series"]
    seconds = max(1, len(series["out"]))
    inner = _WIDTH - _LEFT - _RIGHT
    scale = inner / seconds
    height = _TOP + 2 * (_PANEL + _GAP) + _CUTS + _GAP + 90 + 40
    say = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'role="img" aria-label="delivery over time">',
        f"<style>{_STYLE}</style>",
        f'<rect class="ground" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{height - 1}" rx="6"/>',
        _text(
            _LEFT,
            24,
            "ink",
            f"{result['sent']} messages each way, {result['cuts']} cuts: {result['server']}, "
            f"{result['mode']}, queue {result['queue']}",
        ),
        _text(
            _LEFT,
            42,
            "soft",
            f"lost {result['lost']}, repeated {result['repeated']}; in: lost "
            f"{result['never_reached_us']}, repeated {result['in_repeated']}; {result['reconnects']} reconnects, "
            f"longest outage {result['longest_outage_s']} s",
        ),
    ]
    y = _TOP
    for name, title in (("out", "delivered per second, ours"), ("in", "... and theirs")):
        say += _panel(series[name], y, scale, name, title)
        y += _PANEL + _GAP
    say.append(_text(_LEFT, y - 6, "soft", "cuts"))
    say += [
        f'<line class="cut" x1="{_LEFT + at * scale:.1f}" x2="{_LEFT + at * scale:.1f}" y1="{y}" y2="{y + _CUTS}"/>'
        for at in series["cuts"]
        if 0 <= at <= seconds
    ]
    y += _CUTS + _GAP
    say += _memory(series["rss_kb"], y, scale)
    y += 90
    say += _seconds(seconds, y, scale)
    return "\n".join([*say, "</svg>", ""])


def _text(x: float, y: float, kind: str, text: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _panel(values: Sequence[int], y: int, scale: float, kind: str, title: str) -> list[str]:
    step = max(1, -(-len(values) // _COLUMNS))
    means = [sum(values[at : at + step]) / len(values[at : at + step]) for at in range(0, len(values), step)]
    top = max([*means, 1.0])
    say = [_text(_LEFT, y - 6, "soft", f"{title} (at most {top:.0f})")]
    for place, mean in enumerate(means):
        tall = mean / top * _PANEL
        wide = min(step, len(values) - place * step) * scale
        say.append(
            f'<rect class="{kind}" x="{_LEFT + place * step * scale:.1f}" y="{y + _PANEL - tall:.1f}" '
            f'width="{max(0.5, wide - 0.4):.1f}" height="{tall:.1f}"/>'
        )
    base = y + _PANEL
    return [*say, f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>']


def _memory(samples: Sequence[Sequence[float]], y: int, scale: float) -> list[str]:
    top = max((size for _, size in samples), default=1.0)
    say = [_text(_LEFT, y - 6, "soft", f"memory of the broker's process (at most {top / 1024:.0f} MB)")]
    points = " ".join(f"{_LEFT + at * scale:.1f},{y + 70 - size / top * 66:.1f}" for at, size in samples)
    line = f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y + 70}" y2="{y + 70}"/>'
    return [*say, f'<polyline class="rss" points="{points}"/>', line]


def _seconds(seconds: int, y: int, scale: float) -> list[str]:
    step = next(each for each in (1, 2, 5, 10, 20, 30, 60, 120, 300, 600) if seconds / each <= 12 or each == 600)
    marks = [_text(_LEFT + at * scale, y, "soft", str(at), "middle") for at in range(0, seconds + 1, step)]
    return [*marks, _text(_WIDTH - _RIGHT, y + 18, "soft", "seconds", "end")]
