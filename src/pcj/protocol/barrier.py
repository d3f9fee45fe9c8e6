"""Barriers: proofs for links without stream management (protocol-notes A8).

A stream is processed in order (RFC 6120 10.1), so the answer to a ping proves that all that went before it was read. A
component pings its own domain, and the ping itself comes back; a client pings its server, by an IQ without `to`.
"""

from __future__ import annotations

from pcj.protocol.steps import Envelope
from pcj.serialize import serialize
from pcj.stanza import Node, ping

__all__ = ["Barriers"]


class Barriers:
    """Those of one session.

    Args:
        prefix: an unguessable text, for the ids: nobody else can answer one. domain: a component's own, or None.
        xmlns, envelope: of the stream.

    Attributes:
        answered: how many were.
    """

    def __init__(self, prefix: str, domain: str | None, xmlns: str, envelope: Envelope | None) -> None:
        self._prefix = f"{prefix}."
        self._domain = domain
        self._xmlns = xmlns
        self._envelope = envelope
        self._places: dict[str, int] = {}
        self._count = 0
        self.answered = 0

    def ask(self, place: int) -> bytes:
        """The bytes of a ping whose return proves all up to `place`."""
        self._count += 1
        identity = f"{self._prefix}{self._count}"
        self._places[identity] = place
        node = ping(to=self._domain, from_=self._domain, id=identity)
        stanza = serialize(node, self._xmlns)
        return stanza if self._envelope is None else self._envelope.wrap(stanza, node)

    def take(self, node: Node) -> int | None:
        """The place that an IQ proves, if it is a ping of ours that came back, or its answer; an error is one, too."""
        identity = node.get("id")
        if identity is None or not identity.startswith(self._prefix):
            return None
        place = self._places.get(identity)
        if place is not None:
            self.answered += 1
            # Those before it will not be answered later than this, or not at all (a twin has taken them).
            self._places = {later: at for later, at in self._places.items() if at > place}
        return place if place is not None else -1
