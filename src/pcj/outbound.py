"""What `output` refuses because it would end the link, and what it adds (RFC 6120 8.1; XEP-0114 3; A17, B4)."""

from __future__ import annotations

from pcj.errors import JidError, NodeError
from pcj.jid import JID
from pcj.namespaces import CONTENT
from pcj.stanza import IQ, STANZAS, Node

__all__ = ["check_addressed", "check_node", "check_own"]

#: Servers take these whatever is in them.
_ANY = STANZAS - {IQ}
_NAMES = frozenset(tag.rpartition("}")[2] for tag in STANZAS)


def check_node(node: Node) -> None:
    """A node must be a stanza: servers end the stream for any other element, or it breaks stream management's count.

    Raises:
        NodeError: it is none; for an IQ, also if its type and children are not those of RFC 6120 8.2.3.
    """
    tag = node.tag
    if tag in _ANY:
        return
    if tag != IQ:
        # The tag of a comment or a PI is a function.
        namespace, _, name = str(tag).removeprefix("{").rpartition("}")
        if name not in _NAMES or (namespace and namespace not in CONTENT):
            shown = repr(tag) if isinstance(tag, str) else f"a {getattr(tag, '__name__', 'strange node').lower()}"
            raise NodeError(
                f"{shown} is no stanza: servers end the stream for any top-level element but message, presence and iq; "
                "check_output=False sends it all the same"
            )
        tag = name
    if tag == IQ or tag == "iq":
        kind = node.get("type")
        if kind not in ("get", "set", "result", "error"):
            raise NodeError(f"an iq must have the type get, set, result or error, not {kind!r} (RFC 6120 8.2.3)")
        if kind in ("get", "set") and len(node) != 1:
            raise NodeError(f"an iq of type {kind} must have exactly one child, not {len(node)} (RFC 6120 8.2.3)")
        if kind == "result" and len(node) > 1:
            raise NodeError(f"an iq of type result must have no more than one child, not {len(node)} (RFC 6120 8.2.3)")


def check_addressed(node: Node, domain: str) -> None:
    """A component's stanza must have a `to`, and a `from` in the component's domain (XEP-0114 3).

    Raises:
        NodeError: it has not; Prosody and ejabberd would end the stream.
    """
    if not node.get("to"):
        raise NodeError("a component's stanza must have a 'to' (XEP-0114 3); servers end the stream without it")
    sender = node.get("from")
    if sender is None or sender == domain:
        return
    local, _, rest = sender.partition("/")[0].partition("@")
    if local and rest == domain:
        return
    try:
        sender_domain = JID.parse(sender).domain
    except JidError as error:
        raise NodeError(f"'from' is no address: {error}") from error
    if sender_domain != domain:
        raise NodeError(
            f"'from' is {sender!r:.100}, which is not in the component's domain {domain!r}; "
            "servers end the stream for it"
        )


def check_own(node: Node, own: str) -> None:
    """A client's `from` must be its own address, full or bare (RFC 6120 8.1.2.1); the server adds a missing one.

    Raises:
        NodeError: it is another's; ejabberd would end the stream.
    """
    sender = node.get("from")
    if sender is None or sender == own:
        return
    try:
        account, parsed = JID.parse(own), JID.parse(sender)
    except JidError as error:
        raise NodeError(f"'from' is no address: {error}") from error
    if parsed not in (account, account.bare):
        raise NodeError(
            f"'from' is {sender!r:.100}, which is not our address {own!r}; servers end the stream for it. "
            "To pass on a stanza of somebody else's, take its 'from' away"
        )
