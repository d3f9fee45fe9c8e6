"""What waits to be written to one connection, because the network takes no more or the turn of the loop is not over."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from pcj.queue.receipt import Entry, Receipt

__all__ = ["WriteBuffer"]


class WriteBuffer:
    """Nodes in the order they are to go.

    Attributes:
        entries: the nodes, to be read. size: bytes of all that wait.
    """

    __slots__ = ("entries", "size")

    def __init__(self) -> None:
        self.entries: deque[Entry] = deque()
        self.size = 0

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __reversed__(self) -> Iterator[Entry]:
        return reversed(self.entries)

    def append(self, entry: Entry) -> None:
        """Add a node at the end."""
        self.entries.append(entry)
        self.size += len(entry.data)

    def take(self, nodes: int, size: int) -> list[Entry]:
        """The first nodes, up to so many of so many bytes together, but at least one where there is one."""
        waiting = self.entries
        if self.size <= size and len(waiting) <= nodes:
            entries = list(waiting)
            waiting.clear()
            self.size = 0
            return entries
        entries = []
        while waiting and (not entries or (size >= len(waiting[0].data) and len(entries) < nodes)):
            entry = waiting.popleft()
            size -= len(entry.data)
            self.size -= len(entry.data)
            entries.append(entry)
        return entries

    def put_back(self, entries: Iterable[Entry]) -> None:
        """Put nodes that were taken but not written back at the front, in their order."""
        for entry in reversed(list(entries)):
            self.entries.appendleft(entry)
            self.size += len(entry.data)

    def withdraw(self, receipt: Receipt) -> Entry | None:
        """The node of one receipt, which then waits no more; None if it does not wait here."""
        for entry in self.entries:
            if entry.receipt is receipt:
                self.entries.remove(entry)
                self.size -= len(entry.data)
                return entry
        return None

    def before_suspect(self) -> int:
        """How many nodes wait before the first that may be what made the server end a stream."""
        for place, entry in enumerate(self.entries):
            if entry.doubts:
                return place
        return len(self.entries)

    @property
    def suspects(self) -> int:
        """How many of these there are."""
        return sum(1 for entry in self.entries if entry.doubts)

    def expire(self, now: float) -> list[Entry]:
        """The nodes whose time is over and that were not written before; they wait no more."""
        expired = [entry for entry in self.entries if entry.expires <= now and not entry.again]
        if expired:
            kept = [entry for entry in self.entries if entry.expires > now or entry.again]
            self.entries.clear()
            self.entries.extend(kept)
            self.size = sum(len(entry.data) for entry in kept)
        return expired

    def take_all(self) -> list[Entry]:
        """All nodes, in order; none waits then."""
        return self.take(len(self.entries), self.size)
