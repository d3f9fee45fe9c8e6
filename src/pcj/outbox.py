"""The way out: each node is sent, or held until the link is ready; and what becomes of it is told."""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice

from pcj.config import Config
from pcj.connection import Connection
from pcj.dispatch import Dispatcher
from pcj.errors import PcjError, QueueFull, UsageError
from pcj.establishment import token
from pcj.events import Event
from pcj.intake import IQS, Intake
from pcj.namespaces import IQ_AUTH, IQ_REGISTER
from pcj.proofs import Proofs
from pcj.protocol import Dialect
from pcj.protocol.barrier import Barriers
from pcj.protocol.management import Management
from pcj.protocol.redact import redacted
from pcj.protocol.steps import Session
from pcj.queue import Entry, Ledger, MemoryQueue, Receipt, ReceiptState
from pcj.shelf import Shelf
from pcj.stanza import Node
from pcj.watermark import Watermark

__all__ = ["Outbox"]

# iq:auth bears a password, registration sets one (XEP-0077): a user's is no more to be shown than ours.
_WITH_PASSWORDS = (IQ_AUTH.encode(), IQ_REGISTER.encode())
#: Links in a row that end with barriers asked for and none ever answered; after that no more are asked for.
_MOST_DEAF_LINKS = 2

#: Links in a row that resume a session without an answer to anything; after that the session is given up.
_MOST_FRUITLESS = 2
#: So many are looked at where it matters who waits for a proof: mostly whoever has just sent something.
_LATEST = 100

_IN_DOUBT = "its session ended before the server was known to have it"


class Outbox:
    """What one broker sends.

    Attributes:
        on_given_up: called with the held nodes that were given up, and why: "expired" or "oversized".
        replies: where the (id, to) of each reply to an IQ is noted, or None.
        ledger, proofs: of what is written. shelf: the durable queue, or nothing.
    """

    def __init__(self, config: Config, dialect: Dialect, dispatcher: Dispatcher) -> None:
        self._config = config
        self._dispatcher = dispatcher
        self._intake = Intake(config, dialect)
        self._queue = MemoryQueue(config.queue_max_nodes, config.queue_max_bytes)
        self.ledger = Ledger(config.max_unacked_nodes, config.max_unacked_bytes, config.ack_every_nodes)
        self.ledger.enabled = config.acks == "auto"
        self.shelf = Shelf(config, self.ledger, self._failed)
        self.shelf.on_left = self._left
        self._leaving: list[Entry] = []  # it is not known yet whether the disk has them
        self.proofs = Proofs(self.ledger, self.prove, self.shelf.sure, self.shelf.keep)
        self._water = Watermark(config, dispatcher, self._queue)
        self._check_room = self._water.check_room
        self._returned: list[Entry] = []
        self._answers: deque[Entry] = deque()  # of the broker's own, that may still wait
        # They take no more than half of the room that the user's nodes have.
        self._max_answers = min(config.max_auto_replies, max(1, config.queue_max_nodes // 2))
        self._connection: Connection | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._halted = False
        self._deaf_links = 0
        self._deaf = False
        self._fruitless = 0  # links in a row that resumed the session, and on which the server answered nothing
        self._restored = False  # the ledger holds nodes that a process before this one has written
        self.on_given_up: Callable[[list[Entry], str], None] | None = None
        self.replies: list[tuple[str | None, str | None]] | None = None

    # ---- to be read

    def __len__(self) -> int:
        """Nodes that wait: held, or because the network takes no more."""
        return len(self._queue) + (self._connection.outbound[0] if self._connection is not None else 0)

    @property
    def held(self) -> int:
        """Nodes that wait for READY or for `purge`."""
        return len(self._queue)

    @property
    def ready(self) -> bool:
        """Whether a node would be sent and not held."""
        return self._connection is not None and self._connection.ready

    @property
    def high(self) -> bool:
        """Whether so much waits that `drain` does."""
        return self._water.high

    # ---- nodes

    def entry(
        self,
        node: Node,
        *,
        identity: str | None = None,
        ttl: float | None = None,
        on_doubt: str | None = None,
        durable: bool = True,
        answer: bool = False,
    ) -> Entry:
        """Check a node and take it as it is now.

        Args:
            node, identity, ttl, on_doubt: as `Intake.entry`. durable: a durable queue is to keep it.
            answer: it is one of the broker's own, for which `check_room_for_answer` counts: a user who has filled the
                queue must not make us silent to the server's pings.

        Raises:
            UsageError, NodeError, ConfigError, QueueFull, QueueError: as `Broker.output`; nothing was changed.
        """
        if self._halted:
            raise UsageError("output after halt: the broker is of no more use")
        if durable and self.shelf.used and not self.shelf.closing:  # else it is kept in memory until then
            self.open()
            self.shelf.check()
        entry = self._intake.entry(node, identity, ttl, on_doubt)
        if not answer:
            self._check_room(entry.data)
        if self._halted:  # by a handler of HIGH_WATER
            raise UsageError("output after halt: the broker is of no more use")
        if self.replies is not None and node.tag in IQS and node.get("type") in ("result", "error"):
            self.replies.append((node.get("id"), node.get("to")))
        if not entry.counted:
            self.ledger.odd = True
        return entry

    def check_room_for_answer(self) -> None:
        """Refuse one more answer of the broker's own where as many wait as may: the user's nodes are behind them.

        Raises:
            QueueFull: there is no room; nothing was changed.
        """
        answers = self._answers
        if len(answers) >= self._max_answers and self._connection is not None:
            self._connection.flush()  # what the network takes need not wait for the end of this turn of the loop
        while answers and answers[0].receipt.state is not ReceiptState.QUEUED:
            answers.popleft()
        if len(answers) >= self._max_answers:
            raise QueueFull(f"{len(answers)} answers of the broker's own wait; max_auto_replies allows no more")

    def give(self, entry: Entry, *, durable: bool = True) -> Receipt:
        """Send an entry, or hold it.

        Args:
            entry: what to send. durable: a durable queue keeps it until it is done.
        """
        connection = self._connection
        sent = connection is not None and connection.ready
        if durable and self.shelf.used and not self._halted:
            self.shelf.put(entry)
        if sent and connection is not None:
            connection.outflow.send(entry)
        elif self._halted:
            self._drop([entry])
        else:
            self._queue.put(entry)
            self._set_expiry()
            self.tell(Event.PCJ_NODEQUEUED, entry)
        return entry.receipt

    def give_answer(self, entry: Entry) -> None:
        """Send an answer of the broker's own, which is for this session alone."""
        entry.of_session = True
        entry.on_doubt = "drop"
        self._answers.append(entry)
        self.give(entry, durable=False)

    def purge(self) -> int:
        """Send what is held, in order; how many. Without a link that is READY nothing happens."""
        if not self.ready:
            return 0
        self._expire()
        entries = self._queue.take_all()
        self._set_expiry()
        return self._send(entries)

    def send_at_ready(self, *, queued: bool) -> None:
        """Send again what is in doubt and is to be resent; with `queued` also what never went out."""
        self._expire()
        uncertain = ReceiptState.UNCERTAIN
        entries = [
            entry
            for entry in self._queue
            if (entry.on_doubt == "resend" if entry.receipt.state is uncertain else queued)
        ]
        for entry in entries:
            self._queue.take(entry.receipt)
        self._set_expiry()
        self._send(entries)

    def _send(self, entries: list[Entry]) -> int:
        """Send what waited; how many. What this server does not take is given up: it would end the stream, always."""
        connection = self._connection
        intake = self._intake
        oversized = []
        for entry in entries:
            if intake.envelope is not None or entry.data is not entry.stanza:
                intake.wrap(entry)
            if len(entry.data) > intake.takes:
                oversized.append(entry)
            elif connection is not None:
                connection.outflow.send_again(entry)
        for entry in oversized:
            reason = f"it has {len(entry.data)} bytes; this server takes {intake.takes} at most (XEP-0478)"
            self._settle(entry, ReceiptState.DROPPED, reason)
        self._give_up(oversized, "oversized")
        return len(entries) - len(oversized)

    def withdraw(self, receipt: Receipt, what: str, reason: str) -> bool:
        """Give up a node that still waits; whether it did.

        Args:
            receipt: of the node. what: for the receipt. reason: for the event.
        """
        entry = self._queue.take(receipt)
        if entry is None and self._connection is not None:
            entry = self._connection.withdraw(receipt)
        if entry is None:
            return False
        self._settle(entry, ReceiptState.DROPPED, what)
        self.tell(Event.NODE_DROPPED, entry, reason=reason)
        self._water.look_low()
        return True

    def abandon(self, receipt: Receipt) -> None:
        """Give up a request that is still held: nobody waits for its reply any more."""
        self.withdraw(receipt, "nobody waits for its reply any more", "abandoned")

    # ---- sessions

    def begin(self, connection: Connection, session: Session) -> None:
        """A session begins, or goes on over another connection."""
        self._connection = connection
        intake, ledger = self._intake, self.ledger
        intake.begin(session.envelope, session.jid, session.limits)
        management = session.management
        resumed = session.resumed is not None and management is not None
        again: list[Entry] = []
        if resumed and management is not None:
            again = ledger.take_all()
            ledger.go_on(management.proved)
        else:
            ledger.begin()
        ledger.enabled = self._config.acks == "auto" and (management is not None or not self._deaf)
        barriers = None
        if management is None and ledger.enabled:
            barriers = Barriers(token(), intake.domain or None, intake.xmlns, session.envelope)
        idle = session.limits.idle_seconds if session.limits is not None else None
        self.proofs.begin(connection, management, barriers, idle, resumed=resumed)
        self.shelf.session(management, self.proofs.handled)
        self._water.begin(connection)
        connection.outflow.on_expired = self._expired
        now = asyncio.get_running_loop().time()
        expired = []
        for entry in again:
            entry.again = True
            if entry.expires <= now:
                expired.append(entry)  # the server's count says that it has not got it
            else:
                connection.outflow.send_again(entry)
        if again:
            connection.flush()  # before READY, and before anything new (event-order C6)
        for entry in expired:
            self._settle(entry, ReceiptState.EXPIRED, "its time was over before the session was resumed")
        self._give_up(expired, "expired")

    def settle(self, management: Management, more: int) -> None:
        """The server said, for a session that is resumed or is not, how much of what was written it has.

        Args:
            management: of that session; its `proved` has them already. more: how many nodes more than was known.
        """
        ledger = self.ledger
        place = ledger.proved + more
        if self._restored:  # of the process before this one some may never have been on disk: there their numbers tell
            self._restored = False
            known = sum(1 for entry in ledger.window if entry.number is not None and entry.number <= management.proved)
            place = ledger.proved + known
        self.prove(place, "sm")

    def prove(self, place: int, by: str) -> None:
        """All that was written up to a place is with the server."""
        proved = self.ledger.prove(place)
        if proved:
            if self.shelf.used:
                self.shelf.forget(proved)
            if self._dispatcher.wants(Event.NODE_ACKED):
                # Together: they are acked by now, whatever a handler of the first does.
                self._dispatcher.together(lambda: self._tell_proved(proved, by))
        self._deaf_links = self._fruitless = 0
        if self._connection is not None:
            self._connection.answered(place)

    def _tell_proved(self, proved: list[Entry], by: str) -> None:
        for entry in proved:
            self.tell(Event.NODE_ACKED, entry, by=by)

    def take_back(self, unsent: list[Entry], *, refused: bool) -> None:
        """The connection is gone: what never reached the network is held again. `end` tells of it.

        Args:
            unsent: the nodes. refused: the server ended the stream with an error, which one of ours may have caused.
        """
        connection, self._connection = self._connection, None
        self._water.end()
        self._intake.set_limits(None)  # the next server may take more
        ledger = self.ledger
        if connection is not None and connection.given_up:
            if self.proofs.unanswered_barriers:
                self._deaf_links += 1
            elif self.proofs.management is not None:
                # Prosody 13 may feed a resumed stream to a parser that stands in the middle of a stanza: it answers
                # nothing, time and again.
                self._fruitless += 1
                if self._fruitless >= _MOST_FRUITLESS:
                    self.proofs.management.forget()
        ledger.put_back([entry for entry in unsent if entry.receipt.state is ReceiptState.WRITTEN])
        if refused:
            for entry in ledger.window:
                entry.doubts += 1
            self.shelf.mark(list(ledger.window))
        fresh = [entry for entry in unsent if entry.receipt.state is not ReceiptState.WRITTEN]
        if fresh:
            self.shelf.mark([entry for entry in fresh if entry.receipt.state is ReceiptState.QUEUED], written=False)
            self._queue.put_back([entry for entry in fresh if not entry.of_session])
            self._returned += fresh
            self._set_expiry()

    def deafness(self) -> bool:
        """Whether this server answers no barriers, as it seems: then none are asked for any more."""
        if self._deaf_links < _MOST_DEAF_LINKS or self._deaf:
            return False
        self._deaf = True
        return True

    def suspend(self) -> None:
        """The connection is gone, and the session may go on over another: what is in doubt is named."""

        def tell() -> None:
            for entry in self.ledger.window:
                if not entry.of_session:
                    self.tell(Event.NODE_UNCERTAIN, entry, next="resume", doubts=entry.doubts)
            self._tell_returned()

        self._dispatcher.together(tell)

    def end(self, *, for_good: bool = False) -> None:
        """The session ended, and all have heard of that: what is unproved is uncertain, and each node is named."""
        ledger = self.ledger
        entries = ledger.take_all()
        poison = len(entries) == 1 and entries[0].doubts >= self._config.max_doubts
        told: list[tuple[Entry, str]] = []
        back: list[Entry] = []
        for entry in entries:
            after = "drop" if entry.of_session else entry.on_doubt
            if poison:
                times = entry.doubts
                self._settle(entry, ReceiptState.DROPPED, f"the server ended the stream for it, {times} times")
                after = "poison"
            elif after == "drop" or for_good:
                self._settle(entry, ReceiptState.UNCERTAIN, _IN_DOUBT, keep=for_good and after != "drop")
            else:
                entry.receipt.state = ReceiptState.UNCERTAIN
                entry.receipt.reason = _IN_DOUBT
                entry.again = True
                back.append(entry)
            entry.number = None  # of a session that is over
            told.append((entry, after))
        self.shelf.mark(back)
        self._queue.put_back(back)
        self._restored = False
        self.proofs.end()
        self.shelf.session(None)
        self._set_expiry()
        # Together: so it is by now, whatever a handler of the first does.
        self._dispatcher.together(lambda: self._tell_ended(told, for_good))

    def _tell_ended(self, told: list[tuple[Entry, str]], for_good: bool) -> None:
        for entry, after in told:
            if after == "poison":
                self.tell(Event.NODE_DROPPED, entry, reason="poison", doubts=entry.doubts)
                continue
            if not entry.of_session:  # those are the broker's own: nobody has a receipt for them
                self.tell(Event.NODE_UNCERTAIN, entry, next="drop" if for_good else after, doubts=entry.doubts)
            if entry.receipt.state is ReceiptState.UNCERTAIN and not entry.receipt.final:
                self.tell(Event.PCJ_NODEQUEUED, entry, again=True)
        self._tell_returned()

    def _tell_returned(self) -> None:
        returned, self._returned = self._returned, []
        for entry in returned:
            if entry.of_session:
                self._settle(entry, ReceiptState.DROPPED, "the session that it belongs to is gone")
                self.tell(Event.NODE_DROPPED, entry, reason="drop")
            elif entry.receipt.state is ReceiptState.QUEUED:  # a handler may have ended it meanwhile
                self.tell(Event.PCJ_NODEQUEUED, entry, again=True)
        self._water.look_high()

    def refuse(self) -> None:
        """From now on nothing is taken."""
        self._halted = True

    def halt(self) -> None:
        """Nothing more goes out: what is held is dropped, each with an event; a durable queue keeps its own."""
        self._halted = True
        entries = self._queue.take_all()
        self._set_expiry()
        self._leave([entry for entry in entries if entry.key is not None])
        self._drop([entry for entry in entries if entry.key is None])
        self._water.release(UsageError("the broker was halted"))

    def hand_over(self) -> None:
        """The session goes on in another process; what it does not find on disk is uncertain for good."""
        self.proofs.offer()
        entries = [*self.ledger.take_all(), *self._queue.take_all()]
        self._leave([entry for entry in entries if entry.key is not None])
        for entry in entries:
            if entry.key is not None:
                continue
            if entry.receipt.state is ReceiptState.QUEUED:
                self._settle(entry, ReceiptState.DROPPED, "the process ends")
                self.tell(Event.NODE_DROPPED, entry, reason="halt")
            else:
                self._doubt(entry)
        self._returned.clear()
        self._set_expiry()
        self.proofs.end()

    def _leave(self, entries: list[Entry]) -> None:
        """These are the next process's, if they are on disk."""
        why = "the broker was halted; it stays in the queue's file"
        for entry in entries:
            if entry.receipt.stored:
                state = entry.receipt.state
                entry.receipt.settle(state, why if self._halted else "it was handed over to the next process")
            else:
                self._leaving.append(entry)

    def _left(self) -> None:
        """The file is let go: what it did not take stays here, or is named."""
        entries, self._leaving = self._leaving, []
        missing = [entry for entry in entries if not entry.receipt.stored]
        self._leave([entry for entry in entries if entry.receipt.stored])
        written = [entry for entry in missing if entry.receipt.state is ReceiptState.WRITTEN]
        held = [entry for entry in missing if entry.receipt.state is not ReceiptState.WRITTEN]
        for entry in written:
            self._doubt(entry)
        if self._halted:
            self._drop(held)
            return
        self._queue.put_back(held)
        self._set_expiry()
        for entry in held:
            self.tell(Event.PCJ_NODEQUEUED, entry, again=True)

    def _doubt(self, entry: Entry) -> None:
        """It is uncertain for good."""
        self._settle(entry, ReceiptState.UNCERTAIN, "the process ends before the server is known to have it")
        self.tell(Event.NODE_UNCERTAIN, entry, next="drop", doubts=entry.doubts)

    def management(self) -> tuple[Management | None, int]:
        """A session that could be resumed, and how many of our stanzas in it are unproved."""
        return self.proofs.management or self.shelf.left, len(self.ledger)

    def resumption(self) -> tuple[Management | None, int]:
        """The same, to be asked for now."""
        self.proofs.offer()
        return self.management()

    # ---- the durable queue

    def open(self) -> None:
        """Have the durable queue at hand: what a process before this one left is taken over.

        Raises:
            QueueError: it cannot be used; nothing was changed.
        """
        if not self.shelf.used or self.shelf.opened:
            return
        held = list(self._queue)
        known = {id(entry): entry.receipt.state for entry in held}
        found = self.shelf.open(held)
        there = set(map(id, (*found.queued, *found.unproved, *found.acked)))
        self._queue.take_all()
        left: list[Entry] = []
        late: list[Entry] = []
        for entry in held:
            if id(entry) in there:
                continue
            if entry.key is not None:
                entry.key = None
                self._settle(entry, ReceiptState.DROPPED, "another process has taken it out of the queue")
            elif entry.unstored:
                late.append(entry)
            else:
                left.append(entry)
        self._queue.put_back(found.queued)
        self._queue.put_back(left)
        for entry in late:
            try:
                self.shelf.put(entry)
            except QueueFull as error:
                self._failed(error)
            self._queue.put(entry)
        if found.management is not None:
            self.ledger.put_back(found.unproved)
            self.ledger.go_on(found.management.proved)
            self._restored = True
        self._set_expiry()
        for entry in found.acked:
            self.tell(Event.NODE_ACKED, entry, by="sm")
        for entry in found.unproved:
            self.tell(Event.NODE_UNCERTAIN, entry, next="resume", doubts=entry.doubts)
        for entry in found.queued:
            if known.get(id(entry)) is entry.receipt.state:
                continue
            if entry.receipt.state is ReceiptState.UNCERTAIN:
                self.tell(Event.NODE_UNCERTAIN, entry, next=entry.on_doubt, doubts=entry.doubts)
                if entry.on_doubt == "drop":
                    self._queue.take(entry.receipt)
                    self._settle(entry, ReceiptState.UNCERTAIN, entry.receipt.reason)
                    continue
            self.tell(Event.PCJ_NODEQUEUED, entry, again=True)

    def _failed(self, error: PcjError) -> None:
        self._dispatcher.fire(Event.WARNING, None, error, {"what": f"the durable queue cannot be written: {error}"})

    # ---- what waits, and for how long

    async def drain(self, ended: Callable[[], PcjError | None]) -> None:
        """Wait until little waits to be sent; `ended` says why nothing will go any more.

        Raises:
            PcjError: what `ended` said. TimeoutError: what `release` said.
        """
        await self._water.drain(lambda: UsageError("the broker was halted") if self._halted else ended())

    def awaited(self) -> bool:
        """Whether somebody waits for a proof, of one of the latest nodes, or for room."""
        if self._water.awaited:
            return True
        latest: Iterator[Entry] = islice(reversed(self.ledger.window), _LATEST)
        if self._connection is not None:
            latest = chain(islice(reversed(self._connection.outflow.buffer), _LATEST), latest)
        return any(entry.receipt.awaited for entry in latest)

    def release(self, why: str) -> None:
        """Nothing can be proved for now: who waits for that, or for room that it would make, waits no longer."""
        outflow = self._connection.outflow.buffer if self._connection is not None else ()
        for entry in (*self.ledger.window, *outflow, *self._queue):
            entry.receipt.release(why)
        self._water.release(TimeoutError(why))

    def link_ended(self, error: PcjError) -> None:
        """No attempt will follow by itself: who waits for the flow waits in vain."""
        self._water.release(error)

    def _set_expiry(self) -> None:
        when = self._queue.next_expiry()
        if self._expiry is not None:
            if self._expiry.when() == when:
                return
            self._expiry.cancel()
            self._expiry = None
        if when is not None:
            due = weakref.WeakMethod(self._expiry_due)  # a timer of a day must not keep a broker that nobody uses
            self._expiry = asyncio.get_running_loop().call_at(when, _call, due)

    def _expiry_due(self) -> None:
        self._expiry = None
        self._expire()
        self._set_expiry()

    def _expire(self) -> None:
        now = asyncio.get_running_loop().time()
        self._expired(self._queue.expire(now))

    def _expired(self, expired: list[Entry]) -> None:
        """The time of these was over while they waited."""
        for entry in expired:
            age = entry.expires - entry.at
            which = "queue_max_age" if math.isclose(age, self._config.queue_max_age) else "its ttl"
            doubt = ", in doubt" if entry.receipt.state is ReceiptState.UNCERTAIN else ""
            self._settle(entry, ReceiptState.EXPIRED, f"waited longer than {which} ({age:g} s){doubt}")
        self._give_up(expired, "expired")

    # ---- the end of a node

    def _settle(self, entry: Entry, state: ReceiptState, reason: str, *, keep: bool = False) -> None:
        """Nothing more comes of a node."""
        if not keep:
            self.shelf.forget((entry,))
        entry.receipt.settle(state, reason)

    def _drop(self, entries: list[Entry]) -> None:
        for entry in entries:
            self._settle(entry, ReceiptState.DROPPED, "the broker was halted")
        for entry in entries:
            self.tell(Event.NODE_DROPPED, entry, reason="halt")

    def _give_up(self, entries: list[Entry], reason: str) -> None:
        """Tell of nodes whose receipts are settled already."""
        for entry in entries:
            self.tell(Event.NODE_DROPPED, entry, reason=reason)
        if entries:
            if self.on_given_up is not None:
                self.on_given_up(entries, reason)
            self._water.look_low()

    def written(self, entry: Entry) -> None:
        """An entry was handed to the transport."""
        if entry.again:
            self.tell(Event.PCJ_NODESENT, entry, resend=True)
        else:
            self.tell(Event.PCJ_NODESENT, entry)

    def tell(self, event: Event, entry: Entry, **detail: object) -> None:
        """Fire an event with the node as it goes out."""
        if self._dispatcher.wants(event):
            node = self._intake.node_of(entry)
            if any(namespace in entry.stanza for namespace in _WITH_PASSWORDS):
                node = redacted(node)
            self._dispatcher.fire(event, node, detail=detail)


def _call(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    found = method()
    if found is not None:
        found()
