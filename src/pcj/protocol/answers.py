"""What the broker answers by itself, so that no request stays without a reply (RFC 6120 8.2.3)."""

from __future__ import annotations

from pcj.namespaces import PING
from pcj.stanza import IQ, Node, error_reply, reply

__all__ = ["answer_to_ping", "answer_to_unhandled", "is_request"]

_PING = f"{{{PING}}}ping"


def is_request(node: Node) -> bool:
    """Whether it is an IQ of type get or set: only these are answered, so no bounce can loop (RFC 6120 8.3.1)."""
    return node.tag == IQ and node.get("type") in ("get", "set")


def answer_to_ping(request: Node) -> Node | None:
    """The reply to a ping (XEP-0199 4.1), or None if `request` is none."""
    if len(request) == 1 and request[0].tag == _PING and request.get("type") == "get" and request.get("id"):
        return reply(request, type="result")
    return None


def answer_to_unhandled(request: Node) -> Node:
    """The error for a request that nobody handles.

    "service-unavailable" is also what a server says for a resource that is offline, so it tells a stranger nothing. A
    request without an id, or with any number of children but one, is malformed (RFC 6120 8.2.3).
    """
    if len(request) != 1 or not request.get("id"):
        return error_reply(request, "bad-request", type="modify")
    return error_reply(request, "service-unavailable")
