"""How long to wait before the next attempt: exponential, with full jitter; chance and time are handed in."""

from __future__ import annotations

from collections.abc import Callable

from pcj.errors import Retry

__all__ = ["Backoff"]


class Backoff:
    """The delays of one broker.

    Full jitter (each delay drawn between 0 and the bound) spreads a thousand brokers that lost one server. RFC 6120 3.3
    asks for up to 60 seconds before the first attempt; with the default options the bound begins at one second, for a
    link that broke alone, and has passed a minute after six failures.

    Args:
        first, longest: seconds; the bound starts at `first`, doubles with each failure and stops at `longest`.
        reset_after: seconds that READY must have lasted before the bound starts small again.
        random: gives a number of at least 0 and less than 1.
    """

    def __init__(self, first: float, longest: float, reset_after: float, random: Callable[[], float]) -> None:
        self._first = first
        self._longest = longest
        self._reset_after = reset_after
        self._random = random
        self._failures = 0

    def delay(self, retry: Retry, ready_for: float) -> float:
        """Seconds to wait now.

        Args:
            retry: SLOW waits as after many failures, FAST by the number of failures. ready_for: how long the
                connection that ended had been READY, in seconds; 0 if it never was.
        """
        if ready_for >= self._reset_after:
            self._failures = 0
        bound = min(self._longest, self._first * 2.0 ** min(self._failures, 60))
        self._failures += 1
        if retry is Retry.SLOW:
            # Half fixed: a slow fault is not to be met with an attempt at once, however the dice fall.
            return self._longest * (0.5 + self._random() / 2)
        return bound * self._random()
