"""The durable queue: what `output` took is on the disk before its receipt says so, and gone from it once it is acked.

The event loop only notes what changed. All that has gathered goes to one thread, which commits it as a group; the next
group gathers meanwhile. So no call waits for the disk, and nothing is shared that would need a lock.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pcj.errors import QueueError, QueueFull, UsageError
from pcj.queue.file import Contents, QueueFile, Row
from pcj.queue.group import Group
from pcj.queue.receipt import Entry
from pcj.queue.writer import Told, Writer

__all__ = ["DurableQueue", "Stored"]

#: Between two commits, in seconds: nodes that are acked within it never cost a write.
GROUP_SECONDS: Final = 0.005
#: The same, where nothing changed but the session.
SESSION_SECONDS: Final = 0.1
#: Between two attempts to write, once one failed, in seconds.
RETRY_SECONDS: Final = 1.0
#: How long `close` waits for the disk, in seconds.
CLOSE_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class Stored:
    """A node that was found in the queue.

    Attributes:
        key: its number there; keys ascend in the order of output. stanza: the node, without its envelope.
        age: seconds since it was output. ttl: seconds it has left, 0 if none, None if only queue_max_age bounds it.
        on_doubt: "hold", "resend" or "drop". doubts: how often the server ended the stream while it was unproved.
        written: it may have been written. number: its place among the stanzas of the saved session, or None.
    """

    key: int
    stanza: bytes
    age: float
    ttl: float | None
    on_doubt: str
    doubts: int
    written: bool
    number: int | None


class DurableQueue:
    """The nodes of one broker, in a file.

    Every method is to be called in the event loop's thread.

    Args:
        path: of the file. account: whose nodes these are; it is stamped in the file. on_failed: called once when the
            disk begins to fail; `failed` tells how long. max_nodes, max_bytes: what the file may hold: those that wait
            and those that are not proved together. retry_seconds: between two attempts to write, once one failed.

    Attributes:
        session: the state of stream management as it is on the disk, or None. failed: why nothing can be written
            now, or None; what is noted meanwhile is kept and written when it works again.
    """

    def __init__(
        self,
        path: str,
        *,
        account: str,
        on_failed: Callable[[QueueError], None],
        on_session: Callable[[], None] = lambda: None,
        max_nodes: int,
        max_bytes: int,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._path = path
        self._account = account
        self._on_failed = on_failed
        self._on_session = on_session
        self._max_nodes = max_nodes
        self._max_bytes = max_bytes
        self._retry_seconds = retry_seconds
        self.session: Mapping[str, object] | None = None
        self.failed: QueueError | None = None
        self._nodes = 0
        self._bytes = 0
        self._next = 1
        self._missed: dict[int, bytes] = {}  # forgotten, and perhaps in the file all the same
        self._released: threading.Event | None = None  # the thread has closed the file
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: Writer | None = None  # None while it is closed
        self._abandoned: weakref.finalize[[], DurableQueue] | None = None
        self._gathering = Group()
        self._puts = self._gathering.changes.puts
        self._flying: Group | None = None  # what the thread has
        self._timer: asyncio.Handle | None = None
        self._resting = True  # no group flies, and none is due but, perhaps, for the session alone
        self._committed_at = 0.0

    def __len__(self) -> int:
        """How many nodes are in the file, or on the way to it."""
        return self._nodes

    @property
    def size(self) -> int:
        """Bytes of their stanzas."""
        return self._bytes

    @property
    def is_open(self) -> bool:
        """Whether it takes nodes."""
        return self._writer is not None

    # ---- open and close

    def open(self) -> list[Stored]:
        """Lock the file, check it, and read what it holds, in order; make it if it is not there.

        It reads every byte of the file, so it takes about a second for a gigabyte.

        Raises:
            QueueError: it cannot be used; no byte of it was changed. UsageError: it is open already.
        """
        if self._writer is not None:
            raise UsageError("the queue is open already")
        if self._released is not None and not self._released.is_set():
            raise QueueError(
                f"the queue {self._path!r} is still in use: its disk has not answered since it was closed; "
                "try again once it does"
            )
        self._loop = asyncio.get_running_loop()
        file = QueueFile(self._path, account=self._account)
        contents = file.take_contents()
        self._writer = Writer(file)
        self._abandoned = weakref.finalize(self, self._writer.abandon)
        rows = self._take_over(contents)
        wall = time.time()
        return [_stored(row, wall) for row in rows]

    def _take_over(self, contents: Contents) -> list[Row]:
        self.session = contents.session
        self.failed = None
        self._next = max(self._next, contents.next)
        self._start_group()
        self._resting = True
        missed, self._missed = self._missed, {}
        rows: list[Row] = []
        for row in contents.rows:
            if missed.get(row[0]) == row[1]:  # the stanza too: its key may be another process's by now
                self._gathering.changes.forgets[row[0]] = None
                self._gathering.gone[row[0]] = row[1]
            else:
                rows.append(row)
        self._nodes = len(rows)
        self._bytes = sum(len(row[1]) for row in rows)
        self._schedule()
        return rows

    def close(self) -> None:
        """Commit all and close the file; others may have it then. It waits for the disk, 10 s at most.

        Raises:
            QueueError: not all is on the disk. It is closed all the same; nodes that could not be written are without
                a key then, `tried` and `unstored`.
        """
        if self._writer is None:
            return
        done = threading.Event()
        outcome: list[QueueError | None] = []

        def told(error: QueueError | None) -> None:
            outcome.append(error)
            done.set()

        group = self._leave(self._writer, told)
        if not done.wait(CLOSE_SECONDS):
            outcome.append(self._took_too_long(CLOSE_SECONDS))
        self._left(group, outcome[0])

    async def aclose(self, timeout: float) -> None:
        """The same, without holding up the event loop.

        Args:
            timeout: seconds.

        Raises:
            QueueError: not all is on the disk, or not in time; as with `close`.
        """
        loop = self._loop
        if self._writer is None or loop is None:
            return
        done: asyncio.Future[QueueError | None] = loop.create_future()

        def told(error: QueueError | None) -> None:
            _call(loop, _set, done, error)

        group = self._leave(self._writer, told)
        try:
            async with asyncio.timeout(timeout):
                error = await done
        except TimeoutError:
            error = self._took_too_long(timeout)
        except asyncio.CancelledError:
            self._missed.update(group.gone)
            group.give_up(QueueError(f"nobody waited for the queue {self._path!r} to be closed"))
            raise
        self._left(group, error)

    def _took_too_long(self, seconds: float) -> QueueError:
        return QueueError(f"the queue {self._path!r} is not closed: the disk took longer than {seconds:g} s")

    def _leave(self, writer: Writer, told: Told) -> Group:
        """Give all to the thread for the last time."""
        group = Group()  # the thread is at work on the one that flies: nobody may touch that
        if self._flying is not None:
            group.add(self._flying)  # once more: it does no harm, and its outcome is not known yet
        self._gathering.write_session()
        group.add(self._gathering)
        self._start_group()
        self._stop_timer()
        self._flying = self._writer = None
        self._resting = True
        if self._abandoned is not None:
            self._abandoned.detach()

        # The thread takes one after the other, so that the outcome of the first is known when it has closed the file.
        outcome: list[QueueError | None] = []
        if group.changes:
            writer.write(group.changes, outcome.append)
        released = self._released = threading.Event()

        def closed(error: QueueError | None) -> None:
            released.set()
            told(next(filter(None, outcome), error))

        writer.close(closed)
        return group

    def _left(self, group: Group, error: QueueError | None) -> None:
        if error is not None:
            self._missed.update(group.gone)
            group.give_up(error)
            raise error
        group.tell(None)

    # ---- what changes

    def put(self, entry: Entry, *, ttl: float | None, written: bool = False, age: float = 0.0) -> None:
        """Take a node; `entry.key` is its key from now on, and its receipt is told when it is on the disk.

        Args:
            ttl: seconds after which it is given up; None: no sooner than queue_max_age. written: it is on the wire, or
                about to be. age: seconds since it was output.

        Raises:
            QueueFull: the file may hold no more; nothing was changed. UsageError: it is not open.
        """
        size = len(entry.stanza)
        if self._nodes >= self._max_nodes or self._bytes + size > self._max_bytes:
            raise QueueFull(
                f"the queue {self._path!r} holds {self._nodes} nodes of {self._bytes} bytes, and may hold no more than "
                f"{self._max_nodes} of {self._max_bytes}"
            )
        if self._writer is None:
            raise UsageError(f"the queue {self._path!r} is not open")
        key = self._next
        self._next = key + 1
        self._nodes += 1
        self._bytes += size
        at = time.time() - age
        entry.key = key
        self._puts[key] = (
            key,
            entry.stanza,
            at,
            None if ttl is None else at + ttl,
            entry.on_doubt,
            entry.doubts,
            1 if written else 0,
            entry.number,
        )
        self._gathering.entries[key] = entry
        if self._resting:
            self._schedule()

    def mark(self, entries: Iterable[Entry], *, written: bool) -> None:
        """Note that nodes are written, or not written any more, with their `number` and `doubts` as they are now.

        Entries without a key are passed over; once the queue is closed, all are.
        """
        if self._writer is None:
            return
        puts, marks = self._puts, self._gathering.changes.marks
        for entry in entries:
            key = entry.key
            if key is None:
                continue
            row = puts.get(key)
            if row is None:
                marks[key] = (1 if written else 0, entry.doubts, entry.number)
            else:
                puts[key] = (*row[:5], entry.doubts, 1 if written else 0, entry.number)
        if self._resting:
            self._schedule()

    def forget(self, entries: Iterable[Entry]) -> None:
        """Nothing more will come of these nodes: they go from the file, or never get there. Their keys are taken away.

        Entries without a key are passed over. While the queue is closed it is kept in mind, and they go at the next
        `open`.
        """
        if self._writer is None:
            for entry in entries:
                key = entry.key or entry.tried
                if key is not None:
                    entry.key = entry.tried = None
                    self._missed[key] = entry.stanza
            return
        group = self._gathering
        puts, changes = self._puts, group.changes
        for entry in entries:
            key = entry.key
            if key is None:
                continue
            entry.key = None
            self._nodes -= 1
            self._bytes -= len(entry.stanza)
            is_new = puts.pop(key, None) is not None
            if is_new:
                del group.entries[key]
            if not is_new or self.failed is not None:  # what failed may have come to the disk all the same
                changes.marks.pop(key, None)
                changes.forgets[key] = None
                group.gone[key] = entry.stanza
        if self._resting:
            self._schedule()

    def save_session(self, state: Mapping[str, object] | None) -> None:
        """Save the state of stream management, together with all else that changes in this turn of the loop.

        Args:
            state: a JSON object, not to be changed any more; it is written out at most ten times a second, or with the
                next group. None: there is no session to resume.
        """
        if self._writer is None:
            return
        self._gathering.session = state
        self._gathering.changes.session = "" if state is None else None
        if self._resting and self._timer is None:
            self._hand_over_at(self._committed_at + SESSION_SECONDS)

    async def flush(self, timeout: float) -> None:
        """Wait until all that was noted up to now is on the disk.

        Args:
            timeout: seconds.

        Raises:
            QueueError: it could not be written, or not in time; it stays noted.
        """
        loop = self._loop
        if self._writer is None or loop is None:
            return
        group = self._gathering if self._has_gathered() else self._flying
        if group is None:
            return
        done: asyncio.Future[None] = loop.create_future()
        group.waiting.append(done)
        if self._flying is None:
            self._hand_over()
        try:
            async with asyncio.timeout(timeout):
                await done
        except TimeoutError:
            raise QueueError(f"the queue {self._path!r}: the disk took longer than {timeout:g} s") from None

    # ---- groups

    def _start_group(self) -> None:
        self._gathering = Group()
        self._puts = self._gathering.changes.puts

    def _has_gathered(self) -> bool:
        return self._gathering.session is not None or bool(self._gathering.changes)

    def _schedule(self) -> None:
        """A group is to go soon."""
        if self._has_gathered():
            self._resting = False
            self._hand_over_at(self._committed_at + GROUP_SECONDS)

    def _hand_over_at(self, when: float) -> None:
        self._stop_timer()
        loop = self._loop
        if loop is not None:
            due = weakref.WeakMethod(self._hand_over)
            if when <= loop.time():
                self._timer = loop.call_soon(_call_weakly, due)  # what this turn of the loop still brings goes with it
            else:
                self._timer = loop.call_at(when, _call_weakly, due)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _hand_over(self) -> None:
        """Give what has gathered to the thread."""
        self._stop_timer()
        group, loop, writer = self._gathering, self._loop, self._writer
        if loop is None or writer is None or self._flying is not None:
            return
        self._resting = not self._has_gathered()  # it may all be forgotten again
        if self._resting:
            group.tell(None)
            group.waiting.clear()
            return
        self._start_group()
        group.write_session()
        self._flying = group
        settled = weakref.WeakMethod(self._settled)

        def told(error: QueueError | None) -> None:
            _call(loop, _call_weakly, settled, group, error)

        writer.write(group.changes, told)

    def _settled(self, group: Group, error: QueueError | None) -> None:
        """The thread has written a group, or could not."""
        if group is not self._flying:
            return  # it was given to the thread again, to be closed with
        self._flying = None
        self._committed_at = asyncio.get_running_loop().time()
        if error is None:
            self.failed = None
            group.tell(None)
            self._resting = True
            text = group.changes.session
            if text is not None:
                self.session = json.loads(text) if text else None
                self._on_session()
            if self._gathering.changes:
                self._schedule()
            elif self._gathering.session is not None:
                self._hand_over_at(self._committed_at + SESSION_SECONDS)
            return
        waiting, group.waiting = group.waiting + self._gathering.waiting, []
        self._gathering.waiting = []
        session = self._gathering.session
        group.add(self._gathering)
        group.session = session
        self._gathering = group
        self._puts = group.changes.puts
        self._hand_over_at(self._committed_at + self._retry_seconds)
        is_new = self.failed is None
        self.failed = error
        for done in waiting:
            if not done.done():
                done.set_exception(error)
        if is_new:
            self._on_failed(error)


def _stored(row: Row, wall: float) -> Stored:
    key, stanza, at, expires, on_doubt, doubts, written, number = row
    # A wall clock that was set back makes no node older than new.
    age = max(0.0, wall - at)
    ttl = None if expires is None else max(0.0, min(expires - wall, expires - at))
    return Stored(key, stanza, age, ttl, on_doubt, doubts, bool(written), number)


def _set(done: asyncio.Future[QueueError | None], error: QueueError | None) -> None:
    if not done.done():
        done.set_result(error)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[..., None], *arguments: object) -> None:
    try:
        loop.call_soon_threadsafe(function, *arguments)
    except RuntimeError:
        pass  # the loop is closed: nobody is left to be told


def _call_weakly(method: weakref.WeakMethod[Callable[..., None]], *arguments: object) -> None:
    found = method()
    if found is not None:
        found(*arguments)
