"""The queue in memory: first in, first out, bounded by count, bytes and age."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from pcj.errors import QueueFull
from pcj.queue.receipt import Entry, Receipt

__all__ = ["MemoryQueue"]


class MemoryQueue:
    """Nodes that wait for a link.

    Args:
        max_nodes, max_bytes: past either, `put` refuses.

    Attributes:
        size: bytes of all nodes that wait, to be read.
    """

    def __init__(self, max_nodes: int, max_bytes: int) -> None:
        self._max_nodes = max_nodes
        self._max_bytes = max_bytes
        self._entries: dict[int, Entry] = {}  # by the identity of the receipt, in the order they are to go
        self.size = 0
        self._soonest = math.inf  # no node expires before that

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def check_room(self, data: bytes, *, others: int = 0, other_bytes: int = 0) -> None:
        """Refuse one more node past the bounds, `others` of `other_bytes` waiting elsewhere counted in.

        Raises:
            QueueFull: there is no room; nothing was changed.
        """
        if len(self._entries) + others >= self._max_nodes:
            raise QueueFull(f"{len(self._entries) + others} nodes wait to be sent; queue_max_nodes allows no more")
        if self.size + other_bytes + len(data) > self._max_bytes:
            raise QueueFull(
                f"{self.size + other_bytes} bytes wait to be sent; queue_max_bytes has no room for {len(data)} more"
            )

    def put(self, entry: Entry) -> None:
        """Add a node at the end; `check_room` comes first."""
        self._entries[id(entry.receipt)] = entry
        self.size += len(entry.data)
        self._soonest = min(self._soonest, entry.expires)

    def put_back(self, entries: Iterable[Entry]) -> None:
        """Put nodes that were taken but not sent back at the front, in their order. They had room before."""
        behind = self.take_all()
        for entry in (*entries, *behind):
            self.put(entry)

    def take(self, receipt: Receipt) -> Entry | None:
        """The node of one receipt, which then waits no more; None if it does not wait here."""
        entry = self._entries.pop(id(receipt), None)
        if entry is not None:
            self.size -= len(entry.data)
        return entry

    def take_all(self) -> list[Entry]:
        """All nodes, in order; the queue is empty then."""
        entries = list(self._entries.values())
        self._entries.clear()
        self.size = 0
        self._soonest = math.inf
        return entries

    def expire(self, now: float) -> list[Entry]:
        """The nodes whose time is over; they wait no more."""
        if now < self._soonest:
            return []
        expired = [entry for entry in self._entries.values() if entry.expires <= now]
        for entry in expired:
            self.take(entry.receipt)
        self._soonest = min((entry.expires for entry in self._entries.values()), default=math.inf)
        return expired

    def next_expiry(self) -> float | None:
        """When the first node expires, or a little before that; None if none does."""
        return self._soonest if self._entries and self._soonest < math.inf else None
