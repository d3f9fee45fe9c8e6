"""How the nodes of one session are proved to be with the server: by stream management, or by barriers (A8)."""

from __future__ import annotations

from collections.abc import Callable

from pcj.connection import Connection
from pcj.errors import ProtocolError
from pcj.handled import Handled
from pcj.protocol.barrier import Barriers
from pcj.protocol.management import ACK, ACK_REQUEST, REQUEST, Management
from pcj.queue import Ledger
from pcj.stanza import Node

__all__ = ["Proofs"]


class Proofs:
    """The proofs of one broker's sessions, one after the other.

    Args:
        ledger: of the broker. on_proved: called with a place up to which all is proved, and by what. sure: how many of
            the peer's stanzas may be said to be handled, or None where there is no bound. keep: calls back when that
            has caught up with what is handled, or will not.

    Attributes:
        management: of the session, or None where it has none. handled: the peer's stanzas that are handled (A10), where
            there is stream management; None without. repeats: how many of the peer's next stanzas we have had before:
            it sends again, behind a resumption, what handlers were still at work on when that was asked for.
    """

    def __init__(
        self,
        ledger: Ledger,
        on_proved: Callable[[int, str], None],
        sure: Callable[[], int | None],
        keep: Callable[[Callable[[], None]], None],
    ) -> None:
        self._ledger = ledger
        self._on_proved = on_proved
        self._sure = sure
        self._keep = keep
        self._connection: Connection | None = None
        self._barriers: Barriers | None = None
        self.management: Management | None = None
        self.handled: Handled | None = None
        self.repeats = 0
        self._offered = 0  # what was said to be handled when a resumption was last asked for

    def begin(
        self,
        connection: Connection,
        management: Management | None,
        barriers: Barriers | None,
        idle_seconds: int | None,
        *,
        resumed: bool,
    ) -> None:
        """A session begins, or goes on over another connection. One of the two proves; without both nothing does."""
        self._connection = connection
        self._barriers = barriers
        self.management = management
        if management is not None:
            self.repeats = 0
            if self.handled is None or not resumed:
                self.handled = Handled(management.handled)
            else:
                self.repeats = self.handled.begun - self._offered
            connection.farewell = self.farewell
            connection.watch.begin(lambda place: REQUEST, "sm", idle_seconds)
        else:
            self.handled = None
            connection.watch.begin(barriers.ask if barriers is not None else None, "ping", idle_seconds)

    def end(self) -> None:
        """The session is over."""
        self._connection = self._barriers = self.management = self.handled = None

    def offer(self) -> None:
        """A resumption is about to be asked for: what is handled by now is what we say then."""
        management, handled = self.management, self.handled
        if management is not None and handled is not None:
            sure = self._sure()
            self._offered = management.handled = handled.count if sure is None else min(sure, handled.count)

    def answer(self) -> bytes:
        """What is handled by now, for the peer."""
        self.offer()
        return self.management.answer() if self.management is not None else b""

    def farewell(self, *, for_good: bool) -> bytes:
        """The same, for the last time on this connection; `for_good`: and in this session, so that it is all of it."""
        management, handled = self.management, self.handled
        if management is None or handled is None or not for_good:
            return self.answer()
        management.handled = handled.count
        return management.answer()

    @property
    def unanswered_barriers(self) -> bool:
        """Barriers were asked for in this session, and none has ever come back."""
        return self._barriers is not None and not self._barriers.answered

    def take_iq(self, node: Node) -> bool:
        """Whether an IQ is a barrier of ours that came back."""
        if self._barriers is None:
            return False
        place = self._barriers.take(node)
        if place is None:
            return False
        if place >= 0:
            self._on_proved(place, "barrier")
        return True

    def take(self, node: Node) -> bool:
        """Whether an element is stream management's own; then it is done with."""
        management, connection = self.management, self._connection
        if management is None or connection is None:
            return False
        if node.tag == ACK_REQUEST:
            self._keep(lambda: connection.watch.answer(self.answer) if connection is self._connection else None)
            return True
        if node.tag == ACK:
            ledger = self._ledger
            try:
                more = management.proof(node.get("h"), len(ledger))
            except ProtocolError as error:
                connection.refuse(error)
                return True
            self._on_proved(ledger.proved + more, "sm")
            return True
        return False
