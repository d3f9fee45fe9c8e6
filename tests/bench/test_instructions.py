"""The guard of the hot path: what it lets pass, and what it says."""

from __future__ import annotations

from bench.instructions import CASES, verdict


def test_a_stanza_may_cost_five_in_a_hundred_more_and_no_more() -> None:
    assert verdict({"echo": 105_000}, {"echo": 100_000}) == []
    (sentence,) = verdict({"echo": 105_001, "other": 7}, {"echo": 100_000, "other": 7})
    assert sentence.startswith("echo: 105001 instructions per stanza, +5.0% against 100000; 5% are allowed.")


def test_a_case_without_a_figure_is_not_compared() -> None:
    assert verdict(dict.fromkeys(CASES, 1), {}) == []
