"""The way out: each node is checked and serialised once, then sent, or held until the link is ready."""

from __future__ import annotations

import asyncio
import sys
import weakref
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Callable

from pcj.config import Config
from pcj.connection import Connection
from pcj.dispatch import Dispatcher
from pcj.errors import NodeError, QueueFull, UsageError
from pcj.establishment import token
from pcj.events import Event
from pcj.namespaces import CLIENT, CONTENT, IQ_AUTH, IQ_REGISTER
from pcj.outbound import check_addressed, check_node, check_own
from pcj.protocol import Dialect
from pcj.protocol.redact import redacted
from pcj.protocol.steps import Envelope, StreamLimits
from pcj.queue import Entry, MemoryQueue, Receipt, ReceiptState
from pcj.serialize import serialize
from pcj.stanza import Node

__all__ = ["Outbox"]

_IQS, _PRESENCES, _MESSAGES = (
    frozenset({name, *(f"{{{namespace}}}{name}" for namespace in CONTENT)}) for name in ("iq", "presence", "message")
)
# iq:auth bears a password, registration sets one (XEP-0077): a user's is no more to be shown than ours.
_WITH_PASSWORDS = (IQ_AUTH.encode(), IQ_REGISTER.encode())
_STANZAS = _IQS | _PRESENCES | _MESSAGES


class Outbox:
    """What one broker sends.

    Attributes:
        on_given_up: called with the held nodes that were given up, and why: "expired" or "oversized".
        replies: where the (id, to) of each reply to an IQ is noted, or None.
    """

    def __init__(self, config: Config, dialect: Dialect, dispatcher: Dispatcher) -> None:
        self._config = config
        self._dispatcher = dispatcher
        self._queue = MemoryQueue(config.queue_max_nodes, config.queue_max_bytes, config.queue_max_age)
        self._domain = (config.bind_domain or config.account.domain) if dialect.component else ""
        self._defaults = {"from": self._domain} if dialect.component else None
        xmlns = config.xmlns if config.xmlns is not None else dialect.xmlns
        self._xmlns = xmlns if dialect.canonical else CLIENT  # in an envelope a stanza's namespace is its own
        self._own = str(config.account.with_resource(config.wanted_resource))
        self._returned: list[Entry] = []
        self._answers: deque[Entry] = deque()  # of the broker's own, that may still wait
        # They take no more than half of the room that the user's nodes have.
        self._max_answers = min(config.max_auto_replies, max(1, config.queue_max_nodes // 2))
        self._connection: Connection | None = None
        self._envelope: Envelope | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._halted = False
        self._takes = sys.maxsize  # bytes of one element, as the server says (XEP-0478)
        # Of one stanza: the smaller of both bounds. Where there is an envelope each has to be looked at.
        self._max_bytes = config.max_outbound_bytes
        self.on_given_up: Callable[[list[Entry], str], None] | None = None
        self.replies: list[tuple[str | None, str | None]] | None = None

    def __len__(self) -> int:
        """Nodes that wait: held, or because the network takes no more."""
        return len(self._queue) + (self._connection.outbound[0] if self._connection is not None else 0)

    @property
    def held(self) -> int:
        """Nodes that wait for READY or for `purge`."""
        return len(self._queue)

    def entry(self, node: Node, *, identity: str | None = None) -> Entry:
        """Check a node and take it as it is now.

        Args:
            node: the node; it is not changed. identity: the id to give it.

        Raises:
            UsageError, NodeError, QueueFull: as `Broker.output`; nothing was changed.
        """
        if self._halted:
            raise UsageError("output after halt: the broker is of no more use")
        try:
            now = asyncio.get_running_loop().time()
        except RuntimeError:
            raise UsageError(
                "output outside the broker's event loop; from a thread: loop.call_soon_threadsafe"
            ) from None
        config = self._config
        if not isinstance(node, Node):
            raise NodeError(f"expected an xml.etree.ElementTree.Element, got {type(node).__name__}")
        defaults = self._defaults
        if config.check_output:
            check_node(node)
            if defaults is not None:
                check_addressed(node, self._domain)
            elif "from" in node.attrib:
                check_own(node, self._own)
        elif node.tag not in _STANZAS:
            defaults = None  # what it is only the user knows
        if identity is None and not node.get("id") and node.tag in _IQS:
            identity = token()
        if identity is not None:
            if "id" in node.attrib:  # an empty one, which no reply could be told by
                node = _without_id(node)
            defaults = {"id": identity} if defaults is None else {**defaults, "id": identity}
        stanza = serialize(node, self._xmlns, defaults)
        data = stanza if self._envelope is None else self._envelope.wrap(stanza, node)
        if len(stanza) > self._max_bytes:
            self._check_size(stanza, data)
        self._check_room(data)
        if self.replies is not None and node.tag in _IQS and node.get("type") in ("result", "error"):
            self.replies.append((node.get("id"), node.get("to")))
        return Entry(stanza, data, now)

    def _check_size(self, stanza: bytes, data: bytes) -> None:
        bound = self._config.max_outbound_bytes
        if len(stanza) > bound:
            raise NodeError(f"the node has {len(stanza)} bytes; max_outbound_bytes allows {bound}")
        if len(data) > self._takes:
            raise NodeError(f"the node has {len(data)} bytes; this server takes {self._takes} at most (XEP-0478)")

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

    def _check_room(self, data: bytes) -> None:
        connection = self._connection
        if connection is None:
            self._queue.check_room(data)
            return
        nodes, size = connection.outbound
        config = self._config
        if nodes + len(self._queue) >= config.queue_max_nodes or size + len(data) > config.write_high_water:
            connection.flush()  # a burst within one turn of the loop: what the network takes need not wait for its end
            nodes, size = connection.outbound
        self._queue.check_room(data, others=nodes, other_bytes=size)

    def give(self, entry: Entry) -> Receipt:
        """Send an entry, or hold it."""
        connection = self._connection
        if connection is not None and connection.ready:
            connection.send(entry)
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
        self._answers.append(entry)
        self.give(entry)

    def purge(self) -> int:
        """Send what is held, in order; how many. Without a link that is READY nothing happens.

        What this server does not take is given up: it would end the stream, and again after each reconnect.
        """
        connection = self._connection
        if connection is None or not connection.ready:
            return 0
        self._expire()
        entries = self._queue.take_all()
        self._set_expiry()
        oversized = []
        for entry in entries:
            if self._envelope is not None and entry.data is entry.stanza:
                entry.data = self._envelope.wrap(entry.stanza, self._node_of(entry))
            if len(entry.data) > self._takes:
                oversized.append(entry)
            else:
                connection.send(entry)
        for entry in oversized:
            entry.receipt.state = ReceiptState.DROPPED
            entry.receipt.reason = f"it has {len(entry.data)} bytes; this server takes {self._takes} at most (XEP-0478)"
        self._give_up(oversized, "oversized")
        return len(entries) - len(oversized)

    @property
    def ready(self) -> bool:
        """Whether a node would be sent and not held."""
        return self._connection is not None and self._connection.ready

    def begin(
        self, connection: Connection | None, envelope: Envelope | None, own: str, limits: StreamLimits | None = None
    ) -> None:
        """A session begins; `own` is our address in it, `limits` what its server takes."""
        self._connection = connection
        self._envelope = envelope
        self._own = own
        self._set_limits(limits)

    def _set_limits(self, limits: StreamLimits | None) -> None:
        self._takes = limits.max_bytes if limits is not None and limits.max_bytes is not None else sys.maxsize
        self._max_bytes = min(self._takes, self._config.max_outbound_bytes) if self._envelope is None else -1

    def take_back(self, unsent: list[Entry]) -> None:
        """The connection is gone: what never reached the network is held again. `end` tells of it."""
        self._connection = None
        self._set_limits(None)  # the next server may take more
        if unsent:
            self._queue.put_back([entry for entry in unsent if not entry.of_session])
            self._returned += unsent
            self._set_expiry()

    def end(self) -> None:
        """The session ended, and all have heard of that."""
        returned, self._returned = self._returned, []
        for entry in returned:
            if entry.of_session:
                entry.receipt.state = ReceiptState.DROPPED
                entry.receipt.reason = "the session that it belongs to is gone"
                self.tell(Event.NODE_DROPPED, entry, reason="drop")
            elif entry.receipt.state is ReceiptState.QUEUED:  # a handler may have ended it meanwhile
                self.tell(Event.PCJ_NODEQUEUED, entry, again=True)

    def refuse(self) -> None:
        """From now on nothing is taken."""
        self._halted = True

    def abandon(self, receipt: Receipt) -> None:
        """Give up a request that is still held: nobody waits for its reply any more."""
        entry = self._queue.take(receipt)
        if entry is None and self._connection is not None:
            entry = self._connection.withdraw(receipt)
        if entry is not None:
            receipt.state = ReceiptState.DROPPED
            receipt.reason = "nobody waits for its reply any more"
            self.tell(Event.NODE_DROPPED, entry, reason="abandoned")

    def halt(self) -> None:
        """Nothing more goes out: what is held is dropped, each with an event."""
        self._halted = True
        entries = self._queue.take_all()
        self._set_expiry()
        self._drop(entries)

    def _drop(self, entries: list[Entry]) -> None:
        for entry in entries:
            entry.receipt.state = ReceiptState.DROPPED
            entry.receipt.reason = "the broker was halted"
        for entry in entries:
            self.tell(Event.NODE_DROPPED, entry, reason="halt")

    def written(self, entry: Entry) -> None:
        """An entry was handed to the transport."""
        self.tell(Event.PCJ_NODESENT, entry)

    def tell(self, event: Event, entry: Entry, **detail: object) -> None:
        """Fire an event with the node as it goes out."""
        if self._dispatcher.wants(event):
            node = self._node_of(entry)
            if any(namespace in entry.stanza for namespace in _WITH_PASSWORDS):
                node = redacted(node)
            self._dispatcher.fire(event, node, detail=detail)

    def _node_of(self, entry: Entry) -> Node:
        """The node as it was output; made anew, since only its bytes are kept."""
        # The bounds on what a peer may send are not meant for what we wrote ourselves.
        return ET.fromstring(b'<_ xmlns="%b">%b</_>' % (CLIENT.encode(), entry.stanza))[0]

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
        expired = self._queue.expire(asyncio.get_running_loop().time())
        self._give_up(expired, "expired")

    def _give_up(self, entries: list[Entry], reason: str) -> None:
        """Tell of held nodes whose receipts are settled already."""
        for entry in entries:
            self.tell(Event.NODE_DROPPED, entry, reason=reason)
        if entries and self.on_given_up is not None:
            self.on_given_up(entries, reason)


def _call(method: weakref.WeakMethod[Callable[[], None]]) -> None:
    found = method()
    if found is not None:
        found()


def _without_id(node: Node) -> Node:
    """The same element without its id; `node` is not changed."""
    bare = ET.Element(node.tag, {name: value for name, value in node.items() if name != "id"})
    bare.text = node.text
    bare.extend(node)
    return bare
