"""Nodes that are written and not yet proved to be with the server, in the order they were written."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from pcj.queue.receipt import ACKED, WRITTEN, Entry

__all__ = ["Ledger", "Marks"]


class Marks(Protocol):
    """A durable queue, told of what was written."""

    def mark(self, entries: Sequence[Entry], *, written: bool) -> None: ...

    def forget(self, entries: Sequence[Entry]) -> None: ...


class Ledger:
    """The window of one broker: it outlives connections, and a session of stream management with them.

    A place in it is the number of nodes written up to there; a proof of a place proves all before it (RFC 6120 10.1:
    a stream is processed in order).

    Args:
        max_nodes, max_bytes: past either nothing more is to be written. every: nodes after which a proof is asked for.

    Attributes:
        enabled: False: nothing is proved, and a node that is written is done with. window: the nodes. size: their
            bytes, and of those that were written together with them. total: how many were written in this session.
        asked: the place of the last proof that was asked for.
        suspects: how many nodes of the window may have made the server end a stream: nothing goes before their proof.
        odd: elements may be among the nodes that are no stanzas: no server counts those (XEP-0198 4).
        marks: a durable queue to tell, or None.
    """

    def __init__(self, max_nodes: int, max_bytes: int, every: int) -> None:
        self._max_nodes = max_nodes
        self._max_bytes = max_bytes
        self._every = every
        self.enabled = True
        self.window: deque[Entry] = deque()
        self.size = 0
        self._sizes: deque[tuple[int, int]] = deque()  # of what was written together: its last place, its bytes
        self.total = 0
        self.asked = 0
        self.suspects = 0
        self.odd = False
        self.marks: Marks | None = None

    def __len__(self) -> int:
        return len(self.window)

    @property
    def proved(self) -> int:
        """The place up to which all is proved."""
        return self.total - len(self.window)

    def begin(self) -> None:
        """A new session: what was in the window has been taken out of it."""
        self.total = self.asked = len(self.window)

    def go_on(self, total: int) -> None:
        """The session of before goes on: the window's first node has the place behind `total`."""
        self.total = total + len(self.window)
        self.asked = total

    def allowance(self) -> tuple[int, int]:
        """(nodes, bytes) that may be written now; no nodes: not before something is proved."""
        if not self.enabled:
            return sys.maxsize, sys.maxsize
        nodes = self._max_nodes - len(self.window)
        size = self._max_bytes - self.size
        return (nodes, size) if nodes > 0 and size > 0 and not self.suspects else (0, 0)

    def is_due(self, more: int) -> bool:
        """Whether a proof is to be asked for behind `more` nodes, by their count."""
        return self.enabled and self.total + more - self.asked >= self._every

    def count(self, entries: Sequence[Entry]) -> int:
        """How many of these take a place."""
        return len(entries) if not self.odd else sum(1 for entry in entries if entry.counted)

    def written(self, entries: Sequence[Entry], size: int) -> None:
        """These were handed to the transport, in this order; so many bytes together."""
        if self.odd or not self.enabled:
            entries = self._without_unproved(entries)
            if not entries:
                return
            size = sum(len(entry.data) for entry in entries)
        self.window.extend(entries)
        for entry in entries:
            entry.receipt.state = WRITTEN
        if self.marks is not None:
            place = self.total
            for entry in entries:
                place += 1
                entry.number = place
            self.marks.mark(entries, written=True)
        self.total += len(entries)
        self._sizes.append((self.total, size))
        self.size += size

    def _without_unproved(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those of which there will be a proof; the others are done with."""
        proved = [entry for entry in entries if entry.counted and self.enabled]
        done = [entry for entry in entries if not (entry.counted and self.enabled)]
        for entry in done:
            entry.receipt.settle(WRITTEN, "nothing proves it on this link")
        if self.marks is not None:
            self.marks.forget(done)
        return proved

    def prove(self, place: int) -> list[Entry]:
        """All up to `place` is with the server; those that were not known to be."""
        window = self.window
        take = window.popleft
        proved = [take() for _ in range(min(place - self.total + len(window), len(window)))]
        for entry in proved:
            receipt = entry.receipt
            receipt.state = ACKED
            if receipt.awaited:
                receipt.wake()
        if self.suspects:
            self.suspects -= sum(1 for entry in proved if entry.doubts)
        sizes = self._sizes
        while sizes and sizes[0][0] <= place:
            self.size -= sizes.popleft()[1]
        return proved

    def take_all(self) -> list[Entry]:
        """The nodes of the window, in order; it is empty then."""
        entries = list(self.window)
        self.window.clear()
        self._sizes.clear()
        self.size = self.suspects = 0
        return entries

    def put_back(self, entries: Sequence[Entry]) -> None:
        """Put nodes behind the window that were part of it before."""
        size = sum(len(entry.data) for entry in entries)
        self.window.extend(entries)
        self._sizes.append((self.total, size))
        self.size += size
        self.suspects += sum(1 for entry in entries if entry.doubts)
