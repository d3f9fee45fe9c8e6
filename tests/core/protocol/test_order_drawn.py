"""What the documentation says of the order of events is what the table says: it is written by tools/draw_order.py."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pcj.protocol.order import ANYWHERE, ROWS
from tools.draw_order import READY, name_of, section, to_ready, to_the_end, way, written

COMMAND = ".venv/bin/python tools/draw_order.py"
PICTURES = [to_ready, to_the_end]


@pytest.mark.parametrize("path", written(), ids=lambda path: path.name)
def test_what_is_committed_is_what_the_tool_would_write(path: Path) -> None:
    assert path.exists(), f"run {COMMAND}"
    assert path.read_text(encoding="utf-8") == written()[path], f"the order of events has changed: run {COMMAND}"


def test_every_place_and_every_symbol_is_in_the_tables() -> None:
    text = section()
    cells = {word.strip() for line in text.splitlines() if line.startswith("|") for word in re.split(r"[|;]", line)}
    # "error, X" stands under X.
    assert {row.place for row in ROWS if not row.place.startswith("error, ")} <= cells
    words = {word.strip() for cell in cells for word in cell.split(",")}
    assert {name_of(row.symbol) for row in ROWS} <= words
    assert all(name_of(event) in text for event in ANYWHERE)


def test_the_way_leads_from_every_place_of_it_to_ready() -> None:
    steps = way()
    done = {READY}
    while more := {row.place for row in steps if row.then in done} - done:
        done |= more
    assert {row.place for row in steps} <= done


@pytest.mark.parametrize("draw", PICTURES, ids=lambda draw: draw.__name__)
def test_no_two_boxes_and_no_two_words_of_a_picture_lie_over_each_other(draw: object) -> None:
    assert callable(draw)
    root = ET.fromstring(draw())
    boxes = [each for each in root.iter("{http://www.w3.org/2000/svg}rect") if each.get("rx") == "6"]
    assert boxes
    edges = [(float(box.get("y", "")), float(box.get("y", "")) + float(box.get("height", ""))) for box in boxes]
    assert all(bottom < top for (_, bottom), (top, _) in itertools.pairwise(edges))
    said: list[tuple[float, float, float]] = []
    for text in root.iter("{http://www.w3.org/2000/svg}text"):
        width = 7.25 * len("".join(text.itertext()))
        x, y = float(text.get("x", "")), float(text.get("y", ""))
        begin = x - {"middle": width / 2, "end": width}.get(text.get("text-anchor", ""), 0.0)
        assert begin >= 0
        assert begin + width <= float(root.get("width", ""))
        said.append((y, begin, begin + width))
    for index, (y, begin, end) in enumerate(said):
        for other, first, last in said[index + 1 :]:
            assert abs(y - other) >= 12 or end <= first or last <= begin
