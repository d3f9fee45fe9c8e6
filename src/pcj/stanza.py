"""Nodes and the builders of the common ones.

A node is an `xml.etree.ElementTree.Element`; its stanzas bear the namespace `jabber:client`, whatever the stream's.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TypeAlias

from pcj.namespaces import CLIENT, PING, STANZA_ERRORS

__all__ = ["Node", "error_reply", "iq", "message", "ping", "presence"]

Node: TypeAlias = ET.Element

MESSAGE = f"{{{CLIENT}}}message"
PRESENCE = f"{{{CLIENT}}}presence"
IQ = f"{{{CLIENT}}}iq"
STANZAS = frozenset({MESSAGE, PRESENCE, IQ})
ERROR = f"{{{CLIENT}}}error"
#: Characters of a stanza error's text, and of its type and condition, that are taken: they go into sentences.
MAX_TEXT = 1_000
MAX_NAME = 64


_SUBJECT = f"{{{CLIENT}}}subject"
_BODY = f"{{{CLIENT}}}body"
_THREAD = f"{{{CLIENT}}}thread"
_SHOW = f"{{{CLIENT}}}show"
_STATUS = f"{{{CLIENT}}}status"
_PRIORITY = f"{{{CLIENT}}}priority"


# On the per-stanza path: what is not given costs one comparison, and nothing is made that is not kept.
def _stanza(tag: str, to: str | None, from_: str | None, id: str | None, type: str | None) -> Node:
    node = ET.Element(tag)
    attributes = node.attrib
    if to is not None:
        attributes["to"] = to
    if from_ is not None:
        attributes["from"] = from_
    if id is not None:
        attributes["id"] = id
    if type is not None:
        attributes["type"] = type
    return node


def message(
    *,
    to: str | None = None,
    from_: str | None = None,
    id: str | None = None,
    type: str | None = None,
    body: str | None = None,
    subject: str | None = None,
    thread: str | None = None,
) -> Node:
    """A <message/> (RFC 6121 5). Elements other than these are added with `xml.etree.ElementTree.SubElement`."""
    node = _stanza(MESSAGE, to, from_, id, type)
    if subject is not None:
        ET.SubElement(node, _SUBJECT).text = subject
    if body is not None:
        ET.SubElement(node, _BODY).text = body
    if thread is not None:
        ET.SubElement(node, _THREAD).text = thread
    return node


def presence(
    *,
    to: str | None = None,
    from_: str | None = None,
    id: str | None = None,
    type: str | None = None,
    show: str | None = None,
    status: str | None = None,
    priority: int | None = None,
) -> Node:
    """A <presence/> (RFC 6121 4). Without `type` it says "available"."""
    node = _stanza(PRESENCE, to, from_, id, type)
    if show is not None:
        ET.SubElement(node, _SHOW).text = show
    if status is not None:
        ET.SubElement(node, _STATUS).text = status
    if priority is not None:
        ET.SubElement(node, _PRIORITY).text = str(priority)
    return node


def iq(
    *,
    to: str | None = None,
    from_: str | None = None,
    id: str | None = None,
    type: str = "get",
    payload: Node | None = None,
) -> Node:
    """An <iq/> (RFC 6120 8.2.3) with `payload` as its one child. Without `id`, `output` gives it one."""
    node = _stanza(IQ, to, from_, id, type)
    if payload is not None:
        node.append(payload)
    return node


def ping(*, to: str | None = None, from_: str | None = None, id: str | None = None) -> Node:
    """A ping (XEP-0199 4), to be sent with `return_to_sender`."""
    return iq(to=to, from_=from_, id=id, payload=ET.Element(f"{{{PING}}}ping"))


def reply(request: Node, *, type: str) -> Node:
    """An empty stanza of `type` that goes back where `request` came from, with its id (RFC 6120 8.1.3)."""
    return _stanza(request.tag, request.get("from"), request.get("to"), request.get("id"), type)


def error_reply(request: Node, condition: str, *, type: str = "cancel", text: str | None = None) -> Node:
    """The stanza error that answers `request` (RFC 6120 8.3).

    Args:
        request: the stanza to answer; it is not changed.
        condition: a defined condition of RFC 6120 8.3.3, "service-unavailable" for example.
        type: "cancel", "modify", "auth", "wait" or "continue" (RFC 6120 8.3.2).
        text: an explanation for people.
    """
    answer = reply(request, type="error")
    error = ET.SubElement(answer, ERROR, {"type": type})
    ET.SubElement(error, f"{{{STANZA_ERRORS}}}{condition}")
    if text is not None:
        ET.SubElement(error, f"{{{STANZA_ERRORS}}}text").text = text
    return answer


# XEP-0086 3: what servers from before RFC 3920 said, and jabberd2 still says about jabber:iq:auth.
_CODES = {
    "400": "bad-request",
    "401": "not-authorized",
    "403": "forbidden",
    "404": "item-not-found",
    "406": "not-acceptable",
    "407": "registration-required",
    "409": "conflict",
    "500": "internal-server-error",
    "503": "service-unavailable",
}


def error_condition(node: Node) -> tuple[str, str, str]:
    """The (type, condition, text) of a stanza error; each "" where it is missing, and cut where it is long.

    An error of the old form, with a code alone, is given the condition that XEP-0086 has for it.
    """
    error = node.find(ERROR)
    if error is None:
        return "", "", ""
    condition = text = ""
    for child in error:
        namespace, _, name = child.tag[1:].partition("}")
        if namespace != STANZA_ERRORS:
            continue
        if name == "text":
            text = child.text or ""
        elif not condition:
            condition = name
    if not condition:
        condition = _CODES.get(error.get("code", ""), "")
        text = text or (error.text or "").strip()
    return error.get("type", "")[:MAX_NAME], condition[:MAX_NAME], text[:MAX_TEXT]
