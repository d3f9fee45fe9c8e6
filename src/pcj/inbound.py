"""What becomes of a node that came in: a reply ends at its asker, then the filters, then PCJ_NODERECEIVED."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from pcj.config import Config
from pcj.dispatch import Dispatcher
from pcj.errors import NodeError, PcjError, QueueFull, UsageError
from pcj.events import Event
from pcj.filters import Filters
from pcj.handled import Handled
from pcj.namespaces import SASL, SASL2, STREAM_MANAGEMENT, STREAM_MANAGEMENT_2, STREAMS, TLS
from pcj.outbox import Outbox
from pcj.protocol.answers import answer_to_ping, answer_to_unhandled
from pcj.protocol.redact import redacted, scrubbed
from pcj.protocol.steps import Envelope
from pcj.requester import Requester
from pcj.stanza import IQ, STANZAS, Node, error_condition
from pcj.xmlstream.framing import STREAM_ERROR_TAG

__all__ = ["Inbound"]

# What has its place in a negotiation only; after READY it changes nothing.
_NEGOTIATION = tuple(f"{{{namespace}}}" for namespace in (STREAMS, TLS, SASL, SASL2))
# The stream's own bookkeeping, which is never a node for the user (event-order C18).
_MANAGEMENT = tuple(f"{{{namespace}}}" for namespace in (STREAM_MANAGEMENT, STREAM_MANAGEMENT_2))

#: Bytes of one answer of the broker's own. It repeats the request's id and addresses; a peer may make these long.
MAX_ANSWER_BYTES: Final = 16_384
#: Seconds between two warnings of requests that stay unanswered.
_WARN_EVERY: Final = 1.0

#: Of a reply whose request has ended already (event-order C11).
_LATE: Mapping[str, object] = MappingProxyType({"late": True})


class Inbound:
    """The way in.

    Args:
        config, dispatcher, requester, filters, outbox: of the broker.

    Attributes:
        stream_error: called with a <stream:error/>. secrets: what nobody may see of a log-in.
    """

    def __init__(
        self,
        config: Config,
        dispatcher: Dispatcher,
        requester: Requester,
        filters: Filters,
        outbox: Outbox,
    ) -> None:
        self._config = config
        self._dispatcher = dispatcher
        self._requester = requester
        self._filters = filters
        self._outbox = outbox
        self.stream_error: Callable[[Node], None] | None = None
        self.secrets: Callable[[], set[str]] = set
        self._envelope: Envelope | None = None
        self._own = ""
        self._unanswered = 0  # requests, since the last warning of that
        self._last_unanswered: tuple[Node, PcjError] | None = None
        self._warning: asyncio.TimerHandle | None = None  # when the next may be given

    def begin(self, own: str, envelope: Envelope | None) -> None:
        """A session begins: who we are, and how its stanzas are wrapped."""
        self._own = own
        self._envelope = envelope

    def end(self) -> None:
        """The session is over: what was not said yet is said now."""
        if self._warning is not None:
            self._warning.cancel()
            self._warning = None
        if self._unanswered:
            self._warn()

    def _count(self, node: Node, handled: Handled) -> int:
        """A stanza of the peer's begins (XEP-0198 4: what is no stanza is not counted); its number, or 0."""
        if node.tag not in STANZAS:
            return 0
        number = handled.next()
        if self._config.ack_on == "received":
            handled.release(number)
            return 0
        return number

    def receive(self, nodes: list[Node]) -> None:
        """Nodes of one read, in order; where stream management counts them, with that."""
        handled = self._outbox.proofs.handled
        if handled is None:
            self.receive_early(nodes)
            return
        dispatcher = self._dispatcher
        dispatcher.tracker = handled
        proofs = self._outbox.proofs
        for node in nodes:
            if proofs.repeats and node.tag in STANZAS:
                proofs.repeats -= 1
                continue
            number = dispatcher.mark = self._count(node, handled)
            try:
                self.receive_early([node])
            finally:
                dispatcher.mark = 0
                if number:
                    handled.release(number)

    def receive_early(self, nodes: list[Node]) -> None:
        """Nodes of one read, in order. This is the per-stanza path: what nobody asked for is not made."""
        fire = self._dispatcher.fire
        requester, filters, envelope = self._requester, self._filters, self._envelope
        unanswered = requester.unanswered
        for received in nodes:
            node = received
            if envelope is not None and node.tag != STREAM_ERROR_TAG:
                unwrapped = envelope.unwrap(node)
                if unwrapped is None:
                    continue  # the router's own news (event-order C18)
                node = unwrapped
            tag = node.tag
            if tag == IQ:
                if self._is_answered(node):
                    continue
            elif tag not in STANZAS:
                if self._is_of_the_stream(node):
                    continue
            elif len(requester) and node.get("type") == "error" and requester.answer(node, self._own):
                continue
            if filters:
                self._filter(node)
            if unanswered and requester.late(node, self._own):
                fire(Event.PCJ_NODERECEIVED, node, detail=_LATE)
                continue
            fire(Event.PCJ_NODERECEIVED, node)

    def _filter(self, node: Node) -> bool:
        """Fire each filter that selects `node`; whether a subscriber heard of one."""
        heard = False
        for match in self._filters.match(node):
            heard = heard or match.event in self._dispatcher.interest
            self._dispatcher.fire(
                match.event, node, detail={"expression": match.expression, "selected": match.selected}
            )
        return heard

    def _is_answered(self, node: Node) -> bool:
        """Whether an IQ goes no further: a reply that was awaited, or a request that the broker answers."""
        kind = node.get("type")
        if self._outbox.proofs.take_iq(node):
            return True
        if kind in ("result", "error"):
            return self._requester.answer(node, self._own)
        if kind not in ("get", "set"):
            return False
        if self._config.answer_ping:
            answer = answer_to_ping(node)
            if answer is not None:
                self._answer(answer)
                return True
        # Looked at before the handlers run, who may take back a subscription; and a reply may come from anybody.
        handled = self._dispatcher.answers(Event.PCJ_NODERECEIVED)
        outbox = self._outbox
        replies: list[tuple[str | None, str | None]] = []
        outbox.replies = replies
        try:
            handled |= bool(self._filters) and self._filter(node)
            self._dispatcher.fire(Event.PCJ_NODERECEIVED, node)
        finally:
            outbox.replies = None
        handled = handled or (node.get("id"), node.get("from")) in replies
        if not handled and self._config.unhandled_iq == "error":
            # RFC 6120 8.2.3: whoever receives a get or set MUST answer it, and once.
            self._answer(answer_to_unhandled(node))
        return True

    def _answer(self, answer: Node) -> None:
        try:
            entry = self._outbox.entry(answer, durable=False, answer=True)
            if not self._outbox.ready:
                return  # the link is being closed: an answer in the next session would be nobody's
            if len(entry.data) > MAX_ANSWER_BYTES:
                raise NodeError(f"it would have {len(entry.data)} bytes, of which most repeat the request's own")
            self._outbox.check_room_for_answer()
        except (NodeError, QueueFull) as error:
            self._leave_unanswered(answer, error)
            return
        except UsageError:
            return  # a handler has halted the broker
        self._outbox.give_answer(entry)
        condition = error_condition(answer)[1] if answer.get("type") == "error" else "result"
        self._dispatcher.fire(Event.IQ_ANSWERED, answer, detail={"condition": condition})

    def _leave_unanswered(self, answer: Node, error: PcjError) -> None:
        """Say it, but not for each request of a flood."""
        self._unanswered += 1
        self._last_unanswered = answer, error
        if self._warning is None:
            self._warn()
            self._warning = asyncio.get_running_loop().call_later(_WARN_EVERY, self._warn_again)

    def _warn_again(self) -> None:
        self._warning = None
        if self._unanswered:
            self._warn()
            self._warning = asyncio.get_running_loop().call_later(_WARN_EVERY, self._warn_again)

    def _warn(self) -> None:
        count, self._unanswered = self._unanswered, 0
        last, self._last_unanswered = self._last_unanswered, None
        if last is not None:
            which = "an answer" if count == 1 else f"{count} answers, this the last of them,"
            self._dispatcher.fire(Event.WARNING, last[0], last[1], {"what": f"{which} of ours could not be sent"})

    def _is_of_the_stream(self, node: Node) -> bool:
        """Whether a node that is no stanza belongs to the stream itself; any other is the user's, as in PCJ."""
        if node.tag == STREAM_ERROR_TAG:
            if self.stream_error is not None:
                self.stream_error(node)
            return True
        if node.tag.startswith(_NEGOTIATION):
            # It may repeat what of ours was a credential then.
            ignored = scrubbed(redacted(node), self.secrets())
            reason = "it has its place before READY only"
            self._dispatcher.fire(Event.NODE_IGNORED, ignored, detail={"reason": reason})
            return True
        if node.tag.startswith(_MANAGEMENT):
            if self._outbox.proofs.take(node):
                return True
            managed = self._outbox.proofs.management is not None
            reason = "it has its place before READY only" if managed else "stream management was not agreed on"
            self._dispatcher.fire(Event.NODE_IGNORED, node, detail={"reason": reason})
            return True
        return False
