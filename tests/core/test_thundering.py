"""A thousand brokers that lose one server do not come back in the same second: the back-off by itself, simulated.

What full jitter promises can be reckoned: the n-th delay is drawn between 0 and 2^n, so that after t seconds a broker
makes about 1/(t ln 2) attempts a second, and one in the mean of the longest delay once that is reached.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from pcj.backoff import Backoff
from pcj.errors import Retry

BROKERS = 1000
LONGEST = 300.0
RESET = 30.0
SEEDS = range(3)


def dice(seed: int) -> Random:
    return Random(seed)  # noqa: S311 - for a simulation that can be repeated


def share(second: int) -> float:
    """How many of a thousand may come in one second, so long after the loss: the mean, a half more, and chance."""
    mean = BROKERS / min(second * math.log(2), LONGEST / 2)
    return 1.5 * mean + 4 * math.sqrt(mean)


def attempts(chance: Random, retry: Retry, until: float, first: float = 1.0) -> list[float]:
    """When one broker that lost its server at 0 comes, up to the first attempt that finds it back, `until` or later."""
    made = Backoff(first, LONGEST, RESET, chance.random)
    times = [made.delay(retry, 0.0)]
    while times[-1] < until:
        times.append(times[-1] + made.delay(retry, 0.0))
    return times


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("down", [10.0, 60.0, 600.0])
def test_no_second_sees_more_than_its_share_and_all_are_back_in_time(down: float, seed: int) -> None:
    chance = dice(seed)
    herd = [attempts(chance, Retry.FAST, down) for _ in range(BROKERS)]
    seconds = Counter(int(when) for times in herd for when in times)
    for second in range(2, int(down)):
        assert seconds[second] <= share(second), second
    back = Counter(int(times[-1]) for times in herd)
    assert max(back.values()) <= share(int(down))
    assert all(down <= times[-1] <= down + LONGEST for times in herd)
    assert sorted(times[-1] for times in herd)[BROKERS // 2] <= 2 * down + 1  # half of them in as much time as it took


@pytest.mark.parametrize("seed", SEEDS)
def test_a_server_that_is_back_at_once_sees_them_spread_over_the_first_delay(seed: int) -> None:
    """RFC 6120 3.3 asks for "an unpredictable number between 0 and 60": `reconnect_delay=60`."""
    chance = dice(seed)
    times = [attempts(chance, Retry.FAST, 0.0, first=60.0)[0] for _ in range(BROKERS)]
    seconds = Counter(int(when) for when in times)
    mean = BROKERS / 60
    assert max(times) < 60
    assert max(seconds.values()) <= mean + 4 * math.sqrt(mean)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_slow_fault_spreads_them_over_half_of_the_longest_delay(seed: int) -> None:
    chance = dice(seed)
    herd = [attempts(chance, Retry.SLOW, 60.0) for _ in range(BROKERS)]
    assert all(len(times) == 1 and LONGEST / 2 <= times[0] <= LONGEST for times in herd)
    seconds = Counter(int(times[0]) for times in herd)
    mean = BROKERS / (LONGEST / 2)
    assert max(seconds.values()) <= mean + 4.5 * math.sqrt(mean)


def flapping(chance: Random, ready_for: float, until: float) -> list[float]:
    """When a broker is READY at a server that cuts it so many seconds later, again and again."""
    made = Backoff(1.0, LONGEST, RESET, chance.random)
    times = [0.0]
    while times[-1] < until:
        times.append(times[-1] + ready_for + made.delay(Retry.FAST, ready_for))
    return times


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("ready_for", [0.0, 1.0, 29.0])
def test_a_server_that_cuts_soon_after_ready_is_met_with_ever_fewer_attempts(ready_for: float, seed: int) -> None:
    chance = dice(seed)
    day = 86_400.0
    herd = [flapping(chance, ready_for, day) for _ in range(100)]
    # Nine doublings up to the longest delay, and then one attempt in the mean of that.
    expected = 9 + day / (LONGEST / 2 + ready_for)
    mean = sum(len(times) for times in herd) / len(herd)
    assert mean == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("ready_for", [RESET, 3600.0])
def test_only_a_session_that_lasted_is_followed_by_a_short_delay(ready_for: float) -> None:
    times = flapping(dice(1), ready_for, 100_000.0)
    assert all(later - earlier - ready_for < 1.0 for earlier, later in pairwise(times))
