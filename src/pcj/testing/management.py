"""The server's side of stream management (XEP-0198): what both sides have counted, and who may come back to what."""

from __future__ import annotations

import copy
import math
import secrets
import xml.etree.ElementTree as ET
from collections import OrderedDict, deque
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from pcj.errors import ProtocolError
from pcj.namespaces import STANZA_ERRORS
from pcj.namespaces import STREAM_MANAGEMENT as NS
from pcj.serialize import serialize
from pcj.stanza import IQ, Node
from pcj.testing.options import ServerOptions

if TYPE_CHECKING:
    from pcj.testing.client import ClientSession

__all__ = ["ACK", "ENABLE", "REQUEST", "RESUME", "Management", "Resumable", "failed", "feature"]

ENABLE: Final = f"{{{NS}}}enable"
RESUME: Final = f"{{{NS}}}resume"
REQUEST: Final = f"{{{NS}}}r"
ACK: Final = f"{{{NS}}}a"
_DELAY: Final = "{urn:xmpp:delay}delay"  # XEP-0203
#: XEP-0198 4: an 'h' is an xs:unsignedInt, and follows 2^32-1 with 0.
_WRAP: Final = 2**32
#: Of how many ended sessions it is remembered how much they had handled.
_MAX_ENDED: Final = 1_000


def feature() -> Node:
    """What is offered once a client has logged in (XEP-0198 2)."""
    return ET.Element(f"{{{NS}}}sm")


def failed(condition: str, options: ServerOptions, handled: int | None = None) -> Node:
    """The refusal of <enable/> or <resume/>, with `handled` where a session that is over is known (XEP-0198 5)."""
    element = ET.Element(f"{{{NS}}}failed")
    if handled is not None:
        element.set("h", str(_told(handled, options)))
    inside = element
    if options.failed_nested:
        # As Prosody has it: a whole stanza error in place of its condition
        inside = ET.SubElement(element, "{jabber:client}error", {"type": "cancel"})
    ET.SubElement(inside, f"{{{STANZA_ERRORS}}}{condition}")
    return element


def _told(handled: int, options: ServerOptions) -> int:
    """What we say that we have handled: the truth, unless the options want a lie. A lie is never below nothing."""
    return max(0, handled + options.handled_offset) % _WRAP


def read_count(element: Node) -> int:
    """The 'h' of an element.

    Raises:
        ProtocolError: there is none, or it is no xs:unsignedInt.
    """
    text = element.get("h", "").strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < _WRAP):
        raise ProtocolError(
            "'h' is a number below 2^32 (XEP-0198 4)",
            answer="bad-format",
            expected="h as an xs:unsignedInt",
            came=f"{text!r:.40}",
        )
    return int(text)


class Management:
    """One stream-managed session. It outlives its connections.

    Args:
        options: of the server. seconds: how long it is kept for a client that is away; 0: it cannot be resumed.

    Attributes:
        id: the SM-ID, or "" if it cannot be resumed. handled: stanzas of the client's that were routed or answered.
        resumptions: how often it has changed its connection.
    """

    def __init__(self, options: ServerOptions, seconds: float) -> None:
        self.options = options
        self.seconds = seconds
        self.id = secrets.token_urlsafe(18) if seconds else ""
        self.handled = 0
        self.resumptions = 0
        self._unacked: deque[tuple[Node, int, datetime]] = deque()
        self._bytes = 0
        self._acked = 0  # modulo 2^32
        self._since_request = 0

    @classmethod
    def enabled_by(cls, request: Node, options: ServerOptions) -> Management:
        """What an <enable/> leads to: resumable if the client and the options want it, for the shorter of two times."""
        seconds = options.resume_seconds if _is_true(request.get("resume")) else 0.0
        wish = request.get("max", "")
        if wish.isascii() and wish.isdecimal() and len(wish) <= 10 and int(wish):
            seconds = min(seconds, float(wish))
        return cls(options, seconds)

    # What we say

    def enabled(self) -> Node:
        """The answer to <enable/>."""
        element = ET.Element(f"{{{NS}}}enabled")
        if self.id:
            announced = self.options.announced_resume_seconds
            element.set("id", self.id)
            element.set("resume", "true")
            element.set("max", str(math.ceil(self.seconds) if announced is None else announced))
            if self.options.resume_location is not None:
                element.set("location", self.options.resume_location)
        return element

    def resumed(self) -> Node:
        """The answer to <resume/>."""
        return ET.Element(f"{{{NS}}}resumed", {"previd": self.id, "h": str(_told(self.handled, self.options))})

    def ack(self) -> Node:
        """The answer to <r/>."""
        return ET.Element(ACK, {"h": str(_told(self.handled, self.options))})

    # What the client has

    def keep(self, node: Node, size: int) -> None:
        """One more of ours is on its way; `size` is its length in bytes."""
        self._unacked.append((node, size, datetime.now(UTC)))
        self._bytes += size
        self._since_request += 1

    def is_full(self) -> bool:
        """Whether more is unacked than may be."""
        options = self.options
        return len(self._unacked) > options.max_unacked or self._bytes > options.max_outbound_bytes

    def has_room(self, size: int) -> bool:
        """Whether one more stanza of so many bytes can be kept."""
        options = self.options
        return len(self._unacked) < options.max_unacked and self._bytes + size <= options.max_outbound_bytes

    def request_is_due(self, *, after: int | None = None) -> bool:
        """Whether it is time to ask the client how much it has: after `after` stanzas, or as the options say.

        If so, the count begins anew.
        """
        every = self.options.request_ack_every
        if not every or self._since_request < (every if after is None else after):
            return False
        self._since_request = 0
        return True

    def acked(self, h: int) -> None:
        """The client has handled `h` of ours, modulo 2^32.

        Raises:
            ProtocolError: these are more than we sent, or fewer than it has said before.
        """
        more = (h - self._acked) % _WRAP
        if more > len(self._unacked):
            sent = (self._acked + len(self._unacked)) % _WRAP
            # XEP-0198 6: the stream error for it
            too_high = ET.Element(f"{{{NS}}}handled-count-too-high", {"h": str(h), "send-count": str(sent)})
            raise ProtocolError(
                f"you acknowledged {h} stanzas, and of {sent} sent {self._acked} were acknowledged before",
                answer="undefined-condition",
                application=serialize(too_high, "jabber:client"),
            )
        for _ in range(more):
            self._bytes -= self._unacked.popleft()[1]
        self._acked = h

    def unacked(self, domain: str) -> Iterator[Node]:
        """What the client may not have, oldest first, each but an IQ with the time at which it was sent (XEP-0203)."""
        for node, _size, at in list(self._unacked):
            if node.tag == IQ or node.find(_DELAY) is not None:
                yield node
                continue
            late = copy.copy(node)  # whoever else got the same stanza got it without
            stamp = f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"
            ET.SubElement(late, _DELAY, {"from": domain, "stamp": stamp})
            yield late

    @property
    def outstanding(self) -> int:
        """How many are unacked."""
        return len(self._unacked)


class Resumable:
    """The sessions that may be resumed, and how much was handled of some that may not be any more."""

    def __init__(self) -> None:
        self._sessions: dict[str, ClientSession] = {}
        self._ended: OrderedDict[str, tuple[str, int]] = OrderedDict()

    def enter(self, id: str, session: ClientSession) -> None:
        """`session` is the one that stands for `id` from here on."""
        self._sessions[id] = session

    def find(self, id: str, account: str) -> ClientSession | None:
        """The session of an SM-ID, if it is of this account (a local part): nobody else can be told of it."""
        session = self._sessions.get(id)
        return session if session is not None and session.account == account else None

    def handled(self, id: str, account: str) -> int | None:
        """How much of an ended session's was handled, where that is still known and the account's own."""
        whose, handled = self._ended.get(id, ("", 0))
        return handled if whose == account else None

    def end(self, id: str, account: str, handled: int) -> None:
        """The session is over; what it had handled is remembered."""
        if self._sessions.pop(id, None) is not None:
            self._ended[id] = (account, handled)
            if len(self._ended) > _MAX_ENDED:
                self._ended.popitem(last=False)

    def forget(self) -> None:
        """All of it, as a server that has died and come back."""
        self._sessions.clear()
        self._ended.clear()


def _is_true(text: str | None) -> bool:
    return text in ("true", "1")  # XML Schema's two words for it
