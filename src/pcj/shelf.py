"""The durable queue of one broker, or nothing: what goes onto disk, and what a process before this one left there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from pcj.config import Config
from pcj.errors import PcjError, QueueError, UsageError
from pcj.handled import Handled
from pcj.protocol.management import Management, binding_of
from pcj.queue import Entry, Ledger, ReceiptState

if TYPE_CHECKING:
    from pcj.queue.durable import DurableQueue, Stored

__all__ = ["Found", "Shelf"]

#: Seconds between two looks at how many stanzas of the peer's were handled, for the state of the session on disk.
SAVE_EVERY: Final = 0.1
#: How long an answer to the peer waits for the disk, in seconds; then it says what is on it.
ANSWER_SECONDS: Final = 5.0


@dataclass(slots=True)
class Found:
    """What was in the file.

    Attributes:
        queued: nodes that wait, or are in doubt, in order. unproved: written in the session of `management`, in order.
        acked: nodes that the server has, by what it had said; they are off the disk now.
        management: a session that may be resumed, or None.
    """

    queued: list[Entry] = field(default_factory=list)
    unproved: list[Entry] = field(default_factory=list)
    acked: list[Entry] = field(default_factory=list)
    management: Management | None = None


class Shelf:
    """What the outbox puts on disk.

    Args:
        config: of the broker. ledger: tells it what was written. on_failed: called when the disk takes no more.

    Attributes:
        used: whether there is a durable queue. opened: whether this process has it. management: of the session that is
            kept on disk, for `Management.to_state`; what a process before this one left, until it is taken over.
        on_left: called once it is known what of the last nodes came to the disk, and the file is let go.
    """

    def __init__(self, config: Config, ledger: Ledger, on_failed: Callable[[PcjError], None]) -> None:
        self._config = config
        self._ledger = ledger
        self.used = config.queue != "memory"
        self.opened = False
        self.left: Management | None = None  # by a process before this one
        self._queue: DurableQueue | None = None
        self._management: Management | None = None
        self._handled: Handled | None = None  # of that session
        self._then: Callable[[], None] | None = None  # what waits for its state to be on the disk
        self._wanted = 0  # with so many handled
        self._patience: asyncio.TimerHandle | None = None
        self._on_failed = on_failed
        self._saved: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Future[QueueError | None] | None = None
        self.on_left: Callable[[], None] = lambda: None
        if self.used:
            from pcj.queue.durable import DurableQueue  # late: most have no use for a database

            self._queue = DurableQueue(
                config.queue,
                account=str(config.account.bare),
                on_failed=self._failed,
                on_session=self._was_saved,
                max_nodes=config.queue_max_nodes + config.max_unacked_nodes,
                max_bytes=config.queue_max_bytes + config.max_unacked_bytes,
            )

    def open(self, held: Iterable[Entry]) -> Found:
        """Lock and read the file.

        Args:
            held: entries of this process, from before it let go of the file: they stay the same objects.

        Raises:
            QueueError: it cannot be used; nothing was changed.
        """
        queue = self._queue
        if queue is None:
            return Found()
        stored = queue.open()
        self.opened = True
        # The bytes too: a key that never came to the disk may have been given to another process's node.
        known = {(entry.key or entry.tried, entry.stanza): entry for entry in held}
        found = Found(management=self._session_of(queue.session))
        proved = found.management.proved if found.management is not None else 0
        now = asyncio.get_running_loop().time()
        for row in stored:
            entry = known.get((row.key, row.stanza)) or self._entry(row, now)
            entry.key, entry.tried, entry.unstored = row.key, None, False
            # As another process may have left it.
            entry.number = row.number
            entry.doubts = max(entry.doubts, row.doubts)
            entry.again = entry.again or row.written
            entry.receipt.is_stored()
            if found.management is not None and row.number is not None and row.written:
                if row.number <= proved:
                    queue.forget((entry,))  # the process was killed before that was on disk
                    entry.receipt.settle(ReceiptState.ACKED)
                    found.acked.append(entry)
                    continue
                entry.receipt.state = ReceiptState.WRITTEN
                found.unproved.append(entry)
            else:
                entry.number = None
                in_doubt = entry.receipt.state is ReceiptState.UNCERTAIN  # the disk may have failed before it was noted
                if row.number is not None or (in_doubt and not row.written):
                    # No later session may take the number for one of its own.
                    queue.mark((entry,), written=row.written or in_doubt)
                if row.written and not in_doubt:
                    entry.receipt.state = ReceiptState.UNCERTAIN
                    entry.receipt.reason = "the process ended before the server was known to have it"
                found.queued.append(entry)
        found.unproved.sort(key=lambda entry: entry.number or 0)
        self.left = found.management
        self._ledger.marks = self
        return found

    def _entry(self, row: Stored, now: float) -> Entry:
        at = now - row.age
        age = self._config.queue_max_age
        expires = at + age if row.ttl is None else min(at + age, now + row.ttl)
        return Entry(row.stanza, row.stanza, at, expires, row.on_doubt)

    def _session_of(self, state: Mapping[str, object] | None) -> Management | None:
        if state is None or not self._config.stream_management or self._config.acks != "auto":
            return None
        try:
            management = Management.from_state(state.get("management"))
        except ValueError:
            return None  # of another version of pcj: a session that is not resumed is only made anew
        at = state.get("at")
        if management.binding != binding_of(self._config) or not isinstance(at, (int, float)):
            return None
        return management if time.time() < at + management.max_seconds else None

    def check(self) -> None:
        """Refuse what the disk would not keep.

        Raises:
            QueueError: writing it fails at present.
        """
        if self._queue is not None and self._queue.failed is not None:
            raise self._queue.failed

    def put(self, entry: Entry) -> None:
        """Keep a node until it is forgotten; the ledger says when it is written. While closed: from `open` on."""
        if not self.opened:
            entry.unstored = True
        elif self._queue is not None:
            ttl = entry.expires - entry.at
            self._queue.put(
                entry,
                ttl=ttl if ttl < self._config.queue_max_age else None,
                written=entry.receipt.state is ReceiptState.UNCERTAIN,
                age=asyncio.get_running_loop().time() - entry.at if entry.unstored else 0.0,
            )
            entry.unstored = False
            entry.tried = None

    def mark(self, entries: Sequence[Entry], *, written: bool = True) -> None:
        """These were written (or are in doubt): say so on disk."""
        if self._queue is not None and self.opened:
            self._queue.mark([entry for entry in entries if entry.key is not None], written=written)

    def forget(self, entries: Iterable[Entry]) -> None:
        """These are done with. While the file is closed: as soon as it is open."""
        if self._queue is not None:
            self._queue.forget(entries)

    # ---- the session

    def session(self, management: Management | None, handled: Handled | None = None) -> None:
        """The session that there is now, and what is handled in it; what was left before is not offered any more."""
        self.left = self._then = None
        self._go_on()
        self._management = management if management is not None and management.resumable else None
        self._handled = handled
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._saved = None
        if self._queue is not None and self.opened:
            self._save()

    def _save(self) -> None:
        """Keep the session's state; again, as soon as it has changed."""
        self._timer = None
        queue, management = self._queue, self._management
        if queue is None or not self.opened:
            return
        if management is None:
            queue.save_session(None)
            return
        handled = self._handled.count if self._handled is not None else management.handled
        if handled + management.proved != self._saved:
            self._saved = handled + management.proved
            queue.save_session({"management": {**management.to_state(), "handled": handled}, "at": time.time()})
        self._timer = asyncio.get_running_loop().call_later(SAVE_EVERY, self._save)

    def sure(self) -> int | None:
        """How many of the peer's stanzas the next process would know to be handled; None: it would not ask.

        No more may be said to be handled: a server that was told more than a resumption says ends it, and what it has
        forgotten by then nobody sends again.
        """
        queue, management = self._queue, self._management
        if queue is None or management is None or not self.opened:
            return None
        state = queue.session.get("management") if queue.session is not None else None
        if not isinstance(state, Mapping) or state.get("id") != management.id:
            return 0
        handled = state.get("handled")
        return handled if isinstance(handled, int) else 0

    def keep(self, then: Callable[[], None]) -> None:
        """Call back once the session's state, as it is now, is on the disk, or after `ANSWER_SECONDS` at the latest."""
        sure, handled, queue = self.sure(), self._handled, self._queue
        if sure is None or handled is None or queue is None or handled.count <= sure or queue.failed is not None:
            then()
            return
        self._then, self._wanted = then, handled.count
        if self._patience is None:
            self._patience = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._go_on)
        if self._timer is not None:
            self._timer.cancel()
        self._save()

    def _was_saved(self) -> None:
        if self._then is not None and (self.sure() or 0) < self._wanted:
            if self._timer is not None:
                self._timer.cancel()
            self._save()  # more was handled while that was written
            return
        self._go_on()

    def _go_on(self) -> None:
        then, self._then = self._then, None
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if then is not None:
            then()

    def _failed(self, error: PcjError) -> None:
        self._go_on()
        self._on_failed(error)

    # ---- the end

    async def leave(self, timeout: float) -> None:
        """All is on disk, and the file is free for another process.

        Raises:
            QueueError: not all could be written.
        """
        if self._queue is not None and self.opened:
            if self._timer is not None:
                self._timer.cancel()
            self._saved = None
            self._save()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
            self.opened = False
            self._closing = closing = asyncio.get_running_loop().create_future()
            failure: QueueError | None = None
            try:
                await self._queue.aclose(timeout)
            except QueueError as error:
                failure = error
                raise
            finally:
                self._closing = None
                self.on_left()
                closing.set_result(failure)
        elif self._closing is not None:  # another call is at it
            failure = await asyncio.shield(self._closing)
            if failure is not None:
                raise QueueError(*failure.args)

    @property
    def closing(self) -> bool:
        """Whether the disk is waited for, and the file is not free yet."""
        return self._closing is not None

    async def closed(self) -> None:
        """Wait for the disk, where it is being closed."""
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def hand_over(self, timeout: float) -> None:
        """The same, for a session that the next process is to resume.

        Raises:
            UsageError: there is no durable queue. QueueError: not all could be written.
        """
        if self._queue is None or not self.opened:
            raise UsageError("a session can be handed over by a durable queue only: say queue='a path'")
        await self.leave(timeout)

    def close(self) -> None:
        """The same as `leave`, at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._queue is not None and self.opened:
            self.opened = False
            try:
                self._queue.close()
            finally:
                self.on_left()
