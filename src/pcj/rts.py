"""Requests and their replies (`return_to_sender`), matched on id and sender (RFC 6120 8.1.2.1, 8.1.3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from pcj.errors import JidError, QueueFull, UsageError
from pcj.jid import JID, same_address
from pcj.stanza import Node

__all__ = ["Requests"]

Asker = TypeVar("Asker")

#: How many requests that ended without a reply are remembered, the latest ones, to know a late reply by.
MAX_UNANSWERED = 1_000


class _Question(NamedTuple):
    to: str | None
    kind: str


class Requests(Generic[Asker]):
    """The requests that wait for a reply.

    Args:
        max_pending: how many may wait at a time. sent: whether the request of an asker has left: before that nothing
            can be its reply, whoever may have guessed the id; by default each has.

    Attributes:
        unanswered: by id, the latest that ended without a reply.
    """

    def __init__(self, max_pending: int, sent: Callable[[Asker], bool] = lambda asker: True) -> None:
        self._max_pending = max_pending
        self._sent = sent
        # Almost always one to an id; two peers may be asked with the same one, if the user chose it so.
        self._by_id: dict[str, list[tuple[_Question, Asker]]] = {}
        self._count = 0
        self.unanswered: dict[str, _Question] = {}

    def __len__(self) -> int:
        return self._count

    def add(self, identity: str, to: str | None, asker: Asker, kind: str = "iq") -> None:
        """Remember a request.

        Args:
            identity, to: its id and address. asker: who asks. kind: the local name of the stanza it asks with.

        Raises:
            UsageError: one with the same id to the same address waits already, so the replies could not be told apart.
            QueueFull: as many wait as may.
        """
        if self._count >= self._max_pending:
            raise QueueFull(f"{self._count} requests wait for replies; max_pending_requests allows no more")
        waiting = self._by_id.setdefault(identity, [])
        for (other, _), _ in waiting:
            if other == to or (other is not None and to is not None and same_address(other, to)):
                raise UsageError(f"a request with the id {identity!r} to {to!r} waits for its reply already")
        waiting.append((_Question(to, kind), asker))
        self._count += 1

    def take(self, node: Node, own: str) -> Asker | None:
        """The asker whose request `node` answers, which is then no longer pending; None if it answers none.

        Args:
            node: an IQ of type result or error, or a message or presence of type error. own: our own address.
        """
        waiting = self._by_id.get(node.get("id", ""))
        if waiting is None:
            return None
        for index, (question, asker) in enumerate(waiting):
            if _answers(question, node, own) and self._sent(asker):
                del waiting[index]
                if not waiting:
                    del self._by_id[node.get("id", "")]
                self._count -= 1
                return asker
        return None

    def discard(self, identity: str, asker: Asker) -> None:
        """A request ended without a reply: it waits no more, and is remembered for one that comes late."""
        waiting = self._by_id.get(identity, [])
        kept = []
        for question, other in waiting:
            if other is not asker:
                kept.append((question, other))
                continue
            self._count -= 1
            self.unanswered.pop(identity, None)  # so that it is the latest
            self.unanswered[identity] = question
            if len(self.unanswered) > MAX_UNANSWERED:
                del self.unanswered[next(iter(self.unanswered))]
        if kept:
            self._by_id[identity] = kept
        else:
            self._by_id.pop(identity, None)

    def late(self, node: Node, own: str) -> bool:
        """Whether `node` is the reply to a request that has ended without one; known once.

        Args:
            node, own: as for `take`.
        """
        identity = node.get("id", "")
        if identity not in self.unanswered or not _answers(self.unanswered[identity], node, own):
            return False
        del self.unanswered[identity]
        return True

    def __iter__(self) -> Iterator[tuple[str, Asker]]:
        """(id, asker) of each, oldest id first; a copy, so that they may be discarded on the way."""
        return iter([(identity, asker) for identity, waiting in self._by_id.items() for _, asker in waiting])


def _answers(question: _Question, node: Node, own: str) -> bool:
    """RFC 6120 8.1.2.1: a reply comes from where the request went; 8.2.3: an IQ is answered by an IQ.

    A request without `to` goes to our own account at the server, which answers without `from` or as our bare address
    (jabberd2: our full one; some: their domain). Only our own server can send us anything without `from`.
    """
    to, sender = question.to, node.get("from")
    if node.tag.rpartition("}")[2] != question.kind:
        return False
    if to is not None and to == sender:
        return True
    try:
        account = JID.parse(own)
        ours = (account.bare, account, JID(None, account.domain))
        if to is None:
            return sender is None or JID.parse(sender) in ours
        asked = JID.parse(to)
        if sender is None:
            return asked in ours
        return asked == JID.parse(sender)
    except JidError:
        return False
