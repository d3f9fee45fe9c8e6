"""Sequences that more than one dialect needs."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Mapping
from types import MappingProxyType
from typing import Any, Final

from pcj.config import Config
from pcj.errors import ConfigError, JidError, ProtocolError, Retry
from pcj.events import Event
from pcj.jid import JID
from pcj.namespaces import STREAMS
from pcj.protocol.steps import Hold, Negotiation, OpenStream, Publish, Receive, Send, Step
from pcj.stanza import IQ, STANZAS, Node, error_condition
from pcj.xmlstream import StreamHeader

__all__ = [
    "FEATURES",
    "ask",
    "check_password",
    "is_reply",
    "name_of",
    "open_stream",
    "receive",
    "receive_features",
    "refusal",
    "request",
    "require_id",
    "salted_digest",
    "unexpected",
    "warn_of_listeners",
]

FEATURES = f"{{{STREAMS}}}features"
NO_SENTENCES: Final[Mapping[str, str]] = MappingProxyType({})


def name_of(node: Node) -> str:
    """A tag as a person writes it, bounded."""
    return f"<{node.tag.rpartition('}')[2][:64]}>"


def open_stream(negotiation: Negotiation, version: str | None) -> Generator[Step, Any, StreamHeader]:
    """Open a stream to the account's domain.

    The header bears `from` inside TLS only: before it that would tell an eavesdropper who we are (RFC 6120 4.7.1).
    """
    config = negotiation.config
    account = config.account
    inside = negotiation.tls is not None and not negotiation.component and account.local is not None
    to = account.domain
    header: StreamHeader = yield OpenStream(
        to=to,
        xmlns=negotiation.xmlns,
        version=config.version if config.version is not None else version,
        from_=str(account.bare) if inside else None,
    )
    return header


def receive(expected: str) -> Generator[Step, Any, Node]:
    """The next element that is not <stream:features/>: servers send those also where nobody asked (A15)."""
    while True:
        node: Node = yield Receive(expected)
        if node.tag != FEATURES:
            return node


def receive_features() -> Generator[Step, Any, Node]:
    """The <stream:features/> that a server of version 1.0 sends first (RFC 6120 4.3.2)."""
    node: Node = yield Receive("<stream:features>")
    if node.tag != FEATURES:
        raise unexpected(node, "<stream:features>")
    return node


def unexpected(node: Node, expected: str) -> ProtocolError:
    """The error for an element that has no place here."""
    return ProtocolError(
        f"the server sent {name_of(node)} where {expected} had to come",
        answer="undefined-condition",
        expected=expected,
        came=name_of(node),
    )


def warn_of_listeners(negotiation: Negotiation, what: str, *, shown: bool = False) -> Generator[Step, Any, None]:
    """Say it where a secret is about to be sent to whoever listens, or to a server that nobody has verified.

    Args:
        what: the log-in, for the sentence. shown: whether the password itself is in it, or what it can be guessed from.
    """
    if negotiation.loopback:
        return
    tls = negotiation.tls
    if tls is None or not (tls.verified or negotiation.config.pins):
        shows = "the password itself" if shown else "what the password can be guessed from"
        to = "whoever listens on the way: there is no TLS on this link"
        if tls is not None:
            to = "whoever answers, since the server's certificate is not verified"
        text = f"the log-in ({what}) shows {shows} to {to}"
        yield Publish(Event.WARNING, detail={"what": text})


def require_id(negotiation: Negotiation, header: StreamHeader, what: str) -> Generator[Step, Any, None]:
    """A stream id salts the digest; without one it would be the same each time, and could be replayed for ever.

    Prosody gives none where it ends the stream at once: then the next element is its reason.
    """
    if header.id:
        if header.id == negotiation.memory.stream_id:
            text = f"the server gave the stream id of the last connection again, so our {what} is the same as before"
            yield Publish(Event.WARNING, detail={"what": text})
        negotiation.memory.stream_id = header.id
        return
    yield Receive("a stream id, or the reason why there is none")
    raise ProtocolError(
        f"the server gave no stream id, so no {what} can be made",
        expected="id='...'",
        came="no id",
        retry=Retry.FATAL,
    )


def check_password(config: Config) -> None:
    """A link whose log-in is made from the password, and nothing else, needs one; and what is SASL's is not for it.

    Raises:
        ConfigError: there is none, or an option asks for what this log-in cannot do.
    """
    kind = config.connection_type
    if config.password is None:
        raise ConfigError(f"{kind} needs a password")
    if config.sasl_mechanisms is not None:
        raise ConfigError(f"{kind} does not log in by SASL, so sasl_mechanisms cannot be kept")
    if config.channel_binding == "require":
        raise ConfigError(f"{kind} does not log in by SASL, so channel_binding='require' cannot be kept")


def salted_digest(stream_id: str, secret: str) -> str:
    """The hexadecimal SHA-1 of XEP-0078 3.2 and XEP-0114 3.

    Raises:
        ConfigError: the secret has no UTF-8 form.
    """
    try:
        octets = (stream_id + secret).encode()
    except UnicodeEncodeError:  # whose text quotes the secret
        raise ConfigError("the password holds a surrogate, which is no character of its own") from None
    return hashlib.sha1(octets, usedforsecurity=False).hexdigest()


def ask(node: Node) -> Generator[Step, Any, None]:
    """Send a request of the negotiation's own: RTS_START, then NODESENT (original-traces, section 1)."""
    yield Publish(Event.PCJ_RTS_START, node, {"internal": True})
    yield Send(node)


def is_reply(node: Node, identity: str | None, account: JID) -> bool:
    """Whether `node` answers our own IQ `identity`, which went to our server without a `to`.

    RFC 6120 8.1.2.1: such a reply comes without `from` or from our own address; some servers write their domain.
    """
    if node.tag != IQ or node.get("id") != identity or node.get("type") not in ("result", "error"):
        return False
    sender = node.get("from")
    if sender is None:
        return True
    try:
        jid = JID.parse(sender)
    except JidError:
        return False
    return jid.domain == account.domain and jid.local in (None, account.local)


def request(negotiation: Negotiation, node: Node, own: str = "") -> Generator[Step, Any, Node]:
    """Send an IQ and wait for its reply; stanzas that come in between are held until READY.

    Args:
        own: who we are by now; by default the account.
    """
    account = JID.parse(own) if own else negotiation.config.account
    yield from ask(node)
    expected = "the reply to an <iq>"
    while True:
        reply = yield from receive(expected)
        if is_reply(reply, node.get("id"), account):
            return reply
        if reply.tag not in STANZAS:
            raise unexpected(reply, expected)
        yield Hold(reply)


def refusal(reply: Node, what: str, known: Mapping[str, str] = NO_SENTENCES) -> ProtocolError:
    """The error that says that the server refused `what` with a stanza error.

    Args:
        reply: of type error. what: for the sentence. known: the sentence itself, for conditions with a meaning here.
    """
    kind, condition, text = error_condition(reply)
    sentence = known.get(condition, f"the server refused {what}")
    said = f": {text!r}" if text else ""
    return ProtocolError(
        f"{sentence} ({condition or kind or 'no condition given'}){said}",
        condition=condition,
        expected="a result",
        came=f"an error: {condition or kind}",
        text=text,
    )
