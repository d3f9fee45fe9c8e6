"""The delays before another attempt; chance is handed in."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pcj.backoff import Backoff
from pcj.errors import Retry

MOST = 1.0 - 2**-53


def backoff(random: float, *, first: float = 1.0, longest: float = 300.0, reset_after: float = 30.0) -> Backoff:
    return Backoff(first, longest, reset_after, lambda: random)


def test_the_bound_doubles_with_each_failure_and_stops_at_the_longest() -> None:
    made = backoff(MOST)
    delays = [made.delay(Retry.FAST, 0.0) for _ in range(12)]
    assert [round(delay) for delay in delays] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300]


@pytest.mark.parametrize("random", [0.0, 0.25, 0.5, 0.75])
def test_the_delay_is_drawn_between_0_and_the_bound(random: float) -> None:
    made = backoff(random)
    assert [made.delay(Retry.FAST, 0.0) for _ in range(4)] == [bound * random for bound in (1, 2, 4, 8)]


def test_a_thousand_failures_overflow_nothing() -> None:
    made = backoff(MOST)
    assert all(made.delay(Retry.FAST, 0.0) < 300 for _ in range(2000))


def test_a_first_delay_above_the_longest_is_the_longest() -> None:
    assert backoff(0.5, first=10, longest=4).delay(Retry.FAST, 0.0) == 2.0


@pytest.mark.parametrize(("ready_for", "begins_again"), [(0.0, False), (29.9, False), (30.0, True), (1e9, True)])
def test_it_begins_again_only_after_ready_has_lasted(ready_for: float, begins_again: bool) -> None:
    made = backoff(0.5)
    for _ in range(5):
        made.delay(Retry.FAST, 0.0)
    assert made.delay(Retry.FAST, ready_for) == (0.5 if begins_again else 16.0)
    assert made.delay(Retry.FAST, 0.0) == (1.0 if begins_again else 32.0)


@pytest.mark.parametrize(("random", "expected"), [(0.0, 150.0), (0.5, 225.0), (MOST, 300.0)])
def test_a_slow_fault_waits_as_after_many_failures_and_never_not_at_all(random: float, expected: float) -> None:
    assert backoff(random).delay(Retry.SLOW, 0.0) == pytest.approx(expected)
    assert backoff(random).delay(Retry.SLOW, 1000.0) == pytest.approx(expected)


def test_a_slow_fault_counts_as_a_failure() -> None:
    made = backoff(0.5)
    made.delay(Retry.SLOW, 0.0)
    assert made.delay(Retry.FAST, 0.0) == 1.0


@given(
    st.floats(0.01, 100),
    st.floats(0.01, 1000),
    st.lists(st.tuples(st.sampled_from([Retry.SLOW, Retry.FAST]), st.floats(0, 100), st.floats(0, MOST)), max_size=80),
)
def test_no_delay_is_ever_negative_or_above_the_longest(
    first: float, longest: float, failures: list[tuple[Retry, float, float]]
) -> None:
    draws = [random for _, _, random in failures]
    made = Backoff(first, longest, 30.0, iter(draws).__next__)
    for retry, ready_for, _ in failures:
        delay = made.delay(retry, ready_for)
        assert (longest / 2 if retry is Retry.SLOW else 0) <= delay <= longest
