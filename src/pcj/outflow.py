"""What one connection sends: one write for all nodes of a turn of the loop, no more than network and ledger take."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from pcj.events import Event
from pcj.queue import Entry, Ledger, Receipt, WriteBuffer

__all__ = ["Outflow"]


#: Seconds between two looks for nodes that cannot go out and whose time is over.
_SWEEP: Final = 1.0


class Writer(Protocol):
    """Whom an outflow writes through: its connection."""

    def transmit(self, data: bytes) -> bool:
        """Write; False where it can no longer be done."""

    def unwritable(self) -> None:
        """A write failed; what it was to write waits again."""

    def emptied(self) -> None:
        """Nothing waits any more."""

    def wants(self, event: str) -> bool:
        """Whether anybody hears of an event."""

    def written(self, entry: Entry) -> None:
        """A node was handed to the transport."""


class Outflow:
    """The nodes that go out over one connection, in order.

    Args:
        writer: the connection. ledger: where what was written waits for its proof. high_water: bytes written at a time,
            so that a pause of the transport is seen in time. proof_delay: seconds after which a proof is asked for,
            however few nodes went out.

    Attributes:
        prover: gives the bytes that ask for a proof of all up to a place; None: none can be had.
        dispatching: nodes come in just now; what is sent waits for their end. stopped: nothing is sent any more.
        closing: what waits goes out whatever is unproved, since the peer's answer to our closing tag proves it all.
        flushing: handlers are being told of what was written. on_low: called when no more than `low` nodes wait.
    """

    def __init__(self, writer: Writer, ledger: Ledger, high_water: int, proof_delay: float) -> None:
        self._writer = writer
        self._ledger = ledger
        self._high_water = high_water
        self._proof_delay = proof_delay
        self._loop = asyncio.get_running_loop()
        self._waiting = WriteBuffer()
        self._scheduled = False
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self.prover: Callable[[int], bytes] | None = None
        self.dispatching = False
        self.flushing = False
        self.stopped = False
        self.closing = False
        self.low = 0
        self.on_low: Callable[[], None] | None = None
        self.on_expired: Callable[[list[Entry]], None] | None = None
        self._suspects = 0  # of what waits, see `Ledger.suspects`
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def buffer(self) -> WriteBuffer:
        """What waits, to be read."""
        return self._waiting

    @property
    def waiting(self) -> tuple[int, int]:
        """(nodes, bytes) that wait because the network, or the ledger, takes no more."""
        return len(self._waiting), self._waiting.size

    @property
    def paused(self) -> bool:
        """Whether the network takes no more for now."""
        return self._paused

    def send(self, entry: Entry) -> None:
        """Send a node: with all others of this turn of the loop, in one write."""
        waiting = self._waiting
        waiting.entries.append(entry)  # as `append`, without the call: this is the per-stanza path
        waiting.size += len(entry.data)
        if not self.dispatching and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def send_again(self, entry: Entry) -> None:
        """The same for a node that went out before."""
        self._suspects += bool(entry.doubts)
        entry.receipt.reason = ""  # why it was in doubt
        self.send(entry)

    def schedule(self) -> None:
        """Send what waits at the end of this turn of the loop."""
        if self._waiting and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self.flush)

    def flush_now(self) -> None:
        """Send what waits now, and not at the end of this turn of the loop."""
        if not self.flushing:
            self.flush()

    def pause(self) -> None:
        """The network takes no more for now: nodes stay queued (design 6)."""
        self._paused = True
        self._sweep_later()

    def unpause(self) -> None:
        """It does again; `flush` is to follow."""
        self._paused = False

    def flush(self) -> None:
        """One write for all that waits, while network and ledger take it."""
        self._scheduled = False
        if self._paused or self.stopped:
            return
        waiting = self._waiting
        if waiting:
            ledger = self._ledger
            nodes, size = ledger.allowance() if not self.closing else (len(waiting), waiting.size)
            if self._suspects:
                nodes = self._beside_suspects(nodes)
            if not nodes:
                self._ask()  # what it proves makes room
                self._sweep_later()
                return
            entries = waiting.take(nodes, min(size, self._high_water))
            data = b"".join([entry.data for entry in entries])
            written = len(data)
            prover = self.prover
            suspect = self._suspects and entries[0].doubts
            if prover is not None and (suspect or ledger.is_due(len(entries))):
                place = ledger.total + ledger.count(entries)
                data += prover(place)
                ledger.asked = place
            if not self._writer.transmit(data):
                waiting.put_back(entries)
                self._writer.unwritable()
                return
            ledger.written(entries, written)
            if suspect:
                self._suspects -= 1
                ledger.suspects += 1
            if prover is not None and self._timer is None and ledger.asked < ledger.total:
                self._timer = self._loop.call_later(self._proof_delay, self._ask_in_time)
            if self._writer.wants(Event.PCJ_NODESENT):
                self.flushing = True
                try:
                    for entry in entries:
                        self._writer.written(entry)
                finally:
                    self.flushing = False
            if self.on_low is not None and len(waiting) <= self.low:
                self.on_low()
            if waiting and not self._paused:
                self.schedule()
        if not waiting:
            self._writer.emptied()

    def _beside_suspects(self, nodes: int) -> int:
        """How many of the nodes that may go do: a suspect goes alone, and what is before it first."""
        before = self._waiting.before_suspect()
        if before:
            return min(nodes, before)
        return 1 if nodes and (self.closing or not self._ledger.window) else 0

    def _sweep_later(self) -> None:
        if self._sweeper is None and not self.stopped:
            self._sweeper = self._loop.call_later(_SWEEP, self._sweep)

    def _sweep(self) -> None:
        """What cannot go out may be too late now."""
        self._sweeper = None
        expired = self._waiting.expire(self._loop.time())
        if expired:
            self._suspects = self._waiting.suspects
            if self.on_expired is not None:
                self.on_expired(expired)
        if self._waiting and (self._paused or not self._ledger.allowance()[0] or self._suspects):
            self._sweep_later()

    def ask(self) -> bool:
        """Ask for a proof of all that was written; whether one is awaited."""
        self._ask()
        ledger = self._ledger
        return self.prover is not None and ledger.enabled and len(ledger) > 0

    def _ask(self) -> None:
        """Ask for a proof of all that was written, if that was not done yet."""
        ledger = self._ledger
        if self.prover is not None and ledger.enabled and ledger.asked < ledger.total and not self.stopped:
            place = ledger.total
            if self._writer.transmit(self.prover(place)):
                ledger.asked = place

    def _ask_in_time(self) -> None:
        self._timer = None
        if not self._paused:
            self._ask()
        elif self.prover is not None:
            self._timer = self._loop.call_later(self._proof_delay, self._ask_in_time)

    def withdraw(self, receipt: Receipt) -> Entry | None:
        """Take back a node that still waits here; None if it does not."""
        entry = self._waiting.withdraw(receipt)
        if entry is not None and entry.doubts:
            self._suspects -= 1
        return entry

    def take_all(self) -> list[Entry]:
        """The nodes that never reached the network, in order."""
        return self._waiting.take_all()

    def end(self) -> None:
        """Nothing more goes out; what waits is kept for `take_all`."""
        self.stopped = True
        for timer in (self._timer, self._sweeper):
            if timer is not None:
                timer.cancel()
        self._timer = self._sweeper = None
