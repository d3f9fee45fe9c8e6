"""Whether the peer of a READY connection lives: a silence timer, a probe, and a deadline for every answer.

Nothing tells of a network that is gone while nobody speaks, and TCP tells of one that is gone while we speak only after
minutes. So a peer that was silent for long is asked (`Config.silence_timeout`), and whatever is asked of it (that, or
a proof that the ledger wants) is to be answered in time (`Config.probe_timeout`).
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Final

from pcj.errors import Phase, ProtocolError, Retry

__all__ = ["Liveness"]

#: A timer that is later than so many seconds was held up by us: by a handler that blocks, or a machine that slept.
_LATE: Final = 1.0
#: So many questions in a row may stay unanswered while other bytes come: each has a deadline of its own.
_MOST_UNANSWERED: Final = 3
#: The same while the link is full of what the server has for us: it answers behind that (RFC 6120 10.1).
_MOST_BEHIND_OTHERS: Final = 10
#: Bytes within one `probe_timeout` from which on the link counts as full; 100 kbit/s bring four times that in 20 s.
_FULL_BYTES: Final = 65_536
#: The part of the silence that the server allows us (XEP-0478) after which we say something: it has to arrive in time.
_OF_ALLOWED_SILENCE: Final = 0.75

_WORDS: Final = {"sm": "a request for an acknowledgement (<r/>, XEP-0198)", "ping": "a ping (XEP-0199)"}


def _never() -> bool:
    return False


class Liveness:
    """The watch over one READY connection. A read and a write cost one look at the clock each; one timer runs.

    Nothing is blamed on the peer while we do not read (`stand`), nor for a time in which we did not run at all: a timer
    that rings late gives no verdict, it asks anew.

    Args:
        silence: seconds without a byte from the peer after which it is asked.
        probe_timeout: seconds for the answer to a question. We are not silent for longer than both together.
        ask: sends one; returns which: "sm", "ping", or "whitespace", which has no answer: it keeps the line busy, and
            the kernel (TCP_USER_TIMEOUT) notices whether it arrives.
        dead: called, once, with why the connection is to be given up.
        tell: called for each question: seconds of the peer's silence until then, and what `ask` returned.
        keepalive: sends white space (RFC 6120 4.6.1), for our own silence.
        idle: seconds that the server allows us to be silent (XEP-0478 idle-seconds), or None.
        slow: whether what we wrote waits because the peer takes it slowly (`Wire.throttled`): a question that is still
            on its way is not unanswered. How long that may last is bounded by TCP_USER_TIMEOUT.
    """

    def __init__(
        self,
        silence: float,
        probe_timeout: float,
        *,
        ask: Callable[[], str],
        dead: Callable[[ProtocolError], None],
        tell: Callable[[float, str], None],
        keepalive: Callable[[], None],
        idle: float | None = None,
        slow: Callable[[], bool] = _never,
    ) -> None:
        self._silence = silence
        # Not `silence` alone: where both sides are silent, the probe that comes just behind says enough.
        self._quiet = min(silence + probe_timeout, math.inf if idle is None else idle * _OF_ALLOWED_SILENCE)
        self._probe_timeout = probe_timeout
        self._ask = ask
        self._dead = dead
        self._tell = tell
        self._keepalive = keepalive
        self._slow = slow
        self._loop = asyncio.get_running_loop()
        self._time = self._loop.time
        self._heard_at = self._sent_at = self._probed_at = self._time()
        self._asked_at: float | None = None  # since when the oldest question without an answer has been open
        self._latest = 0  # the position of the latest proof that was asked for
        self._unanswered = 0  # in a row
        self._came = 0  # bytes since the last question
        self._slowed = False  # the peer took slowly what was written before the question
        self._by = ""
        self._stood: float | None = None
        self._over = False
        self._timer: asyncio.TimerHandle | None = None
        self._set()

    # ---- what the connection tells

    def heard(self, size: int = 1) -> None:
        """Bytes came in, so many, whatever they are."""
        self._heard_at = self._time()
        self._came += size

    def sent(self) -> None:
        """Bytes went out."""
        self._sent_at = self._time()

    def asked(self, position: int) -> None:
        """A proof was asked for: it has the deadline of a probe.

        Args:
            position: how far it reaches, in a count that only grows; `answered` may name it.
        """
        self._latest = position
        if self._asked_at is None and not self._over:
            self._by = ""
            self._open(self._time())
            self._set()

    def answered(self, position: int | None = None) -> None:
        """An answer came, to a probe or to a proof that was asked for.

        Args:
            position: what it reaches; what was asked for behind that has a whole deadline from now. None: all is
                answered.
        """
        self._unanswered = 0
        self._slowed = False
        if position is None or position >= self._latest:
            self._asked_at = None
        elif self._asked_at is not None:
            self._open(self._time())
        if not self._over:
            self._set()  # a silence may be too long before the answer would have been late

    def stand(self) -> None:
        """Nothing is read from now on, by our own choice: the peer cannot be blamed for that (protocol-notes A11)."""
        if self._stood is None:
            self._stood = self._time()

    def go_on(self) -> None:
        """It is read again: no time has passed."""
        if self._stood is None:
            return
        now = self._time()
        stood = now - self._stood
        self._stood = None
        self._heard_at = min(now, self._heard_at + stood)
        self._probed_at = min(now, self._probed_at + stood)
        if self._asked_at is not None:
            self._asked_at = min(now, self._asked_at + stood)
        if not self._over:
            self._set()

    def cancel(self) -> None:
        """The connection is over, or closes: nothing is asked or said any more."""
        self._over = True
        self._asked_at = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ---- the timer

    @property
    def _silent_at(self) -> float:
        """When the peer will have been silent for too long; a probe without an answer begins that anew."""
        return max(self._heard_at, self._probed_at) + self._silence

    def _due(self) -> float:
        due = self._sent_at + self._quiet
        if self._stood is not None:
            return due  # our own silence counts all the same
        return min(due, self._silent_at if self._asked_at is None else self._asked_at + self._probe_timeout)

    def _set(self) -> None:
        """Ring when something is due; a timer that rings before looks again."""
        due = self._due()
        if self._timer is not None:
            if self._timer.when() <= due:
                return
            self._timer.cancel()
            self._timer = None
        self._timer = self._loop.call_at(due, self._rings)

    def _rings(self) -> None:
        now = self._time()
        late = self._timer is not None and now - self._timer.when() > _LATE
        self._timer = None
        if self._stood is None:
            self._look(now, late)
        if not self._over and now >= self._sent_at + self._quiet:
            self._sent_at = now
            self._keepalive()
        if not self._over:
            self._set()

    def _look(self, now: float, late: bool) -> None:
        """Ask, or judge what was asked."""
        asked_at = self._asked_at
        if asked_at is None:
            if now >= self._silent_at:
                self._probe(now)
            return
        if now < asked_at + self._probe_timeout:
            return
        if late:
            # The answer may be there and not be read yet; a server that found us gone may have said so.
            self._unanswered = 0
            self._probe(now)
            return
        if self._slow():
            self._open(now)
            self._slowed = True
            return
        self._unanswered += 1
        silent = self._heard_at <= asked_at
        if silent and not self._slowed:
            self._give_up(self._silent(now))
        elif self._unanswered >= (_MOST_UNANSWERED if self._came < _FULL_BYTES else _MOST_BEHIND_OTHERS):
            self._give_up(self._silent(now) if silent else self._deaf())
        else:
            self._probe(now)

    def _open(self, now: float) -> None:
        self._asked_at = now
        self._came = 0

    def _probe(self, now: float) -> None:
        silence = now - self._heard_at
        self._open(now)  # before it is asked: what is asked may come back to `asked`
        self._probed_at = self._sent_at = now
        by = self._by = self._ask()
        if by == "whitespace":
            self._asked_at = None
        if not self._over:
            self._tell(silence, by)

    # ---- the verdict

    def _give_up(self, error: ProtocolError) -> None:
        self.cancel()
        self._dead(error)

    @property
    def _question(self) -> str:
        return _WORDS.get(self._by, "a question (whether it has read what we sent)")

    def _silent(self, now: float) -> ProtocolError:
        return self._error(
            f"the peer has been silent for {now - self._heard_at:.3g} s and did not answer {self._question} within "
            f"{self._probe_timeout:g} s (silence_timeout, probe_timeout): it is gone, or the network between",
            came="nothing at all",
        )

    def _deaf(self) -> ProtocolError:
        times = self._unanswered
        return self._error(
            f"the peer left {times} questions in a row unanswered, the last of them {self._question}, each for "
            f"{self._probe_timeout:g} s (probe_timeout), though other bytes came from it: what we send does not arrive,"
            " or another connection gets our answers",
            came="other bytes, and no answer",
        )

    def _error(self, message: str, came: str) -> ProtocolError:
        return ProtocolError(
            message,
            # RFC 6120 4.9.3.4: "has reason to believe that the other party has permanently lost the ability to
            # communicate over the stream".
            answer="connection-timeout",
            expected=f"an answer within {self._probe_timeout:g} s",
            came=came,
            phase=Phase.READY,
            retry=Retry.FAST,
        )
