"""JABBERD20_COMPONENT: a component of jabberd2, through its router's own protocol.

STARTTLS and SASL are those of XMPP; then a domain is bound, and stanzas travel in <route/>.
"""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET

from pcj.config import JABBERD20_COMPONENT as NAME
from pcj.errors import JidError, ProtocolError, Retry
from pcj.events import Event
from pcj.jid import JID
from pcj.namespaces import CLIENT, JABBERD_COMPONENT
from pcj.protocol.common import ask, receive, unexpected
from pcj.protocol.dialect import Dialect, register_dialect
from pcj.protocol.features import negotiate_features
from pcj.protocol.features.sasl import SASL, check_credentials
from pcj.protocol.features.starttls import STARTTLS
from pcj.protocol.steps import Hold, Negotiation, Program, Publish, Session
from pcj.serialize import escape_value
from pcj.stanza import STANZAS, Node, error_reply

__all__ = ["JABBERD20_DIALECT", "RouteEnvelope"]

_BIND = f"{{{JABBERD_COMPONENT}}}bind"
_ROUTE = f"{{{JABBERD_COMPONENT}}}route"
_NEWS = f"{{{JABBERD_COMPONENT}}}presence"

_BIND_ERRORS = {
    "400": "the router did not understand the bind request (400)",
    "403": "the router does not allow user {user!r} to bind {domain} (403): see <aci> in router.xml",
    "409": "the router says that {domain} is bound by another link (409)",
}
# RFC 6120 8.3.3, by the router's numbers (jabberd2's router answers what it cannot deliver).
_ROUTE_ERRORS = {
    "400": ("bad-request", "modify"),
    "401": ("not-authorized", "auth"),
    "404": ("remote-server-not-found", "cancel"),
}


def negotiate(negotiation: Negotiation) -> Program:
    """As XMPP up to authentication, then the router's <bind/>."""
    config = negotiation.config
    progress = yield from negotiate_features(negotiation, (STARTTLS, SASL))
    domain = config.bind_domain or config.account.domain
    yield Publish(Event.PCJ_BINDNEGOTIATE, detail={"domain": domain})
    bind = ET.Element(_BIND, {"name": domain, "id": negotiation.token()})
    if config.bind_option is not None:
        ET.SubElement(bind, f"{{{JABBERD_COMPONENT}}}{config.bind_option}")
    yield from ask(bind)
    while True:
        reply = yield from receive("<bind/>")
        if reply.tag == _BIND:
            break
        if reply.tag == _ROUTE:
            yield Hold(reply)
        elif reply.tag != _NEWS:  # news of its routing table the router pushes at any time; not for the user (A27)
            raise unexpected(reply, "<bind/>")
    error = reply.get("error")
    if error is not None:
        sentence = _BIND_ERRORS.get(error, "the router refused to bind {domain} (error {error!r:.20})")
        raise ProtocolError(
            sentence.format(user=config.login, domain=domain, error=error),
            condition=error[:20],
            expected="<bind/> without an error",
            came=f"error {error!r:.20}",
            retry=Retry.SLOW if error == "409" else Retry.FATAL,
        )
    yield Publish(Event.PCJ_BINDSUCCESS, detail={"jid": domain})
    return Session(jid=domain, sid=progress.header.id, envelope=RouteEnvelope(domain), limits=progress.limits)


class RouteEnvelope:
    """<route from='our domain' to='their domain'> around each stanza."""

    def __init__(self, domain: str) -> None:
        self._from = escape_value(domain)

    def wrap(self, stanza: bytes, node: Node) -> bytes:
        """The router delivers by the domain in `to`; the stanza inside declares the namespace that a client's has."""
        end = len(node.tag.rpartition("}")[2].encode()) + 1
        if not stanza.startswith(b" xmlns=", end):
            stanza = stanza[:end] + b" xmlns='" + CLIENT.encode() + b"'" + stanza[end:]
        to = node.get("to", "")
        try:
            domain = JID.parse(to).domain
        except JidError:
            domain = to.partition("/")[0].rpartition("@")[2]
        head = f'<route xmlns="{JABBERD_COMPONENT}" from="{self._from}" to="{escape_value(domain)}">'
        return head.encode() + stanza + b"</route>"

    def unwrap(self, node: Node) -> Node | None:
        """The stanza inside; a stanza of ours that comes back undelivered becomes its addressee's error.

        What is no envelope around one stanza is given back as it came, to be delivered like any unknown element; only
        the router's news of its routing table is for nobody. The addresses on the envelope count for nothing.
        """
        if node.tag == _NEWS:
            return None
        if node.tag != _ROUTE or len(node) != 1 or node[0].tag not in STANZAS or node.get("type") == "log":
            return node  # a copy for the log is overheard: in its <route/> nobody takes it for a stanza to us
        stanza = node[0]
        stanza.tail = None
        error = node.get("error")
        if error is None:
            return stanza
        if stanza.get("type") in ("error", "result"):
            return None  # RFC 6120 8.3.1: an error never answers these
        condition, kind = _ROUTE_ERRORS.get(error, ("undefined-condition", "cancel"))
        bounced = error_reply(stanza, condition, type=kind, text=f"the router could not deliver it (error {error:.20})")
        for child in reversed(stanza):
            bounced.insert(0, copy.deepcopy(child))
        return bounced


JABBERD20_DIALECT = Dialect(
    NAME, negotiate, JABBERD_COMPONENT, component=True, default_port=5347, canonical=False, check=check_credentials
)
register_dialect(JABBERD20_DIALECT)
