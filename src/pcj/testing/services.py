"""What the embedded server answers itself: ping, version, discovery, an empty roster, the session of old."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterable
from typing import Literal

from pcj.namespaces import DISCO_INFO, DISCO_ITEMS, PING, SESSION, VERSION
from pcj.stanza import Node, error_reply, reply

__all__ = ["answer", "is_session_request", "refusal"]

ROSTER = "jabber:iq:roster"  # RFC 6121 2
_SESSION = f"{{{SESSION}}}session"
_ROSTER = f"{{{ROSTER}}}query"
_PING = f"{{{PING}}}ping"
_VERSION = f"{{{VERSION}}}query"
_INFO = f"{{{DISCO_INFO}}}query"
_ITEMS = f"{{{DISCO_ITEMS}}}query"
#: The type of the stanza error that goes with a condition (RFC 6120 8.3.3), where it is not "cancel".
_ERROR_TYPES = {
    "bad-request": "modify",
    "forbidden": "auth",
    "jid-malformed": "modify",
    "not-acceptable": "modify",
    "not-authorized": "auth",
    "policy-violation": "modify",
    "recipient-unavailable": "wait",
    "resource-constraint": "wait",
}


def refusal(request: Node, condition: str, text: str | None = None) -> Node:
    """The stanza error that answers `request`, of the type that fits the condition."""
    return error_reply(request, condition, type=_ERROR_TYPES.get(condition, "cancel"), text=text)


def is_session_request(request: Node) -> bool:
    """Whether it is the request of RFC 3921 3."""
    return request.find(_SESSION) is not None


def answer(
    request: Node, place: Literal["server", "own", "other"], *, components: Iterable[str], session_error: str | None
) -> Node:
    """The answer to an IQ get or set that the server gives itself.

    Args:
        request: the stanza. place: where it was sent: to the server's domain, to the sender's own account (its bare
            JID, or no address at all: RFC 6120 10.3.3), or to another account.
        components: the domains that disco#items lists. session_error: with what to refuse a session.
    """
    if len(request) != 1:
        return refusal(request, "bad-request")  # RFC 6120 8.2.3: exactly one child
    payload = request[0]
    kind = (payload.tag, request.get("type"))
    if place == "other" or payload.get("node") is not None:
        return refusal(request, "service-unavailable")  # RFC 6121 8.5.2.1.3
    result: Node | None = None
    if kind == (_SESSION, "set"):
        if session_error is not None:
            return refusal(request, session_error)
    elif kind == (_ROSTER, "get"):
        result = ET.Element(_ROSTER)
    elif kind == (_VERSION, "get"):
        result = ET.Element(_VERSION)
        for name, text in (("name", "pcj.testing"), ("version", "1.0")):
            ET.SubElement(result, f"{{{VERSION}}}{name}").text = text
    elif kind == (_INFO, "get"):
        result = ET.Element(_INFO)
        category, type = ("server", "im") if place == "server" else ("account", "registered")
        ET.SubElement(result, f"{{{DISCO_INFO}}}identity", {"category": category, "type": type})
        for feature in (DISCO_INFO, DISCO_ITEMS, PING, VERSION):
            ET.SubElement(result, f"{{{DISCO_INFO}}}feature", {"var": feature})
    elif kind == (_ITEMS, "get"):
        result = ET.Element(_ITEMS)
        for domain in sorted(components) if place == "server" else ():
            ET.SubElement(result, f"{{{DISCO_ITEMS}}}item", {"jid": domain})
    elif kind != (_PING, "get"):
        return refusal(request, "service-unavailable")
    answer = reply(request, type="result")
    if result is not None:
        answer.append(result)
    return answer
