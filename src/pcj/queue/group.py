"""What a durable queue commits together."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping

from pcj.errors import QueueError
from pcj.queue.file import Changes
from pcj.queue.receipt import Entry

__all__ = ["Group"]


class Group:
    """Changes, and who is to hear what became of them.

    Attributes:
        changes: for the file. entries: the nodes that are put there, by key. gone: the stanzas of those that are taken
            out, by key. session: to be written out at the last moment, since it changes often. waiting: for the disk.
    """

    __slots__ = ("changes", "entries", "gone", "session", "waiting")

    def __init__(self) -> None:
        self.changes = Changes()
        self.entries: dict[int, Entry] = {}
        self.gone: dict[int, bytes] = {}
        self.session: Mapping[str, object] | None = None
        self.waiting: list[asyncio.Future[None]] = []

    def add(self, later: Group) -> None:
        """Take in what came after this."""
        self.entries.update(later.entries)
        for key in later.changes.forgets:
            self.entries.pop(key, None)
        self.gone.update(later.gone)
        self.changes.add(later.changes)
        self.waiting += later.waiting

    def write_session(self) -> None:
        """Make the session part of the changes."""
        state, self.session = self.session, None
        if state is not None:
            self.changes.session = json.dumps(state)

    def tell(self, error: QueueError | None) -> None:
        """It is on the disk, or is not."""
        if error is None:
            for entry in self.entries.values():
                entry.receipt.is_stored()
        for done in self.waiting:
            if not done.done():
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)

    def give_up(self, error: QueueError) -> None:
        """It is not on the disk, as far as is known, and nobody tries any more."""
        self.tell(error)
        for key, entry in self.entries.items():
            if entry.key == key:  # else it was forgotten meanwhile
                entry.key = None
                entry.tried = key
                entry.unstored = True
            entry.receipt.is_not_stored(error)
