"""Handlers that cannot keep up slow the reading of the socket, instead of filling memory (protocol-notes A11).

Three bounds. `Config.inbound_backlog` statuses: past it nothing is read, unless a request of ours waits for its reply,
which the handler that is so slow may be the one to await. `Config.inbound_max_bytes`: past it nothing is read at all.
And time: while nothing is read, one read is let through every `TRICKLE` seconds, so that the server's pings behind what
waits are answered although the handlers sleep.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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


class Backpressure:
    """Pauses and resumes the reading of the connection that there is.

    Args:
        config, dispatcher, requester: of the broker. connection: the connection that there is now, or None.
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
        self._dispatcher = dispatcher
        self._requester = requester
        self._connection = connection
        self._stopped: Connection | None = None  # of which READING_PAUSED was told
        self._timer: asyncio.TimerHandle | None = None  # of the next read that is let through

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
        full = size >= self._max_bytes
        if full or (statuses >= self._max_statuses and not len(self._requester)):
            self._pause(statuses, size, hard=full)
        elif self._stopped is not None:
            self._go_on(statuses, size)

    def end(self) -> None:
        """The session is over: nothing is left to be paused."""
        self._stopped = None
        self._cancel()

    def _pause(self, statuses: int, size: int, *, hard: bool) -> None:
        connection = self._connection()
        if connection is None:
            return
        if connection.pause_reading():
            self._cancel()
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
            if told:
                self._dispatcher.fire(Event.READING_RESUMED, detail={"statuses": statuses, "bytes": size})

    def _trickle(self, connection: Connection) -> None:
        """Let one read through; behind it `check` pauses again."""
        self._timer = None
        if self._stopped is not connection or not self.paused:
            return
        if self._dispatcher.backlog_bytes < self._max_bytes:
            connection.resume_reading()
        else:
            self._timer = asyncio.get_running_loop().call_later(TRICKLE, self._trickle, connection)

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
