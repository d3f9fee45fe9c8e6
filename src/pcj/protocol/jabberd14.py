"""JABBERD14_COMPONENT: a component of XEP-0114."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from pcj.config import JABBERD14_COMPONENT as NAME
from pcj.errors import ProtocolError
from pcj.events import Event
from pcj.namespaces import COMPONENT_ACCEPT
from pcj.protocol.common import check_password, name_of, receive, require_id, salted_digest, warn_of_listeners
from pcj.protocol.dialect import Dialect, register_dialect
from pcj.protocol.opening import open_secured
from pcj.protocol.steps import AskPassword, Negotiation, Program, Publish, Send, Session

__all__ = ["JABBERD14_DIALECT"]


def negotiate(negotiation: Negotiation) -> Program:
    """XEP-0114 3."""
    config = negotiation.config
    header = yield from open_secured(negotiation)
    yield Publish(Event.PCJ_AUTHNEGOTIATE, detail={"mechanism": "handshake"})
    yield from require_id(negotiation, header, "handshake")
    yield from warn_of_listeners(negotiation, "handshake")
    handshake = ET.Element(f"{{{negotiation.xmlns}}}handshake")
    handshake.text = salted_digest(header.id, (yield AskPassword()))
    yield Send(handshake, secret=True)
    reply = yield from receive("<handshake/>")
    if reply.tag != handshake.tag:
        raise ProtocolError(
            f"the server answered the handshake with {name_of(reply)}",
            answer="undefined-condition",
            expected="<handshake/>",
            came=name_of(reply),
        )
    if len(reply) or reply.text:
        yield Publish(Event.WARNING, detail={"what": "the server's <handshake/> is not empty (XEP-0114 3)"})
    yield Publish(Event.PCJ_AUTHSUCCESS)
    return Session(jid=str(config.account), sid=header.id)


JABBERD14_DIALECT = Dialect(
    NAME,
    negotiate,
    COMPONENT_ACCEPT,
    component=True,
    tls_on_loopback=False,
    default_port=5347,
    check=check_password,
)
register_dialect(JABBERD14_DIALECT)
