"""Resource binding (RFC 6120 7)."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Generator
from typing import Any

from pcj.errors import JidError, Phase, ProtocolError, Retry
from pcj.events import Event
from pcj.jid import JID
from pcj.namespaces import BIND as NS
from pcj.protocol.common import name_of, refusal, request
from pcj.protocol.features.feature import Fact, Feature, Progress
from pcj.protocol.steps import Negotiation, Publish, Step
from pcj.stanza import Node, error_condition, iq

__all__ = ["BIND"]

_BIND = f"{{{NS}}}bind"
_RESOURCE = f"{{{NS}}}resource"
_JID = f"{{{NS}}}jid"
#: How often a resource is asked for before giving up.
_TRIES = 3


def _negotiate(negotiation: Negotiation, progress: Progress, features: Node) -> Generator[Step, Any, None]:
    if features.find(_BIND) is None:
        raise ProtocolError(
            "the server offers no resource binding after authentication, which is what gives a session its address "
            "(RFC 6120 7); is this a port for components?",
            expected="<bind> in <stream:features>",
            came=", ".join(name_of(feature) for feature in features[:5]) or "no feature",
            phase=Phase.BIND,
        )
    yield Publish(Event.PCJ_BINDNEGOTIATE)
    account = negotiation.config.account
    resource = negotiation.config.wanted_resource
    asked = resource
    attempt = 0
    while True:
        attempt += 1
        payload = ET.Element(_BIND)
        if resource is not None:
            ET.SubElement(payload, _RESOURCE).text = resource
        reply = yield from request(negotiation, iq(type="set", id=negotiation.token(), payload=payload))
        if reply.get("type") == "result":
            break
        kind, condition, _ = error_condition(reply)
        if attempt == _TRIES or not (condition == "conflict" or kind == "modify"):
            known = {
                "conflict": f"the server says that the resource {asked or resource!r} is taken, and so was each other "
                "that we asked for",
                "resource-constraint": f"the server allows no further session for {account.bare}",
                "not-allowed": f"the server does not let {account.bare} begin a session",
            }
            raise refusal(reply, f"the resource {resource!r}" if resource else "to bind a resource", known)
        # RFC 6120 7.7.2.2: taken or not acceptable; ask again with one of our own making.
        resource = f"pcj-{negotiation.token()[:10]}"
    given = [element.text or "" for element in reply.iterfind(f"{_BIND}/{_JID}")]
    if len(given) != 1:
        # RFC 6120 7.6.1: the result MUST contain the full JID.
        raise ProtocolError(
            f"the server's answer to our bind request has {len(given) or 'no'} addresses in place of one",
            expected="one <jid>",
            came=f"{len(given)} <jid>",
        )
    text = given[0]
    try:
        jid = JID.parse(text)
    except JidError as error:
        raise ProtocolError(
            f"the server bound us to {text!r:.100}, which is no address ({error})",
            expected="a full JID",
            came=text[:100],
        ) from None
    wanted = account if account.local is not None else JID(jid.local, account.domain)  # ANONYMOUS: the server names us
    if jid.local is None or jid.bare != wanted.bare or jid.resource is None:
        raise ProtocolError(
            f"the server bound us to {text!r:.100}, which is not an address of {account.bare!s}",
            expected=f"{account.bare}/<resource>"
            if account.local is not None
            else f"<name>@{account.domain}/<resource>",
            came=text[:100],
            retry=Retry.FATAL,
        )
    progress.jid = str(jid)
    yield Publish(Event.PCJ_BINDSUCCESS, detail={"jid": progress.jid})
    if account.local is None or (asked is not None and jid.resource != account.with_resource(asked).resource):
        yield Publish(Event.JID_CHANGED, detail={"asked": str(account.with_resource(asked)), "given": progress.jid})


BIND = Feature(
    _BIND,
    Fact.BOUND,
    _negotiate,
    needs=frozenset({Fact.AUTHENTICATED}),
)
