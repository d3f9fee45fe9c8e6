"""What became of one node given to `output`."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Final

from pcj.errors import DeliveryError, QueueError

__all__ = ["ACKED", "QUEUED", "UNCERTAIN", "WRITTEN", "Entry", "Receipt", "ReceiptState"]


class ReceiptState(StrEnum):
    """Where a node is. A receipt is in exactly one state; ACKED, EXPIRED and DROPPED are final.

    QUEUED: held by us. WRITTEN: handed to the transport while that took it. ACKED: the server has it (XEP-0198 4, or a
    barrier). UNCERTAIN: written, and its session ended without a proof; final unless it is held or sent again
    (`on_doubt`). EXPIRED, DROPPED: given up.
    """

    QUEUED = "queued"
    WRITTEN = "written"
    ACKED = "acked"
    UNCERTAIN = "uncertain"
    EXPIRED = "expired"
    DROPPED = "dropped"


# Looked up once: the per-stanza path sets them.
QUEUED: Final = ReceiptState.QUEUED
WRITTEN: Final = ReceiptState.WRITTEN
ACKED: Final = ReceiptState.ACKED
UNCERTAIN: Final = ReceiptState.UNCERTAIN
_FINAL: Final = (ACKED, ReceiptState.EXPIRED, ReceiptState.DROPPED)


class Receipt:
    """The state of one node, to be read, not changed.

    Attributes:
        state: where it is. reason: why it was dropped, expired, or is in doubt; else "". stored: a durable queue has it
            on disk.
    """

    # A receipt is made for each node: what few of them need is set where it differs, and only then takes room.
    __slots__ = ("__dict__", "__weakref__", "state")
    reason = ""
    stored = False
    _over = False
    _settled: asyncio.Future[None] | None = None
    _stored: asyncio.Future[None] | None = None

    def __init__(self) -> None:
        self.state: ReceiptState = QUEUED

    def __repr__(self) -> str:
        return f"Receipt({self.state}{': ' + self.reason if self.reason else ''})"

    @property
    def final(self) -> bool:
        """Whether nothing more will come of it."""
        return self.state in _FINAL or self._over

    @property
    def awaited(self) -> bool:
        """Whether somebody waits for what becomes of it."""
        return self._settled is not None or self._stored is not None

    async def acked(self, timeout: float | None = None) -> None:
        """Wait until the server is known to have the node.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            DeliveryError: it was given up, or stays in doubt; `state` and `reason` say which. TimeoutError: neither
                came in time, or nothing is read for so long that no proof can come (`Config.inbound_max_bytes`); the
                node goes its way all the same.
        """
        if not self.final:
            if self._settled is None:
                self._settled = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._settled)
        if self.state is not ACKED:
            raise DeliveryError(f"the node was not acked: {self.reason or self.state}", state=self.state)

    async def on_disk(self, timeout: float | None = None) -> None:
        """Wait until a durable queue (`Config.queue`) has the node on disk: from then on no crash loses it.

        Args:
            timeout: seconds; None waits for as long as it takes.

        Raises:
            DeliveryError: it was given up before that, or the queue is in memory. QueueError: the queue was closed,
                and could not be written; the node is kept in memory. TimeoutError: not in time.
        """
        if not self.stored and not self.final:
            if self._stored is None:
                self._stored = asyncio.get_running_loop().create_future()
            async with asyncio.timeout(timeout):
                await asyncio.shield(self._stored)
        if not self.stored and self.state is not ACKED:
            raise DeliveryError(f"the node is not on disk: {self.reason or self.state}", state=self.state)

    def settle(self, state: ReceiptState, reason: str = "") -> None:
        """Nothing more will come of the node. To be called by pcj only."""
        self.state = state
        self.reason = reason
        self._over = True
        self.wake()

    def wake(self) -> None:
        """Tell those who wait, once it is final."""
        for waiting in (self._settled, self._stored):
            if waiting is not None and not waiting.done():
                waiting.set_result(None)

    def release(self, why: str) -> None:
        """Nobody is to wait for the proof any longer; the node goes its way. To be called by pcj only."""
        waiting, self._settled = self._settled, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(TimeoutError(why))
            waiting.exception()  # looked at: who waited may have gone

    def is_stored(self) -> None:
        """A durable queue has it. To be called by pcj only."""
        self.stored = True
        if self._stored is not None and not self._stored.done():
            self._stored.set_result(None)

    def is_not_stored(self, error: QueueError) -> None:
        """The durable queue was closed without it. To be called by pcj only."""
        waiting, self._stored = self._stored, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(QueueError(*error.args))  # each its own: a traceback is noted in it
            waiting.exception()  # looked at: who waited may have gone


class Entry:
    """A node on its way out: its bytes as they were at `output` (later changes to the node do not show).

    Attributes:
        stanza: the serialised node. data: what goes onto the wire; the same, or in its envelope. at: when it was given,
            by the loop's clock. expires: when it is given up if it still waits.
        of_session: it answers what came in this session, and would mean nothing in another. again: it went out before.
        on_doubt: what happens where it is in doubt: "hold", "resend" or "drop".
        doubts: how often the server ended the stream while it was unproved. counted: it is a stanza, so that stream
            management counts it. key: its number in a durable queue, or None if it is not there. unstored: it is to be
            there, and could not be put there yet. tried: the key that it was to have; it may be there all the same.
        number: its place among the stanzas of a stream-managed session (XEP-0198, `h`), or None.
    """

    # As with receipts: most nodes are never in doubt, nor on disk.
    __slots__ = ("__dict__", "at", "data", "expires", "on_doubt", "receipt", "stanza")
    again = False
    counted = True
    doubts = 0
    key: int | None = None
    unstored = False
    tried: int | None = None
    number: int | None = None
    of_session = False

    def __init__(
        self, stanza: bytes, data: bytes, at: float, expires: float = float("inf"), on_doubt: str = "hold"
    ) -> None:
        self.stanza = stanza
        self.data = data
        self.at = at
        self.expires = expires
        self.on_doubt = on_doubt
        self.receipt = Receipt()
