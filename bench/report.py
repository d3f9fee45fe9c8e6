"""docs/performance.md, its pictures, and the README's short form, made of what bench/results has.

``python -m bench.report`` writes them. Nothing in them is typed in: whether a goal is met is computed from the figures.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from xml.sax.saxutils import escape

from bench.measure import RESULTS, ROOT

__all__ = ["main", "page", "picture", "short"]

PAGE = ROOT / "docs" / "performance.md"
PICTURES = ROOT / "docs" / "performance"
README = ROOT / "README.md"
MARKS: Final = ("<!-- performance -->", "<!-- end of performance -->")


@dataclass(frozen=True)
class Goal:
    """What one figure of pcj's is to be.

    Attributes:
        most: the figure itself, at most. beside: of these subjects' figures, no more than such a part.
    """

    most: float | None = None
    beside: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Chapter:
    """One benchmark, as it is shown.

    Attributes:
        name: of its result. title: above it. figure: what is drawn, less is better. unit: of that. goal: of pcj's.
    """

    name: str
    title: str
    figure: str
    unit: str
    goal: Goal = Goal()


CHAPTERS: Final = (
    Chapter(
        "echo",
        "Echo: a component that answers each message",
        "cpu_us_per_stanza",
        "µs of CPU per stanza",
        Goal(9.0, (("gloox", 0.52), ("slixmpp", 0.13))),
    ),
    Chapter("start", "Start: importing the library", "cpu_ms", "ms of CPU", Goal(60.0)),
)


def _goals(chapter: Chapter, series: Mapping[str, Any]) -> list[str]:
    """A sentence for each goal: what was to be, what is, whether that is it."""
    if "pcj" not in series:
        return []
    got = float(series["pcj"][chapter.figure]["median"])
    found = []
    if chapter.goal.most is not None:
        most = chapter.goal.most
        found.append(f"Goal: {most:g} {chapter.unit} or less. It is {got:g}: {_verdict(got, most)}.")
    for other, part in chapter.goal.beside:
        if other in series:
            ratio = got / float(series[other][chapter.figure]["median"])
            found.append(f"Goal: {part:g} of {other} or less. It is {ratio:.2f}: {_verdict(ratio, part)}.")
    return found


def _verdict(got: float, most: float) -> str:
    return "met" if got <= most else f"not met, by {got / most - 1:.0%}"


def _ordered(chapter: Chapter, series: Mapping[str, Any]) -> list[tuple[str, float]]:
    figures = [(name, float(given[chapter.figure]["median"])) for name, given in series.items()]
    return sorted(figures, key=lambda pair: pair[1])


def picture(chapter: Chapter, series: Mapping[str, Any]) -> str:
    """Bars, the shortest first: an SVG that can be read on white and on black."""
    rows = _ordered(chapter, series)
    greatest = max(figure for _, figure in rows)
    width, left, right, step, top = 760, 150, 90, 30, 34
    height = top + step * len(rows) + 10
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(chapter.title)}">',
        "<style>text{font:14px sans-serif;fill:#57606a}.own{fill:#0969da;font-weight:bold}rect{fill:#8c959f}"
        "rect.own{fill:#0969da}@media(prefers-color-scheme:dark){text{fill:#9da7b3}.own,rect.own{fill:#58a6ff}}</style>",
        f'<text x="{left}" y="20">{escape(chapter.unit)}, less is better</text>',
    ]
    for number, (name, figure) in enumerate(rows):
        y = top + number * step
        length = max(2.0, (width - left - right) * figure / greatest)
        own = ' class="own"' if name.startswith("pcj") else ""
        lines += [
            f'<text{own} x="{left - 10}" y="{y + 17}" text-anchor="end">{escape(name)}</text>',
            f'<rect{own} x="{left}" y="{y + 2}" width="{length:.1f}" height="{step - 9}" rx="2"/>',
            f'<text{own} x="{left + length + 8:.1f}" y="{y + 17}">{figure:g}</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def _table(chapter: Chapter, result: Mapping[str, Any]) -> list[str]:
    series = result["series"]
    others = [name for name in next(iter(series.values())) if name != chapter.figure]
    heads = ["", chapter.unit, "least to greatest", *(name.replace("_", " ") for name in others), "beside pcj"]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * (len(heads) - 1)}"]
    own = float(series["pcj"][chapter.figure]["median"]) if "pcj" in series else 0.0
    for name, _ in _ordered(chapter, series):
        given = series[name]
        figure = given[chapter.figure]
        version = result["versions"].get(name, "")
        cells = [f"{name} {version}".strip(), f"{figure['median']:g}", f"{figure['min']:g} to {figure['max']:g}"]
        cells += [f"{given[other]['median']:,.0f}" if other in given else "" for other in others]
        cells.append(f"{float(figure['median']) / own:.2f}" if own else "")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """docs/performance.md."""
    lines = [
        "# Performance",
        "",
        "<!-- Made by `python -m bench.report` from bench/results; not to be edited. -->",
        "",
        "Each figure is the median of several runs in which every library took its turn, on one machine. Machines are",
        "noisy: the ratios hold better than the figures. `python -m bench.peers install` fetches the others, and each",
        "chapter says how to run it again.",
    ]
    shown = [chapter for chapter in CHAPTERS if chapter.name in results]
    if not shown:
        lines += ["", "Nothing was measured yet."]
    for chapter in shown:
        result = results[chapter.name]
        machine = result["machine"]
        lines += ["", f"## {chapter.title}", "", str(result["what"]), ""]
        lines += [f"![{chapter.title}](performance/{chapter.name}.svg)", "", *_table(chapter, result), ""]
        lines += [f"{sentence}  " for sentence in _goals(chapter, result["series"])]
        lines += [f"Not measured: {name}: {why}  " for name, why in result["failed"].items()]
        lines.append(
            f"`python -m bench.{chapter.name} --runs {result['runs']} --write`, {result['date']}: "
            f"{machine['processor']}, {machine['cores']} cores, {machine['kernel']}, Python {machine['python']}."
        )
    return "\n".join(lines) + "\n"


def short(results: Mapping[str, Mapping[str, Any]]) -> str:
    """What the README says of it, between its marks."""
    result = results.get("echo")
    if result is None or "pcj" not in result["series"]:
        return "\n"
    chapter = CHAPTERS[0]
    rows = _ordered(chapter, result["series"])
    figures = ", ".join(f"{name} {figure:g}" for name, figure in rows if not name.startswith("pcj,") and name != "bare")
    return (
        f"\n![CPU per echoed stanza](docs/performance/{chapter.name}.svg)\n\n"
        f"CPU time per echoed stanza through a component link, in microseconds:\n{figures}.\n"
        "A bare asyncio loop with nothing else in it is drawn beside them. More in [docs/performance.md]"
        "(docs/performance.md).\n"
    )


def results() -> dict[str, dict[str, Any]]:
    """What was kept, by the name of the benchmark."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}


def readme(text: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    """The README with its short form made anew.

    Raises:
        SystemExit: it has no marks for it.
    """
    before, first, rest = text.partition(MARKS[0])
    _, second, after = rest.partition(MARKS[1])
    if not first or not second:
        sys.exit(f"README.md has no {MARKS[0]} and {MARKS[1]} to put the figures between")
    return f"{before}{first}{short(found)}{second}{after}"


def main() -> None:
    """Write all of it."""
    found = results()
    PICTURES.mkdir(exist_ok=True)
    for chapter in CHAPTERS:
        if chapter.name in found:
            drawn = picture(chapter, found[chapter.name]["series"])
            (PICTURES / f"{chapter.name}.svg").write_text(drawn, encoding="utf-8")
    PAGE.write_text(page(found), encoding="utf-8")
    README.write_text(readme(README.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
