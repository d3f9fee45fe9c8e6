"""The report of the benchmarks: made of the results that are kept, and of nothing else."""

from __future__ import annotations

from typing import Any

from bench import report


def _series(**medians: float) -> dict[str, Any]:
    return {
        name: {"cpu_us_per_stanza": {"median": value, "min": value, "max": value}} for name, value in medians.items()
    }


def _result(**medians: float) -> dict[str, dict[str, Any]]:
    machine = {"processor": "a machine", "cores": 2, "kernel": "Linux 6", "python": "3.11"}
    head = {
        "what": "It is measured.",
        "machine": machine,
        "versions": {"gloox": "1.0"},
        "date": "2026-01-01",
        "runs": 5,
    }
    return {"echo": {**head, "series": _series(**medians), "failed": {"other": "it is not there"}}}


def test_the_page_the_pictures_and_the_readme_are_made_of_the_results_that_are_kept() -> None:
    found = report.results()
    assert report.PAGE.read_text(encoding="utf-8") == report.page(found)
    readme = report.README.read_text(encoding="utf-8")
    assert readme == report.readme(readme, found)
    for chapter in report.CHAPTERS:
        if chapter.name in found:
            drawn = (report.PICTURES / f"{chapter.name}.svg").read_text(encoding="utf-8")
            assert drawn == report.picture(chapter, found[chapter.name]["series"])


def test_a_goal_is_met_or_missed_by_what_the_figures_say() -> None:
    text = report.page(_result(pcj=9.0, gloox=20.0, slixmpp=50.0))
    assert "9 µs of CPU per stanza or less. It is 9: met." in text
    assert "0.52 of gloox or less. It is 0.45: met." in text
    assert "0.13 of slixmpp or less. It is 0.18: not met, by 38%." in text
    assert "Not measured: other: it is not there" in text


def test_the_shortest_bar_comes_first_and_ours_is_marked() -> None:
    drawn = report.picture(report.CHAPTERS[0], _series(slow=20.0, pcj=10.0))
    assert drawn.index(">pcj<") < drawn.index(">slow<")
    assert '<rect class="own"' in drawn


def test_without_results_it_says_so() -> None:
    assert "Nothing was measured yet." in report.page({})
