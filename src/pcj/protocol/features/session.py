"""Session establishment (RFC 3921 3), dropped by RFC 6121 and still required by old servers."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Generator
from typing import Any

from pcj.events import Event
from pcj.namespaces import SESSION as NS
from pcj.protocol.common import refusal, request
from pcj.protocol.features.feature import Fact, Feature, Progress
from pcj.protocol.steps import Negotiation, Publish, Step
from pcj.stanza import Node, iq

__all__ = ["SESSION"]

_SESSION = f"{{{NS}}}session"
_OPTIONAL = f"{{{NS}}}optional"


def _wanted(negotiation: Negotiation, features: Node) -> bool:
    # Marked <optional/> it is a round trip for nothing (protocol-notes A23), unless the user wants PCJ's behaviour.
    offered = features.find(_SESSION)
    if offered is None:
        return False
    return negotiation.config.session == "always" or offered.find(_OPTIONAL) is None


def _negotiate(negotiation: Negotiation, progress: Progress, features: Node) -> Generator[Step, Any, None]:
    yield Publish(Event.PCJ_SESSIONNEGOTIATE)
    reply = yield from request(
        negotiation, iq(type="set", id=negotiation.token(), payload=ET.Element(_SESSION)), progress.jid
    )
    if reply.get("type") != "result":
        raise refusal(reply, "a session")
    yield Publish(Event.PCJ_SESSIONSUCCESS)


SESSION = Feature(
    _SESSION,
    Fact.SESSION,
    _negotiate,
    needs=frozenset({Fact.BOUND}),
    wanted=_wanted,
)
