"""Handlers that cannot keep up slow the reading of the socket, instead of filling memory (protocol-notes A11).

Three bounds. `Config.inbound_backlog` statuses: past it nothing is read, unless a request of ours waits for its reply,
which the handler that is so slow may be the one to await. `Config.inbound_max_bytes`: past it one read at a time, while
somebody waits for the peer. Twice that: nothing at all. And time: while so much waits and there is room, one read is
let through every `TRICKLE` seconds, so that the server's pings behind it are answered although the handlers sleep.

When nothing can be read, what a handler awaits may lie behind all that, and never come: only handlers can make room,
and they wait. The end of the link would help none of them: the backlog stays, so that nothing is read on the next link
either. So the waiting is ended: if no handler takes up another status for `Config.probe_timeout`, whoever waits for the
peer is told that it is in vain for now. The nodes go their way all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pcj.config import Config
from pcj.connection import Connection
from pcj.dispatch import Dispatcher
from pcj.events import Event
from pcj.requester import Requester

__all__ = ["TRICKLE", "Backpressure"]

#: Seconds between two reads that are let through while the backlog is full.
TRICKLE: Final = 1.0
#: While we close, reading goes on for the peer's own close: for so many times `inbound_backlog`, and then no more.
_CLOSING_FACTOR: Final = 10
#: How many statuses may wait then in any case: more than one read can bring.
_CLOSING_BACKLOG: Final = 10_000
#: So many times `inbound_max_bytes` may wait before nothing is read at all.
_HARD_FACTOR: Final = 2


class Backpressure:
    """Pauses and resumes the reading of the connection that there is.

    Args:
        config, dispatcher, requester: of the broker. connection: the connection that there is now, or None.

    Attributes:
        awaited: tells whether somebody waits for the peer, but for requests.
        on_stuck: called with the reason, in words, when nothing can be read and nobody is to wait for it; again and
            again, as long as that lasts.
    """

    def __init__(
        self,
        config: Config,
        dispatcher: Dispatcher,
        requester: Requester,
        connection: Callable[[], Connection | None],
    ) -> None:
        self._max_statuses = config.inbound_backlog
        self._max_bytes = config.inbound_max_bytes
        self._hard_bytes = config.inbound_max_bytes * _HARD_FACTOR
        self._patience = config.probe_timeout
        self._dispatcher = dispatcher
        self._requester = requester
        self._connection = connection
        self._stopped: Connection | None = None  # of which READING_PAUSED was told
        self._timer: asyncio.TimerHandle | None = None  # of the next read that is let through
        self._seen = 0  # statuses that waited when it was last looked whether any was taken up
        self._stood = 0.0  # seconds of looks that found none
        self._stuck = False  # that was too long; until the backlog is relieved
        self._soon: asyncio.Handle | None = None  # of the next look who waits
        self.awaited: Callable[[], bool] = lambda: False
        self.on_stuck: Callable[[str], None] | None = None

    @property
    def paused(self) -> bool:
        """Whether nothing is read because handlers do not keep up, but for replies that are awaited and a trickle."""
        connection = self._stopped
        return connection is not None and connection.ready and connection is self._connection()

    def check(self) -> None:
        """Pause or go on: to be called when statuses came to wait, when some were handled, and before a reply is due.

        READING_PAUSED is told when reading ceases, and READING_RESUMED when half of either bound is free again. What is
        read in between for the sake of a reply, or as a trickle, is not told: with a handler that asks something for
        each stanza that would be twice for each of them.
        """
        dispatcher = self._dispatcher
        statuses, size = dispatcher.backlog, dispatcher.backlog_bytes
        if size >= self._max_bytes or (statuses >= self._max_statuses and not len(self._requester)):
            self._pause(statuses, size, hard=size >= self._hard_bytes)
            self._look_soon()
        elif self._stopped is not None:
            self._go_on(statuses, size)

    def end(self) -> None:
        """The session is over: nothing is left to be paused."""
        self._stopped = None
        self._stuck = False
        self._cancel()

    def _pause(self, statuses: int, size: int, *, hard: bool) -> None:
        connection = self._connection()
        if connection is None:
            return
        if connection.pause_reading():
            self._cancel()
            self._seen, self._stood = statuses, 0.0
            self._timer = asyncio.get_running_loop().call_later(TRICKLE, self._trickle, connection)
            if self._stopped is not connection:
                self._stopped = connection
                self._dispatcher.fire(Event.READING_PAUSED, detail={"statuses": statuses, "bytes": size})
        elif hard or statuses >= max(self._max_statuses * _CLOSING_FACTOR, _CLOSING_BACKLOG):
            connection.give_up()  # we closed, and the peer goes on and on

    def _go_on(self, statuses: int, size: int) -> None:
        connection = self._stopped
        if connection is None:
            return
        relieved = statuses <= self._max_statuses // 2 and size <= self._max_bytes // 2
        if relieved or len(self._requester):
            self._cancel()
            connection.resume_reading()
        if relieved:
            told = self.paused
            self._stopped = None
            self._stuck = False
            if told:
                self._dispatcher.fire(Event.READING_RESUMED, detail={"statuses": statuses, "bytes": size})

    def _trickle(self, connection: Connection) -> None:
        """Let one read through; behind it `check` pauses again."""
        self._timer = None
        if self._stopped is not connection or not self.paused:
            return
        if self._dispatcher.backlog_bytes < self._hard_bytes:
            connection.resume_reading()
        else:
            self._timer = asyncio.get_running_loop().call_later(TRICKLE, self._trickle, connection)
            self._look()

    def _look(self) -> None:
        """Nothing may be read: is anything handled?

        Looks are counted, and not time: one in which we did not run at all is no fault of a handler's.
        """
        statuses, seen = self._dispatcher.backlog, self._seen
        self._seen = statuses
        self._stood = 0.0 if statuses < seen else self._stood + TRICKLE
        if not self._stuck and self._stood >= self._patience:
            self._stuck = True
            what = (
                f"{self._why()}; for {self._patience:g} s (probe_timeout) no handler has taken up another: until it is"
                " read again, who waits for a proof, a reply or drain() waits no longer"
            )
            self._dispatcher.fire(Event.WARNING, detail={"what": what})
        self._serve()

    def _why(self) -> str:
        dispatcher = self._dispatcher
        return (
            f"nothing is read: {dispatcher.backlog} statuses of {dispatcher.backlog_bytes} bytes wait for coroutine"
            f" handlers, {_HARD_FACTOR} times inbound_max_bytes or more, and an answer could only come behind them"
        )

    def _look_soon(self) -> None:
        """Handlers have returned, or a read came: by the end of this turn of the loop it shows who waits now."""
        if self._soon is None and self._timer is not None:
            with suppress(RuntimeError):  # a subscription was cancelled when the loop was over: nobody waits
                self._soon = asyncio.get_running_loop().call_soon(self._serve)

    def _serve(self) -> None:
        """Read on for those who wait for the peer, or end their waiting."""
        self._soon = None
        connection = self._stopped
        if connection is None or not self.paused:
            return
        if self._dispatcher.backlog_bytes < self._hard_bytes:
            if len(self._requester) or self.awaited():
                connection.resume_reading()
        elif self._stuck and self.on_stuck is not None:
            self.on_stuck(self._why())

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None
