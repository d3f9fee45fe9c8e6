"""How long a stanza that has begun may take until it is complete (`Config.stanza_timeout`).

Whoever sends one byte in ten seconds is never silent, and yet says nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pcj.errors import ProtocolError, Retry

__all__ = ["StanzaClock", "too_slow"]

#: A timer that is later than so many seconds was held up by us: by a handler that blocks, or a machine that slept.
_LATE: Final = 1.0


def too_slow(begun: str, seconds: float) -> ProtocolError:
    """What ends a stream whose peer began something ("<message>") and did not complete it in time."""
    return ProtocolError(
        f"the peer began to send {begun} and did not complete it within {seconds:g} s (stanza_timeout)",
        # Not connection-timeout, which says that a peer is believed to be gone (RFC 6120 4.9.3.4): what was passed is
        # a bound of ours (4.9.3.14; B10), and bytes may still have come.
        answer="policy-violation",
        expected=f"the rest of {begun} within {seconds:g} s",
        came="only a part of it",
        retry=Retry.FAST,
    )


class StanzaClock:
    """The clock of one stream. A read that ends between stanzas costs nothing; any other, a look at the time.

    Args:
        timeout: seconds from the first byte to the last. expired: called, once, when they have passed.

    Attributes:
        since: when the stanza began that is not complete, by the loop's time; None where there is none.
    """

    def __init__(self, timeout: float, expired: Callable[[], None]) -> None:
        self._timeout = timeout
        self._expired = expired
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._stood: float | None = None
        self.since: float | None = None

    def look(self, begun: str, completed: bool) -> None:
        """A read ended.

        Args:
            begun: what is not complete, "" for nothing. completed: whether the read completed any: then it is another.
        """
        if not begun:
            self.since = None
        elif completed or self.since is None:
            self.since = self._loop.time()
            if self._timer is None:  # else it looks when it rings
                self._set()

    def stand(self) -> None:
        """Nothing is read from now on, by our own choice: the peer cannot be blamed for that."""
        if self._stood is None:
            self._stood = self._loop.time()

    def go_on(self) -> None:
        """It is read again."""
        if self._stood is not None:
            if self.since is not None:
                self.since += self._loop.time() - self._stood
            self._stood = None

    def cancel(self) -> None:
        """The stream is over."""
        self.since = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        if self.since is not None:
            self._timer = self._loop.call_at(self.since + self._timeout, self._rings)

    def _rings(self) -> None:
        due = self._timer.when() if self._timer is not None else 0.0
        self._timer = None
        if self.since is None:
            return
        now = self._loop.time()
        if self._stood is not None or now - due > _LATE:
            # What came meanwhile may not be read yet.
            self.since = now
            self._stood = None if self._stood is None else now
        if now < self.since + self._timeout:
            self._set()
            return
        self.since = None
        self._expired()
