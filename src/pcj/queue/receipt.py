"""What became of one node given to `output`."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Entry", "Receipt", "ReceiptState"]


class ReceiptState(StrEnum):
    """QUEUED: held by us. WRITTEN: handed to the transport while that took it. EXPIRED, DROPPED: given up, not sent."""

    QUEUED = "queued"
    WRITTEN = "written"
    EXPIRED = "expired"
    DROPPED = "dropped"


class Receipt:
    """The state of one node: `state`, and `reason` where it was dropped. To be read, not changed."""

    __slots__ = ("reason", "state")

    def __init__(self) -> None:
        self.state = ReceiptState.QUEUED
        self.reason = ""

    def __repr__(self) -> str:
        return f"Receipt({self.state}{': ' + self.reason if self.reason else ''})"


class Entry:
    """A node on its way out: its bytes as they were at `output` (later changes to the node do not show).

    Attributes:
        stanza: the serialised node. data: what goes onto the wire; the same, or in its envelope. at: when it was given.
        of_session: it answers what came in this session, and would mean nothing in another.
    """

    __slots__ = ("at", "data", "of_session", "receipt", "stanza")

    def __init__(self, stanza: bytes, data: bytes, at: float) -> None:
        self.stanza = stanza
        self.data = data
        self.at = at
        self.of_session = False
        self.receipt = Receipt()
